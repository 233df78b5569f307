"""Budgets: which there are, what each has come to, and how a script is told which of them a job falls under.

Those of `onceq.toml` are in the configuration of each API process, which says them to Redis, where those made through
the API are. What either has spent and reserved is an account a budget and period, written by the scripts
(lua/_budget.lua) alone.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, cast

import msgspec

from onceq.wire import BudgetAlert, BudgetChange, BudgetMode, BudgetPeriod, BudgetRequest, BudgetStatus, BudgetUse
from onceq.wire.words import nano_usd_of
from onceq_service.settings import DEFAULT_TENANT
from onceq_service.store import scripts
from onceq_service.store._pipe import Pipe
from onceq_service.store.keys import Keys
from onceq_service.store.periods import present, starts
from onceq_service.store.views import at, fields_of, usd

MOST_OF_A_TENANT: Final = 1_000
MOST_OF_A_JOB: Final = 16
"""Budgets that one job may fall under: each is a few steps of the script that admits it."""
_FORECAST_FROM: Final = 0.05
_COUNTS: Final = ("spent", "reserved", "unsure", "unpriced", "refused", "since")


class Budget(msgspec.Struct, frozen=True):
    """One budget. `limit` is nano-USD; `made_ms` is 0 for one of the file; `rev` changes with each change of it."""

    id: str
    name: str
    tenant: str
    source: Literal["file", "api"]
    limit: int
    period: BudgetPeriod
    mode: BudgetMode
    time_zone: str
    team: str | None
    key: str | None
    model: str | None
    labels: dict[str, str]
    alerts: tuple[float, ...]
    made_ms: int = 0
    rev: int = 0

    @property
    def account(self) -> str:
        """What its accounts are called: one that is made anew under the name of another begins anew."""
        return f"{self.id}.{self.made_ms}"

    def fits(self, team: str, key: str, models: Collection[str], labels: Mapping[str, str]) -> bool:
        """Whether a job falls under it."""
        return (
            self.team in (None, team)
            and self.key in (None, key)
            and (self.model is None or any(model_fits(self.model, model) for model in models))
            and all(labels.get(name) == value for name, value in self.labels.items())
        )

    def changed(self, change: BudgetChange) -> Budget:
        """The budget after a change."""
        said: dict[str, Any] = {
            "limit": None if change.limit_usd is None else nano_usd_of(change.limit_usd),
            "mode": change.mode,
            "alerts": None if change.alerts is None else tuple(sorted(set(change.alerts))),
        }
        given = {name: value for name, value in said.items() if value is not None}
        return msgspec.structs.replace(self, rev=self.rev + 1, **given)


def model_fits(pattern: str, model: str) -> bool:
    """Whether a budget's model (`<provider>/<model id>` or `<provider>/*`) is this one; as `covers` in _budget.lua."""
    return model.startswith(pattern[:-1]) if pattern.endswith("/*") else model == pattern


def budget_of(wanted: BudgetRequest, tenant: str, source: Literal["file", "api"], made_ms: int = 0) -> Budget:
    """The budget that a request or a table of the file asks for."""
    name = f"{tenant}\0{wanted.name}".encode()
    return Budget(
        id=f"bud_{hashlib.sha256(name).hexdigest()[:20]}", name=wanted.name, tenant=tenant, source=source,
        limit=nano_usd_of(wanted.limit_usd), period=wanted.period, mode=wanted.mode, time_zone=wanted.time_zone,
        team=wanted.team, key=wanted.key, model=wanted.model, labels=dict(wanted.labels),
        alerts=tuple(sorted(set(wanted.alerts))), made_ms=made_ms,
    )  # fmt: skip


def of_file(tables: Iterable[BudgetRequest]) -> list[Budget]:
    """The budgets of `onceq.toml`."""
    return [budget_of(table, table.tenant or DEFAULT_TENANT, "file") for table in tables]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Budget).decode


def packed(budget: Budget) -> bytes:
    """As Redis keeps it: what scripts look at is before the JSON."""
    return f"{budget.rev} {budget.mode} {budget.limit} {budget.account} ".encode() + _encode(budget)


def unpacked(value: bytes) -> Budget:
    """What `packed` wrote."""
    return _decode(value.split(b" ", 4)[4])


def line_around(budget: Budget, now_ms: int) -> tuple[str, str]:
    """What the scripts are told of a budget that a job falls under, as LINE in lua/_budget.lua reads it: what stands
    before and behind the amount.
    """
    before = (
        budget.account, budget.period, budget.time_zone, budget.mode, str(budget.limit),
        "-" if budget.source == "file" else str(budget.rev),
    )  # fmt: skip
    begins = _written(starts(budget.period, budget.time_zone, now_ms))
    behind = (";".join(map(repr, budget.alerts)), begins, budget.model or "")
    return f"{','.join(before)},", f",{','.join(behind)}"


def amount_in(around: tuple[str, str], amount: int | None) -> str:
    """The line. `amount` is what a call of the job may cost (nano-USD): at most where the budget is hard, None where
    nobody knows.
    """
    before, behind = around
    return f"{before}{'-' if amount is None else amount}{behind}"


def periods_of(lines: str, now_ms: int) -> str:
    """The present periods of a job's budgets, as `dispatch` takes them: the starts of one a line."""
    told = (text.split(",", 3) for text in lines.splitlines())
    return "\n".join(_written(starts(cast("BudgetPeriod", period), zone, now_ms)) for _, period, zone, _ in told)


def _written(begins: Iterable[int]) -> str:
    return " ".join(map(str, begins))


class Budgets:
    """Reads and writes budgets, and reads their accounts."""

    def __init__(self, pipe: Pipe, keys: Keys) -> None:
        self._pipe, self._keys = pipe, keys

    async def made(self) -> dict[str, bytes]:
        """All that are in Redis by id, packed."""
        return fields_of(await self._pipe.command("HGETALL", self._keys("budgets")))

    async def tell(self, of_file: Mapping[str, Budget], known: Mapping[str, bytes]) -> None:
        """Makes the file's budgets of this process those that all others see; `known` is what `made` has said.

        While processes with two files run side by side, each post is measured by the file of who took it.
        """
        key, wanted = self._keys("budgets"), {name: packed(budget) for name, budget in of_file.items()}
        if changed := [x for name, value in wanted.items() if known.get(name) != value for x in (name, value)]:
            await self._pipe.command("HSET", key, *changed)
        left = known.keys() - wanted.keys()
        if gone := [name for name in left if unpacked(known[name]).source == "file"]:
            await self._pipe.command("HDEL", key, *gone)

    async def put(self, budget: Budget, instead_of: Budget | None) -> bool:
        """Writes a new budget or a change of one; False when another has been there, or has changed it, before."""
        return await self._swap(budget, instead_of, packed(budget))

    async def remove(self, budget: Budget) -> bool:
        """Takes one away, and what it counted; False when it was changed or removed before."""
        return await self._swap(budget, budget, b"")

    async def _swap(self, budget: Budget, known: Budget | None, value: bytes) -> bool:
        before = b"" if known is None else packed(known)
        reply = await self._pipe.script(scripts.BUDGET, self._keys.root, [budget.id, budget.account, before, value])
        return reply == b"ok"

    async def status(self, budgets: Sequence[Budget], now_ms: int) -> list[BudgetStatus]:
        """How each stands now."""
        return await asyncio.gather(*(self._status(budget, now_ms) for budget in budgets))

    async def _status(self, budget: Budget, now_ms: int) -> BudgetStatus:
        start, renews = present(starts(budget.period, budget.time_zone, now_ms), now_ms)
        names = (*_COUNTS, "told:refused", *(f"told:{share!r}" for share in budget.alerts))
        real, simulated = await asyncio.gather(
            *(self._pipe.command("HMGET", self._account(budget, flag, start), *names) for flag in ("0", "1"))
        )
        elapsed = None if renews is None else (now_ms - start) / (renews - start)
        counts = [cast("list[bytes | None]", row) for row in (real, simulated)]
        since = min((int(row[5]) for row in counts if row[5] is not None), default=None)
        return BudgetStatus(
            id=budget.id, name=budget.name, tenant=budget.tenant, source=budget.source, mode=budget.mode,
            period=budget.period, time_zone=budget.time_zone, team=budget.team, key=budget.key, model=budget.model,
            labels=budget.labels, alerts=list(budget.alerts), limit_nano_usd=budget.limit, limit_usd=usd(budget.limit),
            period_start=None if renews is None else at(start), renews_at=at(renews), counting_since=at(since),
            use=_use(budget, counts[0], elapsed), simulated_use=_use(budget, counts[1], elapsed),
        )  # fmt: skip

    def _account(self, budget: Budget, simulated: str, start: int) -> str:
        if budget.period == "total":
            return self._keys("spend_total", budget.account, simulated)
        return self._keys("spend", budget.account, simulated, f"{budget.period}{start}")


def _use(budget: Budget, counts: Sequence[bytes | None], elapsed: float | None) -> BudgetUse:
    spent, reserved, unsure, unpriced, refused = (int(count or 0) for count in counts[:5])
    paced = elapsed is not None and elapsed >= _FORECAST_FROM
    return BudgetUse(
        spent_nano_usd=spent,
        reserved_nano_usd=reserved,
        unsure_nano_usd=unsure,
        left_nano_usd=budget.limit - spent - reserved - unsure,
        unpriced_calls=unpriced,
        refused_posts=refused,
        alerts=_alerts(budget, counts[6:]),
        forecast_nano_usd=round(spent / elapsed) if paced and elapsed else None,
    )


def _alerts(budget: Budget, told: Sequence[bytes | None]) -> list[BudgetAlert]:
    """Of the times (ms) of its first refusal and of each of its thresholds, those that there are, in order."""
    found = [
        (int(ms), share) for share, ms in zip((None, *budget.alerts), told, strict=True) if ms is not None
    ]  # fmt: skip
    return [
        BudgetAlert(share=share, at=moment)
        for ms, share in sorted(found, key=lambda one: (one[0], one[1] or 0))
        if (moment := at(ms)) is not None
    ]
