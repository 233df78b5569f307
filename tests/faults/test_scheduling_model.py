"""A hypothesis state machine of the scheduler: tenants, bands, lanes with limits, fallbacks, suspects, hand-overs.

After each step every job is in one place and every count is right, and whoever was given a job was rightly given that
one. ONCEQ_MODEL_EXAMPLES asks for more examples than CI runs, and then each run tries others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from onceq.wire import Band
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import StoreUnavailable
from onceq_service.store.engine import Claim, End, Fallback, Receipt
from tests.faults.scheduling_machine import SERVES, Watched, posted
from tests.faults.scheduling_model import BANDS, LANES, WEIGHTS, Job
from tests.faults.walk import Steps, explore
from tests.service.store.driver import PAID, PRICES, success

MOST_JOBS, POISON_AT = 40, 6
REFUSED = Receipt("provider_rate_limited", billed=False)
lost = st.booleans()
n = st.integers(0, MOST_JOBS - 1)
step = Steps()


class Scheduler(Watched):
    """Every step does something to Redis and tells the model what came of it."""

    @rule(data=st.data())
    def anything(self, data: st.DataObject) -> None:
        self.whole = False
        possible = (n for n in step.arguments if n in FIRST or (self.held if n in OF_A_CLAIM else self.queue.jobs))
        name = step.take(self, possible, data)
        self.seen[name] += 1

    @step(
        tenants=st.lists(st.sampled_from(sorted(WEIGHTS)), min_size=1, max_size=8), band=st.sampled_from(BANDS),
        models=st.lists(st.sampled_from(sorted(LANES)), min_size=1, max_size=3, unique=True),
        delay_s=st.sampled_from([0, 0, 0, 5, 70]), background=st.booleans(),
    )  # fmt: skip
    def post(self, tenants: list[str], band: str, models: list[str], delay_s: int, background: bool) -> None:
        for tenant in tenants[: MOST_JOBS - len(self.queue.jobs)]:
            self.queue.now += 1
            self.run(self.pipe.set_clock(self.queue.now))
            at = self.queue.now + 1000 * delay_s
            job = Job(
                f"job_{len(self.queue.jobs):032x}", tenant, band, models[0], tuple(models[1:]), self.queue.now,
                background, at if delay_s else 0, delayed=delay_s > 0,
            )  # fmt: skip
            self.run(self.jobs.admit(posted(job)))
            self.queue.jobs[job.id] = job
            self.look()

    @step(worker=st.sampled_from(["w0", "w1", "w2"]), want=st.integers(1, 8), lost=lost)
    def claim(self, worker: str, want: int, lost: bool) -> list[Claim]:
        """A worker asks; where the answer is lost it asks again, and gets what was meant for it."""
        running = sum(who == worker for _, who in self.held.values())
        self.queue.promote()
        where = {job.id: job.lane for job in self.queue.waiting()}
        ask: Callable[[], Any] = lambda: self.engines[worker].claim(worker, want, SERVES[worker], running=running)  # noqa: E731
        if lost:
            self.pipe.losing = True
            with pytest.raises(StoreUnavailable):
                self.run(ask())
            self.pipe.losing = False
        claims: list[Claim] = self.run(ask())[0]
        self.look()
        given = [self.queue.jobs[claim.id] for claim in claims]
        self.queue.given(given, SERVES[worker], running, where)
        if len(given) < want and not any(job.suspect for job in given):
            assert not (left := list(self.queue.left_over(SERVES[worker], where))), f"{worker} was not given {left}"
        self.held |= {claim.id: (claim, worker) for claim in claims}
        return claims

    @step(n=n)
    def dispatch(self, n: int) -> None:
        job, claim = self.nth_held(n)
        sent = self.run(self.engine.dispatch(claim, claim.number("tries") + 1, 9, PRICES))
        assert sent.word == ("resume" if job.resuming else "cancel" if job.cancelled and not job.sent else "ok")
        job.sent = job.sent or sent.word == "ok"
        if job.sent and job.background:
            self.run(self.engine.attach(claim, "resp_1"))

    @step(n=n)
    def finish(self, n: int) -> None:
        job, claim = self.nth_held(n)
        end = success(receipt=PAID) if job.sent else End("failed", b"", b"", None, kept=False, first_seq=0)
        assert self.run(self.engine.finish(claim, end))[0] == "ok"
        self.gone(job, "ended")

    @step(n=n, delay_s=st.sampled_from([0, 0, 3]), brake_s=st.sampled_from([0, 0, 1, 20]),
          fallback=st.sampled_from(["", "next", "drop"]))  # fmt: skip
    def refuse(self, n: int, delay_s: int, brake_s: int, fallback: Fallback) -> None:
        """The provider says 429; perhaps to all of the lane."""
        job, claim = self.nth_held(n)
        if not job.sent:
            return
        again = self.engine.requeue(
            claim, REFUSED, delay_s=delay_s, reason=REFUSED.outcome, brake_s=brake_s, fallback=fallback
        )
        assert self.run(again) is not job.cancelled
        if not job.cancelled:
            job.resuming = False
            self.brake(job.lane, brake_s)
            self.gone(job, "queued", 1000 * delay_s)
            self.queue.fall_back(job, fallback)

    @step(n=n, delay_s=st.sampled_from([0, 30]))
    def hand_over(self, n: int, delay_s: int) -> None:
        job, claim = self.nth_held(n)
        if job.sent and job.background:
            assert self.run(self.engine.hand_over(claim, delay_s=delay_s, reason="worker_lost")) is not job.cancelled
            if not job.cancelled:
                self.gone(job, "queued", 1000 * delay_s)
                job.resuming = True

    @step(n=n)
    def release(self, n: int) -> None:
        job, claim = self.nth_held(n)
        if job.sent and not job.resuming:
            return
        if self.ask("HGET", self.keys("job", job.id), "phase") == b"claimed":
            self.run(self.engine.release(claim))
            self.gone(job, "ended" if job.cancelled and not job.resuming else "queued")

    @step(n=n)
    def lose_worker(self, n: int) -> None:
        """Its lease is taken to have run out long ago, in a Redis that has lived long enough."""
        job, _ = self.nth_held(n)
        if job.crashes < POISON_AT - 1:
            now = self.queue.now
            self.ask("HSET", self.keys("pulse"), "since", now - 10**9, "last", now)
            self.ask("ZADD", self.keys("leases"), now - 1, job.id)
            self.queue.promote()
            self.queue.lost(job)
            del self.held[job.id]
            self.run(self.engine.tend())

    @step(n=n)
    def cancel(self, n: int) -> None:
        job = list(self.queue.jobs.values())[n % len(self.queue.jobs)]
        assert self.run(self.jobs.cancel(job.id, job.tenant)) == self.queue.cancel(job)

    @step(lane=st.sampled_from(sorted(LANES)), word=st.sampled_from(["pause", "resume"]))
    def switch_lane(self, lane: str, word: Any) -> None:
        self.run(self.lanes.switch_lane(lane, word))
        self.queue.lanes[lane].paused = word == "pause"
        if word == "resume":
            self.queue.lanes[lane].braked_until = 0

    @step(lane=st.sampled_from([name for name, limits in sorted(LANES.items()) if limits.packed()]))
    def run_dry(self, lane: str) -> None:
        """An answer said that nothing is left at the provider for a while."""
        self.run(self.lanes.learn(lane, LANES[lane].packed(), brake_s=20))
        self.brake(lane, 20)

    @step(band=st.sampled_from(BANDS), word=st.sampled_from(["pause", "resume", "resume"]))
    def switch_band(self, band: Band, word: Any) -> None:
        self.run(self.lanes.switch_band(band, word))
        (self.queue.paused_bands.add if word == "pause" else self.queue.paused_bands.discard)(band)

    @step(ms=st.sampled_from([300, 1000, 5000, 20_000, 61_000]))
    def time_passes(self, ms: int) -> None:
        self.queue.now += ms
        self.run(self.pipe.set_clock(self.queue.now))
        if ms >= 10_000:
            self.ask("DEL", self.keys("quarantine"))
        self.queue.promote()
        self.run(self.engine.tend())

    @step()
    def settle(self) -> None:
        """An idle worker that serves everybody asks until there is nothing: then nothing is left that it could have."""
        self.time_passes(11_000)
        while self.claim("idle", 8, lost=False) or self.claim("idle", 8, lost=False):
            for job_id in [job_id for job_id, (_, who) in self.held.items() if who == "idle"]:
                job = self.queue.jobs[job_id]
                if job.suspect:
                    self.finish(list(self.held).index(job_id))
        if not any(job.suspect for job in self.queue.waiting()):
            assert not (stuck := list(self.queue.stuck(SERVES["idle"]))), f"{stuck} of {self.queue.lanes}"

    def brake(self, lane: str, seconds: int) -> None:
        of = self.queue.lanes[lane]
        of.braked_until = max(of.braked_until, self.queue.now + 1000 * seconds if seconds else 0)

    def nth_held(self, n: int) -> tuple[Job, Claim]:
        job_id = list(self.held)[n % len(self.held)]
        return self.queue.jobs[job_id], self.held[job_id][0]

    def gone(self, job: Job, state: str, delay_ms: int = 0) -> None:
        self.queue.stop(job, state, delay_ms)
        del self.held[job.id]

    def teardown(self) -> None:
        try:
            if self.whole:
                self.drain()
            self.run(self._close())
        finally:
            self.runner.close()

    def drain(self) -> None:
        """Everything is switched on again, and all of it comes to its end."""
        rounds = 0
        for lane in LANES:
            self.switch_lane(lane, "resume")
        for band in BANDS:
            self.switch_band(band, "resume")
        while any(job.state != "ended" for job in self.queue.jobs.values()):
            assert (rounds := rounds + 1) < 40, "it comes to no end"
            while self.held:
                self.finish(0)
            self.time_passes(61_000)
            self.settle()
        self.every_job_is_in_one_place_and_every_count_is_right()
        self.nothing_is_left()


FIRST = ("post", "claim", "switch_lane", "run_dry", "switch_band", "time_passes", "settle")
OF_A_CLAIM = ("dispatch", "finish", "refuse", "hand_over", "release", "lose_worker")


def test_the_scheduler_keeps_every_promise_in_whatever_order_things_happen(redis_server: EmbeddedRedis) -> None:
    Scheduler.redis_url = redis_server.url
    Scheduler.seen.clear()
    explore(Scheduler, examples=25)
    wanted = {*step.arguments, "moved"}
    assert set(Scheduler.seen) >= wanted, f"never reached: {wanted - set(Scheduler.seen)}"


def test_a_call_that_goes_on_is_taken_up_in_its_own_lane(redis_server: EmbeddedRedis) -> None:
    """Chance seldom holds a lane back between a call's start and its hand-over."""
    Scheduler.redis_url = redis_server.url
    machine = Scheduler()
    machine.post(["even"], "standard", ["openai/a", "anthropic/d"], 0, background=True)
    machine.claim("w0", 1, lost=False)
    machine.dispatch(0)
    machine.switch_lane("openai/a", "pause")
    machine.hand_over(0, 0)
    machine.settle()
    machine.every_job_is_in_one_place_and_every_count_is_right()
    machine.teardown()


@pytest.mark.parametrize("neighbour", ["like", "little"])
def test_a_neighbour_in_many_lanes_holds_up_nobody(redis_server: EmbeddedRedis, neighbour: str) -> None:
    """Chance seldom makes backlogs that are long enough."""
    Scheduler.redis_url = redis_server.url
    machine = Scheduler()
    for lane in LANES:
        machine.post([neighbour] * 2, "standard", [lane], 0, background=False)
    machine.post(["even"] * 13, "standard", ["openai/e"], 0, background=False)
    machine.post(["heavy"] * 13, "standard", ["openai/g"], 0, background=False)
    for _ in range(30):
        machine.claim("w2", 1, lost=False)
    machine.every_job_is_in_one_place_and_every_count_is_right()
    machine.teardown()


HOLDS: dict[str, Callable[[Scheduler], None]] = {
    "lane": lambda machine: machine.switch_lane("anthropic/c", "pause"),
    "band": lambda machine: machine.switch_band("standard", "pause"),
    "provider": lambda machine: machine.run_dry("anthropic/c"),
}


@pytest.mark.parametrize("lost_workers", [1, 2])
@pytest.mark.parametrize("cancelled", ["running", "queued"])
@pytest.mark.parametrize("held_by", sorted(HOLDS))
def test_a_cancelled_call_that_goes_on_is_given_at_once(
    redis_server: EmbeddedRedis, held_by: str, cancelled: str, lost_workers: int
) -> None:
    """It is paid for until a worker stops it, whatever holds its lane."""
    Scheduler.redis_url = redis_server.url
    machine = Scheduler()
    machine.post(["even"], "standard", ["anthropic/c"], 0, background=True)
    for _ in range(lost_workers):
        machine.claim("w1", 1, lost=False)
        machine.dispatch(0)
        if cancelled == "running":
            machine.cancel(0)
        machine.lose_worker(0)
    HOLDS[held_by](machine)
    for _ in range(2):
        machine.cancel(0)
        machine.every_job_is_in_one_place_and_every_count_is_right()
    [claim] = machine.claim("w2", 1, lost=False)
    assert claim.fields["cancel"] == b"requested"
    machine.every_job_is_in_one_place_and_every_count_is_right()
    machine.teardown()
