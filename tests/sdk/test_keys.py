"""API keys through the SDK: a key knows itself, an admin makes and takes back others, nobody else does."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from onceq import Client, NotFoundError, PermissionDeniedError
from onceq.wire import ApiKeyInfo
from tests.stack import Stack


@pytest.fixture(scope="module")
def admin(stack: Stack) -> Generator[Client]:
    with Client(base_url=stack.url, api_key=stack.key("keys")) as client:
        yield client


def ids(client: Client) -> list[str]:
    listed = client.keys()
    return [key.id for key in listed]


def test_a_key_of_any_scope_is_told_what_it_is_and_never_its_secret(admin: Client, stack: Stack) -> None:
    made = admin.create_key("watcher", scopes=["cancel"])
    with Client(base_url=stack.url, api_key=made.secret) as client:
        own = client.whoami()
    assert own == ApiKeyInfo.model_validate(made.model_dump(exclude={"secret"}))
    assert own.scopes == ["cancel"]
    assert own.tenant == admin.whoami().tenant


def test_a_key_that_an_admin_made_is_listed_and_works_until_it_is_revoked(admin: Client, stack: Stack) -> None:
    made = admin.create_key("short-lived", scopes=["read"])
    assert made.id in ids(admin)
    with Client(base_url=stack.url, api_key=made.secret) as client:
        assert not list(client.list())
        with pytest.raises(PermissionDeniedError, match="the scope admin"):
            client.keys()
    admin.revoke_key(made.id)
    assert made.id not in ids(admin)
    with pytest.raises(NotFoundError):
        admin.revoke_key(made.id)
