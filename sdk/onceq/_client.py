"""`Client`: onceq from code that blocks. The twin of `_async_client.py`, line for line.

A request falls down one stair: a method picks a flow (`_flows.py`), the driver runs it (`_drive.py`), each of its
calls is shaped, judged and repeated by `_http.py`, and goes through one httpx2 client. Batches, maps, figures and
what operators need are in `_blocking/`, a topic a file.
There is no event loop in here, so it works in scripts, threads and inside a notebook's running loop alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from types import TracebackType
from typing import Literal, Self, Unpack

import httpx2

from onceq import _flows
from onceq._arguments import JobRef, checked_retries, checked_timeout_s, job_id_of
from onceq._blocking.admin import Admin
from onceq._blocking.batches import Batches, Submitted
from onceq._blocking.maps import Maps
from onceq._blocking.reports import Reports
from onceq._config import discover
from onceq._drive import Driver
from onceq._filters import JobFilters, query
from onceq._handles import JobHandle, JobStream
from onceq._http import Backoff
from onceq._signatures import spell_out
from onceq._submission import JobOptions, Models, Prompt, checked_key, prepare, replay_request
from onceq.wire import Job, JobPage, JobRequest, Quote, SubmittedJob


class Client(Batches, Maps, Reports, Admin):
    """A connection to onceq for code that blocks.

    `base_url` and `api_key` default to `ONCEQ_BASE_URL` and `ONCEQ_API_KEY`, then to the nearest `.onceq/` folder
    upwards from the working directory (`onceq up` writes it). `model` is used where a method is given none.
    `timeout_s` bounds each read of an ordinary answer, not the life of a stream; `max_retries` bounds how often one
    call is sent again after a lost connection, 408, 429 or 5xx (honouring `Retry-After`). `transport` replaces the
    socket, for tests and proxies. Raises ConfigurationError when there is no key. A `job_id` that a method takes may be
    the job itself, its handle or its stream.

    May be shared by threads. Close it, or use it in a `with` block.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        model: Models | None = None,
        timeout_s: float = 30.0,
        max_retries: int = 5,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._config = discover(base_url, api_key)
        self._model = model
        self._backoff = Backoff(checked_retries(max_retries))
        self._driver = Driver(self._config, checked_timeout_s(timeout_s), self._backoff, transport)

    @property
    def base_url(self) -> str:
        """Where the service is."""
        return self._config.base_url

    def submit(
        self,
        prompt: Prompt,
        *,
        model: Models | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[JobOptions],
    ) -> JobHandle:
        """Put a completion into the queue and return at once; nothing is lost from here on.

        `prompt` is a text or the turns of a conversation. Sent again within `dedupe_window_s` (600), an equal request
        (of the same `user`; band, team, labels, times and limits may differ) joins the same job or replays its answer,
        and costs nothing: `handle.disposition` says which. `fresh=True` asks for a new sample. With an
        `idempotency_key` of your own, the key alone decides what is the same request.

        The options are the fields of `onceq.JobOptions`, of which `help(onceq.JobOptions)` tells units and defaults:
        `deadline_s` are seconds until the job is given up (a day), `max_calls` may be billed at most (3).

        Raises BadRequestError when the request is wrong (most often before it is sent), IdempotencyKeyReused when the
        key came with another request before, and the other errors of `onceq.errors`.
        """
        submission = prepare(prompt, self._model if model is None else model, idempotency_key, options)
        return JobHandle(self._driver, self._driver.run(_flows.submit(submission, self._backoff)))

    def quote(self, prompt: Prompt, *, model: Models | None = None, **options: Unpack[JobOptions]) -> Quote:
        """What a job would cost at most, and when it would start, without making one; takes what `submit` takes.

        `quote.cost.upper_nano_usd` is never passed, by all of its calls together; null where nothing bounds it.
        """
        submission = prepare(prompt, self._model if model is None else model, None, options)
        return self._driver.run(_flows.ask_quote(submission, self._backoff))

    def stream(
        self,
        prompt: Prompt,
        *,
        model: Models | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[JobOptions],
    ) -> JobStream:
        """Submit a completion and iterate its text as it is written; takes what `submit` takes.

        Nothing is sent before the iteration starts. The whole answer is `stream.text`, not the pieces joined: where a
        call broke, what it wrote is among them, and a `Reset`. See `JobStream` for what else it holds.
        """
        return JobStream(
            self._driver, prepare(prompt, self._model if model is None else model, idempotency_key, options)
        )

    def follow(self, job_id: JobRef, *, after: int = 0) -> JobStream:
        """The stream of a job that was submitted before, from its start or from the event after number `after`."""
        return JobStream(self._driver, job_id_of(job_id), after)

    def get(self, job_id: JobRef) -> Job:
        """The job as it stands. Raises NotFoundError."""
        return self._driver.run(_flows.get(job_id_of(job_id), self._backoff))

    def request(self, job_id: JobRef) -> JobRequest:
        """What the job was asked, as it is stored: prompt or messages, and parameters. Raises NotFoundError."""
        return self._driver.run(_flows.request(job_id_of(job_id), self._backoff))

    def wait(self, job_id: JobRef, timeout_s: float | None = None) -> Job:
        """Wait until the job has ended, well or not, and return it; restarts of the service are waited out.

        Raises WaitTimeout after `timeout_s` seconds (None: wait as long as it takes), and ConnectionFailed or
        ServiceUnavailableError when the service has been out of reach for about half a minute, or at the timeout.
        """
        return self._driver.run(_flows.wait(job_id_of(job_id), timeout_s))

    def result(self, job_id: JobRef, timeout_s: float | None = None) -> Job:
        """Wait for the answer and return the job that holds it.

        Raises JobFailed, JobCancelled or JobExpired (each with `.job`) when it ended without an answer, and
        WaitTimeout after `timeout_s` seconds.
        """
        return _flows.succeeded(self.wait(job_id, timeout_s))

    def cancel(self, job_id: JobRef) -> Job:
        """Cancel the job for everyone who joined it; a job that has ended stays as it is. Returns it as it stands."""
        return self._driver.run(_flows.cancel(job_id_of(job_id), self._backoff))

    def list(self, *, page_size: int | None = None, **where: Unpack[JobFilters]) -> Iterator[Job]:
        """Iterate jobs, newest first, those that fit `onceq.JobFilters`; pages are fetched as you get to them.

        Where few of many fit, the next one may take a few requests: `list_page` says after each how far it has looked.
        """
        filters, cursor = query(where, page_size), None
        while True:
            page = self._driver.run(_flows.page(filters, cursor, self._backoff))
            yield from page.jobs
            cursor = page.next_cursor
            if cursor is None:
                return

    def list_page(
        self, *, cursor: str | None = None, page_size: int | None = None, **where: Unpack[JobFilters]
    ) -> JobPage:
        """One page of `list` in one request, which does bounded work whatever fits; `cursor` is the last page's.

        It may be short, or empty, and yet have a `next_cursor`: `looked_back_to` says how far it has looked.
        """
        return self._driver.run(_flows.page(query(where, page_size), cursor, self._backoff))

    def replay(self, job_id: JobRef, *, idempotency_key: str | None = None) -> JobHandle:
        """Ask an ended job's question again: a new job with `retry_of`, and a new bill. Raises ConflictError."""
        key = checked_key(idempotency_key)
        return JobHandle(self._driver, self._driver.run(_flows.replay(job_id_of(job_id), key, self._backoff)))

    def replay_all(
        self,
        *,
        status: Literal["failed", "expired", "cancelled"] = "failed",
        error: str | None = None,
        team: str | None = None,
        model: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> Submitted:
        """Replay the newest jobs that ended in `status` and have not been replayed yet; one handle or error each.

        Fewer than `limit` (at most 1,000) come back when no more fit. A further call goes on with the next ones, so
        this is sent once, whatever `max_retries`: where its answer is lost (ConnectionFailed, ServiceUnavailableError),
        some jobs may have been replayed, and the error says how to find them.
        """
        wanted = replay_request(status=status, error=error, team=team, model=model, since=since, limit=limit)
        answers = self._driver.run(_flows.replay_all(wanted))
        return [JobHandle(self._driver, a) if isinstance(a, SubmittedJob) else a for a in answers]

    def close(self) -> None:
        """Close all connections; jobs go on."""
        self._driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client(base_url={self.base_url!r}, api_key='***')"


spell_out(Client, Batches, Maps, Reports)
