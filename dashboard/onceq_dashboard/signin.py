"""Who may look: whoever sits at this machine with its key, who signs in by a name (OIDC), or who brings a key.

The key that the server was started with is used without a question only where somebody said so (`--open`, as `onceq up`
does) and nothing speaks against it: the server listens on loopback, no proxy shows it to others, and no sign-in is set
up. That it listens on loopback is not enough, since a proxy need not say that it is one. A key that is typed lives in
the memory of this page's session. Who signs in by a name is looked up in the allow-list at every run: Streamlit's
cookie lives for 30 days, and who is taken off the list must be out at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import streamlit as st

from onceq_dashboard import source
from onceq_dashboard.access import ApiAccess, SourceError, is_configured
from onceq_dashboard.allowlist import Person, find_person
from onceq_dashboard.format import code_span, literal
from onceq_dashboard.options import LOOPBACK, OPEN, public_hosts, secrets_file
from onceq_dashboard.views import parts

_FORWARDED: Final = ("X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "X-Real-Ip")
_KEY: Final = "onceq_typed_key"
_ASK: Final = "onceq_ask_for_key"


def access() -> ApiAccess | None:
    """The way to the API for this session; None when somebody must sign in first."""
    typed = st.session_state.get(_KEY)
    if typed:
        return _typed_access(typed)
    if st.session_state.get(_ASK):
        return None
    if _providers():
        person = _person()
        return _person_s_access(person) if person else None
    return _own_access() if _is_private() else None


def footer(used: ApiAccess) -> None:
    """Who looks, and the way out."""
    with st.container(horizontal=True, vertical_alignment="center", key="onceq_footer"):
        who = "with what your name may do" if used.actor or used.looks_only else f"with {used.key_name}"
        name = f"as {code_span(str(st.user.get('email')))}, " if used.actor or used.looks_only else ""
        st.caption(f"You are here {name}{who}. Hours are those of {literal(parts.zone_name())}.", width="content")
        if st.session_state.get(_KEY) or _named():
            st.button("Sign out", icon=":material/logout:", on_click=sign_out)
        if not st.session_state.get(_KEY):
            st.button("Use another key", icon=":material/key:", on_click=_ask)


def sign_out() -> None:
    """Forget the typed key and what was read with it, and who signed in by a name."""
    st.session_state.clear()
    if _named():
        st.logout()


def _ask() -> None:
    st.session_state[_ASK] = True


def show() -> None:
    """The ways to sign in."""
    st.title("onceq")
    if _named() and not st.session_state.get(_ASK):
        _turned_away()
    for provider, words in _providers().items():
        if st.button(words, icon=":material/login:", type="primary"):
            st.login(provider)
    _form()
    if st.session_state.get(_ASK):
        st.button("Back", icon=":material/arrow_back:", on_click=st.session_state.clear)


def _turned_away() -> None:
    email = code_span(str(st.user.get("email") or "an account without an e-mail address"))
    st.error(
        f"{email} signed in, and may not look here: its address is not on this dashboard's list, or its provider has "
        "not verified it. Ask whoever runs it, or use an API key.",
        icon=":material/no_accounts:",
    )
    st.button("Sign out", icon=":material/logout:", on_click=sign_out)


def _form() -> None:
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
        source.stats(_typed_access(key.strip()))
    except SourceError as exc:
        st.error(exc.trouble.sentence)
    else:
        st.session_state[_KEY] = key.strip()
        st.session_state.pop(_ASK, None)
        st.rerun()


def _typed_access(key: str) -> ApiAccess:
    return ApiAccess(None, key, "the key that was typed")


def _own_access() -> ApiAccess | None:
    own = ApiAccess(None, None, *(_FROM_ENVIRONMENT if os.environ.get("ONCEQ_API_KEY") else _FROM_FOLDER))
    return own if is_configured(own) else None


_FROM_ENVIRONMENT: Final = (
    "the key in `ONCEQ_API_KEY`",
    "Set it to one that `onceq keys create` made, then start the dashboard again.",
)
_FROM_FOLDER: Final = ("the key in `.onceq/api-key`", "Is this folder that of the onceq which runs there?")


def _person_s_access(person: Person) -> ApiAccess | None:
    """Looks with the dashboard's own key, acts with the person's; of another tenant everything is done with theirs."""
    reader = _own_access()
    if person.api_key is None:
        return reader and reader._replace(looks_only=True)
    actor = ApiAccess(None, person.api_key, f"the key of {code_span(person.email)}")
    return reader._replace(actor=actor) if reader and _same_tenant(reader, actor) else actor


def _same_tenant(reader: ApiAccess, actor: ApiAccess) -> bool:
    try:
        return source.whoami(reader).tenant == source.whoami(actor).tenant
    except SourceError:
        return False


def _secret(table: str) -> Mapping[str, Any]:
    """A table of the secrets file; empty where there is none."""
    if not st.secrets.load_if_toml_exists():
        return {}
    return st.secrets.get(table, {})


def _providers() -> dict[str | None, str]:
    """What each button says, by the provider's name in `[auth.<name>]`; None is the one in `[auth]` itself."""
    auth = _secret("auth")
    found: dict[str | None, str] = {None: "Sign in by name"} if "client_id" in auth else {}
    return found | {name: f"Sign in with {name}" for name, table in auth.items() if isinstance(table, Mapping)}


def _named() -> bool:
    return bool(_providers()) and bool(st.user.get("is_logged_in"))


def _person() -> Person | None:
    if not _named():
        return None
    ours = _secret("onceq")
    trusted = bool(ours.get("trust_unverified_email", False))
    return find_person(st.user.to_dict(), ours.get("people", {}), unverified=trusted)


def _is_private() -> bool:
    """Whether the own key is for whoever comes. A secrets file that breaks later must not open what it has closed."""
    if not os.environ.get(OPEN) or public_hosts() or secrets_file():
        return False
    forwarded = any(st.context.headers.get(name) for name in _FORWARDED)
    return st.get_option("server.address") in LOOPBACK and not forwarded
