"""API keys: made once, shown once, stored as SHA-256 hashes (a key has 256 random bits, so no slow hash is needed)."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast

import msgspec

from onceq.wire import SCOPES, TENANT_PATTERN, Scope, allows
from onceq_service.store import scripts
from onceq_service.store._pipe import Pipe
from onceq_service.store.errors import TooManyKeys
from onceq_service.store.keys import Keys

REVOKED_S: Final = 3_600
"""How long a revocation is told: every API process looks within seconds."""
MOST_OF_A_TENANT: Final = 1_000
"""Keys of one tenant: they lie in Redis for ever, and whoever lists or revokes some reads all of them."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key: everything but the key."""

    id: str
    tenant: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: datetime

    def may(self, scope: Scope) -> bool:
        """Whether the key has the scope, by itself or by one that stands for it."""
        return allows(self.scopes, scope)


_decode = msgspec.json.Decoder(ApiKey).decode


def digest(secret: str) -> str:
    """The hash under which a key is stored."""
    return hashlib.sha256(secret.encode()).hexdigest()


class ApiKeys:
    """The keys of a queue."""

    def __init__(self, pipe: Pipe, keys: Keys) -> None:
        self._pipe = pipe
        self._root, self._name, self._revoked = keys.root, keys("apikeys"), keys("revoked")

    async def create(self, *, tenant: str, name: str, scopes: Sequence[Scope]) -> tuple[ApiKey, str]:
        """A new key and its secret, which is nowhere else from here on; raises ValueError on an unknown scope, or
        a tenant of other characters: a `:` would make the tenant's keys in Redis those of others.
        """
        if not re.fullmatch(TENANT_PATTERN, tenant):
            raise ValueError(f"a tenant is 1 to 64 letters, digits, _ and -, not {tenant!r}")
        unknown = set(scopes) - set(SCOPES)
        if unknown or not scopes:
            raise ValueError(f"scopes are some of {', '.join(SCOPES)}, not {', '.join(sorted(unknown)) or 'none'}")
        secret = f"oq_{secrets.token_urlsafe(32)}"
        record = ApiKey(f"key_{secrets.token_hex(8)}", tenant, name, tuple(scopes), datetime.now(UTC))
        await self._pipe.command("HSET", self._name, digest(secret), msgspec.json.encode(record))
        return record, secret

    async def must_have_room(self, tenant: str) -> None:
        """Raises TooManyKeys where the tenant has MOST_OF_A_TENANT keys."""
        known = len(await self.list(tenant))
        if known >= MOST_OF_A_TENANT:
            raise TooManyKeys(
                f"Tenant {tenant} has {known:,} API keys, the most it may have: revoke some. Nothing was stored."
            )

    async def find(self, secret: str) -> ApiKey | None:
        """The key's record, None when it is not known (or was revoked)."""
        found = cast("bytes | None", await self._pipe.command("HGET", self._name, digest(secret)))
        return None if found is None else _decode(found)

    async def list(self, tenant: str | None = None) -> list[ApiKey]:
        """All keys, or those of a tenant, oldest first."""
        found = [_decode(value) for value in (await self._all()).values()]
        return sorted((k for k in found if tenant in (None, k.tenant)), key=lambda k: k.created_at)

    async def revoke(self, key_id: str, tenant: str | None = None) -> bool:
        """Forgets a key (of a tenant, if given); False when there is none of that id."""
        for name, value in (await self._all()).items():
            record = _decode(value)
            if record.id == key_id and tenant in (None, record.tenant):
                return bool(await self._pipe.script(scripts.REVOKE, self._root, [name, key_id, REVOKED_S]))
        return False

    async def revoked(self) -> Set[str]:
        """Ids of the keys that were revoked of late, for those who have let somebody in by one."""
        found = cast("list[bytes]", await self._pipe.command("ZRANGE", self._revoked, 0, -1))
        return {key_id.decode() for key_id in found}

    async def _all(self) -> dict[str, bytes]:
        flat = cast("list[bytes]", await self._pipe.command("HGETALL", self._name))
        return {flat[n].decode(): flat[n + 1] for n in range(0, len(flat), 2)}
