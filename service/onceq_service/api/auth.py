"""Who is asking: an API key on every request, looked up in Redis and remembered for CACHE_S."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Set
from typing import Annotated, Final

from fastapi import Depends, Request

from onceq.wire import Scope
from onceq_service.api.http.body import Heads
from onceq_service.api.http.problems import Refused
from onceq_service.store import ApiKey, ApiKeys

CACHE_S: Final = 5.0
"""How long a found key is trusted, so how long after a revocation it may still work in another API process. The
process that revokes it forgets it at once; a new key works at once everywhere."""
CACHE_MAX: Final = 10_000
KEY: Final = "onceq.key"
"""Where the caller's key is in an ASGI scope."""
CHALLENGE: Final = ((b"www-authenticate", b"Bearer"),)


class Authenticator:
    """Finds the key of a request."""

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys
        self._known: dict[bytes, tuple[float, ApiKey]] = {}

    async def identify(self, heads: Heads) -> ApiKey:
        """The caller's key; raises Refused (401), StoreUnavailable."""
        secret = secret_of(heads)
        return self.remembered(secret) or await self._look_up(secret, time.monotonic())

    def remembered(self, secret: bytes) -> ApiKey | None:
        """A key that was found not long ago; None where Redis must be asked."""
        until, key = self._known.get(secret, (0.0, None))
        return key if time.monotonic() < until else None

    def forget(self, key_ids: Set[str]) -> None:
        """Trusts these keys no longer."""
        for secret in [s for s, (_, key) in self._known.items() if key.id in key_ids]:
            del self._known[secret]

    async def _look_up(self, secret: bytes, now: float) -> ApiKey:
        key = await self._keys.find(secret.decode("ascii")) if secret.isascii() else None
        if key is None:
            self._known.pop(secret, None)
            raise _unauthorized("This API key is not known here, or was revoked")
        if len(self._known) >= CACHE_MAX:
            self._known.clear()
        self._known[secret] = (now + CACHE_S, key)
        return key


def secret_of(heads: Heads) -> bytes:
    """The API key as it was sent; raises Refused (401) when there is none."""
    sent = heads.get(b"authorization")
    if sent is None:
        secret = heads.get(b"x-api-key", b"")
    else:
        scheme, _, secret = sent.partition(b" ")
        if scheme.lower() != b"bearer":
            raise _unauthorized("The Authorization header is not a Bearer one")
    if not secret.strip():
        raise _unauthorized("No API key was sent")
    return secret.strip()


def _unauthorized(what: str) -> Refused:
    detail = f"{what}: send `Authorization: Bearer oq_...` with a key of `onceq keys create`."
    return Refused("unauthorized", detail, headers=CHALLENGE)


def require(key: ApiKey, scope: Scope) -> None:
    """Raises Refused (403) when the key lacks the scope."""
    if not key.may(scope):
        detail = f"API key {key.id} lacks the scope {scope}: use another key, or have an admin make one with it."
        raise Refused("forbidden", detail)


SCOPE_OF: Final[dict[object, Scope]] = {}
"""Which scope a dependency asks for, for the document."""


def needs(scope: Scope) -> Callable[[Request], Awaitable[ApiKey]]:
    """A FastAPI dependency: the caller's key, which must have the scope."""

    async def caller(request: Request) -> ApiKey:
        key: ApiKey = request.scope[KEY]
        require(key, scope)
        return key

    SCOPE_OF[caller] = scope
    return caller


Reader = Annotated[ApiKey, Depends(needs("read"))]
Submitter = Annotated[ApiKey, Depends(needs("submit"))]
Canceller = Annotated[ApiKey, Depends(needs("cancel"))]
Admin = Annotated[ApiKey, Depends(needs("admin"))]
Operator = Annotated[ApiKey, Depends(needs("operator"))]
