"""What the routes of one API process share: the store, the catalog, and a view of Redis and the workers that is
refreshed in the background, so that no request waits for it. Nothing here is state: another process can know the same.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Set
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Final

import structlog
from fastapi import Depends, Request

from onceq.wire import JobRequest, WorkerInfo
from onceq_service import heap
from onceq_service.api.auth import CACHE_S, Authenticator
from onceq_service.api.budget_cache import BudgetCache
from onceq_service.api.cache import TtlCache
from onceq_service.api.catalog import Catalog, Resolved
from onceq_service.api.defaults import Defaults
from onceq_service.api.readers import STUCK_S, Readers
from onceq_service.logs import without_words
from onceq_service.pricing import Tariff, load_tables
from onceq_service.settings import Settings
from onceq_service.store import Hasher, Pace, Retention, ServerFacts, Store, StoreError, open_store
from onceq_service.store.budgets import of_file
from onceq_service.store.server import FULL_AT

TEND_S: Final = 1.0
WORKERS_S: Final = 2.0
API_S: Final = 2.0
INSPECT_S: Final = 5.0
STATS_S: Final = 1.0
PACE_S: Final = 1.0
BUDGETS_S: Final = 1.0

READERS_S: Final = 1.0
log = structlog.get_logger("onceq.api")


class Service:
    """One API process. Everything but `catalog` and `settings` exists only inside `running()`."""

    store: Store
    authenticator: Authenticator
    _tables: asyncio.Task[None]

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        file = settings.file()
        self.catalog = Catalog(file.aliases, settings.providers())
        self.tariff = Tariff(settings.providers(), file.prices)
        self.budget_cache = BudgetCache(of_file(file.budgets))
        self.defaults = Defaults(
            settings.deadline_s,
            settings.max_calls,
            settings.dedupe_window_s,
            {**file.lanes, **settings.lanes},
            settings.label_keys,
        )
        self.weights = {name: tenant.weight for name, tenant in {**file.tenants, **settings.tenants}.items()}
        self.facts: ServerFacts | None = None
        """What Redis said when it was last looked at; None while it has never answered."""
        self.full = False
        self.workers: list[WorkerInfo] = []
        self.readers = Readers()
        self.revoked: Set[str] = frozenset()
        """API keys that were revoked of late."""
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self.stats = TtlCache[bytes](STATS_S)
        self._paces = TtlCache[Pace](PACE_S)
        self._hasher: Hasher | None = None
        self._stream_hasher: Hasher | None = None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Opens the store (Redis may be away) and keeps the view fresh until the end."""
        s = self.settings
        kept = Retention(s.result_ttl_s, s.events_ttl_s, s.idempotency_ttl_s, s.lease_s)
        async with open_store(s.redis_url, s.queue, kept) as self.store:
            self.authenticator = Authenticator(self.store.api_keys)
            self._tables = asyncio.create_task(asyncio.to_thread(_load_prices), name="api-price-tables")
            chores = [
                asyncio.create_task(repeat(what, every_s), name=f"api-{what.__name__}")
                for what, every_s in self._chores()
            ]
            try:
                yield
            finally:
                await cancel_all(chores)
                await self._tables
                with suppress(StoreError):
                    await self.store.gauges.forget_api(self._name)

    async def prices(self) -> None:
        """Waits until the price tables are there: they are loaded beside the start, in about a second."""
        if not self._tables.done():
            await asyncio.shield(self._tables)

    async def hasher(self) -> Hasher:
        """The queue's HMAC. No job is admitted before Redis has been looked at once; raises StoreUnavailable."""
        return self._hasher or await self.inspect()

    async def stream_hasher(self) -> Hasher:
        """What signs stream tokens; raises StoreUnavailable."""
        if self._stream_hasher is None:
            self._stream_hasher = await self.store.hasher("stream")
        return self._stream_hasher

    async def models_of(self, request: JobRequest) -> list[Resolved]:
        """The models that may answer a request, at least one; raises Refused (422) for one unknown or not served."""
        models = self.catalog.chain(request.models())
        for model in models:
            if not await self.serves(model.provider):
                raise self.catalog.not_served(model.provider)
        return models

    async def pace(self, lane: str) -> Pace:
        """The lane's queue as it was at most a second ago; raises StoreUnavailable."""
        return await self._paces.get(lane, lambda: self.store.paces.get(lane))

    def known_pace(self, lane: str) -> Pace | None:
        """What `pace` says, without waiting and at most two seconds old; None where Redis must be asked."""
        return self._paces.known(lane, lambda: self.store.paces.get(lane))

    def ready_hasher(self) -> Hasher | None:
        """The hasher, when posts can be admitted without waiting for anything but the store."""
        return self._hasher if self._tables.done() and not self.full else None

    def free_slots(self, provider: str) -> int:
        """How many jobs the workers that serve a provider could take at once, by their last beat."""
        return sum(max(0, w.capacity - w.running) for w in self.workers if provider in w.providers)

    async def serves(self, provider: str) -> bool:
        """Whether a live worker serves it; with no worker at all, one may come. Looks again before it says no."""
        if self.served(provider):
            return True
        await self.see_workers()
        return self.served(provider)

    def served(self, provider: str) -> bool:
        """Whether a worker serves it that lived two seconds ago."""
        return not self.workers or any(provider in w.providers for w in self.workers)

    async def see_workers(self) -> None:
        """Reads which workers live."""
        self.workers = await self.store.stats.workers()

    async def say_api(self) -> None:
        """Says that this process lives, and how many event streams it has open."""
        await self.store.gauges.say_api(self._name, len(self.readers))

    async def tend(self) -> None:
        """One second's housekeeping of the queue, and whether its memory still takes new work."""
        await self.store.engine.tend()
        used, limit = await self.store.memory()
        self.full = limit > 0 and used > FULL_AT * limit

    async def inspect(self) -> Hasher:
        """What kind of Redis this is now; it may have been replaced, so its secret is read again too."""
        self.facts = await self.store.inspect()
        await self.store.lanes.set_weights(self.weights)
        await self.see_budgets()
        self._stream_hasher = await self.store.hasher("stream")
        self._hasher = await self.store.hasher()
        return self._hasher

    async def see_budgets(self) -> None:
        """Reads which budgets hold."""
        await self.budget_cache.read(self.store)

    async def tell_of_stuck_readers(self) -> None:
        """Tells jobs whose readers do not read; raises StoreUnavailable."""
        await self.readers.report(self.store.jobs)

    async def tend_readers(self) -> None:
        """Keeps quiet streams alive, and cuts those that nobody reads."""
        self.readers.tend()

    async def heed_revocations(self) -> None:
        """Of API keys, by whatever process; raises StoreUnavailable."""
        self.revoked = await self.store.api_keys.revoked()
        self.shut_out(self.revoked)

    def shut_out(self, key_ids: Set[str]) -> None:
        """Trusts these API keys no longer, and ends the streams that they, or tokens of theirs, have opened."""
        self.revoked |= key_ids
        self.authenticator.forget(key_ids)
        self.readers.dismiss(key_ids)

    def _chores(self) -> tuple[tuple[Callable[[], Awaitable[object]], float], ...]:
        return (
            (self.tend, TEND_S), (self.see_workers, WORKERS_S), (self.say_api, API_S), (self.inspect, INSPECT_S),
            (self.see_budgets, BUDGETS_S), (self.tell_of_stuck_readers, STUCK_S),
            (self.tend_readers, min(READERS_S, self.settings.keep_alive_s / 2)),
            (self.heed_revocations, CACHE_S),
        )  # fmt: skip


def _load_prices() -> None:
    """Loads the tables: some hundred thousand objects that live as long as the process."""
    load_tables()
    heap.set_aside()


async def repeat(what: Callable[[], Awaitable[object]], every_s: float) -> None:
    """Does it for ever, at once and then every so often; says so once when Redis goes away and when it is back."""
    away = False
    while True:
        began = time.monotonic()
        try:
            await what()
            if away:
                log.info("redis is back", chore=what.__name__)
            away = False
        except StoreError as exc:
            if not away:
                log.warning("redis does not answer", chore=what.__name__, reason=str(exc))
            away = True
        except Exception as exc:  # noqa: BLE001 - whatever it is, the next round may do better
            log.error("a chore failed", chore=what.__name__, **without_words(exc))  # noqa: TRY400
        await asyncio.sleep(max(0.05, every_s - (time.monotonic() - began)))


async def cancel_all(tasks: list[asyncio.Task[None]]) -> None:
    """Cancels tasks and waits until they have ended."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task


def service_of(request: Request) -> Service:
    """The service that answers a request."""
    service: Service = request.app.state.service
    return service


async def _service(request: Request) -> Service:
    return service_of(request)


In = Annotated[Service, Depends(_service)]
