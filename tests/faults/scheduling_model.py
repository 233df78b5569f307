"""What the scheduler promises, in plain Python: who may start, who must, and in what shares. No Redis, no clock.

It does not foretell which job comes next. It is told what was given and where each job waits, and says whether that was
right; tests/faults/test_scheduling_model.py drives it beside the real scripts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations

from onceq_service.settings import LaneLimits

WEIGHTS = {name: Fraction(w) for name, w in {"heavy": "10", "even": "1", "like": "1", "little": "0.01"}.items()}
LANES = {
    "openai/a": LaneLimits(requests_per_minute=4),
    "openai/b": LaneLimits(concurrency=2),
    "openai/e": LaneLimits(),
    "openai/f": LaneLimits(),
    "openai/g": LaneLimits(),
    "anthropic/c": LaneLimits(requests_per_minute=6, concurrency=3),
    "anthropic/d": LaneLimits(),
}
BANDS = ("interactive", "standard", "batch")
SUSPECT_AT = 2
MOMENT_MS = 1000
"""A lane that opens sooner than this is waited for: nobody leaves it."""


@dataclass
class Pair:
    """Two tenants while either could start a job of a band: how often each came, in how many lanes it stood at once."""

    came: Counter[str] = field(default_factory=Counter[str])
    lanes: Counter[str] = field(default_factory=Counter[str])


@dataclass
class Job:
    """What is known of a job. Times are ms; `chain` are the other models that may answer it, in turn."""

    id: str
    tenant: str
    band: str
    lane: str
    chain: tuple[str, ...]
    created: int
    background: bool
    not_before: int = 0
    state: str = "queued"
    delayed: bool = False
    sent: bool = False
    resuming: bool = False
    cancelled: bool = False
    crashes: int = 0
    counted: bool = False
    """Whether the lane that it runs in counts it."""

    @property
    def place(self) -> str:
        """The one place in which it is."""
        if self.state != "queued":
            return "leases" if self.state == "running" else "ended"
        if self.delayed:
            return "due"
        if self.cancelled and not self.suspect:
            return "stops"
        return "suspects" if self.suspect else f"wait {self.band} {self.lane} {self.tenant}"

    @property
    def suspect(self) -> bool:
        return self.crashes >= SUSPECT_AT

    @property
    def apart(self) -> bool:
        """Waits in no lane's queue. A cancelled job that is queued has a call that goes on: a worker has to stop it."""
        return self.suspect or self.cancelled

    @property
    def age(self) -> tuple[int, str]:
        return self.created, self.id


@dataclass
class Lane:
    """What a lane does, and what holds it back."""

    limits: LaneLimits
    paused: bool = False
    braked_until: int = 0
    running: int = 0
    starts: list[int] = field(default_factory=list[int])
    """The second of each start."""

    def held_back(self, now: int) -> bool:
        """Longer than a moment: its jobs go where another model may answer."""
        return self.paused or self.braked_until > now + MOMENT_MS

    def stopped(self, now: int) -> bool:
        return self.paused or self.braked_until > now

    def last_minute(self, now: int) -> int:
        """Whole seconds: one counts until a minute has passed after its last moment."""
        return sum(second > now // 1000 - 61 for second in self.starts)

    def full(self, now: int) -> bool:
        most, rpm = self.limits.concurrency, self.limits.requests_per_minute
        return bool(most and self.running >= most) or bool(rpm and self.last_minute(now) >= rpm)

    def open(self, now: int) -> bool:
        return not self.stopped(now) and not self.full(now)


@dataclass
class Queue:
    """The jobs, the lanes, and for each two tenants that wait in a band how often each came since both could."""

    now: int = 1_800_000_000_000
    jobs: dict[str, Job] = field(default_factory=dict[str, Job])
    lanes: dict[str, Lane] = field(default_factory=lambda: {name: Lane(limits) for name, limits in LANES.items()})
    paused_bands: set[str] = field(default_factory=set[str])
    turns: dict[str, dict[tuple[str, str], Pair]] = field(default_factory=dict[str, dict[tuple[str, str], Pair]])

    def in_state(self, state: str) -> list[Job]:
        return [job for job in self.jobs.values() if job.state == state]

    def waiting(self) -> list[Job]:
        """Queued, not delayed."""
        return [job for job in self.in_state("queued") if not job.delayed]

    def lane(self, job: Job) -> Lane:
        return self.lanes[job.lane]

    def promote(self) -> None:
        for job in self.in_state("queued"):
            if job.delayed and job.not_before <= self.now:
                job.delayed = False

    def moved(self, job: Job, lane: str, chain: Sequence[str]) -> None:
        """A job was seen in another lane: it left one that was held back, for the first of its others that was not."""
        left, models = self.lane(job), (job.lane, *job.chain)
        assert not job.resuming, f"the call of {job.id} goes on in {job.lane}"
        assert left.held_back(self.now), f"{job.id} left {job.lane}, which was open"
        n = next(n for n, name in enumerate(models) if not self.lanes[name].held_back(self.now))
        assert (lane, *chain) == models[n:] + models[:n], f"{job.id} has {models} and went to {lane}"
        job.lane, job.chain = lane, tuple(chain)

    def fall_back(self, job: Job, how: str) -> None:
        """On with the next of its models; one that is dropped never comes back."""
        if how and job.chain:
            rest = () if how == "drop" else (job.lane,)
            job.lane, job.chain = job.chain[0], (*job.chain[1:], *rest)

    def given(self, jobs: Sequence[Job], serves: Sequence[str], running: int, where: dict[str, str]) -> None:
        """A worker was given these. `where`: the lanes of all jobs that waited before it asked."""
        if any(job.suspect for job in jobs):
            assert len(jobs) == 1, "a suspect runs alone"
            assert not running, "a suspect is for a worker that is empty"
        for job in jobs:
            assert self.may_start(job, serves), f"{job} was given, its lane: {self.lane(job)}"
            self._oldest(job, jobs, where)
            self._in_turn(job, serves)
            self.begin(job)

    def may_start(self, job: Job, serves: Sequence[str]) -> bool:
        """Whether a worker that serves these providers could be given it now."""
        ready = job.state == "queued" and not job.delayed and job.not_before <= self.now
        served = job.lane.partition("/")[0] in serves
        free = job.band not in self.paused_bands and self.lane(job).open(self.now)
        return ready and served and (free or job.cancelled)

    def _oldest(self, job: Job, given: Sequence[Job], where: dict[str, str]) -> None:
        """Of one tenant, lane and band by age. One that came into the lane meanwhile may have come too late."""
        for other in self.waiting():
            here = (other.tenant, other.band, other.lane) == (job.tenant, job.band, job.lane)
            if here and not job.apart and not other.apart and where[other.id] == other.lane:
                assert other.age >= job.age, f"{other.id} is older than {job.id} and still waits; given: {given}"

    def _in_turn(self, job: Job, serves: Sequence[str]) -> None:
        """While either of two tenants could start a job of the band none is ahead of its share by more than a job of
        each, and one for each lane in which they stand: there they have their turns already.
        """
        if job.apart:
            return
        self._compare(job.band, serves)
        for names, pair in self.turns[job.band].items():
            if job.tenant in names:
                pair.came[job.tenant] += 1
                a, b = (pair.came[tenant] / WEIGHTS[tenant] for tenant in names)
                most = sum((1 + pair.lanes[tenant]) / WEIGHTS[tenant] for tenant in names)
                assert abs(a - b) <= most, f"{job.band}: {pair}"

    def _compare(self, band: str, serves: Sequence[str]) -> None:
        """Two tenants are compared from when a worker could start a job of either until there is one that can't."""
        here = [job for job in self.waiting() if job.band == band and not job.apart]
        able = sorted({job.tenant for job in here if self.may_start(job, serves)})
        before = self.turns.get(band, {})
        self.turns[band] = {names: before.get(names, Pair()) for names in combinations(able, 2)}
        for tenant in able:
            lanes = len({job.lane for job in here if job.tenant == tenant})
            for names, pair in self.turns[band].items():
                if tenant in names:
                    pair.lanes[tenant] = max(pair.lanes[tenant], lanes)

    def begin(self, job: Job) -> None:
        lane = self.lane(job)
        job.state, job.sent = "running", job.resuming
        job.counted = not job.cancelled  # one that is only stopped asks the provider for nothing
        if job.counted:
            lane.running += 1
            lane.starts.append(self.now // 1000)

    def stop(self, job: Job, state: str, delay_ms: int = 0) -> None:
        """A job runs no more."""
        self.lane(job).running -= job.counted
        job.state, job.sent = state, False
        job.not_before, job.delayed = self.now + delay_ms, delay_ms > 0

    def lost(self, job: Job) -> None:
        """Its worker died."""
        job.crashes += 1
        goes_on = job.sent and job.background
        if job.sent and not goes_on:
            job.resuming = False
        self.stop(job, "ended" if job.cancelled and not goes_on else "queued")
        job.resuming = goes_on

    def cancel(self, job: Job) -> str:
        """What its owner is told. A call that goes on has to be stopped by a worker, which is given it at once."""
        if job.state == "ended":
            return "ended"
        if job.state == "queued" and not job.resuming:
            job.state = "ended"
            return "cancelled"
        job.cancelled, job.delayed = True, False
        job.not_before = 0
        return "requested"

    def left_over(self, serves: Sequence[str], where: dict[str, str]) -> Iterator[Job]:
        """Jobs that a worker could have been given and was not. While a suspect waits only stops are due."""
        suspects = any(job.suspect for job in self.waiting())
        for job in self.waiting():
            due = job.place == "stops" or not suspects
            if due and where.get(job.id) == job.lane and self.may_start(job, serves):
                yield job

    def stuck(self, serves: Sequence[str]) -> Iterator[Job]:
        """Jobs that wait without a cause although a worker has asked until it got nothing."""
        for job in self.waiting():
            others = () if job.resuming or job.band in self.paused_bands else job.chain
            elsewhere = any(not self.lanes[name].held_back(self.now) for name in others)
            if self.may_start(job, serves) or (self.lane(job).held_back(self.now) and elsewhere):
                yield job
