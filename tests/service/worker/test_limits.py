"""What a worker tells of a provider's limits, and how often."""

from __future__ import annotations

from typing_extensions import override

from onceq_service.providers.base import RateLimits
from onceq_service.store import Store, StoreUnavailable
from onceq_service.store.lanes import Lanes
from onceq_service.worker.limits import RateLimitReporter

LANE = "openai/m"


class Counted(Lanes):
    """The store's lanes; counts what it is told, and may be away."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes, self.told, self.away = lanes, 0, False

    @override
    async def learn(self, lane: str, limits: str, *, used: int = 0, brake_s: float = 0) -> None:
        self.told += 1
        if self.away:
            raise StoreUnavailable("Redis is away")
        await self.lanes.learn(lane, limits, used=used, brake_s=brake_s)


async def note(reporter: RateLimitReporter, *limits: RateLimits | None) -> None:
    for one in limits:
        reporter.note(LANE, one)
    await reporter.close()


async def test_what_is_known_is_told_once_and_what_changes_again(store: Store) -> None:
    lanes = Counted(store.lanes)
    reporter = RateLimitReporter(lanes)
    await note(reporter, None, RateLimits(10), RateLimits(10), RateLimits(10))
    assert lanes.told == 1
    await note(reporter, RateLimits(20))
    assert (await store.lanes.get(LANE)).learned_limits == {"requests_per_minute": 20}


async def test_every_word_that_nothing_is_left_is_told(store: Store) -> None:
    lanes = Counted(store.lanes)
    await note(RateLimitReporter(lanes), RateLimits(10, wait_s=5), RateLimits(10, wait_s=5))
    assert lanes.told == 2
    assert (await store.lanes.get(LANE)).braked_until is not None


async def test_what_redis_could_not_take_is_told_by_the_next_answer(store: Store) -> None:
    lanes = Counted(store.lanes)
    reporter, lanes.away = RateLimitReporter(lanes), True
    await note(reporter, RateLimits(10))
    lanes.away = False
    await note(reporter, RateLimits(10))
    assert (await store.lanes.get(LANE)).learned_limits == {"requests_per_minute": 10}
