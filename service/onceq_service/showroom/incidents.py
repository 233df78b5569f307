"""What went wrong in the showroom's month, and when: the stories that its dashboard has to tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

What = Literal["outage", "throttled", "slow", "breaks", "crashes", "impatient", "runaway"]


@dataclass(frozen=True, slots=True)
class Incident:
    """Something between two times (ms); `where` is a provider, or empty for all."""

    what: What
    since_ms: int
    until_ms: int
    where: str
    story: str

    def holds(self, at_ms: int, model: str = "") -> bool:
        """Whether it goes on then, for this model."""
        return self.since_ms <= at_ms < self.until_ms and model.startswith(self.where)


def incidents(until: datetime) -> Sequence[Incident]:
    """Those of the thirty days before `until`, oldest first, on working days and in working hours (UTC)."""

    def one(
        what: What, days: int, hour: float, minutes: int, where: str, story: str, *, monday: bool = False
    ) -> Incident:
        day = _workday(until - timedelta(days=days), monday=monday)
        since = day.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(hours=hour)
        return Incident(what, _ms(since), _ms(since + timedelta(minutes=minutes)), where, story)

    found = [
        one("outage", 25, 9.7, 80, "openai/", "OpenAI was down for 80 minutes"),
        one("slow", 15, 8.0, 300, "anthropic/", "a slow Monday at Anthropic", monday=True),
        one("throttled", 12, 10.2, 50, "anthropic/", "Anthropic answered with 429 for 50 minutes"),
        one("runaway", 9, 13.0, 45, "", "a notebook's loop asked the same thing hundreds of times, fresh each time"),
        one("crashes", 6, 15.0, 20, "", "a bad deploy killed workers in mid-call"),
        one("impatient", 5, 11.0, 40, "", "clients gave up early and asked again: the same jobs, joined or replayed"),
        one("breaks", 3, 14.0, 60, "bedrock/", "streams from Bedrock broke off"),
    ]
    recent = until - timedelta(hours=5)
    late = "Bedrock throttled us a few hours ago"
    found.append(Incident("throttled", _ms(recent), _ms(recent + timedelta(minutes=35)), "bedrock/", late))
    return sorted(found, key=lambda incident: incident.since_ms)


def _workday(day: datetime, *, monday: bool) -> datetime:
    while day.weekday() != 0 if monday else day.weekday() > 4:
        day -= timedelta(days=1)
    return day.astimezone(UTC)


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
