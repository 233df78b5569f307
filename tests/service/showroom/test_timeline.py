"""Steps run at their times, and what an answer asks for is done."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest

from onceq_service.showroom.timeline import Timeline
from onceq_service.store.backfill import BackfillStore


class Clock:
    """What a timeline asks of a store."""

    def set_time(self, now_ms: int) -> None:
        self.now_ms = now_ms


@pytest.fixture
def timeline() -> Timeline:
    return Timeline(cast("BackfillStore", Clock()))


async def test_what_the_last_answer_asks_for_is_done(timeline: Timeline) -> None:
    done: list[int] = []

    async def ask(_: int) -> Callable[[], None]:
        return lambda: timeline.plan(20, cast("Any", done.append))

    timeline.plan(10, ask)
    await timeline.run()
    assert done == [20]


async def test_a_step_that_waits_for_answers_has_them_though_it_asks_nothing(timeline: Timeline) -> None:
    said: list[str] = []

    async def ask(_: int) -> Callable[[], None]:
        return partial(said.append, "answer")

    timeline.plan(10, ask)
    timeline.plan(11, lambda _: None, "answered")
    timeline.plan(12, lambda _: said.append("later"))
    await timeline.run()
    assert said == ["answer", "later"]
