"""Who may sign in by a name, and with which API key each of them acts. Pure.

The allow-list is the table `[onceq.people]` of the secrets file: an e-mail address, or `*@` and a domain, and an API
key; an empty text instead of a key lets somebody look, and change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Person(NamedTuple):
    """Somebody who signed in and may be here; `api_key` is None for who may only look."""

    email: str
    api_key: str | None


def find_person(
    claims: Mapping[str, object], people: Mapping[str, object], *, unverified: bool = False
) -> Person | None:
    """Who the identity token's `claims` name; None where they are not on the list.

    An address that the provider has not verified admits nobody, unless `unverified` says that it may be trusted: else
    whoever can write an address into an account of theirs would be let in as its owner.
    """
    email = str(claims.get("email") or "").strip().casefold()
    if email.count("@") != 1 or not (unverified or _is_true(claims.get("email_verified"))):
        return None
    listed = {name.strip().casefold(): key for name, key in people.items()}
    for name in (email, f"*@{email.partition('@')[2]}"):
        if name in listed:
            return Person(email, str(listed[name]).strip() or None)
    return None


def _is_true(claim: object) -> bool:
    return claim is True or str(claim).casefold() == "true"
