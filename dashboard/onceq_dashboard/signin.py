"""Who may look: whoever sits at this machine with its key, else whoever brings a key.

The key that the server was started with is used without a question only where nobody else can reach the server: it
listens on loopback and the request was not forwarded. A key that is typed lives in the memory of this page's session.
"""

from __future__ import annotations

import os
from typing import Final

import streamlit as st

from onceq_dashboard import source
from onceq_dashboard.options import LOOPBACK
from onceq_dashboard.source import Door, SourceError

_FORWARDED: Final = ("X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "X-Real-Ip")
_KEY: Final = "onceq_typed_key"


def door() -> Door | None:
    """The way to the API for this session; None when a key must be typed first."""
    typed = st.session_state.get(_KEY)
    if typed:
        return _typed_door(typed)
    return _own_door() if _is_private() else None


def signed_in() -> bool:
    """Whether a key was typed."""
    return bool(st.session_state.get(_KEY))


def sign_out() -> None:
    """Forget the typed key, and what was read with it."""
    st.session_state.clear()


def show() -> None:
    """The form that asks for a key."""
    st.title("onceq")
    st.write("Sign in with an API key that has the scope `read`.")
    with st.form("sign-in", width=480):
        key = st.text_input("API key", type="password", autocomplete="current-password")
        sent = st.form_submit_button("Sign in", type="primary")
    st.caption("`onceq up` prints a key and writes it to `.onceq/api-key`; `onceq keys create` makes another.")
    if sent:
        _try(key)


def _try(key: str) -> None:
    if not key.strip():
        st.error("Type a key first.")
        return
    try:
        source.stats(_typed_door(key.strip()))
    except SourceError as exc:
        st.error(exc.trouble.sentence)
    else:
        st.session_state[_KEY] = key.strip()
        st.rerun()


def _typed_door(key: str) -> Door:
    return Door(None, key, "the key that was typed")


def _own_door() -> Door | None:
    own = Door(None, None, *(_FROM_ENVIRONMENT if os.environ.get("ONCEQ_API_KEY") else _FROM_FOLDER))
    return own if source.opens(own) else None


_FROM_ENVIRONMENT: Final = (
    "the key in `ONCEQ_API_KEY`",
    "Set it to one that `onceq keys create` made, then start the dashboard again.",
)
_FROM_FOLDER: Final = ("the key in `.onceq/api-key`", "Is this folder that of the onceq which runs there?")


def _is_private() -> bool:
    forwarded = any(st.context.headers.get(name) for name in _FORWARDED)
    return st.get_option("server.address") in LOOPBACK and not forwarded
