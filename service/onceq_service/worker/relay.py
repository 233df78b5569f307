"""Sends what the calls of this worker have to say: one pipelined flush for all of them, then the next.

At once when nothing was sent lately, else some time after the last flush: the longer the more calls have shared that
one, up to `flush_s`; half of that where so many share it that there is little left to win, a third where they say so
much that the worker is busy. Few streams wait little, and many share what a flush costs. The first words of a call wait
for no other flush.

Meanwhile the worker rests, unless something is to be done: words of answers that have begun gather in their sockets,
since they would wait for the flush anyway, and what wakes a worker for each of them, or reads each for itself, costs
more than they do.

While Redis is away the calls go on, are paid for, and grow in memory; the flush is tried until Redis answers. When
MOST_WAITING bytes wait the answers are read no further: they stay in the sockets, and the providers may wait, or hang
up, which is a broken stream as any other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

import structlog

from onceq_service.logs import without_words
from onceq_service.providers.base import Delta
from onceq_service.store import Engine, StoreError
from onceq_service.store.engine import Frame
from onceq_service.wakeups import wakeups
from onceq_service.worker import outage
from onceq_service.worker.call import LiveCall

log = structlog.get_logger("onceq.relay")

GROUP = 64
"""Frames of one append script: enough to share its cost, few enough that Redis is not held up."""

MOST_WAITING = 64 * 1024**2
"""Bytes that all calls of a worker may have to say to a Redis that is away."""

MANY, PLENTY = 16, 40
"""Calls that share a flush from which on `flush_s` lies between two, and from which on it is less again, down to half:
what a flush costs is shared by enough then, and when saturated the words of 64 calls are not to wait longer."""
SHORTEST_REST_S, LONGEST_REST_S = 0.002, 0.025
"""Less is not worth it; the loop's timers are late by up to as much, which is less than lag.py takes for a pause."""
BUSY, SHARE_WHEN_BUSY = 0.3, 0.35
"""Of a core: where a loop works more of the time, a flush carries enough words to pay for itself after this share of
`flush_s`. To read what has gathered takes as long again, and the words of a saturated worker are not to wait longer."""
TURNS = 8
"""Of the loop, between two rests: what a watched socket had to say goes through as many tasks before it shows."""
MOST_RESTS = 8
"""Between two flushes; where a watched socket has something to say again and again there is no sense in it."""
PAUSE_S = 0.1
"""Between attempts while Redis is away."""


Sent = tuple[Sequence[Frame], Awaitable[list[tuple[str, int]]]]
"""Frames that went in one script, and its answer: the word and the log's last number for each."""


class Relay:
    """The flushes of one worker process; belongs to one event loop, which rests between two while it is `idle`."""

    def __init__(
        self,
        engine: Engine,
        flush_s: float,
        most_waiting: int = MOST_WAITING,
        idle: Callable[[], bool] = lambda: False,
    ) -> None:
        self._engine, self._flush_s, self._most_waiting, self._idle = engine, flush_s, most_waiting, idle
        self._added = self._sending = 0  # bytes: since the last flush began, and of that flush
        self._room = asyncio.Event()
        self._room.set()
        self._dirty: dict[LiveCall, None] = {}
        self._first: dict[LiveCall, int] = {}  # calls that say their first words, and how many bytes of them
        self._first_flushes: set[asyncio.Task[None]] = set()
        self._last = 0.0
        self._worked = self._load = 0.0  # CPU seconds of this thread; its share of the time between the last flushes
        self._shared = 0
        self._task: asyncio.Task[None] | None = None
        self._planned: asyncio.TimerHandle | asyncio.Handle | None = None
        self._resting: asyncio.Handle | None = None

    def add(self, call: LiveCall, deltas: Sequence[Delta]) -> bool:
        """Takes in a read; never waits (`room` does). False when there is no room for more."""
        first = not call.begun
        call.add(deltas)
        size = 0
        for delta in deltas:
            size += len(delta.text) if delta.text.isascii() else len(delta.text.encode("utf-8", "surrogatepass"))
        self._added += size
        if self._added + self._sending > self._most_waiting:
            self._room.clear()
        room = self._room.is_set()
        if first and room:
            self._flush_first(call, size)
        else:  # without room, too: whoever waits for it is in the shared flush, which makes it
            self._dirty[call] = None
            self._plan()
        return room

    async def room(self) -> None:
        """Waits until there is room for more; at once while Redis takes what it is given."""
        await self._room.wait()

    async def settle(self, call: LiveCall) -> None:
        """Stops flushing this call: afterwards what it has not sent belongs to the caller alone."""
        call.settled = True
        self._dirty.pop(call, None)
        self._first.pop(call, None)
        flushes = self._first_flushes if self._task is None else {self._task, *self._first_flushes}
        if flushes:
            await asyncio.wait(flushes)

    def _flush_first(self, call: LiveCall, size: int) -> None:
        if not self._first:
            asyncio.get_running_loop().call_soon(self._start_first)
        self._first[call] = size

    def _start_first(self) -> None:
        first, self._first = self._first, {}
        if not first:
            return
        self._added = max(0, self._added - sum(first.values()))  # a flush that fails leaves them to the next, counted
        self._first_flushes.add(self._send(list(first), _sealed(first)))

    def _plan(self) -> None:
        if self._planned is not None or self._task is not None or not self._dirty:
            return
        loop = asyncio.get_running_loop()
        wait = self._due() - loop.time()
        self._planned = loop.call_later(wait, self._start) if wait > 0 else loop.call_soon(self._start)

    def _due(self) -> float:
        """The loop's time of the next flush."""
        share = min(1.0, self._shared / MANY, max(0.5, 2 - self._shared / PLENTY))
        if self._load > BUSY:
            share = min(share, SHARE_WHEN_BUSY)
        return self._last + self._flush_s * share

    def _rest(self, turns: int, rests: int) -> None:
        """Lets words gather in the sockets until the next flush; see the top of this file."""
        loop = asyncio.get_running_loop()
        left = self._due() - loop.time()
        if not rests or left < SHORTEST_REST_S or not wakeups().can_pause:
            return
        if turns:
            self._resting = loop.call_soon(self._rest, turns - 1, rests)
        elif self._idle():
            wakeups().pause(min(left, LONGEST_REST_S))
            self._rest(TURNS, rests - 1)
        else:
            self._resting = loop.call_later(SHORTEST_REST_S, self._rest, 0, rests - 1)

    def _clock(self, now: float, worked: float) -> None:
        if now > self._last:
            self._load = (worked - self._worked) / (now - self._last)
        self._last, self._worked = now, worked

    def _start(self) -> None:
        self._planned = None
        self._clock(asyncio.get_running_loop().time(), time.thread_time())
        calls, self._dirty = list(self._dirty), {}
        self._shared = len(calls)
        frames = _sealed(calls)
        self._added, self._sending = 0, sum(len(frame.data) for frame in frames)
        self._task = self._send(calls, frames, self._answered)
        if self._resting is not None:
            self._resting.cancel()
        self._resting = asyncio.get_running_loop().call_soon(self._rest, 0, MOST_RESTS)

    def _send(
        self, calls: list[LiveCall], frames: list[Frame], then: Callable[[], None] = lambda: None
    ) -> asyncio.Task[None]:
        """Sends them now; the task is for the answers, and for another try where there are none."""
        groups = [frames[n : n + GROUP] for n in range(0, len(frames), GROUP)]
        sent = [(group, self._engine.append_now(group)) for group in groups]
        task = asyncio.create_task(self._stored(calls, sent, then), name="relay-flush")
        task.add_done_callback(self._done)
        return task

    def _answered(self) -> None:
        """The shared flush is stored. The next begins in this turn where it is due: each turn reads all sockets."""
        self._task, self._sending = None, 0
        self._room.set()
        if self._planned is None and self._dirty and self._due() <= asyncio.get_running_loop().time():
            self._start()

    def _done(self, task: asyncio.Task[None]) -> None:
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            log.error("a flush failed in our code", **without_words(failure))
        if task is self._task:
            self._task = None
        self._first_flushes.discard(task)
        self._plan()

    async def _stored(self, calls: list[LiveCall], sent: Sequence[Sent], then: Callable[[], None]) -> None:
        """What was not stored is tried again with the next flush."""
        owners, failed = {(call.job.claim.id, call.job.claim.fence): call for call in calls}, None
        for group, answer in sent:
            try:
                self._learn(owners, group, await answer)
            except StoreError as error:
                failed = error
        if failed is not None:
            outage.REDIS.away(failed)
            await asyncio.sleep(PAUSE_S)
            self._dirty |= dict.fromkeys(call for call in calls if not call.settled)
        else:
            outage.REDIS.back()
            then()

    def _learn(
        self, owners: dict[tuple[str, str], LiveCall], group: Sequence[Frame], answer: list[tuple[str, int]]
    ) -> None:
        for frame, (word, last) in zip(group, answer, strict=True):
            call = owners[frame.id, frame.fence]
            if word == "lost" or not call.confirm(last):
                call.job.stop("lost")
            elif word == "cancel":
                call.job.stop("cancel")
            elif word == "gap" and not call.settled:
                self._dirty[call] = None


def _sealed(calls: Iterable[LiveCall]) -> list[Frame]:
    frames: list[Frame] = []
    for call in calls:
        call.seal()
        frames += call.unsent()
    return frames
