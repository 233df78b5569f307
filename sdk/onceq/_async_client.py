"""`AsyncClient`: onceq from code that awaits. The twin of `_client.py`, line for line.

A request falls down one stair: a method picks a flow (`_flows.py`), the driver runs it (`_drive.py`), each of its
calls is shaped, judged and repeated by `_http.py`, and goes through one httpx2 client.
It belongs to the event loop it was first used in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing, closing
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

import httpx2

from onceq import _flows, frames
from onceq._async_handles import AsyncJobHandle, AsyncJobStream
from onceq._config import discover
from onceq._drive import AsyncDriver
from onceq._filters import JobFilters, query
from onceq._flows import Ledger
from onceq._http import Backoff
from onceq._submission import (
    Item,
    JobOptions,
    MapOptions,
    Models,
    Prompt,
    budget_change,
    budget_request,
    checked_key,
    key_request,
    prepare,
    prepare_batch,
    replay_request,
    switch,
)
from onceq.compare import left_usd, rows_again, side_by_side, sides
from onceq.errors import OnceqError
from onceq.map.output import Schema
from onceq.map.plan import Plan, Running, Wish, say
from onceq.map.quote import MapQuote
from onceq.map.row import MapRow
from onceq.map.rows import Template as MapPrompt
from onceq.wire import (
    ApiKeyInfo,
    Band,
    BatchCancelled,
    BudgetMode,
    BudgetPeriod,
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
    Quote,
    Scope,
    Stats,
    SubmittedJob,
)

if TYPE_CHECKING:
    import pandas as pd

Submitted = list[AsyncJobHandle | OnceqError]
"""What became of the items of a batch, in order."""


class AsyncClient:
    """A connection to onceq for code that awaits.

    `base_url` and `api_key` default to `ONCEQ_BASE_URL` and `ONCEQ_API_KEY`, then to the nearest `.onceq/` folder
    upwards from the working directory (`onceq up` writes it). `model` is used where a method is given none.
    `timeout_s` bounds each read of an ordinary answer, not the life of a stream; `max_retries` bounds how often one
    call is sent again after a lost connection, 408, 429 or 5xx (honouring `Retry-After`). `transport` replaces the
    socket, for tests and proxies. Raises ConfigurationError when there is no key.

    Hundreds of streams may run on one client; it belongs to one event loop.
    Close it, or use it in an `async with` block.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        model: Models | None = None,
        timeout_s: float = 30.0,
        max_retries: int = 5,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._config = discover(base_url, api_key)
        self._model = model
        self._backoff = Backoff(max_retries)
        self._driver = AsyncDriver(self._config, timeout_s, self._backoff, transport)

    @property
    def base_url(self) -> str:
        """Where the service is."""
        return self._config.base_url

    async def submit(
        self,
        prompt: Prompt,
        *,
        model: Models | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[JobOptions],
    ) -> AsyncJobHandle:
        """Put a completion into the queue and return at once; nothing is lost from here on.

        `prompt` is a text or the turns of a conversation. Sent again within `dedupe_window_s` (600), an equal request
        joins the same job or replays its answer, and costs nothing: `handle.disposition` says which. `fresh=True`
        asks for a new sample. With an `idempotency_key` of your own, the key alone decides what is the same request.

        Raises BadRequestError when the request is wrong (most often before it is sent), IdempotencyKeyReused when the
        key came with another request before, and the other errors of `onceq.errors`.
        """
        submission = prepare(prompt, model or self._model, idempotency_key, options)
        return AsyncJobHandle(self._driver, await self._driver.run(_flows.submit(submission, self._backoff)))

    async def submit_batch(
        self, items: Iterable[Item], *, model: Models | None = None, **options: Unpack[JobOptions]
    ) -> Submitted:
        """Submit many jobs in few requests; one handle or error per item, in order.

        An item is a prompt, a `JobRequest`, a `BatchItem`, or a dict of request fields; `model` and `options` fill
        what an item leaves out. All are checked before any is sent: BadRequestError names the wrong one
        (`items.7.prompt`).
        """
        packs = prepare_batch(items, model or self._model, options)
        answers = await self._driver.run(_flows.submit_batch(packs, self._backoff))
        return [AsyncJobHandle(self._driver, a) if isinstance(a, SubmittedJob) else a for a in answers]

    async def quote(self, prompt: Prompt, *, model: Models | None = None, **options: Unpack[JobOptions]) -> Quote:
        """What a job would cost at most, and when it would start, without making one; takes what `submit` takes.

        `quote.cost.upper_nano_usd` is never passed, by all of its calls together; null where nothing bounds it.
        """
        submission = prepare(prompt, model or self._model, None, options)
        return await self._driver.run(_flows.ask_quote(submission, self._backoff))

    @overload
    async def map(
        self,
        rows: Any,
        prompt: MapPrompt | None = None,
        *,
        model: Models | None = None,
        output: Schema | None = None,
        name: str = "map",
        n: int = 1,
        fresh: bool = False,
        retry_failed: bool = True,
        max_cost_usd: float | None = None,
        cache: bool | str | Path = True,
        progress: bool | None = None,
        on_interrupt: Literal["detach", "cancel"] = "detach",
        sample: int | None = None,
        dry_run: Literal[False] = False,
        **options: Unpack[MapOptions],
    ) -> pd.DataFrame: ...

    @overload
    async def map(
        self,
        rows: Any,
        prompt: MapPrompt | None = None,
        *,
        model: Models | None = None,
        output: Schema | None = None,
        name: str = "map",
        n: int = 1,
        fresh: bool = False,
        retry_failed: bool = True,
        max_cost_usd: float | None = None,
        cache: bool | str | Path = True,
        progress: bool | None = None,
        on_interrupt: Literal["detach", "cancel"] = "detach",
        sample: int | None = None,
        dry_run: Literal[True],
        **options: Unpack[MapOptions],
    ) -> MapQuote: ...

    async def map(
        self,
        rows: Any,
        prompt: MapPrompt | None = None,
        *,
        model: Models | None = None,
        output: Schema | None = None,
        name: str = "map",
        n: int = 1,
        fresh: bool = False,
        retry_failed: bool = True,
        max_cost_usd: float | None = None,
        cache: bool | str | Path = True,
        progress: bool | None = None,
        on_interrupt: Literal["detach", "cancel"] = "detach",
        sample: int | None = None,
        dry_run: bool = False,
        **options: Unpack[MapOptions],
    ) -> pd.DataFrame | MapQuote:
        """Ask about every row, and return a frame of answers on the same index, each distinct row paid once.

        `rows` is a column, a frame (pandas or polars), a list or an iterator; `prompt` a text with `{column}` in it
        (`{text}` or `{value}` where a row is one value), a function of the row that gives a prompt, or nothing where
        the rows are prompts. `output`, a pydantic model or a JSON Schema, asks for JSON and gives typed columns.

        Columns: `text` (str), or the output's own; `status`, `cost_usd` (float; 0 in rows that share an answer, so that
        the sum is the bill), `ttft_s` (float, seconds), `tokens` (int, input and output), `job_id`, `error`; with `n`
        above 1 there are `n` lines a row and a column `sample`. `MapRow` says what each holds. A row's trouble stays in
        it. polars gives polars.

        Run again, also in another kernel or on another machine, it returns what is done at once, takes up what is in
        flight, and posts what is missing or failed (`retry_failed=False`: missing alone). Rows are told by their
        content and `name`; another prompt or model makes new rows, `fresh=True` asks all anew. Finished rows are kept
        in `onceq-map.sqlite` in the working directory (`cache=` another file, or False), longer than by the service.

        `sample=20` runs so many rows and says what all of them will cost. `max_cost_usd` is never passed by what the
        frame's rows cost together. `dry_run=True` posts nothing and returns a `MapQuote`. An interrupt leaves what is
        in flight to the service, and says how to come back; with `on_interrupt="cancel"` it is cancelled. An iterator
        is walked once, at most 10,000 rows ahead of the answers.

        Raises BadRequestError and ConfigurationError for what can't be a map, before anything is sent, and what
        `submit` raises where the service would refuse every row.
        """
        wish = Wish(
            rows, prompt, model or self._model, output, name, n, fresh, retry_failed, sample, max_cost_usd, cache,
            progress, options,
        )  # fmt: skip
        plan = Plan(wish, frames=True)
        if dry_run:
            with closing(plan.open_cache()) as known:
                return await self._driver.run(plan.quote(known))
        running = plan.start()
        done = [row async for row in self._mapped(running, on_interrupt)]
        say(running.forecast())
        return plan.frame(done)

    async def compare(
        self,
        rows: Any,
        prompt: MapPrompt | Mapping[str, MapPrompt] | None = None,
        *,
        models: Sequence[str] | None = None,
        model: Models | None = None,
        output: Schema | None = None,
        name: str = "map",
        fresh: bool = False,
        retry_failed: bool = True,
        max_cost_usd: float | None = None,
        cache: bool | str | Path = True,
        progress: bool | None = None,
        on_interrupt: Literal["detach", "cancel"] = "detach",
        **options: Unpack[MapOptions],
    ) -> pd.DataFrame:
        """Ask every row with several prompts, several `models`, or each of both, and lay the answers side by side.

        `prompt` is one prompt as in `map`, or a dict of them by name. A side is called after its prompt, its model, or
        both (`"terse v2"`, `"openai/gpt-4o"`, `"terse v2 · openai/gpt-4o"`). A prompt's name goes into its jobs'
        labels, `terse v2` as `prompt: terse` and `version: 2`, by which the dashboard and `costs_frame` sum up.

        Columns are those of `map` under each side: `frame["terse v2", "text"]`, or one field of all sides by
        `frame.xs("cost_usd", axis=1, level="field")`; for polars rows `terse v2: text`. `onceq.compare.summary` has a
        row a side. Each side is a map, one after the other, and what `map` says of running again, cache, progress and
        interrupts holds; `max_cost_usd` is for all sides together. Raises what `map` raises.
        """
        again = rows_again(rows)
        made: dict[str, pd.DataFrame] = {}
        for side in sides(prompt, models, model or self._model):
            made[side.name] = await self.map(
                again, side.prompt, model=side.model, output=output, name=name, fresh=fresh, retry_failed=retry_failed,
                max_cost_usd=left_usd(max_cost_usd, made.values()), cache=cache, progress=progress,
                on_interrupt=on_interrupt, **side.options(options),
            )  # fmt: skip
        return side_by_side(made)

    def amap(
        self,
        rows: Any,
        prompt: MapPrompt | None = None,
        *,
        model: Models | None = None,
        output: Schema | None = None,
        name: str = "map",
        n: int = 1,
        fresh: bool = False,
        retry_failed: bool = True,
        max_cost_usd: float | None = None,
        cache: bool | str | Path = True,
        progress: bool | None = None,
        on_interrupt: Literal["detach", "cancel"] = "detach",
        **options: Unpack[MapOptions],
    ) -> AsyncIterator[MapRow]:
        """The rows of `map` as they are done, in no order, each a `MapRow`. Takes what `map` takes; needs no pandas.

        Leaving the loop leaves what is in flight to the service; the same map takes it up again.
        """
        wish = Wish(
            rows, prompt, model or self._model, output, name, n, fresh, retry_failed, None, max_cost_usd, cache,
            progress, options,
        )  # fmt: skip
        return self._mapped(Plan(wish, frames=False).start(), on_interrupt)

    async def _mapped(self, running: Running, on_interrupt: Literal["detach", "cancel"]) -> AsyncGenerator[MapRow]:
        try:
            async with aclosing(self._driver.walk(running.run.steps())) as packs:
                async for rows in packs:
                    for row in rows:
                        yield row
        except (KeyboardInterrupt, asyncio.CancelledError):
            cancel = on_interrupt == "cancel" and bool(running.run.waiting)
            if cancel:
                await self.cancel_batch(running.run.batch)
            say(running.left(cancelled=cancel, awaited=True))
            raise
        finally:
            running.close()

    async def cancel_batch(self, batch: str) -> BatchCancelled:
        """Cancel the jobs of a batch (an interrupted map names its own) that have not ended. Raises NotFoundError."""
        return await self._driver.run(_flows.cancel_batch(batch, self._backoff))

    def stream(
        self,
        prompt: Prompt,
        *,
        model: Models | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[JobOptions],
    ) -> AsyncJobStream:
        """Submit a completion and iterate its text as it is written; takes what `submit` takes.

        Nothing is sent before the iteration starts. See `AsyncJobStream` for what else it holds.
        """
        return AsyncJobStream(self._driver, prepare(prompt, model or self._model, idempotency_key, options))

    def follow(self, job_id: str, *, after: int = 0) -> AsyncJobStream:
        """The stream of a job that was submitted before, from its start or from behind event number `after`."""
        return AsyncJobStream(self._driver, job_id, after)

    async def get(self, job_id: str) -> Job:
        """The job as it stands. Raises NotFoundError."""
        return await self._driver.run(_flows.get(job_id, self._backoff))

    async def request(self, job_id: str) -> JobRequest:
        """What the job was asked, as it is stored: prompt or messages, and parameters. Raises NotFoundError."""
        return await self._driver.run(_flows.request(job_id, self._backoff))

    async def wait(self, job_id: str, timeout_s: float | None = None) -> Job:
        """Wait until the job has ended, well or not, and return it; restarts of the service are waited out.

        Raises WaitTimeout after `timeout_s` seconds (None: wait as long as it takes), and ConnectionFailed or
        ServiceUnavailableError when the service has been out of reach for about half a minute, or at the timeout.
        """
        return await self._driver.run(_flows.wait(job_id, timeout_s))

    async def result(self, job_id: str, timeout_s: float | None = None) -> Job:
        """Wait for the answer and return the job that holds it.

        Raises JobFailed, JobCancelled or JobExpired (each with `.job`) when it ended without an answer, and
        WaitTimeout after `timeout_s` seconds.
        """
        return _flows.succeeded(await self.wait(job_id, timeout_s))

    async def cancel(self, job_id: str) -> Job:
        """Cancel the job for everyone who joined it; a job that has ended stays as it is. Returns it as it stands."""
        return await self._driver.run(_flows.cancel(job_id, self._backoff))

    async def list(self, *, page_size: int | None = None, **where: Unpack[JobFilters]) -> AsyncIterator[Job]:
        """Iterate jobs, newest first, those that fit `onceq.JobFilters`; pages are fetched as you get to them.

        Where few of many fit, the next one may take a few requests: `list_page` says after each how far it has looked.
        """
        filters, cursor = query(where, page_size), None
        while True:
            page = await self._driver.run(_flows.page(filters, cursor, self._backoff))
            for job in page.jobs:
                yield job
            cursor = page.next_cursor
            if cursor is None:
                return

    async def list_page(
        self, *, cursor: str | None = None, page_size: int | None = None, **where: Unpack[JobFilters]
    ) -> JobPage:
        """One page of `list` in one request, which does bounded work whatever fits; `cursor` is a `next_cursor` before.

        It may be short, or empty, and yet have a `next_cursor`: `looked_back_to` says how far it has looked.
        """
        return await self._driver.run(_flows.page(query(where, page_size), cursor, self._backoff))

    async def replay(self, job_id: str, *, idempotency_key: str | None = None) -> AsyncJobHandle:
        """Ask an ended job's question again: a new job with `retry_of`, and a new bill. Raises ConflictError."""
        key = checked_key(idempotency_key)
        return AsyncJobHandle(self._driver, await self._driver.run(_flows.replay(job_id, key, self._backoff)))

    async def replay_all(
        self,
        *,
        status: Literal["failed", "expired", "cancelled"] = "failed",
        error: str | None = None,
        team: str | None = None,
        model: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> Submitted:
        """Ask again what ended so and was not replayed before, newest first; one handle or error each.

        Fewer than `limit` (at most 1,000) come back when no more fit. Sent twice it makes no job twice.
        """
        wanted = replay_request(status=status, error=error, team=team, model=model, since=since, limit=limit)
        answers = await self._driver.run(_flows.replay_all(wanted, self._backoff))
        return [AsyncJobHandle(self._driver, a) if isinstance(a, SubmittedJob) else a for a in answers]

    async def lanes(self) -> Lanes:
        """What limits and brakes the models now, and which bands are paused."""
        return await self._driver.run(_flows.lanes(self._backoff))

    async def pause(self, *, lane: str | None = None, band: Band | None = None) -> Lanes:
        """Start nothing new in a lane (a model) or a band, for all tenants; what runs goes on. Needs `operator`."""
        return await self._driver.run(_flows.switch("pause", switch(lane, band), self._backoff))

    async def resume(self, *, lane: str | None = None, band: Band | None = None) -> Lanes:
        """End a pause. Needs an API key with the scope `operator`."""
        return await self._driver.run(_flows.switch("resume", switch(lane, band), self._backoff))

    async def whoami(self) -> ApiKeyInfo:
        """The API key that this client uses: its tenant and scopes."""
        return await self._driver.run(_flows.whoami(self._backoff))

    async def keys(self) -> Sequence[ApiKeyInfo]:
        """The tenant's API keys, oldest first, without their secrets. Needs `admin`; an operator sees all tenants'."""
        return await self._driver.run(_flows.keys(self._backoff))

    async def create_key(
        self, name: str = "key", *, scopes: Sequence[Scope] = ("submit", "read", "cancel"), tenant: str | None = None
    ) -> NewApiKey:
        """Make an API key; `.secret` is told this once. Needs `admin`, and `operator` for another tenant."""
        return await self._driver.run(_flows.create_key(key_request(name, scopes, tenant)))

    async def revoke_key(self, key_id: str) -> None:
        """Take an API key back, at once or within 5 s. Needs `admin`. Raises NotFoundError."""
        await self._driver.run(_flows.revoke_key(key_id, self._backoff))

    async def budgets(self) -> Sequence[BudgetStatus]:
        """Your tenant's budgets by name, each with what is spent, reserved and left; an operator sees all tenants'."""
        return await self._driver.run(_flows.budgets(self._backoff))

    async def budget(self, budget_id: str) -> BudgetStatus:
        """One budget as it stands. Raises NotFoundError."""
        return await self._driver.run(_flows.budget(budget_id, self._backoff))

    async def create_budget(
        self,
        name: str,
        limit_usd: float,
        *,
        period: BudgetPeriod = "month",
        mode: BudgetMode = "hard",
        time_zone: str = "UTC",
        team: str | None = None,
        key: str | None = None,
        model: str | None = None,
        labels: Mapping[str, str] | None = None,
        alerts: Sequence[float] = (0.5, 0.8, 1.0),
        tenant: str | None = None,
    ) -> BudgetStatus:
        """Make a budget over the jobs that fit all of team, key (an API key's id), model and labels. Needs `admin`.

        It counts jobs that are posted from now on. A hard one refuses a post that may not fit (PaymentRequiredError), a
        soft one only counts and alerts. `alerts` are shares of the limit. Raises ConflictError when the name is taken.
        """
        wanted = budget_request(
            name=name, limit_usd=limit_usd, period=period, mode=mode, time_zone=time_zone, team=team, key=key,
            model=model, labels=dict(labels or {}), alerts=list(alerts), tenant=tenant,
        )  # fmt: skip
        return await self._driver.run(_flows.create_budget(wanted))

    async def change_budget(
        self,
        budget_id: str,
        *,
        limit_usd: float | None = None,
        mode: BudgetMode | None = None,
        alerts: Sequence[float] | None = None,
    ) -> BudgetStatus:
        """Change what is given, at once; what was spent stays counted. Needs `admin`. Raises NotFoundError.

        A budget of the configuration file is changed there: ConflictError.
        """
        change = budget_change(limit_usd=limit_usd, mode=mode, alerts=None if alerts is None else list(alerts))
        return await self._driver.run(_flows.change_budget(budget_id, change, self._backoff))

    async def delete_budget(self, budget_id: str) -> None:
        """Take a budget away, and what it has counted. Needs `admin`. Raises NotFoundError, ConflictError."""
        await self._driver.run(_flows.delete_budget(budget_id, self._backoff))

    async def ledger(self, job_id: str) -> Ledger:
        """What was booked for the job: one row a try, oldest first. Raises NotFoundError."""
        return await self._driver.run(_flows.ledger(job_id, self._backoff))

    async def ledger_pages(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        restated_at: datetime | None = None,
        page_size: int | None = None,
    ) -> AsyncIterator[LedgerPage]:
        """Iterate your tenant's ledger in pages of at most 1,000 rows, oldest first, as it was when you began.

        `since` and `until` are times of booking (the latter excluded; None: now), `after` the id of a row that you have
        already. `restated_at` adds what the tokens would cost at the prices of that time. A page's `kept_since` says
        what has left the ledger. A page that a broken connection lost is fetched again.
        """
        query, cursor = _flows.ledger_query(since, until, restated_at, page_size), after
        while True:
            page = await self._driver.run(_flows.ledger_page(query, cursor, self._backoff))
            yield page
            cursor, query["until"] = page.next_cursor, page.until.isoformat()
            if cursor is None:
                return

    async def ledger_rows(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        restated_at: datetime | None = None,
    ) -> AsyncIterator[LedgerEntry]:
        """Iterate your tenant's ledger, a row a try, oldest first; takes what `ledger_pages` takes."""
        async for page in self.ledger_pages(since=since, until=until, after=after, restated_at=restated_at):
            for entry in page.entries:
                yield entry

    async def stats(self) -> Stats:
        """The queue now and the last 24 hours of your tenant."""
        return await self._driver.run(_flows.stats(self._backoff))

    async def costs(
        self,
        *,
        group_by: Sequence[CostDimension] = (),
        interval: Literal["hour", "day", "total"] = "day",
        since: datetime | None = None,
        until: datetime | None = None,
        restated_at: datetime | None = None,
    ) -> Costs:
        """What your tenant spent, wasted and avoided, by hour or day (UTC) and group.

        Without `since` it is the last 30 days, or 24 hours by hour. `labels` groups by the labels that the service
        sums up (`ONCEQ_LABEL_KEYS`). `restated_at` adds what the tokens would cost at the prices of that time. Times
        without a zone are local time.
        """
        query = _flows.cost_query(group_by, interval, since, until, restated_at)
        return await self._driver.run(_flows.costs(query, self._backoff))

    async def jobs_frame(
        self, *, labels: Sequence[str] | None = None, limit: int | None = None, **where: Unpack[JobFilters]
    ) -> pd.DataFrame:
        """Your tenant's jobs as a frame, newest first, one row a job under its id; takes the filters of `list`.

        Columns, dtypes and units: `onceq.frames.jobs_frame`, the same for no job at all. `labels` names the labels
        that become columns (`label_<key>`; None: those that occur). At most `limit` jobs, 10,000 without one, and then
        a warning says where there are more. Only what the service still keeps is there (24 h after its end, as a rule).
        """
        wanted = query(where)
        return frames.jobs_frame(await self._driver.run(_flows.newest(wanted, limit, self._backoff)), labels=labels)

    async def costs_frame(
        self,
        *,
        group_by: Sequence[CostDimension] = (),
        interval: Literal["hour", "day", "total"] = "day",
        since: datetime | None = None,
        until: datetime | None = None,
        restated_at: datetime | None = None,
    ) -> pd.DataFrame:
        """What your tenant spent, wasted and avoided as a frame with one row an hour or day and group.

        Takes what `costs` takes. Columns, dtypes and units: `onceq.frames.costs_frame`. Rows of simulated work are
        apart (`simulated`).
        """
        query = _flows.cost_query(group_by, interval, since, until, restated_at)
        return frames.costs_frame(await self._driver.run(_flows.costs(query, self._backoff)))

    async def health(self) -> Health:
        """Whether the service is ready, and what is wrong with it; asked once. Raises ConnectionFailed."""
        return await self._driver.run(_flows.health())

    async def close(self) -> None:
        """Close all connections; jobs go on."""
        await self._driver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient(base_url={self.base_url!r}, api_key='***')"
