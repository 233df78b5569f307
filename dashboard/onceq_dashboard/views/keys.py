"""API keys: which there are and what each may do; made and revoked by who may. A secret is shown once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd
import streamlit as st

from onceq.wire import SCOPE_MAY, SCOPES, ApiKeyInfo, NewApiKey, Scope
from onceq_dashboard import actions, frames, source
from onceq_dashboard.access import ApiAccess, SourceError
from onceq_dashboard.format import code_span, literal
from onceq_dashboard.views import parts

_MADE: Final = "keys_made"


def show(access: ApiAccess) -> None:
    """The page; read when it is opened and at each click."""
    st.title("API keys", anchor=False)
    with parts.show_errors():
        own = source.whoami(access)
    said = ", ".join(code_span(scope) for scope in own.scopes) or "nothing"
    st.write(f"You act with the key {code_span(own.name)} ({code_span(own.id)}) of the tenant {code_span(own.tenant)}, "
             f"which may {said}.")  # fmt: skip
    _secret()
    may = source.scopes(access)
    if "admin" not in may:
        parts.not_allowed(access, "admin", "see, make or revoke keys")
        return
    with parts.show_errors():
        found = source.keys(access)
    _list(access, found, own)
    _new(access, may)


def _secret() -> None:
    made: NewApiKey | None = st.session_state.get(_MADE)
    if made is None:
        return
    with st.container(border=True):
        st.success(f"Made: {literal(made.name)}. Copy its secret now: it is shown this once.", icon=":material/key:")
        st.code(made.secret, language=None)
        st.button("I have copied it", on_click=_forget)


def _forget() -> None:
    st.session_state.pop(_MADE, None)


def table(found: Sequence[ApiKeyInfo]) -> pd.DataFrame:
    """One row a key: `name`, `id`, `tenant`, `scopes` (text), `created` (`datetime64[us, UTC]`)."""
    return pd.DataFrame({
        "name": pd.Series([key.name for key in found], dtype="str"),
        "id": pd.Series([key.id for key in found], dtype="str"),
        "tenant": pd.Series([key.tenant for key in found], dtype="str"),
        "scopes": pd.Series([", ".join(key.scopes) for key in found], dtype="str"),
        "created": frames.times([key.created_at for key in found]),
    })  # fmt: skip


def _list(access: ApiAccess, found: Sequence[ApiKeyInfo], own: ApiKeyInfo) -> None:
    columns = {
        "name": st.column_config.TextColumn("Name", pinned=True),
        "id": st.column_config.TextColumn("Id"),
        "tenant": st.column_config.TextColumn("Tenant"),
        "scopes": st.column_config.TextColumn("May"),
        "created": st.column_config.DatetimeColumn("Made", format="YYYY-MM-DD HH:mm", timezone=parts.zone_name()),
    }
    frame = table(found)
    parts.table(frame, "keys_table", columns)
    with st.container(horizontal=True):
        parts.download(frame, "data_keys")
        with st.popover("Revoke …", icon=":material/key_off:"):
            others = {key.id: f"{key.name} ({key.id})" for key in found if key.id != own.id}
            key_id = st.selectbox("Key", list(others), None, format_func=others.__getitem__, key="keys_revoke")
            st.write("Whoever uses it is refused at once, or within 5 s. Its jobs go on.")
            st.button("Revoke this key", type="primary", disabled=not key_id, on_click=_revoke, args=(access, key_id))


def _revoke(access: ApiAccess, key_id: str) -> None:
    try:
        actions.revoke_key(access, key_id)
    except SourceError as exc:
        st.toast(exc.trouble.sentence, icon=":material/warning:")
    else:
        st.toast(f"Revoked: {code_span(key_id)}.", icon=":material/check:")


def _new(access: ApiAccess, may: frozenset[Scope]) -> None:
    st.subheader("New key", anchor=False)
    grantable: list[Scope] = [scope for scope in SCOPES if scope in may]
    with st.form("keys_new", width=760):
        name = st.text_input("Name", placeholder="dashboard of the finance team")
        scopes = st.multiselect("It may", grantable, ["read"], format_func=lambda scope: f"{scope}: {SCOPE_MAY[scope]}")
        if st.form_submit_button("Make key", type="primary"):
            try:
                st.session_state[_MADE] = actions.create_key(access, name.strip(), scopes)
            except SourceError as exc:
                parts.trouble(exc.trouble)
            else:
                st.rerun()
