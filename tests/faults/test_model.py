"""The scripts do what a plain model of the promise says, step by step; and walks by hand that chance seldom takes."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from onceq_service.embedded.redis_server import EmbeddedRedis
from tests.faults.model_compare import LEASE_S, WORKERS
from tests.faults.model_machine import Scripts, wish
from tests.faults.walk import explore

REACHED = {
    "over_budget",
    "created", "joined", "replayed", "reused", "ok", "lost", "append ok", "append lost", "finish ok",
    "finish lost", "started", "delta", "reset", "retrying", "succeeded", "failed", "cancelled", "expired",
    "worker_lost", "deadline_exceeded",
}  # fmt: skip


def test_the_scripts_do_what_the_model_says(redis_server: EmbeddedRedis) -> None:
    Scripts.redis_url = redis_server.url
    Scripts.seen.clear()
    explore(Scripts, examples=60)
    assert set(Scripts.seen) >= REACHED, f"never reached: {REACHED - set(Scripts.seen)}"


@pytest.fixture
def machine(redis_server: EmbeddedRedis) -> Generator[Scripts]:
    """The same machine, for walks by hand that chance seldom takes."""
    Scripts.redis_url = redis_server.url
    opened = Scripts()
    opened.begin()
    yield opened
    opened.every_job_is_what_the_model_says()
    opened.the_sums_are_those_of_the_jobs()
    opened.the_budget_holds()
    opened.teardown()


def test_a_job_that_kills_six_workers_is_poison(machine: Scripts) -> None:
    machine.admit(**wish())
    for _ in range(6):
        for worker in WORKERS:
            machine.claim(worker, 1, lost=True)
        machine.time_passes(round(LEASE_S) + 1)
    [job] = machine.model.jobs.values()
    assert job.log[-1].data["error"] == "poison"


def test_a_worker_hears_of_a_cancel_in_every_answer(machine: Scripts) -> None:
    for _ in range(2):
        machine.admit(**wish())
    machine.claim("w0", 2, lost=False)
    streaming, claimed = machine.helds
    machine.dispatch(streaming, 9, lost=False)
    machine.append(streaming, 1, "a", lost=False)
    for n in range(2):
        machine.cancel(n, lost=True)
    machine.append(streaming, 1, "b", lost=True)
    machine.append(streaming, 2, "after a gap", lost=True)
    machine.beat(streaming)
    machine.dispatch(claimed, 9, lost=True)
    machine.finish(streaming, "cancelled", 2, ["after a gap"], lost=False)
    machine.finish(streaming, "cancelled", 0, ["b", "c"], lost=True)


def test_a_cancelled_job_goes_back_to_no_queue(machine: Scripts) -> None:
    for _ in range(2):
        machine.admit(**wish())
    machine.claim("w0", 2, lost=False)
    failed, claimed = machine.helds
    machine.dispatch(failed, 9, lost=False)
    for n in range(2):
        machine.cancel(n, lost=False)
    machine.requeue(failed, "refused", 3.0, lost=True)
    machine.finish(failed, "cancelled", 0, [], lost=True)
    machine.release(claimed, lost=True)
    assert machine.seen["requeue cancel"]
    assert {job.state for job in machine.model.jobs.values()} == {"cancelled"}


def test_a_call_is_not_begun_behind_the_deadline(machine: Scripts) -> None:
    machine.admit(**wish(deadline_s=2.0))
    machine.claim("w0", 1, lost=False)
    machine.later(2500)
    machine.dispatch(machine.helds[0], 9, lost=True)
    machine.finish(machine.helds[0], "cancelled", 0, [], lost=True)


def test_a_job_makes_no_more_calls_than_it_may(machine: Scripts) -> None:
    machine.admit(**wish(max_calls=1))
    machine.claim("w0", 1, lost=False)
    machine.dispatch(machine.helds[0], 9, lost=True)
    machine.requeue(machine.helds[0], "broken", 0.0, lost=True)
    machine.claim("w1", 1, lost=True)
    machine.dispatch(machine.helds[1], 9, lost=True)
    assert machine.seen["max_calls"]


@pytest.mark.parametrize("sent", [False, True])
def test_a_job_whose_worker_dies_after_a_cancel_tells_what_it_has_cost(machine: Scripts, sent: bool) -> None:
    machine.admit(**wish())
    machine.claim("w0", 1, lost=False)
    if sent:
        machine.dispatch(machine.helds[0], 9, lost=False)
    machine.cancel(0, lost=False)
    machine.time_passes(round(LEASE_S) + 1)
    [job] = machine.model.jobs.values()
    assert job.log[-1].data["receipt"]["may_still_bill"] is sent


def test_leases_that_ran_out_while_nobody_looked_are_no_deaths(machine: Scripts) -> None:
    """The outage rule: only two thirds of a lease (4 s) later a worker that is still silent is a dead one."""
    machine.admit(**wish())
    machine.claim("w0", 1, lost=False)
    machine.dispatch(machine.helds[0], 9, lost=False)
    machine.nobody_looks(15_000)
    for seconds, state in ((1, "running"), (2, "running"), (2, "queued")):
        machine.time_passes(seconds)
        machine.every_job_is_what_the_model_says()
        [job] = machine.model.jobs.values()
        assert job.state == state


@pytest.mark.parametrize("how", ["beat", "append"])
def test_a_worker_that_lets_hear_of_itself_keeps_its_job(machine: Scripts, how: str) -> None:
    machine.admit(**wish())
    machine.claim("w0", 1, lost=False)
    [held] = machine.helds
    machine.dispatch(held, 9, lost=False)
    for _ in range(3):
        machine.time_passes(round(LEASE_S) - 2)
        machine.beat(held) if how == "beat" else machine.append(held, 1, "a", lost=False)
    machine.every_job_is_what_the_model_says()
    assert machine.job(held).phase == ("dispatched" if how == "beat" else "streaming")


def test_a_waiting_job_ends_at_its_deadline(machine: Scripts) -> None:
    machine.admit(**wish(deadline_s=2.0))
    machine.admit(**wish())
    machine.time_passes(3)
    assert [job.state for job in machine.model.jobs.values()] == ["expired", "queued"]


def test_a_try_that_was_refused_is_no_call_and_is_counted_as_none(machine: Scripts) -> None:
    machine.admit(**wish(max_calls=1))
    for n in range(2):
        machine.claim("w0", 1, lost=False)
        machine.dispatch(machine.helds[n], 9, lost=False)
        machine.requeue(machine.helds[n], "refused", 0.0, lost=True)
    machine.every_job_is_what_the_model_says()
    [job] = machine.model.jobs.values()
    assert (job.calls, len(job.ledger)) == (0, 2)


def test_a_call_is_made_again_only_with_money_for_it(machine: Scripts) -> None:
    """Each of four calls is lost with all that it may have cost: then nothing can help, and nothing is called."""
    before = machine.seen["budget"], machine.seen["budget_wait"]
    for _ in range(4):
        machine.admit(**wish(budget=True))
    machine.claim("w0", 4, lost=False)
    for n in range(4):
        machine.dispatch(machine.helds[n], 9, lost=False)
    machine.requeue(machine.helds[0], "broken", 0.0, lost=True)
    machine.claim("w1", 1, lost=False)
    machine.dispatch(machine.helds[4], 9, lost=True)
    assert machine.job(machine.helds[4]).state == "queued"
    for n in range(1, 4):
        machine.requeue(machine.helds[n], "broken", 0.0, lost=False)
    machine.claim("w1", 1, lost=False)
    machine.dispatch(machine.helds[5], 9, lost=True)
    assert (machine.seen["budget"], machine.seen["budget_wait"]) == (before[0] + 1, before[1] + 1)
    machine.finish(machine.helds[5], "failed", 0, [], lost=True)
