"""An answer that is worth keeping for a moment, one a tenant; callers that come meanwhile share one making of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any


class TenantCache:
    """Bytes by tenant, for `keep_s` seconds."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._made: dict[str, tuple[float, asyncio.Task[bytes]]] = {}

    async def get(self, tenant: str, make: Callable[[], Coroutine[Any, Any, bytes]]) -> bytes:
        """What was made for the tenant not long ago, else what `make` gives now; raises what it raises."""
        now = time.monotonic()
        self._made = {t: made for t, made in self._made.items() if now - made[0] <= self._keep_s}
        if tenant not in self._made:
            self._made[tenant] = (now, asyncio.create_task(make(), name=f"make-{tenant}"))
        return await asyncio.shield(self._made[tenant][1])
