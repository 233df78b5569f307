"""The only place that speaks Redis. `open_store` gives everything that a process does with it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis

from onceq_service.store import control, lifetimes, server
from onceq_service.store._pipe import Pipe, connect
from onceq_service.store.admission import Admission, Admitted, Own, Pattern, new_job_id
from onceq_service.store.alerts import Alerts
from onceq_service.store.apikeys import ApiKey, ApiKeys
from onceq_service.store.batches import Batches, BatchState
from onceq_service.store.budgets import Budgets
from onceq_service.store.engine import Engine
from onceq_service.store.errors import (
    BudgetRefused,
    CostTooHigh,
    KeyReused,
    LeaseLost,
    NotThere,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreUnavailable,
    TooManyKeys,
)
from onceq_service.store.events import EventLog
from onceq_service.store.find import Filter
from onceq_service.store.gauges import Gauges
from onceq_service.store.jobs import Jobs
from onceq_service.store.keys import Keys
from onceq_service.store.lanes import Lanes
from onceq_service.store.ledger import Ledger
from onceq_service.store.pace import Pace, Paces
from onceq_service.store.retention import Retention
from onceq_service.store.secrets import Purpose, Seal, open_seal, replace_secret
from onceq_service.store.server import ServerFacts
from onceq_service.store.stats import Sums

__all__ = [
    "Admission", "Admitted", "Alerts", "ApiKey", "ApiKeys", "BatchState", "Batches", "BudgetRefused", "Budgets",
    "CostTooHigh", "Engine", "EventLog", "Filter", "Jobs", "KeyReused", "Keys", "Lanes", "LeaseLost", "Ledger",
    "NotThere", "Own", "Pace", "Pattern", "Retention", "Seal", "ServerFacts", "Store", "StoreDenied", "StoreError",
    "StoreFull", "StoreUnavailable", "Sums", "TooManyKeys", "new_job_id", "open_store",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Store:
    """One process's view of a queue in Redis."""

    jobs: Jobs
    engine: Engine
    events: EventLog
    batches: Batches
    sums: Sums
    ledger: Ledger
    keys: ApiKeys
    budgets: Budgets
    alerts: Alerts
    lanes: Lanes
    paces: Paces
    gauges: Gauges
    names: Keys
    retention: Retention
    _pipe: Pipe
    _subscriber: Redis

    async def inspect(self) -> ServerFacts:
        """The server's facts; what a 202 promises follows from them from now on."""
        facts = await server.inspect(self._pipe)
        self.jobs.durability = facts.durability
        return facts

    async def memory(self) -> tuple[int, int]:
        """Bytes that Redis uses, and its limit (0: none)."""
        return await server.memory(self._pipe)

    async def ping(self) -> None:
        """Raises StoreUnavailable when Redis does not answer."""
        await self._pipe.command("PING")

    async def keys_without_lifetime(self) -> list[str]:
        """Keys of this queue that would stay for ever: not permanent by keys.py, and no live job's. For tests."""
        return await lifetimes.overdue(self._pipe, self.names)

    async def seal(self, purpose: Purpose = "hmac") -> Seal:
        """The queue's HMAC for keys and fingerprints, or the one for stream tokens."""
        return await open_seal(self._pipe, self.names, purpose)

    async def new_secret(self, purpose: Purpose) -> None:
        """Replaces a secret: what was sealed with the one before is not known any more."""
        await replace_secret(self._pipe, self.names, purpose)

    def cancels(self, heard: Callable[[str], None]) -> AbstractAsyncContextManager[None]:
        """Inside `with`, `heard` is told the ids of running jobs as they are cancelled."""
        return control.cancels(self._subscriber, self._pipe, self.names, heard)


@asynccontextmanager
async def open_store(url: str, queue: str = "main", retention: Retention | None = None) -> AsyncGenerator[Store]:
    """Connects lazily: Redis may be away now and come later. Closes every connection on leaving."""
    keys, kept = Keys(queue), retention or Retention()
    pipe, blocking = Pipe(connect(url, connections=1)), Pipe(connect(url, connections=1))
    subscriber = connect(url, connections=1, retries=0)
    events = EventLog(pipe, keys, subscriber)
    await events.start()
    try:
        yield Store(
            jobs=Jobs(pipe, keys, kept),
            engine=Engine(pipe, keys, kept, blocking),
            events=events,
            batches=Batches(pipe, keys, events),
            sums=Sums(pipe, keys),
            ledger=Ledger(pipe, keys),
            keys=ApiKeys(pipe, keys),
            budgets=Budgets(pipe, keys),
            alerts=Alerts(pipe, keys),
            lanes=Lanes(pipe, keys),
            paces=Paces(pipe, keys),
            gauges=Gauges(pipe, keys),
            names=keys,
            retention=kept,
            _pipe=pipe,
            _subscriber=subscriber,
        )
    finally:
        await events.stop()
        await pipe.close()
        await blocking.close()
        await subscriber.aclose()
