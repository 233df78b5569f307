"""Access to the API: where it is, with which key to look and with which to act; its errors as one clear sentence."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import streamlit as st

from onceq import (
    APIError,
    AuthenticationError,
    Client,
    ConfigurationError,
    ConnectionFailed,
    NotFoundError,
    OnceqError,
    PermissionDeniedError,
    ServiceUnavailableError,
)
from onceq_dashboard.format import code_span, literal

Kind = Literal["away", "unavailable", "key", "scope", "missing", "settings", "other"]

TIMEOUT_S: Final = 5.0


class ApiAccess(NamedTuple):
    """Where the API is and with which key to ask. None: found by the SDK (environment, else nearest `.onceq/`).

    `key_name` says to a person which key that is, `remedy` what to do when it is refused. Who signs in by a name looks
    with the dashboard's own key and acts with `actor`; without one, and with `looks_only`, with none at all. Never
    printed whole: it holds the key.
    """

    base_url: str | None
    api_key: str | None
    key_name: str
    remedy: str = ""
    actor: ApiAccess | None = None
    looks_only: bool = False

    @property
    def looking(self) -> ApiAccess:
        """For reading: the same for all who read with the same key, so that they share what was read."""
        return self._replace(actor=None, looks_only=False)

    @property
    def acting(self) -> ApiAccess:
        """For what changes something. Raises SourceError for who may only look."""
        if self.looks_only:
            raise SourceError(Trouble("scope", LOOKS_ONLY))
        return self.actor or self.looking

    def __repr__(self) -> str:
        return f"ApiAccess({self.base_url!r}, {self.key_name})"


LOOKS_ONLY: Final = "You may look, and change nothing: no API key belongs to your name."


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a reading failed: a sentence in Markdown, in which everything that comes from elsewhere is escaped.

    Below it what is wrong with each field, where the API says so.
    """

    kind: Kind
    sentence: str


class SourceError(Exception):
    """A reading failed; `trouble` says why."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.sentence)
        self.trouble = trouble


def is_configured(access: ApiAccess) -> bool:
    """Whether there is a base URL and a key to ask with; nothing is sent."""
    try:
        base_url(access)
    except SourceError:
        return False
    return True


def base_url(access: ApiAccess) -> str:
    """Where the API is, for people."""
    with translate_errors(access):
        return client(access).base_url


def _close(client: Client) -> None:
    client.close()


@st.cache_resource(max_entries=100, show_spinner=False, on_release=_close)
def client(access: ApiAccess) -> Client:
    """A connection, kept for all who use the same key. Raises ConfigurationError."""
    return Client(access.base_url, access.api_key, timeout_s=TIMEOUT_S, max_retries=1)


@contextmanager
def translate_errors(access: ApiAccess) -> Generator[None]:
    """The one place where the SDK's errors become sentences."""
    try:
        yield
    except OnceqError as exc:
        if isinstance(exc, AuthenticationError):
            client.clear(access)  # the key in .onceq/ may be a new one by the next reading
        raise SourceError(trouble_of(exc, access)) from exc


def trouble_of(exc: OnceqError, access: ApiAccess) -> Trouble:
    """An error of the SDK as a sentence for whoever has this access."""
    match exc:
        case APIError():
            return _refused(exc, access)
        case ConnectionFailed():
            return Trouble("away", f"onceq's API at {_place(access)} does not answer: is `onceq up` running?")
        case ConfigurationError():
            return Trouble("settings", literal(str(exc)))
        case _:
            return Trouble("other", literal(str(exc)))


def _refused(exc: APIError, access: ApiAccess) -> Trouble:
    match exc:
        case AuthenticationError():
            return Trouble("key", f"onceq's API at {_place(access)} does not know {access.key_name}. {access.remedy}")
        case PermissionDeniedError():
            return Trouble("scope", f"{_capital(access.key_name)} may not do that: {literal(exc.detail)}")
        case NotFoundError():
            job = f"There is no such job for {access.key_name}, or its time is over."
            return Trouble("missing", job if exc.code == "job_not_found" else literal(exc.detail))
        case ServiceUnavailableError():
            return Trouble("unavailable", f"onceq's API at {_place(access)} can't answer now: {literal(exc.detail)}")
        case _:
            wrong = [f"- {code_span(one.loc)}: {literal(one.message)}" for one in exc.problem.errors or ()]
            said = f"onceq's API refused this: {literal(exc.detail)} ({code_span(exc.code)})"
            return Trouble("other", "\n".join([said, "", *wrong] if wrong else [said]))


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _place(access: ApiAccess) -> str:
    return code_span(client(access).base_url)
