"""When who posts what: a month of posts in the order of time, drawn from the habits of people.py. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from onceq.wire import JobRequest, Timeouts
from onceq_service.showroom.incidents import Incident
from onceq_service.showroom.people import APPS, HOURS, SWEEPER, WEEKEND, App
from onceq_service.showroom.words import SYSTEM, question

DAYS: Final = 30
NEW_VERSION_DAYS: Final = 11
"""So many days before the end each application went over to its newer prompt."""
RUNAWAY: Final = 0.035
"""Of all jobs, those of the loop that ran away."""
GROWTH: Final = 0.5
"""How much more is asked at the end of the month than at its beginning."""


@dataclass(frozen=True, slots=True)
class Post:
    """One post: when (ms), by whom, what, and how long an answer it will get. `cancel_ms`: cancelled so long after."""

    at_ms: int
    app: App
    request: JobRequest
    tokens: int
    cancel_ms: int | None = None


def posts(jobs: int, until: datetime, told: Sequence[Incident], rng: random.Random) -> Iterator[Post]:
    """About so many posts in the thirty days before `until`, oldest first."""
    first = (until - timedelta(days=DAYS)).replace(minute=0, second=0, microsecond=0)
    hours = [first + timedelta(hours=n) for n in range(DAYS * 24 + 1)]
    fits = {app.name: jobs * app.share / sum(_busy(app, hour, first) for hour in hours) for app in APPS}
    later: list[Post] = []
    for hour in hours:
        due = [
            post
            for app in APPS
            for post in _hour(app, hour, _count(fits[app.name] * _busy(app, hour, first), rng), until, told, rng)
        ]
        due += _runaway(hour, jobs, told, rng)
        due += later
        edge = _ms(hour + timedelta(hours=1))
        later = [post for post in due if post.at_ms >= edge]
        yield from sorted((p for p in due if p.at_ms < min(edge, _ms(until))), key=lambda p: p.at_ms)


def _busy(app: App, hour: datetime, first: datetime) -> float:
    weekend = WEEKEND[app.day] if hour.weekday() > 4 else 1.0
    return HOURS[app.day][hour.hour] * weekend * (1 + GROWTH * (hour - first) / timedelta(days=DAYS))


def _count(mean: float, rng: random.Random) -> int:
    """A number with this mean."""
    return int(mean) + (rng.random() < mean % 1)


def _hour(
    app: App, hour: datetime, count: int, until: datetime, told: Sequence[Incident], rng: random.Random
) -> Iterator[Post]:
    spread_ms = 15_000 if app.day == "night" else 3_600_000  # a batch comes at once
    newer = hour >= until - timedelta(days=NEW_VERSION_DAYS)
    for _ in range(count):
        post = _post(app, _ms(hour) + rng.randrange(spread_ms), newer, rng)
        yield post
        yield from _again(post, told, rng)


def one_post(app: App, at: datetime, rng: random.Random) -> Post:
    """One of an application's posts, as it makes them at the end of the month."""
    return _post(app, _ms(at), True, rng)


def _post(app: App, at_ms: int, newer: bool, rng: random.Random) -> Post:
    chain = rng.choices([models for models, _ in app.models], [weight for _, weight in app.models])[0]
    request = JobRequest(
        model=chain[0] if len(chain) == 1 else list(chain), prompt=question(app.kind, rng),
        system=SYSTEM.get(app.kind), max_tokens=app.tokens * 4, band=app.band,
        user=rng.choice(app.users) if app.users else None, team=app.team,
        labels={"prompt": app.prompt, "version": app.versions[newer]},
        timeouts=Timeouts(queue_s=app.queue_s) if app.queue_s else None,
    )  # fmt: skip
    tokens = min(app.tokens * 4, max(8, round(rng.lognormvariate(0, 0.45) * app.tokens * (0.85 if newer else 1.0))))
    cancel_ms = rng.randrange(400, 9_000) if rng.random() < app.cancels else None
    return Post(at_ms, app, request, tokens, cancel_ms)


def _again(post: Post, told: Sequence[Incident], rng: random.Random) -> Iterator[Post]:
    """The same question once more, or a few times where clients are impatient."""
    impatient = any(i.what == "impatient" and i.holds(post.at_ms) for i in told) and post.app.band == "interactive"
    for _ in range(rng.randrange(1, 4) if impatient else rng.random() < post.app.repeats):
        yield replace(post, at_ms=post.at_ms + rng.randrange(700, 5_000 if impatient else 400_000), cancel_ms=None)


def _runaway(hour: datetime, jobs: int, told: Sequence[Incident], rng: random.Random) -> Iterator[Post]:
    """A loop that asks for fresh answers; its owner stops it, and cancels what is left."""
    for incident in told:
        if incident.what == "runaway" and _ms(hour) <= incident.since_ms < _ms(hour) + 3_600_000:
            length_ms = (incident.until_ms - incident.since_ms) // 6
            for n in range(round(jobs * RUNAWAY)):
                at_ms = incident.since_ms + rng.randrange(length_ms)
                post = _post(SWEEPER, at_ms, False, rng)
                stopped = incident.until_ms - at_ms if n % 5 == 0 else None
                yield replace(post, request=post.request.model_copy(update={"fresh": True}), cancel_ms=stopped)


def _ms(at: datetime) -> int:
    return round(at.astimezone(UTC).timestamp() * 1000)
