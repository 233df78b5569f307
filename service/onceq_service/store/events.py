"""Following a job's event log: the stream in Redis for truth, Pub/Sub for speed (G6).

One subscriber connection serves all readers of a process. Each reader knows the number it has reached: a frame with
the next number is passed on as bytes, a gap is filled from the stream, and after a second of silence, or a
resubscription, the log is read, because Pub/Sub may drop even the very last message. Silence that goes on is looked
into ever more rarely: with 10,000 readers who wait for a slow model the looks alone would keep Redis busy.

A process has tens of thousands of readers, so one costs little: no timer, no task, no asyncio.Event of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from itertools import cycle
from typing import cast

from redis.asyncio import Redis

from onceq.wire import TERMINAL, Output
from onceq_service.store._pipe import Pipe
from onceq_service.store._subscription import Subscription
from onceq_service.store.keys import Keys, shard
from onceq_service.store.views import Fields, fold_frames

QUIET_S = 1.0
"""How long a reader trusts silence at first; twice as long after each look that found nothing."""
DOUBLINGS = 4
"""So at most 16 s: that late a reader hears of what neither Pub/Sub nor a cut has told it."""
TURNS = 4
"""Whether silence has lasted too long is asked of readers in turns, of each once a second: they don't look together."""
MAILBOX = 256
"""Frames kept for a reader that is behind; beyond that it reads the log when it is ready."""
PAGE = 1_000
_READ = ("state", "seq", "end", "output")
_ENDS = frozenset(b"event: " + name.encode() for name in TERMINAL)


def ends(frame: bytes) -> bool:
    """Whether a frame is a terminal event."""
    return frame.split(b"\n", 2)[1] in _ENDS


Take = Callable[[int, bytes], bool]
"""Takes the frame of a number at once; False when it can't now."""


class Mailbox:
    """One reader: the number that it has reached, and what came in since it last looked.

    While it waits and lacks nothing, a frame that `take` takes at once needs no look at all.
    """

    __slots__ = (
        "_heard",
        "_looks",
        "_quiet_since",
        "_rung",
        "_take",
        "_waiter",
        "after",
        "check_log",
        "frames",
        "over",
        "turn",
    )

    def __init__(self, after: int, take: Take | None = None) -> None:
        self.after = after
        self.frames: list[tuple[int, bytes]] = []
        self.check_log = True
        self.over = False
        """The terminal event was taken."""
        self.turn = 0
        """In which of the log's turns its silence is looked into."""
        self._take = take
        self._waiter: asyncio.Future[None] | None = None
        self._rung = self._heard = False
        self._looks, self._quiet_since = 0, time.monotonic()

    def put(self, seq: int, frame: bytes) -> None:
        """Adds a frame; a reader too far behind is sent to the log instead."""
        self._heard = True
        if self._waits and seq == self.after + 1 and self._take is not None and self._take(seq, frame):
            self.after = seq
            if ends(frame):
                self.over = True
                self._ring()
            return
        if len(self.frames) >= MAILBOX:
            self.frames.clear()
            self.check_log = True
        else:
            self.frames.append((seq, frame))
        self._ring()

    def look_at_log(self) -> None:
        """Something may have been missed."""
        self.check_log = True
        self._ring()

    def tick(self, now: float) -> None:
        """Silence that has lasted too long sends a reader that waits to the log."""
        if self._heard:
            self._heard, self._looks, self._quiet_since = False, 0, now
        elif self._waits and now - self._quiet_since >= QUIET_S * 2**self._looks:
            self._looks, self._quiet_since = min(DOUBLINGS, self._looks + 1), now
            self.look_at_log()

    def found(self) -> None:
        """A look found something: a log that grows unheard is looked into as often as at first."""
        self._looks = 0

    async def wait(self) -> None:
        """Until there is something to look at."""
        if not self._rung:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._rung = False

    @property
    def _waits(self) -> bool:
        return self._waiter is not None and not self._rung

    def _ring(self) -> None:
        self._rung = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Listening:
    """A mailbox that is joined while the block lasts."""

    __slots__ = ("_box", "_log", "_topic")

    def __init__(self, log: EventLog, topic: str, box: Mailbox) -> None:
        self._log, self._topic, self._box = log, topic, box

    def __enter__(self) -> Mailbox:
        self._log.join(self._topic, self._box)
        return self._box

    def __exit__(self, *_: object) -> None:
        self._log.leave(self._topic, self._box)


class EventLog:
    """Reads and follows event logs; start() and stop() belong to one event loop."""

    def __init__(self, pipe: Pipe, keys: Keys, subscriber: Redis) -> None:
        self._pipe, self._keys = pipe, keys
        self._boxes: dict[bytes, set[Mailbox]] = {}
        self._subscription = Subscription(subscriber, self._deliver, self._recheck)
        self._turns: list[set[Mailbox]] = [set() for _ in range(TURNS)]
        self._dealing = cycle(range(TURNS))
        self._ticking: asyncio.Task[None] | None = None

    async def follow(self, job_id: str, after: int, take: Take | None = None) -> AsyncGenerator[bytes]:
        """Frames after number `after`, as bytes, several at a time; ends behind the terminal event.

        With `take` they come only where that does not take them at once. When the log itself is gone (results live
        longer) it is one `snapshot` without a number and the terminal event.
        """
        with self.listening(job_id, after, take) as box:
            while not box.over:
                if box.check_log:
                    box.check_log = False
                    frames, gone = await self._read(job_id, box.after)
                else:
                    frames, gone = await self._live(job_id, box.after, box)
                if frames:
                    box.after += len(frames)
                    box.found()
                    box.check_log = box.check_log or len(frames) >= PAGE
                    yield b"".join(frames)
                    if ends(frames[-1]):
                        return
                elif gone is not None:
                    yield gone
                    return
                if not box.frames and not box.check_log:
                    await box.wait()

    def listening(self, topic: str, after: int = 0, take: Take | None = None) -> Listening:
        """A mailbox, inside `with`, for what is published under a name that ends as a job's id does."""
        return Listening(self, topic, Mailbox(after, take))

    def join(self, topic: str, box: Mailbox) -> None:
        """What is published under the name is put into the box from now on."""
        self._boxes.setdefault(topic.encode(), set()).add(box)
        box.turn = next(self._dealing)
        self._turns[box.turn].add(box)
        self._subscription.join(self._keys("channel", shard(topic)))

    def leave(self, topic: str, box: Mailbox) -> None:
        """The opposite of join."""
        self._subscription.leave(self._keys("channel", shard(topic)))
        self._turns[box.turn].discard(box)
        name = topic.encode()
        self._boxes[name].discard(box)
        if not self._boxes[name]:
            del self._boxes[name]

    async def _live(self, job_id: str, after: int, box: Mailbox) -> tuple[list[bytes], bytes | None]:
        pending, box.frames = box.frames, []
        frames: list[bytes] = []
        for seq, frame in pending:
            if seq == after + len(frames) + 1:
                frames.append(frame)
            elif seq > after + len(frames) + 1:
                return await self._read(job_id, after)
        return frames, None

    async def _read(self, job_id: str, after: int) -> tuple[list[bytes], bytes | None]:
        """Frames behind `after`; or, when the log is gone though the job has ended, what replaces it."""
        if frames := await self._page(job_id, after):
            return frames, None
        fields = await self._fields(job_id)
        if "end" not in fields and fields:
            return [], None
        if frames := await self._page(job_id, after):  # it ended after the first look, the log is there
            return frames, None
        return [], snapshot(job_id, fields)

    async def _fields(self, job_id: str) -> Fields:
        """What a reader has to know of the job; not its request, which may be megabytes."""
        values = await self._pipe.command("HMGET", self._keys("job", job_id), *_READ)
        return {n: v for n, v in zip(_READ, cast("list[bytes | None]", values), strict=True) if v is not None}

    async def _page(self, job_id: str, after: int) -> list[bytes]:
        key = self._keys("events", job_id)
        return _frames(await self._pipe.command("XRANGE", key, f"{after + 1}-0", "+", "COUNT", PAGE))

    async def start(self) -> None:
        """Begins to listen."""
        self._subscription.start()
        self._pipe.moved.add(self._subscription.renew)
        self._ticking = asyncio.create_task(self._tick(), name="silence")

    async def stop(self) -> None:
        """Stops listening and closes the connection."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.wait([self._ticking])
        await self._subscription.stop()

    async def _tick(self) -> None:
        for boxes in cycle(self._turns):
            await asyncio.sleep(1 / TURNS)
            now = time.monotonic()
            for box in boxes:
                box.tick(now)

    def _deliver(self, data: bytes) -> None:
        head, frame = data.split(b"\n", 1)
        name, seq = head.split(b" ")
        for box in self._boxes.get(name, ()):
            box.put(int(seq), frame)

    def _recheck(self, channel: str) -> None:
        """A fresh subscription may have missed what was published before it."""
        for name, boxes in self._boxes.items():
            if self._keys("channel", shard(name.decode())) == channel:
                for box in boxes:
                    box.look_at_log()


async def text_in_log(pipe: Pipe, keys: Keys, job_id: str) -> Output | None:
    """What a job's whole log says so far; None when there is no text."""
    return fold_frames(_frames(await pipe.command("XRANGE", keys("events", job_id), "-", "+")))


def _frames(entries: object) -> list[bytes]:
    return [row[1][1] for row in cast("list[tuple[bytes, list[bytes]]]", entries)]


def snapshot(job_id: str, fields: Fields) -> bytes:
    """What a reader gets of an ended job whose log is gone; empty when the job itself is gone."""
    if "end" not in fields:
        return b""
    output = fields.get("output") or Output().model_dump_json().encode()
    head = b'event: snapshot\ndata: {"job":"%b","output":%b}\n\n' % (job_id.encode(), output)
    state, seq = fields["state"], fields["seq"]
    return head + b"id: %b\nevent: %b\ndata: %b\n\n" % (seq, state, fields["end"])
