"""Budgets' alerts that somebody is still to be told of: written by lua/_budget.lua, delivered by workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

from onceq_service.store import scripts
from onceq_service.store._pipe import Pipe
from onceq_service.store.budgets import Budget, unpacked
from onceq_service.store.keys import Keys
from onceq_service.store.views import fields_of

HOLD_S: Final = 30
"""How long a worker has an alert for itself; longer than it may take to deliver it."""
_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class Alert:
    """What happened to a budget: so much of its limit is spent (`share`), or it has refused something (None).

    Money is nano-USD, times are ms. `tries`: how often somebody has set out to tell of it, this time included.
    """

    id: str
    budget: Budget
    share: float | None
    spent: int
    limit: int
    period_start_ms: int
    at_ms: int
    simulated: bool
    tries: int


class Alerts:
    """Those of a queue that are not delivered yet."""

    def __init__(self, pipe: Pipe, keys: Keys) -> None:
        self._pipe, self._keys = pipe, keys

    async def due(self) -> list[str]:
        """Ids of some that may be taken now."""
        seconds, _ = cast("list[bytes]", await self._pipe.command("TIME"))
        args = ("-inf", int(seconds) * 1000 + 999, "LIMIT", 0, _AT_ONCE)
        found = cast("list[bytes]", await self._pipe.command("ZRANGEBYSCORE", self._keys("alerts"), *args))
        return [alert_id.decode() for alert_id in found]

    async def take(self, alert_id: str) -> Alert | None:
        """One that is due, for this worker alone; None when another has it, or its budget is gone."""
        argv = [alert_id, HOLD_S * 1000]
        fields = fields_of(await self._pipe.script(scripts.ALERT, self._keys.root, argv))
        if not fields:
            return None
        named = alert_id.partition(".")[0]
        budget = cast("bytes | None", await self._pipe.command("HGET", self._keys("budgets"), named))
        if budget is None:
            await self.done(alert_id)
            return None
        what, number = fields["what"].decode(), {n: int(v) for n, v in fields.items() if n != "what"}
        return Alert(
            id=alert_id, budget=unpacked(budget), share=None if what == "refused" else float(what),
            spent=number["spent"], limit=number["limit"], period_start_ms=number["period_start"], at_ms=number["at"],
            simulated=number["simulated"] == 1, tries=number["tries"],
        )  # fmt: skip

    async def again(self, alert_id: str, after_s: float) -> None:
        """Not delivered: due again after so long."""
        seconds, micro = cast("list[bytes]", await self._pipe.command("TIME"))
        at_ms = int(seconds) * 1000 + int(micro) // 1000 + int(after_s * 1000)
        await self._pipe.command("ZADD", self._keys("alerts"), "XX", at_ms, alert_id)

    async def done(self, alert_id: str) -> None:
        """Delivered: nobody is told again."""
        await self._pipe.command("ZREM", self._keys("alerts"), alert_id)
        await self._pipe.command("DEL", self._keys("alert", alert_id))
