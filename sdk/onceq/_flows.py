"""What each method of a client does, as flows without I/O: which calls, in which order, and what comes back."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, Literal
from urllib.parse import quote

import httpx2
from pydantic import TypeAdapter, ValidationError

from onceq._arguments import checked_batch, checked_wait_s
from onceq._filters import Query, at_least, limit_of, rfc3339
from onceq._http import PATIENT, Backoff, Call, Flow, error_of, exchange, problem_error, read
from onceq._submission import Pack, Submission
from onceq.errors import (
    APIError,
    ConnectionFailed,
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    OnceqError,
    ServiceUnavailableError,
    WaitTimeout,
)
from onceq.wire import (
    TERMINAL,
    ApiKeyInfo,
    ApiKeyList,
    ApiKeyRequest,
    BatchAnswer,
    BatchCancelled,
    BudgetChange,
    BudgetList,
    BudgetRequest,
    BudgetStatus,
    CostDimension,
    Costs,
    Health,
    Job,
    JobPage,
    JobRequest,
    Lanes,
    LedgerEntry,
    LedgerPage,
    NewApiKey,
    Problem,
    Quote,
    ReplayAnswer,
    ReplayRequest,
    Request,
    Stats,
    SubmittedJob,
    Switch,
)

Ledger = list[LedgerEntry]

LONGEST_POLL_S: Final = 30.0
POLL_PACE_S: Final = 0.5
"""A service that answers a long poll at once is asked again after this many seconds, not in a busy loop."""

MAX_PAGE: Final = 200
"""Most jobs that the service puts into one page of a list."""
FRAME_ROWS: Final = 10_000
"""Jobs in a frame that was asked for without a limit: fifty pages, some seconds, some ten megabytes."""


def submit(submission: Submission, backoff: Backoff) -> Flow[SubmittedJob]:
    """Post the job; every retry carries the same key, so there is one job however many posts arrive."""
    return read(SubmittedJob.model_validate_json, (yield from exchange(submission.call, backoff)))


def ask_quote(submission: Submission, backoff: Backoff) -> Flow[Quote]:
    """Ask what the job would cost and when it would start; nothing is created."""
    return read(Quote.model_validate_json, (yield from exchange(submission.quote_call, backoff)))


def get(job_id: str, backoff: Backoff) -> Flow[Job]:
    """The job as it stands."""
    return read(Job.model_validate_json, (yield from exchange(Call("GET", job_path(job_id)), backoff)))


def cancel(job_id: str, backoff: Backoff) -> Flow[Job]:
    """Ask for the job's end; one that has ended stays as it is."""
    return read(Job.model_validate_json, (yield from exchange(Call("POST", job_path(job_id, "cancel")), backoff)))


def cancel_batch(batch: str, backoff: Backoff, after_s: float = 0.0) -> Flow[BatchCancelled]:
    """Ask for the end of a batch's jobs."""
    call = Call("POST", f"/v1/batches/{checked_batch(batch)}/cancel", after_s=after_s)
    return read(BatchCancelled.model_validate_json, (yield from exchange(call, backoff)))


def replay(job_id: str, key: str, backoff: Backoff) -> Flow[SubmittedJob]:
    """Ask an ended job's question again; every retry carries the same key."""
    call = Call("POST", job_path(job_id, "replay"), headers={"idempotency-key": key})
    return read(SubmittedJob.model_validate_json, (yield from exchange(call, backoff)))


def replay_all(wanted: ReplayRequest) -> Flow[list[SubmittedJob | OnceqError]]:
    """Replay what fits; what became of each. Sent once, as a second post would replay the next `limit` jobs."""
    call = _post("/v1/jobs/replay", wanted)
    try:
        answer = read(ReplayAnswer.model_validate_json, (yield from exchange(call, Backoff(0))))
    except (ConnectionFailed, ServiceUnavailableError) as exc:
        raise _perhaps_replayed(exc) from exc.__cause__
    return [item.job or problem_error(item.problem or _NO_ANSWER) for item in answer.items]


_PERHAPS: Final = (
    "Some jobs may have been replayed: the new ones have a `retry_of`, and are among the newest of client.list() "
    "(or `onceq jobs list --json`)."
)


def _perhaps_replayed(error: ConnectionFailed | ServiceUnavailableError) -> APIError | ConnectionFailed:
    """The error of a post, saying too what to look for; not where the post never left."""
    if isinstance(error, ServiceUnavailableError):
        detail = f"{error.detail.removesuffix('.')}. {_PERHAPS}"
        return problem_error(error.problem.model_copy(update={"detail": detail}), error.retry_after_s)
    if isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout):
        return error
    return ConnectionFailed(f"{error} {_PERHAPS}")


def lanes(backoff: Backoff) -> Flow[Lanes]:
    """The lanes as they are."""
    return read(Lanes.model_validate_json, (yield from exchange(Call("GET", "/v1/lanes"), backoff)))


def switch(word: Literal["pause", "resume"], what: Switch, backoff: Backoff) -> Flow[Lanes]:
    """Pause or resume a lane or a band; the lanes as they are then."""
    return read(Lanes.model_validate_json, (yield from exchange(_post(f"/v1/lanes/{word}", what), backoff)))


def _post(path: str, body: Request, method: Literal["POST", "PATCH"] = "POST") -> Call:
    content = body.model_dump_json(exclude_none=True).encode()
    return Call(method, path, headers={"content-type": "application/json"}, content=content)


def whoami(backoff: Backoff) -> Flow[ApiKeyInfo]:
    """The key that is used."""
    return read(ApiKeyInfo.model_validate_json, (yield from exchange(Call("GET", "/v1/keys/self"), backoff)))


def keys(backoff: Backoff) -> Flow[list[ApiKeyInfo]]:
    """The tenant's keys, oldest first."""
    return read(ApiKeyList.model_validate_json, (yield from exchange(Call("GET", "/v1/keys"), backoff))).keys


def create_key(wanted: ApiKeyRequest) -> Flow[NewApiKey]:
    """Make a key; sent once, as a lost answer's secret is lost and a second key would be one too many."""
    return read(NewApiKey.model_validate_json, (yield from exchange(_post("/v1/keys", wanted), Backoff(0))))


def revoke_key(key_id: str, backoff: Backoff) -> Flow[None]:
    """Take a key back."""
    yield from exchange(Call("DELETE", f"/v1/keys/{quote(key_id, safe='')}"), backoff)


def request(job_id: str, backoff: Backoff) -> Flow[JobRequest]:
    """What the job was asked."""
    call = Call("GET", job_path(job_id, "request"))
    return read(JobRequest.model_validate_json, (yield from exchange(call, backoff)))


def budgets(backoff: Backoff) -> Flow[list[BudgetStatus]]:
    """The tenant's budgets as they stand."""
    return read(BudgetList.model_validate_json, (yield from exchange(Call("GET", "/v1/budgets"), backoff))).budgets


def budget(budget_id: str, backoff: Backoff) -> Flow[BudgetStatus]:
    """One budget as it stands."""
    return read(BudgetStatus.model_validate_json, (yield from exchange(Call("GET", _budget(budget_id)), backoff)))


def create_budget(wanted: BudgetRequest) -> Flow[BudgetStatus]:
    """Make a budget; sent once, as a second post of the same name is refused."""
    return read(BudgetStatus.model_validate_json, (yield from exchange(_post("/v1/budgets", wanted), Backoff(0))))


def change_budget(budget_id: str, change: BudgetChange, backoff: Backoff) -> Flow[BudgetStatus]:
    """Change a budget; it stands as it does then."""
    call = _post(_budget(budget_id), change, "PATCH")
    return read(BudgetStatus.model_validate_json, (yield from exchange(call, backoff)))


def delete_budget(budget_id: str, backoff: Backoff) -> Flow[None]:
    """Take a budget away."""
    yield from exchange(Call("DELETE", _budget(budget_id)), backoff)


def _budget(budget_id: str) -> str:
    return f"/v1/budgets/{quote(budget_id, safe='')}"


def ledger(job_id: str, backoff: Backoff) -> Flow[Ledger]:
    """What was booked for the job, a row a try."""
    call = Call("GET", job_path(job_id, "ledger"))
    return read(TypeAdapter(Ledger).validate_json, (yield from exchange(call, backoff)))


def ledger_page(query: Mapping[str, str], cursor: str | None, backoff: Backoff) -> Flow[LedgerPage]:
    """One page of the tenant's rows, oldest first."""
    params = {**query, "cursor": cursor} if cursor else query
    return read(LedgerPage.model_validate_json, (yield from exchange(Call("GET", "/v1/ledger", params), backoff)))


def ledger_query(
    since: datetime | None, until: datetime | None, restated_at: datetime | None, page_size: int | None
) -> dict[str, str]:
    """The query of ledger rows; times without a zone are local time."""
    times = {"since": since, "until": until, "restated_at": restated_at}
    given = {name: rfc3339(at) for name, at in times.items() if at is not None}
    return given | limit_of(page_size)


def stats(backoff: Backoff) -> Flow[Stats]:
    """The tenant now and over its last 24 hours."""
    return read(Stats.model_validate_json, (yield from exchange(Call("GET", "/v1/stats"), backoff)))


def costs(query: Mapping[str, str | Sequence[str]], backoff: Backoff) -> Flow[Costs]:
    """Sums over hours or days."""
    return read(Costs.model_validate_json, (yield from exchange(Call("GET", "/v1/costs", query), backoff)))


def cost_query(
    group_by: CostDimension | Sequence[CostDimension],
    interval: str,
    since: datetime | None,
    until: datetime | None,
    restated_at: datetime | None,
) -> dict[str, str | Sequence[str]]:
    """The query of costs; times without a zone are local time."""
    times = {"since": since, "until": until, "restated_at": restated_at}
    given = {name: rfc3339(at) for name, at in times.items() if at is not None}
    groups = [group_by] if isinstance(group_by, str) else list(group_by)
    return {"interval": interval, "group_by": groups, **given}


def health() -> Flow[Health]:
    """`GET /readyz`, once: a service that says it is not ready is an answer, not an error."""
    outcome = yield Call("GET", "/readyz", read_timeout_s=5.0)
    if not isinstance(outcome, httpx2.Response):
        raise error_of(outcome) from outcome
    try:
        return Health.model_validate_json(outcome.content)
    except ValidationError as exc:
        raise error_of(outcome) from exc


def wait(job_id: str, timeout_s: float | None) -> Flow[Job]:
    """Long-poll until the job has ended, over restarts of the service.

    Raises WaitTimeout; when the service itself was out of reach at the deadline, and not just silent, what says so.
    """
    timeout_s = checked_wait_s(timeout_s)
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    pause_s = 0.0
    while True:
        asked_at = time.monotonic()
        call = _poll(job_id, _left_s(deadline, asked_at + pause_s), pause_s)
        try:
            answer = yield from exchange(call, PATIENT, deadline)
        except ConnectionFailed as exc:
            if deadline is not None and isinstance(exc.__cause__, httpx2.ReadTimeout):
                message = f"nothing was heard of job {job_id} within {timeout_s:g} s; it goes on: wait again."
                raise WaitTimeout(message) from exc
            raise ConnectionFailed(f"{exc} Job {job_id} goes on: wait again.") from exc.__cause__
        job = read(Job.model_validate_json, answer)
        if job.status in TERMINAL:
            return job
        now = time.monotonic()
        if deadline is not None and now >= deadline:
            raise WaitTimeout(f"job {job_id} is still {job.status} after {timeout_s:g} s; it goes on: wait again.")
        pause_s = max(0.0, min(asked_at + POLL_PACE_S - now, _left_s(deadline, now)))


def _left_s(deadline: float | None, now: float) -> float:
    return LONGEST_POLL_S if deadline is None else min(LONGEST_POLL_S, max(0.0, deadline - now))


def _poll(job_id: str, poll_s: float, pause_s: float) -> Call:
    wait = {"wait": f"{round(poll_s, 3):g}"}
    return Call("GET", job_path(job_id), wait, read_timeout_s=poll_s + 15, after_s=pause_s)


def succeeded(job: Job) -> Job:
    """The job itself when it has its answer; raises JobFailed, JobCancelled or JobExpired when it ended without."""
    error = _ENDED_WITHOUT.get(job.status)
    if error is not None:
        raise error(job)
    return job


_ENDED_WITHOUT: Final[dict[str, type[JobError]]] = {
    "failed": JobFailed,
    "cancelled": JobCancelled,
    "expired": JobExpired,
}


def page(filters: Query, cursor: str | None, backoff: Backoff) -> Flow[JobPage]:
    """One page of jobs, newest first."""
    params = {**filters, "cursor": cursor} if cursor else filters
    return read(JobPage.model_validate_json, (yield from exchange(Call("GET", "/v1/jobs", params=params), backoff)))


def newest(filters: Query, limit: int | None, backoff: Backoff) -> Flow[list[Job]]:
    """At most `limit` jobs, newest first, in pages; None: FRAME_ROWS, and a warning where that left some out."""
    most = FRAME_ROWS if limit is None else at_least(0, "limit", limit)
    jobs: list[Job] = []
    cursor: str | None = None
    while len(jobs) < most:
        found = yield from page({**filters, "limit": str(min(MAX_PAGE, most - len(jobs)))}, cursor, backoff)
        jobs += found.jobs
        cursor = found.next_cursor
        if cursor is None:
            return jobs
    if limit is None:
        warnings.warn(f"these are the newest {most} jobs of more: filter them, or pass limit=.", stacklevel=4)
    return jobs[:most]


def submit_batch(packs: Sequence[Pack], backoff: Backoff) -> Flow[list[SubmittedJob | OnceqError]]:
    """Post the packs one after the other; what became of each item, in order.

    Once one pack has been accepted its jobs must reach the caller, so a later pack that fails as a whole is an error
    of each of its items.
    """
    done: list[SubmittedJob | OnceqError] = []
    for pack in packs:
        try:
            answer = read(BatchAnswer.model_validate_json, (yield from exchange(pack.call, backoff)))
        except OnceqError as exc:
            if not done:
                raise
            done += [exc] * len(pack.items)
        else:
            done += [item.job or problem_error(item.problem or _NO_ANSWER) for item in answer.items]
    return done


_NO_ANSWER: Final = Problem(
    title="No answer", status=500, code="unexpected_answer", detail="The service said nothing about this item."
)


def job_path(job_id: str, *rest: str) -> str:
    """The path of a job; whatever the id holds stays one segment."""
    return "/".join(("/v1/jobs", quote(job_id, safe=""), *rest))


def lost_touch(job_id: str, position: int, error: APIError | ConnectionFailed) -> str:
    """What StreamLost says."""
    return (
        f"lost touch with job {job_id} after event {position}: {error} "
        f"The job goes on; client.follow({job_id!r}, after={position}) carries on from here."
    )
