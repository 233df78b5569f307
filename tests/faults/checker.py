"""The one judge of every run: pure, over the clients' histories, the final state, and the provider's own meter.

Each rule is one sentence of the promise and yields what contradicts it. tests/faults/test_checker.py tampers with a
good run in a way for each rule, so that no rule can pass by seeing nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf

from onceq.wire import TERMINAL, Job, LedgerEntry
from tests.faults.pauses import LONG_S
from tests.faults.run import LogEvent, Row, Run

Rule = Callable[[Run], Iterator[str]]

AGAIN = frozenset({
    "worker_lost", "stream_broken", "provider_stalled", "stream_garbage", "stream_ended_early", "provider_timeout",
    "provider_overloaded", "provider_rate_limited", "provider_error", "provider_unreachable",
})  # fmt: skip
"""Outcomes after which a job may be tried again (G4)."""


def judge(run: Run) -> list[str]:
    """What is wrong with the run, rule by rule; empty when nothing is."""
    assert run.expect.unjudged <= set(RULES)
    judged = {name: rule for name, rule in RULES.items() if name not in run.expect.unjudged}
    return [f"{name}: {finding}" for name, rule in judged.items() for finding in rule(run)]


def saw_something(run: Run) -> Iterator[str]:
    """A run in which nothing happened proves nothing."""
    if not run.accepted:
        yield "no post was accepted"
    if not run.records("read", "ok"):
        yield "no reader came to an end"
    if run.expect.calls_made and not run.meter:
        yield "the provider was never called"


def one_job_per_key(run: Run) -> Iterator[str]:
    """G2: however often a key was posted, wherever, it is one job; and no job is there that nobody was told of."""
    ids: dict[str, set[str]] = defaultdict(set)
    created: Counter[str] = Counter()
    for r in run.records("post", "ok"):
        ids[r.key].add(r.job)
        created[r.key] += r.status == "created"
    yield from (f"key {key} made {sorted(jobs)}" for key, jobs in ids.items() if len(jobs) > 1)
    yield from (f"key {key} was `created` {n} times" for key, n in created.items() if n > 1)
    yield from (f"nobody was told of {job_id}" for job_id in sorted(run.listed - run.accepted))


def nothing_lost(run: Run) -> Iterator[str]:
    """G1: an accepted job stays, and a client that tries long enough is accepted."""
    yield from (f"{job_id} was accepted and is gone" for job_id in sorted(run.accepted - set(run.jobs)))
    yield from (f"{job_id} is missing from the list" for job_id in sorted(run.accepted - run.listed))
    yield from (f"{r.who} gave up on {r.key}: {r.note}" for r in run.records("post", "fail"))


def durable(run: Run) -> Iterator[str]:
    """G1: the 202 said `strict`, else nothing was promised."""
    yield from (f"{r.job} was accepted as {r.note}" for r in run.records("post", "ok") if r.note != "strict")


def all_terminal(run: Run) -> Iterator[str]:
    """G1: every job ends, in one of the states that this fault allows."""
    for job_id, job in run.jobs.items():
        if job.status not in TERMINAL:
            yield f"{job_id} is still {job.status}"
        elif job.status not in run.expect.statuses:
            yield f"{job_id} is {job.status}: {job.error}"


def counted_once(run: Run) -> Iterator[str]:
    """Each job is in the index of its state and in no other."""
    found = Counter(str(job.status) for job in run.jobs.values())
    for status, n in run.depth.model_dump().items():
        if n != found[status]:
            yield f"the index has {n} {status}, there are {found[status]}"


def log_gapless(run: Run) -> Iterator[str]:
    """G6: events are numbered 1, 2, 3, ..."""
    for job_id, log in run.logs.items():
        if [e.seq for e in log] != list(range(1, len(log) + 1)):
            yield f"the log of {job_id} has the numbers {[e.seq for e in log]}"
        if any(e.data.get("seq") != e.seq or e.data.get("job") != job_id for e in log):
            yield f"the log of {job_id} has an event that says another number or job"
    yield from (f"{job_id} has no log" for job_id in run.jobs if not run.logs.get(job_id))


def terminal_once_and_last(run: Run) -> Iterator[str]:
    """G6: the last event is the terminal event, and says what the job says."""
    for job_id, log in run.logs.items():
        ends = [e for e in log if e.terminal]
        if len(ends) != 1 or not log[-1].terminal:
            yield f"the log of {job_id} is {[e.name for e in log]}"
        elif job_id in run.jobs and ends[0].name != run.jobs[job_id].status:
            yield f"{job_id} is {run.jobs[job_id].status}, its log ends with {ends[0].name}"


def calls_bounded(run: Run) -> Iterator[str]:
    """G3: no more than max_calls, whoever counts."""
    for job_id, job in run.jobs.items():
        tries = [row for row in run.ledger.get(job_id, ()) if not _corrects(row)]
        paid = [row for row in tries if row.billed]
        if len(paid) != job.calls or len(tries) != job.tries:
            yield f"{job_id} counts {job.calls} calls, {job.tries} tries; its ledger {_outcomes(run, job_id)}"
        if max(job.calls, len(run.billed(job_id))) > run.expect.max_calls:
            yield f"{job_id} made {len(run.billed(job_id))} calls, on record {job.calls}"


def every_call_on_record(run: Run) -> Iterator[str]:
    """G3: the provider saw no call that has no ledger row of its own."""
    for job_id, rows in run.rows.items():
        booked = {row.call for row in run.ledger.get(job_id, ()) if row.billed}
        seen = Counter(row.call for row in rows if row.billed)
        yield from (f"{job_id}/{call} was called {n} times" for call, n in seen.items() if n > 1)
        yield from (f"{job_id}/{call} is not in the ledger" for call in seen if call not in booked)
        if len(rows) > sum(not _corrects(row) for row in run.ledger.get(job_id, ())):
            yield f"{job_id} was tried {len(rows)} times, its ledger has {_outcomes(run, job_id)}"


def ledger_is_met(run: Run) -> Iterator[str]:
    """G5: a billed row has its call at the provider, one to one; only a lost worker may have booked without sending."""
    for job_id, entries in run.ledger.items():
        calls = {row.call for row in run.rows.get(job_id, ())}
        paid = Counter(row.call for row in entries if row.billed)
        yield from (f"{job_id}/{call} is booked {n} times" for call, n in paid.items() if n > 1)
        for row in entries:
            if row.billed and row.call not in calls and row.outcome != "worker_lost":
                yield f"{job_id}/{row.call} is booked as {row.outcome}, the provider never saw it"


def to_the_nano_dollar(run: Run) -> Iterator[str]:
    """G5: what the provider reported is booked as the provider bills it."""
    for job_id, entries in run.ledger.items():
        by_call = {row.call: row for row in run.billed(job_id)}
        for row in entries:
            met = by_call.get(row.call)
            if met is not None and row.billed and not row.estimated and _booked(row) != _metered(met):
                yield f"{job_id}/{row.call} is booked as {_booked(row)}, the provider says {_metered(met)}"


def lost_calls_are_owned_up_to(run: Run) -> Iterator[str]:
    """G5: what a worker had read that lost its job is booked when it hears of that, to the nano-dollar where known."""
    for job_id, entries in run.ledger.items():
        by_call = {row.call: row for row in run.billed(job_id)}
        corrections = {row.call: row for row in entries if _corrects(row)}
        for row in entries:
            met, more = by_call.get(row.call), corrections.get(row.call)
            if row.outcome != "worker_lost" or met is None or met.nano_usd is None:
                continue
            booked = _spent([row, *([more] if more else [])])
            if more is not None and not more.estimated and more.spent_nano_usd and booked != met.nano_usd:
                yield f"{job_id}/{row.call} is corrected to {booked} nano-USD, the provider says {met.nano_usd}"
            if run.expect.owned_up and met.status == "completed" and booked < met.nano_usd:
                yield f"{job_id}/{row.call} was read to its end, and {booked} of {met.nano_usd} nano-USD are booked"


def money_adds_up(run: Run) -> Iterator[str]:
    """G5: the job's cost, its waste and the sums over all jobs are the sums of the ledger.

    What comes to light after a job's end changes the sums, and no longer the job.
    """
    every = [row for entries in run.ledger.values() for row in entries]
    for job_id, job in run.jobs.items():
        mine = [row for row in run.ledger.get(job_id, ()) if not (_corrects(row) and _after_its_end(row, job))]
        told = (job.cost.nano_usd, job.cost.wasted_nano_usd)
        if job.cost.priced and told != (_spent(mine), sum(row.wasted_nano_usd for row in mine)):
            yield f"{job_id} says {told} nano-USD, its ledger {_outcomes(run, job_id)}"
        yield from (f"{job_id}/{row.call} is waste of {row.outcome}, booked 0" for row in mine if _hidden_waste(row))
    t = run.totals
    sums = (len(run.jobs), sum(not _corrects(row) for row in every), sum(row.billed for row in every), _spent(every))
    if (t.jobs, t.tries, t.calls, t.spent_nano_usd) != sums:
        yield f"the rollups say {(t.jobs, t.tries, t.calls, t.spent_nano_usd)}, the ledger {sums}"
    if t.estimated_nano_usd != (unsure := _spent([row for row in every if row.estimated])):
        yield f"the rollups say that {t.estimated_nano_usd} nano-USD are estimated, the ledger {unsure}"


def budget_holds(run: Run) -> Iterator[str]:
    """G7: spent + reserved is never above the limit, and counts what the provider bills."""
    for budget in (*run.watched, *run.budgets):
        use = budget.simulated_use
        if use.left_nano_usd < 0 or min(use.spent_nano_usd, use.reserved_nano_usd, use.unsure_nano_usd) < 0:
            yield f"{budget.name} has {use} of {budget.limit_nano_usd}"
    met = sum(row.nano_usd or 0 for row in run.meter if row.billed)
    for budget in run.budgets:
        use = budget.simulated_use
        if met > use.spent_nano_usd + use.unsure_nano_usd:
            yield f"{budget.name} has counted {use}, the provider bills {met}"


def budget_is_given_back(run: Run) -> Iterator[str]:
    """G7: when all has ended nothing is reserved, and what is spent is what the ledger says."""
    booked = _spent([row for entries in run.ledger.values() for row in entries])
    for budget in run.budgets:
        use = budget.simulated_use
        if (use.reserved_nano_usd, use.spent_nano_usd) != (0, booked):
            yield f"{budget.name} has {use}, the ledger says {booked}"


def text_is_what_was_sent(run: Run) -> Iterator[str]:
    """A succeeded job has the text of one whole call, letter by letter, and so has its log."""
    for job_id, job in run.jobs.items():
        if folded(run.logs.get(job_id, ())) != job.text:
            yield f"the log of {job_id} does not fold to its text"
        if job.status != "succeeded":
            continue
        winner = [row for row in run.billed(job_id) if row.call == _last_call(run.logs.get(job_id, ()))]
        if not winner or winner[0].status != "completed":
            yield f"{job_id} succeeded, but its call {[row.status for row in winner]} did not"
        elif winner[0].text != job.text:
            yield f"{job_id} has {len(job.text)} characters that are not the {len(winner[0].text)} sent"


def readers_whole(run: Run) -> Iterator[str]:
    """G6: each reader got exactly the log, across replicas and cuts, and came to its end."""
    frames: dict[tuple[str, str], list[str]] = defaultdict(list)
    for r in run.records("read", "info"):
        if r.frame:
            frames[r.who, r.job].append(r.frame)
    ended = {(r.who, r.job) for r in run.records("read", "ok")}
    for who, job_id in {(r.who, r.job) for r in run.records("read", "invoke")}:
        log, got = [e.frame for e in run.logs.get(job_id, ())], frames[who, job_id]
        if got != log[: len(got)]:
            yield f"{who} read something else of {job_id} than its log"
        elif who not in run.expect.abandoned and (len(got) != len(log) or (who, job_id) not in ended):
            yield f"{who} read {len(got)} of {len(log)} events of {job_id}"


def fences_hold(run: Run) -> Iterator[str]:
    """A worker that lost a job writes nothing: deltas belong to the call that was started last."""
    for job_id, log in run.logs.items():
        current = 0
        for event in log:
            call = int(event.data.get("call", 0))
            if event.name in ("started", "reset"):
                if call < current:
                    yield f"{job_id}: call {call} starts after call {current}"
                current = call
            elif event.name == "delta" and call != current:
                yield f"{job_id}: event {event.seq} is of call {call} during call {current}"


def no_call_after_cancel(run: Run) -> Iterator[str]:
    """Cancel closes what runs upstream within `cancel_s` of a machine that lets all of us run, and nothing is called
    once it was confirmed."""
    asked: dict[str, float] = {}
    for r in run.records("cancel"):
        if r.kind == "invoke":
            asked.setdefault(r.job, r.t)
        for row in run.rows.get(r.job, ()):
            if r.kind == "ok" and r.status == "cancelled" and row.started_at > r.t:
                yield f"{r.job} was called {row.started_at - r.t:.3f} s after its cancel was confirmed"
    for job_id, at in asked.items():
        for row in run.rows.get(job_id, ()):
            ran_on_s = (row.ended_at or inf) - at
            worked_s = run.worked_s(at, at + ran_on_s)
            if row.started_at < at and worked_s > run.expect.cancel_s:
                yield f"{job_id}/{row.call} ran on for {ran_on_s:.3f} s after its cancel, {worked_s:.3f} s of them ours"


def again_for_a_cause(run: Run) -> Iterator[str]:
    """G4: after an answer, a refusal of the request or a cancel there is no other try."""
    for job_id, entries in run.ledger.items():
        for row in [row for row in entries if not _corrects(row)][:-1]:
            if row.outcome not in AGAIN:
                yield f"{job_id} was tried again after {row.outcome}"
    if (extra := extra_calls(run)) > run.expect.extra_calls:
        yield f"{extra} calls were paid and lost with a worker, {run.expect.extra_calls} may be"


def recovered_in_time(run: Run) -> Iterator[str]:
    """G8: the jobs of a dead worker run again, or end, within lease + 2 s of a machine that lets the others run."""
    limit_s = run.expect.lease_s + 2
    if run.expect.recovers:
        for job_id, died, back in _returns(run):
            if (worked_s := run.worked_s(died, back, LONG_S)) > limit_s:
                took = f"{back - died:.2f} s after its worker died, {worked_s:.2f} s of them ours"
                yield f"{job_id} came back {took}; {limit_s} s are promised"


def recoveries(run: Run) -> list[tuple[str, float]]:
    """(job, seconds from its worker's death until it ran again or ended); infinite when it never did."""
    return [(job_id, back - died) for job_id, died, back in _returns(run)]


def _returns(run: Run) -> list[tuple[str, float, float]]:
    """(job, when its worker died, when it was called again, its readers were told more of its words, or it ended)"""
    found: list[tuple[str, float, float]] = []
    words = [r for r in run.records("read", "info") if "\nevent: delta\n" in r.frame]
    for fault in run.records("fault", "info"):
        for job_id, last in zip(fault.jobs, fault.seqs, strict=True):
            job = run.jobs.get(job_id)
            again = [row.started_at for row in run.rows.get(job_id, ()) if row.started_at > fault.t]
            again += [r.t for r in words if r.job == job_id and r.seq > last and r.t > fault.t]
            if job is not None and job.finished_at is not None:
                again.append(job.finished_at.timestamp())
            found.append((job_id, fault.t, max(fault.t, min(again, default=inf))))
    return found


def extra_calls(run: Run) -> int:
    """Calls that the provider bills and that were lost with a worker."""
    lost = [(row.job, row.call) for rows in run.ledger.values() for row in rows if row.outcome == "worker_lost"]
    billed = {(row.job, row.call) for row in run.meter if row.billed}
    return sum(key in billed for key in lost)


def folded(log: Sequence[LogEvent]) -> str:
    """The text that a reader of the whole log is left with."""
    text: list[str] = []
    for event in log:
        if event.name == "reset":
            text.clear()
        elif event.name == "delta" and event.data.get("kind") == "text":
            text.append(str(event.data["text"]))
    return "".join(text)


def _last_call(log: Sequence[LogEvent]) -> int:
    return max((int(e.data["call"]) for e in log if e.name in ("started", "reset")), default=0)


def _outcomes(run: Run, job_id: str) -> list[str]:
    return [f"{row.call}:{row.outcome}{'' if row.billed else ' (free)'}" for row in run.ledger.get(job_id, ())]


def _spent(rows: Sequence[LedgerEntry]) -> int:
    return sum(row.spent_nano_usd or 0 for row in rows)


def _corrects(row: LedgerEntry) -> bool:
    return row.outcome == "correction"


def _after_its_end(row: LedgerEntry, job: Job) -> bool:
    return job.finished_at is not None and row.at >= job.finished_at


def _hidden_waste(row: LedgerEntry) -> bool:
    return row.outcome != "ok" and row.wasted_nano_usd != (row.spent_nano_usd or 0)


def _booked(row: LedgerEntry) -> tuple[int, int, int | None]:
    return row.input_tokens, row.output_tokens, row.spent_nano_usd


def _metered(row: Row) -> tuple[int, int, int | None]:
    return row.input_tokens, row.output_tokens, row.nano_usd


RULES: Mapping[str, Rule] = {
    rule.__name__: rule
    for rule in (
        saw_something, one_job_per_key, nothing_lost, durable, all_terminal, counted_once, log_gapless,
        terminal_once_and_last, calls_bounded, every_call_on_record, ledger_is_met, to_the_nano_dollar,
        lost_calls_are_owned_up_to, money_adds_up,
        budget_holds, budget_is_given_back,
        text_is_what_was_sent, readers_whole, fences_hold, no_call_after_cancel, again_for_a_cause, recovered_in_time,
    )
}  # fmt: skip
