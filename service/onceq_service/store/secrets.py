"""The queue's HMAC secrets: made once, kept in Redis, never leave the service.

Idempotency keys and fingerprints are stored as HMACs, so that what users put into a key or a prompt can't be read (or
guessed and tested) from the names of Redis keys. Stream tokens are signed with a secret of their own.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from copy import copy
from typing import Literal, cast

from onceq_service.store._pipe import Pipe
from onceq_service.store.keys import Keys

Purpose = Literal["hmac", "stream"]
"""`hmac` for idempotency keys and fingerprints, `stream` for stream tokens."""


class Hasher:
    """Makes HMACs with the queue's secret."""

    def __init__(self, secret: bytes) -> None:
        self._mac = hmac.new(secret, digestmod=hashlib.sha256)

    def __call__(self, *parts: bytes) -> str:
        """Hex HMAC-SHA256 (first 160 bits) over the parts, each with its length before it."""
        mac = self._mac.copy()
        mac.update(_joined(parts))
        return mac.hexdigest()[:40]

    def with_prefix(self, *parts: bytes) -> Hasher:
        """One that takes these parts as given: `hasher.with_prefix(a)(b)` is `hasher(a, b)`."""
        begun = copy(self)
        begun._mac = self._mac.copy()
        begun._mac.update(_joined(parts))
        return begun


def _joined(parts: Sequence[bytes]) -> bytes:
    return b"".join([len(part).to_bytes(8, "big") + part for part in parts])


async def open_hasher(pipe: Pipe, keys: Keys, purpose: Purpose) -> Hasher:
    """The queue's hasher for a purpose; its secret is made by whoever comes first."""
    known = cast("bytes | None", await pipe.command("HGET", keys("secrets"), purpose))
    if known is None:  # only then is it a write, which a full Redis refuses
        await pipe.command("HSETNX", keys("secrets"), purpose, secrets.token_hex(32))
        known = cast("bytes", await pipe.command("HGET", keys("secrets"), purpose))
    return Hasher(known)


async def replace_secret(pipe: Pipe, keys: Keys, purpose: Purpose) -> None:
    """A new secret; API processes take it up within seconds."""
    await pipe.command("HSET", keys("secrets"), purpose, secrets.token_hex(32))
