"""What `AsyncClient` hands out: a handle on a job, and the stream of its text. The twin of `_handles.py`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from types import TracebackType
from typing import Self, cast
from weakref import WeakSet

from onceq import _display, _flows
from onceq._arguments import checked_after, job_id_of
from onceq._closing import Inner
from onceq._drive import AsyncDriver
from onceq._follow import StreamEvent
from onceq._http import PATIENT, Flow
from onceq._stream import Reader, Step
from onceq._submission import Submission
from onceq.wire import TERMINAL, Disposition, Job, Output, SubmittedJob


class AsyncJobStream:
    """The text of a job while it is written. `async for` over it yields pieces of text (`str`) as they arrive.

    A lost connection is taken up again after the last event, so that nothing is missed or repeated. Leave the loop
    whenever you like: the connection is closed, the job goes on, and the next loop over the same object carries on
    where you left. When the job ends without an answer, the loop raises JobFailed, JobCancelled or JobExpired; when
    the connection can't be restored, StreamLost.

    When the provider's stream breaks and the job is allowed to call again, the text so far is void: the loop then
    yields one `Reset` and goes on with the new text. `stream.text` is the answer in any case; the joined pieces are not
    then.

    `async with client.stream(...) as stream` closes the connection where the block is left, whoever still holds a loop.
    The job goes on then too, unless it was submitted with `on_disconnect="cancel"`; `cancel` ends it.
    """

    def __init__(self, driver: AsyncDriver, source: Submission | Job | str, after: int = 0) -> None:
        self._driver = driver
        self._source = source
        self._after = checked_after(after)
        self._job = source if isinstance(source, Job) else None
        # an attribute: completion in a notebook breaks on a property that gives a Literal
        self.disposition: Disposition | None = source.disposition if isinstance(source, SubmittedJob) else None
        """Whether the post created the job, joined it or replays it; None before the start and for a followed job."""
        self._reader: Reader | None = None
        self._loops: WeakSet[AsyncGenerator[Step]] = WeakSet()

    @property
    def id(self) -> str | None:
        """The job's id, like a handle's; None before the first iteration of a new stream."""
        known = self._source if isinstance(self._source, str) else getattr(self._source, "id", None)
        return self.job_id or known

    @property
    def job_id(self) -> str | None:
        """The job's id; None before the first iteration of a new stream."""
        return self._reader.job_id if self._reader else None

    @property
    def job(self) -> Job | None:
        """The job: as submitted while the stream runs, complete after its end; None before the start."""
        return self._job

    @property
    def text(self) -> str:
        """The text so far (from the event after number `after`, when the stream began there), without what is void."""
        return self._reader.fold.text if self._reader else ""

    @property
    def output(self) -> Output:
        """Text, reasoning and tool calls so far."""
        return self._reader.fold.output if self._reader else Output()

    @property
    def resets(self) -> int:
        """How often the text began again."""
        return self._reader.fold.resets if self._reader else 0

    @property
    def position(self) -> int:
        """The number of the last event read: what `client.follow(job_id, after=...)` takes."""
        return self._reader.fold.position if self._reader else self._after

    async def __aiter__(self) -> AsyncIterator[str]:
        async with aclosing(Inner(self._steps())) as steps:
            async for _, pieces in steps:
                for piece in pieces:
                    yield piece
        if self._job is not None:
            _flows.succeeded(self._job)

    async def result(self) -> Job:
        """Read what is left of the text, and return the job that holds the answer; raises what an iteration raises."""
        async for _ in self:
            pass
        return cast("Job", self._job)  # who has read to the end knows it

    async def events(self) -> AsyncIterator[StreamEvent]:
        """Every event of the job's log, the terminal event last; how the job ended is told, not raised."""
        async with aclosing(Inner(self._steps())) as steps:
            async for event, _ in steps:
                yield event

    async def cancel(self) -> Job:
        """Cancel the job for everyone who joined it. Raises BadRequestError before the start, when there is none."""
        self._job = await self._driver.run(_flows.cancel(job_id_of(self), self._driver.backoff))
        return self._job

    async def close(self) -> None:
        """Close the connection and end the loops over this object; the job goes on, and a new loop takes it up again.

        For who reads it, in the same task.
        """
        for steps in list(self._loops):
            await steps.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    def _steps(self) -> AsyncGenerator[Step]:
        steps = self._walk()
        self._loops.add(steps)
        return steps

    async def _walk(self) -> AsyncGenerator[Step]:
        self._reader = self._reader or Reader(await self._start(), self._after)
        async with aclosing(self._driver.read(self._reader)) as steps:
            async for step in steps:
                yield step
        if self._job is None or self._job.status not in TERMINAL:
            self._job = await self._driver.run(_flows.get(self._reader.job_id, PATIENT))

    async def _start(self) -> str:
        if isinstance(self._source, str):
            return self._source
        if isinstance(self._source, Submission):
            submitted = await self._driver.run(_flows.submit(self._source, self._driver.backoff))
            self._job = self._source = submitted
            self.disposition = submitted.disposition
        return self._source.id

    def __repr__(self) -> str:
        return f"AsyncJobStream({self.job_id or 'not started'}, at event {self.position})"

    async def show(self) -> None:
        """Show the answer while it is written, then what it took; afterwards `job` is the ended job, well or not.

        In a notebook the cell is live (Markdown, updated in place), elsewhere it is plain text. A stream that is the
        last value of a cell is shown like this by itself, while other cells run. An interrupt detaches: the job goes
        on, and the cell says how to come back. Raises what an iteration raises, but not JobError: that is shown.
        """
        from onceq.notebook.live import ashow  # what no service needs, no service imports

        await ashow(self)

    def _ipython_display_(self) -> None:
        from onceq.notebook.live import show_in_background

        if not show_in_background(self):
            print(repr(self))  # noqa: T201 - the value of a line in an IPython without a loop

    def _repr_html_(self) -> str:
        return _display.stream_html(self.text, self._job)


class AsyncJobHandle:
    """A job that was submitted: its `id`, what is known of it, and ways to get at its answer."""

    def __init__(self, driver: AsyncDriver, job: SubmittedJob) -> None:
        self._driver = driver
        self._job: Job = job
        self.id: str = job.id
        self.disposition: Disposition = job.disposition

    @property
    def job(self) -> Job:
        """The job as it was last heard of; `refresh` asks again."""
        return self._job

    def stream(self, *, after: int = 0) -> AsyncJobStream:
        """The text as it is written, from the start or from the event after number `after`."""
        return AsyncJobStream(self._driver, self._job, after)

    def events(self, *, after: int = 0) -> AsyncIterator[StreamEvent]:
        """Every event after number `after`, to the terminal event."""
        return self.stream(after=after).events()

    async def wait(self, timeout_s: float | None = None) -> Job:
        """Wait until the job has ended, well or not. Raises WaitTimeout after `timeout_s` seconds."""
        return await self._note(_flows.wait(self.id, timeout_s))

    async def result(self, timeout_s: float | None = None) -> Job:
        """Wait for the answer; raises JobFailed, JobCancelled, JobExpired, or WaitTimeout."""
        return _flows.succeeded(await self.wait(timeout_s))

    async def cancel(self) -> Job:
        """Cancel the job for everyone who joined it."""
        return await self._note(_flows.cancel(self.id, self._driver.backoff))

    async def refresh(self) -> Job:
        """Ask for the job as it stands now."""
        return await self._note(_flows.get(self.id, self._driver.backoff))

    async def _note(self, flow: Flow[Job]) -> Job:
        self._job = await self._driver.run(flow)
        return self._job

    def __repr__(self) -> str:
        return f"AsyncJobHandle({self.id!r}, {self.disposition}, {self._job.status})"

    def _repr_html_(self) -> str:
        return _display.job_html(self._job)

    def _repr_markdown_(self) -> str:
        return _display.job_markdown(self._job)
