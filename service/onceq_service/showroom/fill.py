"""Fills an empty queue with the showroom's month, through the store's own scripts and on a clock that they are told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from onceq.wire import Scope
from onceq_service.api.catalog import Catalog
from onceq_service.api.defaults import Defaults
from onceq_service.pricing import Tariff, load_tables
from onceq_service.settings import Settings
from onceq_service.showroom.admission import AdmissionBuilder
from onceq_service.showroom.budgets import budgets, expected
from onceq_service.showroom.incidents import incidents
from onceq_service.showroom.money import Prices
from onceq_service.showroom.people import NAMES
from onceq_service.showroom.plan import DAYS, Post, posts
from onceq_service.showroom.world import World
from onceq_service.store import ApiKey, Retention
from onceq_service.store.backfill import BackfillStore, open_backfill_store
from onceq_service.store.budgets import Budget, budget_of

DAY_MS: Final = 86_400_000
TENANT: Final = "default"
SCOPES: Final[tuple[Scope, ...]] = ("submit", "read", "cancel")
JOBS_A_SLOT: Final = 2_000
"""Of the month's jobs, so that it is busy at its busiest hours."""

TELL_S: Final = 0.2

Progress = Callable[[int, datetime | None], None]
"""Told how many posts were made, and up to when (None: nothing yet); what it raises ends the filling."""


@dataclass(frozen=True, slots=True)
class Filled:
    """What was written: posts, and the secret of each application's key."""

    posts: int
    secrets: dict[str, str] = field(default_factory=dict[str, str])


async def fill(settings: Settings, jobs: int, seed: int, until: datetime, progress: Progress) -> Filled:
    """About so many posts in the thirty days before `until`. The same seed and times make the same month.

    Raises ConfigurationError where the queue has been used before; nothing was written then.
    """
    await asyncio.to_thread(load_tables)
    kept = Retention(settings.result_ttl_s, settings.events_ttl_s, settings.idempotency_ttl_s, settings.lease_s)
    begin_ms = round(until.timestamp() * 1000) - (DAYS + 1) * DAY_MS
    async with open_backfill_store(settings.redis_url, settings.queue, begin_ms, kept) as store:
        keys, secrets = await _keys(store)
        rng = random.Random(seed)  # noqa: S311 - made-up traffic, no secret
        told, file = incidents(until), settings.file()
        tariff = Tariff(settings.providers(), file.prices)
        prices = Prices(tariff)

        def month() -> Iterator[Post]:
            return posts(jobs, until, told, random.Random(seed + 2))  # noqa: S311

        builder = AdmissionBuilder(
            Catalog(file.aliases, settings.providers()), tariff, _defaults(settings), await store.hasher(), keys,
            random.Random(seed + 1), await _budgets(store, month(), prices, until, keys, begin_ms),  # noqa: S311
        )  # fmt: skip
        world = World(store, builder, prices, told, max(4, jobs // JOBS_A_SLOT), until, rng)
        await _told_of(world, asyncio.create_task(world.go(month())), progress)
        await store.close()
    return Filled(world.posted, secrets)


async def _keys(store: BackfillStore) -> tuple[dict[str, ApiKey], dict[str, str]]:
    made = {name: await store.api_keys.create(tenant=TENANT, name=name, scopes=SCOPES) for name in NAMES}
    return {name: key for name, (key, _) in made.items()}, {name: secret for name, (_, secret) in made.items()}


async def _budgets(
    store: BackfillStore, month: Iterator[Post], prices: Prices, until: datetime, keys: dict[str, ApiKey], made_ms: int
) -> list[Budget]:
    """Makes them before the first post: they count what comes after."""
    costs = await asyncio.to_thread(lambda: expected(month, prices))
    wanted = budgets(costs, until, {name: key.id for name, key in keys.items()})
    made = [budget_of(one, TENANT, "api", made_ms) for one in wanted]
    for budget in made:
        await store.budgets.put(budget, None)
    return made


def _defaults(settings: Settings) -> Defaults:
    return Defaults(
        settings.deadline_s, settings.max_calls, settings.dedupe_window_s,
        {**settings.file().lanes, **settings.lanes}, settings.label_keys,
    )  # fmt: skip


async def _told_of(world: World, going: asyncio.Task[None], progress: Progress) -> None:
    """Waits for the end; what `progress` raises ends it before."""
    try:
        while not going.done():
            progress(world.posted, datetime.fromtimestamp(world.now_ms / 1000, UTC) if world.now_ms else None)
            await asyncio.wait({going}, timeout=TELL_S)
    finally:
        going.cancel()
        with suppress(asyncio.CancelledError):
            await going
