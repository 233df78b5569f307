"""The only place that speaks Redis. `open_store` gives everything that a process does with it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis

from onceq_service.store import control, lifetimes, server
from onceq_service.store._pipe import Pipe, connect
from onceq_service.store.admission import Admission, AdmissionTemplate, AdmissionValues, Admitted, new_job_id
from onceq_service.store.alerts import Alerts
from onceq_service.store.apikeys import ApiKey, ApiKeys
from onceq_service.store.batches import Batches, BatchState
from onceq_service.store.budgets import Budgets
from onceq_service.store.engine import Engine
from onceq_service.store.errors import (
    BudgetRefused,
    CostTooHigh,
    JobNotFound,
    KeyReused,
    LeaseLost,
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
from onceq_service.store.secrets import Hasher, Purpose, open_hasher, replace_secret
from onceq_service.store.server import ServerFacts
from onceq_service.store.stats import Stats

__all__ = [
    "Admission", "AdmissionTemplate", "AdmissionValues", "Admitted", "Alerts", "ApiKey", "ApiKeys", "BatchState",
    "Batches", "BudgetRefused", "Budgets", "CostTooHigh", "Engine", "EventLog", "Filter", "Hasher", "JobNotFound",
    "Jobs", "KeyReused", "Keys", "Lanes", "LeaseLost", "Ledger", "Pace", "Retention", "ServerFacts", "Stats", "Store",
    "StoreDenied", "StoreError", "StoreFull", "StoreUnavailable", "TooManyKeys", "new_job_id", "open_store",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Store:
    """One process's view of a queue in Redis."""

    jobs: Jobs
    engine: Engine
    events: EventLog
    batches: Batches
    stats: Stats
    ledger: Ledger
    api_keys: ApiKeys
    budgets: Budgets
    alerts: Alerts
    lanes: Lanes
    paces: Paces
    gauges: Gauges
    redis_keys: Keys
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
        return await lifetimes.overdue(self._pipe, self.redis_keys)

    async def hasher(self, purpose: Purpose = "hmac") -> Hasher:
        """The queue's HMAC for keys and fingerprints, or the one for stream tokens."""
        return await open_hasher(self._pipe, self.redis_keys, purpose)

    async def new_secret(self, purpose: Purpose) -> None:
        """Replaces a secret: what was hashed with the one before is not known any more."""
        await replace_secret(self._pipe, self.redis_keys, purpose)

    def cancels(self, heard: Callable[[str], None]) -> AbstractAsyncContextManager[None]:
        """Inside `with`, `heard` is told the ids of running jobs as they are cancelled."""
        return control.cancels(self._subscriber, self._pipe, self.redis_keys, heard)


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
            stats=Stats(pipe, keys),
            ledger=Ledger(pipe, keys),
            api_keys=ApiKeys(pipe, keys),
            budgets=Budgets(pipe, keys),
            alerts=Alerts(pipe, keys),
            lanes=Lanes(pipe, keys),
            paces=Paces(pipe, keys),
            gauges=Gauges(pipe, keys),
            redis_keys=keys,
            retention=kept,
            _pipe=pipe,
            _subscriber=subscriber,
        )
    finally:
        await events.stop()
        await pipe.close()
        await blocking.close()
        await subscriber.aclose()
