"""`onceq keys`: who may use this queue. Speaks to Redis directly, so it works before there is any key."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeVar

import typer

from onceq.errors import ConfigurationError
from onceq.wire import SCOPE_MAY, SCOPES, TENANT_PATTERN, Scope
from onceq_service.cli.options import AsJson, DataDir, reach_redis, settings_of
from onceq_service.cli.output import age, hint, say, table

if TYPE_CHECKING:
    from onceq_service.store import ApiKey, Store

T = TypeVar("T")

group = typer.Typer(
    help="Create, list and revoke API keys, rotate secrets.", no_args_is_help=True, rich_markup_mode=None
)

OnlyTenant = Annotated[str | None, typer.Option(help="Only this tenant's.")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, key_...")]
Tenant = Annotated[str, typer.Option(help="Whose key it is; a tenant sees its own jobs only.")]


Rotated = Literal["stream-tokens", "fingerprints"]
SCOPE_HELP: Final = "What it may; may be repeated. " + "; ".join(f"{s}: {SCOPE_MAY[s]}" for s in SCOPES) + "."
USUAL: Final = ("submit", "read", "cancel")


def add_to(app: typer.Typer) -> None:
    """Adds the group."""
    app.add_typer(group, name="keys")


@group.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")] = "key",
    tenant: Tenant = "default",
    scope: Annotated[list[str] | None, typer.Option(metavar="SCOPE", help=SCOPE_HELP)] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Make an API key; it is shown once, here. Without --scope it may submit, read and cancel."""
    scopes = chosen_scopes(scope or USUAL)
    _must_name_a_tenant(tenant)

    async def make(store: Store) -> tuple[ApiKey, str]:
        await store.api_keys.must_have_room(tenant)
        return await store.api_keys.create(tenant=tenant, name=name, scopes=scopes)

    record, secret = _with_store(data_dir, make)
    if as_json:
        say(json.dumps(_public(record) | {"key": secret}))
    else:
        say(secret)
        hint(f"{record.id} for tenant {tenant}: {', '.join(scopes)}. It can't be shown again.")


@group.command("list")
def list_keys(
    tenant: OnlyTenant = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """List the keys, oldest first; never the secrets."""
    found = _with_store(data_dir, lambda store: store.api_keys.list(tenant))
    if as_json:
        say(json.dumps([_public(key) for key in found]))
    else:
        rows = [(key.id, key.tenant, key.name, ",".join(key.scopes), age(key.created_at)) for key in found]
        say("\n".join(table(("KEY", "TENANT", "NAME", "SCOPES", "CREATED"), rows)))


@group.command()
def revoke(key_id: KeyId, data_dir: DataDir = None) -> None:
    """Revoke an API key.

    Within 5 s each request with it is a 401, and the event streams that it opened are cut.
    """
    if not _with_store(data_dir, lambda store: store.api_keys.revoke(key_id)):
        raise ConfigurationError(f"there is no key {key_id}: onceq keys list shows those that are.")
    say(f"{key_id} is revoked; API processes refuse it within 5 s")


@group.command()
def rotate(
    purpose: Annotated[Rotated, typer.Argument(help="What the new secret is for.")],
    data_dir: DataDir = None,
) -> None:
    """Replace the secret of stream tokens or fingerprints.

    API keys stay as they are. To replace one, create a new one, then revoke the old.

    Stream tokens that were handed out stop working. With new fingerprints, earlier posts are not recognised: a retry
    of one makes a second job, so do it when nothing is waiting.
    """
    _with_store(data_dir, lambda store: store.new_secret("stream" if purpose == "stream-tokens" else "hmac"))
    say(f"the secret of {purpose} is new; API processes use it within 5 s")


def chosen_scopes(asked: Sequence[str]) -> list[Scope]:
    """The scopes of these names; raises ConfigurationError on one that is none."""
    unknown = set(asked).difference(SCOPES)
    if unknown:
        raise ConfigurationError(f"there is no scope {', '.join(sorted(unknown))}: choose from {', '.join(SCOPES)}.")
    return [scope for scope in SCOPES if scope in asked]


def _must_name_a_tenant(tenant: str) -> None:
    if not re.fullmatch(TENANT_PATTERN, tenant):
        raise ConfigurationError(f"{tenant!r} can't be a tenant: use 1 to 64 letters, digits, _ and -.")


def _with_store(data_dir: Path | None, work: Callable[[Store], Awaitable[T]]) -> T:
    from onceq_service.store import open_store  # half of the time that `onceq ask` takes to start, and not used by it

    settings = reach_redis(settings_of(data_dir))

    async def run() -> T:
        async with open_store(settings.redis_url, settings.queue) as store:
            return await work(store)

    return asyncio.run(run())


def _public(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "tenant": key.tenant,
        "name": key.name,
        "scopes": list(key.scopes),
        "created_at": key.created_at.isoformat(),
    }
