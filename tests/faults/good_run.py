"""A run by hand in which all went well: one plain job, one whose worker died, one that was cancelled."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from onceq.wire import BudgetStatus, BudgetUse, Cost, Depth, Job, JobError, LedgerEntry, Output, Status, Totals, Urls
from tests.faults.history import Record
from tests.faults.run import Expect, LogEvent, Row, Run, parse_frame

T = 1_800_000_000.0
PLAIN, LOST, STOPPED = (f"job_{n:032x}" for n in (1, 2, 3))
EXPECT = Expect(statuses=frozenset({"succeeded", "cancelled"}), extra_calls=1, lease_s=4)


def event(job: str, seq: int, name: str, call: int = 1, **more: str) -> LogEvent:
    data = json.dumps({"job": job, "seq": seq, "call": call, **more})
    return parse_frame(f"id: {seq}\nevent: {name}\ndata: {data}\n\n")


def delta(job: str, seq: int, text: str, call: int = 1) -> LogEvent:
    return event(job, seq, "delta", call, kind="text", text=text)


LOGS: dict[str, list[LogEvent]] = {
    PLAIN: [
        event(PLAIN, 1, "queued", 0), event(PLAIN, 2, "started"), delta(PLAIN, 3, "a b"), event(PLAIN, 4, "succeeded"),
    ],
    LOST: [
        event(LOST, 1, "queued", 0), event(LOST, 2, "started"), delta(LOST, 3, "ha"), event(LOST, 4, "retrying"),
        event(LOST, 5, "reset", 2), delta(LOST, 6, "half", 2), event(LOST, 7, "succeeded", 2),
    ],
    STOPPED: [
        event(STOPPED, 1, "queued", 0), event(STOPPED, 2, "started"), delta(STOPPED, 3, "x"),
        event(STOPPED, 4, "cancelled"),
    ],
}  # fmt: skip


def job(job_id: str, status: Status, text: str, calls: int, spent: int, wasted: int) -> Job:
    error = None if status == "succeeded" else JobError(code="c", message="")
    return Job(
        id=job_id, status=status, model="openai/m", created_at=at(0), finished_at=at(5), output=Output(text=text),
        calls=calls, tries=calls, cost=Cost(nano_usd=spent, wasted_nano_usd=wasted),
        urls=Urls(self="", events="", cancel=""), error=error,
    )  # fmt: skip


def at(after_s: float) -> datetime:
    return datetime.fromtimestamp(T + after_s, UTC)


def entry(job_id: str, call: int, outcome: str = "ok", **changes: object) -> LedgerEntry:
    paid = {"spent_nano_usd": 30, "wasted_nano_usd": 0 if outcome == "ok" else 30}
    return LedgerEntry.model_validate(
        {
            "at": at(1), "job": job_id, "try_no": call, "call": call, "model": "openai/m", "outcome": outcome,
            "billed": True, "estimated": outcome != "ok", "input_tokens": 3, "output_tokens": 2, "cached_tokens": 0,
            "reasoning_tokens": 0, "waste_reason": None, "price_version": "v", "simulated": True,
        }
        | paid
        | changes
    )  # fmt: skip


def row(job_id: str, call: int, text: str, status: str = "completed", begin_s: float = 1.0, took_s: float = 1.0) -> Row:
    return Row(1, job_id, call, T + begin_s, T + begin_s + took_s, status, True, 3, 2, 30, text)


def posts() -> list[Record]:
    """Each key is posted to both replicas; the first answer of the plain one's was lost."""
    records = [Record("post", "invoke", T, who="c", key="plain"), Record("post", "info", T, who="c", key="plain")]
    for key, job_id in (("plain", PLAIN), ("lost", LOST), ("stopped", STOPPED)):
        for status in ("created", "joined"):
            records.append(Record("post", "ok", T, who="c", key=key, job=job_id, status=status, note="strict"))
    return records


def readings() -> list[Record]:
    """One reader a job, cut off once."""
    records: list[Record] = []
    for job_id, log in LOGS.items():
        who = f"r-{job_id}"
        for n, e in enumerate(log):
            if n in (0, 2):
                records.append(Record("read", "invoke", T, who=who, job=job_id, seq=n))
            records.append(Record("read", "info", T, who=who, job=job_id, seq=e.seq, frame=e.frame))
        records.append(Record("read", "ok", T, who=who, job=job_id))
    return records


def budget(spent: int, reserved: int = 0, unsure: int = 0) -> BudgetStatus:
    """One of 200 nano-USD over all jobs."""
    use = BudgetUse(
        spent_nano_usd=spent, reserved_nano_usd=reserved, unsure_nano_usd=unsure,
        left_nano_usd=200 - spent - reserved - unsure,
    )  # fmt: skip
    return BudgetStatus(
        id="bud_" + "0" * 20, name="b", tenant="t", source="api", mode="hard", period="total", time_zone="UTC",
        limit_nano_usd=200, limit_usd="0.0000002", simulated_use=use,
    )  # fmt: skip


def good_run() -> Run:
    history = [*posts(), *readings(), Record("fault", "info", T + 2, who="w1", note="kill", jobs=(LOST,), seqs=(3,))]
    history += [Record("cancel", "invoke", T + 2, job=STOPPED)]
    history += [Record("cancel", "ok", T + 2.2, job=STOPPED, status="cancelled")]
    return Run(
        history=history,
        listed=frozenset(LOGS),
        jobs={
            PLAIN: job(PLAIN, "succeeded", "a b", 1, 30, 0),
            LOST: job(LOST, "succeeded", "half", 2, 60, 30),
            STOPPED: job(STOPPED, "cancelled", "x", 1, 30, 30),
        },
        logs=LOGS,
        ledger={
            PLAIN: [entry(PLAIN, 1)],
            LOST: [entry(LOST, 1, "worker_lost"), entry(LOST, 2)],
            STOPPED: [entry(STOPPED, 1, "cancelled")],
        },
        meter=[
            row(PLAIN, 1, "a b"), row(LOST, 1, "ha", "aborted"), row(LOST, 2, "half", begin_s=6),
            row(STOPPED, 1, "x", "aborted", took_s=1.1),
        ],
        depth=Depth(succeeded=2, cancelled=1),
        totals=Totals(jobs=3, tries=4, calls=4, spent_nano_usd=120, estimated_nano_usd=60),
        budgets=[budget(spent=120, unsure=20)],
        watched=[budget(spent=30, reserved=100, unsure=20), budget(spent=120, unsure=20)],
        expect=EXPECT,
    )  # fmt: skip
