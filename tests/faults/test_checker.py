"""The checker can fail: for each of its rules there is a history that only this defect could have made."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from onceq.wire import LedgerEntry
from tests.faults.checker import RULES, extra_calls, judge, recoveries
from tests.faults.good_run import LOGS, LOST, PLAIN, STOPPED, T, at, budget, delta, entry, event, good_run, row
from tests.faults.history import Record
from tests.faults.pauses import TICK_S, Pause, Watch, lost_s
from tests.faults.run import LogEvent, Run
from tests.waiting import wait_until

V = TypeVar("V")
Tamper = Callable[[Run], Run]


def test_a_good_run_is_good() -> None:
    assert judge(good_run()) == []


def test_the_figures_of_a_good_run() -> None:
    assert extra_calls(good_run()) == 1
    assert recoveries(good_run()) == [(LOST, 3.0)]


def put(of: Mapping[str, V], job_id: str, value: V) -> dict[str, V]:
    return {**of, job_id: value}


def history(run: Run, *added: Record) -> Run:
    return replace(run, history=[*run.history, *added])


def without(run: Run, drop: Callable[[Record], bool]) -> Run:
    return replace(run, history=[r for r in run.history if not drop(r)])


def log(run: Run, job_id: str, *events: LogEvent) -> Run:
    """Another log, and the readers saw it too: only the log's own rules may notice."""
    run = replace(run, logs=put(run.logs, job_id, list(events)))
    run = without(run, lambda r: r.op == "read" and r.job == job_id)
    who = f"r-{job_id}"
    seen = [Record("read", "info", T, who=who, job=job_id, seq=e.seq, frame=e.frame) for e in events]
    return history(
        run, Record("read", "invoke", T, who=who, job=job_id), *seen, Record("read", "ok", T, who=who, job=job_id)
    )


def job(run: Run, job_id: str, **changes: object) -> Run:
    return replace(run, jobs=put(run.jobs, job_id, run.jobs[job_id].model_copy(update=changes)))


def estimated(rows: Sequence[LedgerEntry]) -> int:
    return sum(r.spent_nano_usd or 0 for r in rows if r.estimated)


def ledger(run: Run, job_id: str, *rows: LedgerEntry) -> Run:
    """Other ledger rows; the job's counts and the rollups go along."""
    was: Sequence[LedgerEntry] = run.ledger[job_id]
    spent = sum(r.spent_nano_usd or 0 for r in rows)
    cost = run.jobs[job_id].cost.model_copy(
        update={"nano_usd": spent, "wasted_nano_usd": sum(r.wasted_nano_usd for r in rows)}
    )
    totals = run.totals.model_copy(
        update={
            "tries": run.totals.tries + len(rows) - len(was),
            "calls": run.totals.calls + sum(r.billed for r in rows) - sum(r.billed for r in was),
            "spent_nano_usd": run.totals.spent_nano_usd + spent - sum(r.spent_nano_usd or 0 for r in was),
            "estimated_nano_usd": run.totals.estimated_nano_usd + estimated(rows) - estimated(was),
        }
    )
    run = job(run, job_id, cost=cost, calls=sum(r.billed for r in rows), tries=len(rows))
    return replace(run, ledger=put(run.ledger, job_id, list(rows)), totals=totals)


def meter(run: Run, job_id: str, call: int, **changes: object) -> Run:
    rows = [msgspec.structs.replace(r, **changes) if (r.job, r.call) == (job_id, call) else r for r in run.meter]
    return replace(run, meter=rows)


def post(job_id: str, key: str, **changes: str) -> Record:
    return msgspec.structs.replace(
        Record("post", "ok", T, who="c", key=key, job=job_id, status="joined", note="strict"), **changes
    )


def first_frames_lost(run: Run) -> Run:
    return without(run, lambda r: r.op == "read" and r.job == PLAIN and r.seq == 2 and r.kind == "info")


def other_text(run: Run) -> Run:
    return log(job(run, PLAIN, output=run.jobs[PLAIN].output.model_copy(update={"text": "a c"})), PLAIN,  # pyright: ignore[reportOptionalMemberAccess] - good_run gives it one
               LOGS[PLAIN][0], LOGS[PLAIN][1], delta(PLAIN, 3, "a c"), LOGS[PLAIN][3])  # fmt: skip


def correction(**changes: object) -> LedgerEntry:
    """Of the call of LOST that its worker had lost."""
    return entry(LOST, 1, "correction", **({"billed": False, "estimated": False} | changes))


TAMPERED: dict[str, tuple[str, Tamper]] = {
    "nothing was posted": ("saw_something", lambda run: without(run, lambda r: r.op == "post")),
    "nobody read": ("saw_something", lambda run: without(run, lambda r: r.op == "read")),
    "nobody called": ("saw_something", lambda run: replace(run, meter=[])),
    "a key has two jobs": ("one_job_per_key", lambda run: history(run, post(LOST, "plain"))),
    "a key is created twice": ("one_job_per_key", lambda run: history(run, post(PLAIN, "plain", status="created"))),
    "a job that no client knows": ("one_job_per_key", lambda run: replace(run, listed=run.listed | {"job_x"})),
    "an accepted job is gone": (
        "nothing_lost",
        lambda run: replace(run, jobs={k: v for k, v in run.jobs.items() if k != PLAIN}),
    ),
    "an accepted job is not listed": ("nothing_lost", lambda run: replace(run, listed=run.listed - {PLAIN})),
    "a client gave up": ("nothing_lost", lambda run: history(run, Record("post", "fail", T, key="plain"))),
    "a promise without durability": ("durable", lambda run: history(run, post(PLAIN, "plain", note="relaxed"))),
    "a job still runs": ("all_terminal", lambda run: job(run, PLAIN, status="running")),
    "a job failed": ("all_terminal", lambda run: job(run, PLAIN, status="failed")),
    "an index forgot a job": (
        "counted_once",
        lambda run: replace(run, depth=run.depth.model_copy(update={"succeeded": 1})),
    ),
    "a number is missing": ("log_gapless", lambda run: log(run, PLAIN, *LOGS[PLAIN][:2], event(PLAIN, 4, "succeeded"))),
    "an event says another number": (
        "log_gapless",
        lambda run: log(
            run, PLAIN, *LOGS[PLAIN][:3], replace(LOGS[PLAIN][3], data={"seq": 9, "job": PLAIN, "call": 1})
        ),
    ),
    "a log is gone": ("log_gapless", lambda run: replace(run, logs=put(run.logs, PLAIN, []))),
    "two ends": (
        "terminal_once_and_last",
        lambda run: log(run, PLAIN, *LOGS[PLAIN], event(PLAIN, 5, "succeeded")),
    ),
    "no end": ("terminal_once_and_last", lambda run: log(run, PLAIN, *LOGS[PLAIN][:3])),
    "an event after the end": (
        "terminal_once_and_last",
        lambda run: log(run, PLAIN, *LOGS[PLAIN], event(PLAIN, 5, "retrying")),
    ),
    "another end than the job's": (
        "terminal_once_and_last",
        lambda run: log(run, PLAIN, *LOGS[PLAIN][:3], event(PLAIN, 4, "failed")),
    ),
    "a call was not counted": ("calls_bounded", lambda run: job(run, LOST, calls=1)),
    "too many calls": (
        "calls_bounded",
        lambda run: replace(run, expect=replace(run.expect, max_calls=1)),
    ),
    "a call without a record": (
        "every_call_on_record",
        lambda run: replace(run, meter=[*run.meter, row(PLAIN, 2, "")]),
    ),
    "one record, two calls": (
        "every_call_on_record",
        lambda run: replace(run, meter=[*run.meter, row(PLAIN, 1, "a b")]),
    ),
    "a refused try without a row": (
        "every_call_on_record",
        lambda run: replace(run, meter=[*run.meter, msgspec.structs.replace(row(PLAIN, 1, ""), billed=False)]),
    ),
    "a call that never was is booked": ("ledger_is_met", lambda run: ledger(run, PLAIN, entry(PLAIN, 7))),
    "a call is booked twice": ("ledger_is_met", lambda run: ledger(run, PLAIN, entry(PLAIN, 1), entry(PLAIN, 1))),
    "a nano-dollar is missing": (
        "to_the_nano_dollar",
        lambda run: ledger(run, PLAIN, entry(PLAIN, 1, spent_nano_usd=29)),
    ),
    "a token is missing": ("to_the_nano_dollar", lambda run: ledger(run, PLAIN, entry(PLAIN, 1, output_tokens=1))),
    "a correction is not what the provider says": (
        "lost_calls_are_owned_up_to",
        lambda run: ledger(run, LOST, entry(LOST, 1, "worker_lost"), correction(spent_nano_usd=1), entry(LOST, 2)),
    ),
    "a worker that came back keeps to itself what it had read": (
        "lost_calls_are_owned_up_to",
        lambda run: meter(
            replace(run, expect=replace(run.expect, owned_up=True)), LOST, 1, status="completed", nano_usd=31
        ),
    ),
    "a correction hides waste": (
        "money_adds_up",
        lambda run: ledger(run, LOST, entry(LOST, 1, "worker_lost"), correction(wasted_nano_usd=0), entry(LOST, 2)),
    ),
    "the job hides waste": (
        "money_adds_up",
        lambda run: job(run, LOST, cost=run.jobs[LOST].cost.model_copy(update={"wasted_nano_usd": 0})),
    ),
    "the ledger hides waste": (
        "money_adds_up",
        lambda run: ledger(run, LOST, entry(LOST, 1, "worker_lost", wasted_nano_usd=0), entry(LOST, 2)),
    ),
    "the rollups miss a call": (
        "money_adds_up",
        lambda run: replace(run, totals=run.totals.model_copy(update={"calls": 3})),
    ),
    "the rollups take an estimate for certain": (
        "money_adds_up",
        lambda run: replace(run, totals=run.totals.model_copy(update={"estimated_nano_usd": 30})),
    ),
    "a budget was passed": ("budget_holds", lambda run: replace(run, watched=[budget(spent=120, reserved=81)])),
    "a refund was too much": ("budget_holds", lambda run: replace(run, watched=[budget(spent=120, reserved=-1)])),
    "a call is in no budget": ("budget_holds", lambda run: replace(run, budgets=[budget(spent=90)])),
    "something stayed reserved": (
        "budget_is_given_back",
        lambda run: replace(run, budgets=[budget(spent=120, reserved=30)]),
    ),
    "a budget counts otherwise than the ledger": (
        "budget_is_given_back",
        lambda run: replace(run, budgets=[budget(spent=90, unsure=30)]),
    ),
    "another text than was sent": ("text_is_what_was_sent", other_text),
    "the log folds to another text": (
        "text_is_what_was_sent",
        lambda run: log(run, PLAIN, *LOGS[PLAIN][:2], delta(PLAIN, 3, "a c"), LOGS[PLAIN][3]),
    ),
    "success without the end marker": ("text_is_what_was_sent", lambda run: meter(run, PLAIN, 1, status="ended")),
    "a reader missed an event": ("readers_whole", first_frames_lost),
    "a reader never ended": (
        "readers_whole",
        lambda run: without(run, lambda r: r.op == "read" and r.kind == "ok" and r.job == PLAIN),
    ),
    "a reader got an event twice": (
        "readers_whole",
        lambda run: history(
            run, Record("read", "info", T, who=f"r-{PLAIN}", job=PLAIN, seq=4, frame=LOGS[PLAIN][3].frame)
        ),
    ),
    "a zombie wrote": (
        "fences_hold",
        lambda run: log(run, LOST, *LOGS[LOST][:5], delta(LOST, 6, "half", 1), LOGS[LOST][6]),
    ),
    "an old call starts again": (
        "fences_hold",
        lambda run: log(run, LOST, *LOGS[LOST][:5], event(LOST, 6, "started", 1), LOGS[LOST][6]),
    ),
    "a call after the cancel": (
        "no_call_after_cancel",
        lambda run: meter(run, STOPPED, 1, started_at=T + 3, ended_at=T + 4),
    ),
    "a cancel that closed nothing": ("no_call_after_cancel", lambda run: meter(run, STOPPED, 1, ended_at=T + 3)),
    "a cancelled call still runs": ("no_call_after_cancel", lambda run: meter(run, STOPPED, 1, ended_at=None)),
    "called again after an answer": (
        "again_for_a_cause",
        lambda run: ledger(run, LOST, entry(LOST, 1), entry(LOST, 2)),
    ),
    "more paid twice than may be": (
        "again_for_a_cause",
        lambda run: replace(run, expect=replace(run.expect, extra_calls=0)),
    ),
    "recovered too late": ("recovered_in_time", lambda run: meter(run, LOST, 2, started_at=T + 8.1, ended_at=T + 9)),
}


@pytest.mark.parametrize("defect", TAMPERED)
def test_a_tampered_run_is_found(defect: str) -> None:
    rule, tamper = TAMPERED[defect]
    run = tamper(good_run())
    if defect == "recovered too late":
        late = run.jobs[LOST].finished_at
        assert late is not None
        run = job(run, LOST, finished_at=late.replace(second=late.second + 30))
    assert list(RULES[rule](run)), f"{rule} did not see that {defect}"


PAUSES = [Pause(T + 2.1, T + 2.4), Pause(T + 2.2, T + 2.5), Pause(T + 2.9, T + 5.4)]
"""The first two are of two processes at once. STOPPED is cancelled, and the worker of LOST dies, at T + 2."""


def test_what_two_wait_at_once_is_lost_once_and_only_within_the_times_asked_for() -> None:
    assert lost_s(PAUSES, T + 2.3, T + 3) == pytest.approx(0.2 + 0.1)
    assert lost_s(PAUSES[::-1], T, T + 9) == pytest.approx(0.4 + 2.5)
    assert lost_s(PAUSES, T, T + 9, least_s=0.35) == pytest.approx(0.4 + 2.5)
    assert lost_s(PAUSES, T, T + 9, least_s=0.45) == pytest.approx(2.5)
    assert lost_s(PAUSES, T + 2.6, T + 2.8) == lost_s([], T, T + 9) == 0


@pytest.mark.parametrize(("ended_s", "found"), [(2.6, False), (2.7, True), (None, True)])
def test_a_cancel_is_judged_by_the_time_in_which_all_could_run(ended_s: float | None, *, found: bool) -> None:
    run = meter(good_run(), STOPPED, 1, ended_at=None if ended_s is None else T + ended_s)
    assert list(RULES["no_call_after_cancel"](run))
    assert bool(list(RULES["no_call_after_cancel"](replace(run, pauses=PAUSES)))) == found


@pytest.mark.parametrize(("back_s", "found"), [(10.8, False), (11.0, True)])
def test_a_recovery_is_judged_by_the_time_in_which_all_could_run(back_s: float, *, found: bool) -> None:
    run = job(meter(good_run(), LOST, 2, started_at=T + back_s, ended_at=T + 12), LOST, finished_at=at(12))
    assert list(RULES["recovered_in_time"](run))
    assert bool(list(RULES["recovered_in_time"](replace(run, pauses=PAUSES)))) == found


@pytest.mark.parametrize(("heard_s", "found"), [(7.9, False), (8.1, True)])
def test_a_call_that_is_taken_up_is_back_when_more_of_it_is_heard(heard_s: float, *, found: bool) -> None:
    """It goes on for as long as its answer takes. What was told before its worker died may be heard late."""
    run = job(meter(good_run(), LOST, 2, started_at=T + 1), LOST, finished_at=at(30))
    late = [
        Record("read", "info", at_s, job=LOST, seq=event.seq, frame=event.frame)
        for at_s, event in ((T + 2.1, LOGS[LOST][2]), (T + heard_s, LOGS[LOST][5]))
    ]
    assert bool(list(RULES["recovered_in_time"](history(run, *late)))) == found


def test_a_machine_that_stands_still_is_seen(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    looking = watch.start()
    wait_until(lambda: stood_still_s(watch, looking.pid) >= 0.2 - 2 * TICK_S, "the watch to say that it was late")
    looking.communicate()
    assert looking.returncode == 0


def stood_still_s(watch: Watch, pid: int) -> float:
    """Stops whoever looks for a while; what it says of that."""
    began = time.time()
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.2)
    os.kill(pid, signal.SIGCONT)
    time.sleep(2 * TICK_S)
    return lost_s(watch.pauses(began), began, time.time())


def test_every_rule_has_a_run_that_breaks_it() -> None:
    assert {rule for rule, _ in TAMPERED.values()} == set(RULES)
