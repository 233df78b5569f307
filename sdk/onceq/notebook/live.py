"""Follows a stream and shows it while it is written: `show` blocks, `ashow` awaits. Leaving leaves the job alone.

An interrupt (KeyboardInterrupt, or the cancellation by which a kernel interrupts an awaiting cell) detaches: the cell
says how to come back, and the interrupt goes on, so that "run all" stops there.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING, Final

from onceq import _display
from onceq.errors import OnceqError
from onceq.notebook.screen import Screen, screen_here

if TYPE_CHECKING:
    from onceq._async_handles import AsyncJobStream
    from onceq._handles import JobStream
    from onceq.wire import Job

_tasks: Final[set[asyncio.Task[None]]] = set()
"""An event loop holds its tasks weakly; these live until their cell is complete."""


def show(stream: JobStream) -> Job:
    """Show the stream here until the job has ended, well or not; the ended job."""
    screen = screen_here()
    try:
        for _ in stream.events():
            screen.update(stream.text, _foot(stream))
    except KeyboardInterrupt:
        screen.end(stream.text, _display.detached(stream.job_id, awaited=False))
        raise
    return _ended(screen, stream)


async def ashow(stream: AsyncJobStream, screen: Screen | None = None) -> Job:
    """Shows a stream as `show` does, from a running event loop."""
    screen = screen or screen_here()
    try:
        async for _ in stream.events():
            screen.update(stream.text, _foot(stream))
    except (KeyboardInterrupt, asyncio.CancelledError):
        screen.end(stream.text, _display.detached(stream.job_id, awaited=True))
        raise
    return _ended(screen, stream)


def show_in_background(stream: AsyncJobStream) -> bool:
    """Fill the cell's output while other cells run; False where no event loop runs."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return False
    screen = screen_here()
    screen.update("", "waiting")  # now, because this is the cell that it belongs to
    # In a context of its own: an update then comes under the cell that runs now. Executors such as nbclient drop what
    # comes under one that has ended; frontends find the output by its id either way.
    task = loop.create_task(_shown(stream, screen), context=Context())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return True


async def _shown(stream: AsyncJobStream, screen: Screen) -> None:
    try:
        await ashow(stream, screen)
    except OnceqError as exc:
        # nobody awaits the task, so that its cell is the place to say it
        screen.end(stream.text, stream.job_id or "not submitted", str(exc))


def _ended(screen: Screen, stream: JobStream | AsyncJobStream) -> Job:
    job = stream.job
    assert job is not None, "a stream that has been read to its end knows its job"  # noqa: S101
    screen.end(stream.text or job.text, _display.footer(job), _display.problem(job))
    return job


def _foot(stream: JobStream | AsyncJobStream) -> str:
    return f"{stream.job.model} · {stream.job_id}" if stream.job else stream.job_id or ""
