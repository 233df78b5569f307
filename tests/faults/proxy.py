"""A TCP proxy before Redis that can hold bytes back, and spring a trap at an exact moment of an exchange.

It runs in a thread of its own. While it is cut nothing is closed and nothing is lost, as with a switch that hangs: what
the worker sent arrives late, in order, when the line is mended.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from onceq_service.store._lua import Script
from tests.waiting import until

Moment = Literal["asked", "answered"]
"""asked: the command was sent and does not reach Redis. answered: Redis has done it, the answer does not come back."""
CHUNK = 65_536


@dataclass(eq=False)
class Trap:
    """Springs once, for the first connection that sends the script; that connection then hangs, or is cut."""

    script: Script
    moment: Moment
    job: str = ""
    """Only where the bytes name this job."""
    cut: bool = False
    _sprung: threading.Event = field(default_factory=threading.Event)

    async def sprung(self) -> None:
        """Returns when it has sprung; fails after a while."""

        async def look() -> bool:
            return self._sprung.is_set()

        await until(look, f"{self.script.name} to be {self.moment}", timeout_s=30)

    async def spring(self) -> None:
        """What its connection does from then on: nothing, unless it is to be cut."""
        self._sprung.set()
        if not self.cut:
            await asyncio.Event().wait()


class Proxy:
    """Listens on a free port of loopback, passes on to a unix socket."""

    def __init__(self, upstream: Path) -> None:
        self._upstream = upstream
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._traps: list[Trap] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        """What a worker behind it has for ONCEQ_REDIS_URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Returns when it listens."""
        self._thread.start()
        self._call(self._listen())

    def stop(self) -> None:
        """Closes everything and ends the thread."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def cut(self) -> None:
        """From now on no byte passes."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def mend(self) -> None:
        """Everything that was held back passes."""
        self._loop.call_soon_threadsafe(self._open.set)

    def lead(self, upstream: Path) -> None:
        """New connections go there, as where a name has another address; those there are stay where they are."""
        self._upstream = upstream

    def trap(self, script: Script, moment: Moment, *, job: str = "", cut: bool = False) -> Trap:
        """Sets a trap."""
        trap = Trap(script, moment, job, cut)
        self._traps.append(trap)
        return trap

    def disarm(self) -> None:
        """Forgets the traps that have not sprung."""
        self._traps.clear()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._pass(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            await self._open.wait()
            up_reader, up_writer = await asyncio.open_unix_connection(str(self._upstream))
            writers.append(up_writer)
            line = Line(self)
            await _first_of(line.there(reader, up_writer), line.back(up_reader, writer))
        except OSError:
            pass  # one side is away: so is the other
        finally:
            for each in writers:
                each.close()

    async def gate(self) -> None:
        """Waits while the line is cut."""
        await self._open.wait()

    def sprung_by(self, data: bytes) -> Trap | None:
        """Takes the trap that these bytes spring."""
        for trap in self._traps:
            if trap.script.sha.encode() in data and trap.job.encode() in data:
                self._traps.remove(trap)
                return trap
        return None


class Line:
    """One connection, both ways."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._trap: Trap | None = None

    async def there(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Commands. A script's name may lie across two reads."""
        tail = b""
        while data := await reader.read(CHUNK):
            await self._proxy.gate()
            trap = self._trap or self._proxy.sprung_by(tail + data)
            tail = data[-40:]
            if trap is not None and trap.moment == "asked":
                await trap.spring()
                return
            self._trap = trap
            writer.write(data)
            await writer.drain()

    async def back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers."""
        while data := await reader.read(CHUNK):
            await self._proxy.gate()
            if self._trap is not None:
                await self._trap.spring()
                return
            writer.write(data)
            await writer.drain()


async def _first_of(*work: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.ensure_future(w) for w in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError, OSError):
                await task
