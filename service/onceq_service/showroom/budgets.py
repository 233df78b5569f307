"""The showroom's budgets, and the story that each of them tells; limits are set by what the month is about to cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from onceq.wire import NANO, BudgetRequest
from onceq_service.api.submission import codec
from onceq_service.showroom.money import Prices
from onceq_service.showroom.people import SWEEPER
from onceq_service.showroom.plan import DAYS, Post
from onceq_service.store.periods import present, starts

DAY_MS: Final = 86_400_000
FEWEST_DAYS: Final = 2
"""A month that is younger is taken for one of so many days: limits of cents would tell nothing."""
ROOM_USD: Final = 0.06
"""The least limit: a hard one needs room for what one call may cost at most."""
Fits = Callable[[Post], bool]


@dataclass(frozen=True, slots=True)
class Expected:
    """What one post will about cost, nano-USD."""

    post: Post
    nano_usd: int


def expected(posts: Iterable[Post], prices: Prices) -> Sequence[Expected]:
    """What each post that makes a job costs if all goes well; who asks again for what was asked pays nothing."""
    found: list[Expected] = []
    asked: set[int] = set()
    for post in posts:
        if id(post.request) not in asked:
            model = post.request.models()[0]
            receipt = prices.reported(model, post.at_ms, len(codec.dump(post.request)), post.tokens)
            found.append(Expected(post, receipt.spent_nano_usd or 0))
            asked.add(id(post.request))
    return found


def budgets(costs: Sequence[Expected], until: datetime, key_ids: dict[str, str]) -> list[BudgetRequest]:
    """Seven: one nearly used up, one that stopped a loop, two that are passed and refuse nothing, three with room."""
    until_ms = round(until.astimezone(UTC).timestamp() * 1000)
    started_ms, _ = present(starts("month", "UTC", until_ms), until_ms)
    passed = max(FEWEST_DAYS * DAY_MS, until_ms - max(started_ms, until_ms - DAYS * DAY_MS))

    def so_far(fits: Fits) -> float:
        """US dollars of the present month until now."""
        since = until_ms - passed
        return sum(c.nano_usd for c in costs if c.post.at_ms >= since and fits(c.post)) / NANO

    def month(fits: Fits) -> float:
        """US dollars of a whole month at the pace so far."""
        return so_far(fits) * DAYS * DAY_MS / passed

    sweep, books, think = {"prompt": SWEEPER.prompt}, "notebooks", "openai/gpt-5"
    return [
        BudgetRequest(name="everything", limit_usd=_round(1.7 * month(_all))),
        BudgetRequest(name="everything, by day", period="day", mode="soft", limit_usd=_round(3 * month(_all) / DAYS)),
        BudgetRequest(name="legal", team="legal", limit_usd=_cents(so_far(_team("legal")) / 0.92), alerts=[0.8, 0.9]),
        BudgetRequest(name="sweeps", period="total", labels=sweep, limit_usd=_round(0.6 * _whole(costs, _sweeps))),
        BudgetRequest(name="marketing", team="marketing", mode="soft",
                      limit_usd=_cents(so_far(_team("marketing")) / 1.15)),
        BudgetRequest(name="thinking models", model=think, limit_usd=_round(2 * month(_model(think)))),
        BudgetRequest(name="notebooks, by day", period="day", mode="soft", time_zone="Europe/Berlin",
                      key=key_ids[books], limit_usd=_round(0.9 * month(_app(books)) / DAYS)),
    ]  # fmt: skip


def _all(_: Post) -> bool:
    return True


def _sweeps(post: Post) -> bool:
    return post.app is SWEEPER


def _team(name: str) -> Fits:
    return lambda post: post.app.team == name


def _app(name: str) -> Fits:
    return lambda post: post.app.name == name and post.app is not SWEEPER


def _model(name: str) -> Fits:
    return lambda post: name in post.request.models()


def _whole(costs: Sequence[Expected], fits: Fits) -> float:
    return sum(c.nano_usd for c in costs if fits(c.post)) / NANO


def _round(usd: float) -> float:
    """As somebody would set it: two digits that count."""
    return max(ROOM_USD, float(f"{usd:.2g}"))


def _cents(usd: float) -> float:
    """Where two digits would tell another story."""
    return max(ROOM_USD, round(usd, 2))
