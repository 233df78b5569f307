"""A page of a tenant's jobs, newest first, of those that fit a filter: bounded work, whatever the filter is.

No index is kept for it but the one by state and time: `find.lua` looks at a bounded number of jobs a run, and a page at
`MOST_LOOKED` at most. A page that found little says how far it has looked, and its cursor goes on from there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

from onceq.wire import JOB_ID_PATTERN, Band, Status, Verdict
from onceq_service.store import scripts
from onceq_service.store._pipe import Arg, Pipe
from onceq_service.store.keys import Keys
from onceq_service.store.periods import ms_from, ms_till

STATUSES: tuple[Status, ...] = ("queued", "running", "succeeded", "failed", "cancelled", "expired")
LOOK: Final = 500
"""Jobs that one run of the script looks at: one to two milliseconds of Redis."""
MOST_LOOKED: Final = 5_000
"""Jobs that a page looks at."""
SPARE: Final = 64
"""Looked at beyond what is wanted, where there is nothing to filter by: some may have lapsed."""

_JOB_ID: Final = re.compile(JOB_ID_PATTERN.removesuffix("$"))
Position = tuple[int, str]
"""A job's time of creation (ms) and id: the order of lists."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which jobs to list; None means any."""

    status: Status | None = None
    team: str | None = None
    models: Sequence[str] | None = None
    since: datetime | None = None
    until: datetime | None = None
    error: str | None = None
    """The code of its error."""
    replayed: bool | None = None
    band: Band | None = None
    verdict: Verdict | None = None
    key: str | None = None
    """The id of the API key that posted it."""
    user: str | None = None
    labels: Sequence[tuple[str, str]] = ()
    """All of them."""

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Names and values as `find.lua` takes them."""
        given = {
            "team": self.team, "error": self.error, "band": self.band, "verdict": self.verdict, "key_id": self.key,
            "user": self.user, "replayed": None if self.replayed is None else str(int(self.replayed)),
        }  # fmt: skip
        yield from ((name, value) for name, value in given.items() if value is not None)
        yield from (("model", model) for model in self.models or ())
        yield from (("label", f"{key}={value}") for key, value in self.labels)


@dataclass(frozen=True, slots=True)
class Found:
    """Ids that fit, newest first; `position`: the last of the `looked` that were looked at; `more`: others follow."""

    ids: Sequence[str]
    position: Position | None
    looked: int
    more: bool


async def find(pipe: Pipe, keys: Keys, tenant: str, where: Filter, after: Position | None, limit: int) -> Found:
    """Those behind the position `after` (None: the newest), at most `limit`; raises StoreError."""
    pairs = [word for pair in where.pairs() for word in pair]
    look = LOOK if pairs else min(LOOK, limit + SPARE)
    ids: list[str] = []
    looked, more = 0, True
    while more and len(ids) < limit and looked < MOST_LOOKED:
        argv = [tenant, limit - len(ids), look, *_between(where), *(after or ("", "")), _statuses(where), *pairs]
        reply = cast("list[bytes]", await pipe.script(scripts.FIND, keys.root, argv))
        seen, more = int(reply[0]), bool(int(reply[1]))
        looked += seen
        ids += [found.decode() for found in reply[4:]]
        after = (int(reply[2]), reply[3].decode()) if seen else after
    return Found(ids, after, looked, more)


def read_cursor(cursor: str | None) -> Position | None:
    """Where a page ended, from its cursor; raises ValueError for what is none."""
    if cursor is None:
        return None
    score, _, job_id = cursor.partition("-")
    if not (score.isascii() and score.isdigit()) or len(score) > 15 or not _JOB_ID.fullmatch(job_id):
        raise ValueError("cursor is not one that a page gave")
    return int(score), job_id


def write_cursor(position: Position | None) -> str | None:
    """The other way."""
    return None if position is None else f"{position[0]}-{position[1]}"


def _between(where: Filter) -> tuple[Arg, Arg]:
    return (
        "-inf" if where.since is None else ms_from(where.since),
        "+inf" if where.until is None else ms_till(where.until),
    )


def _statuses(where: Filter) -> str:
    return where.status or " ".join(STATUSES)
