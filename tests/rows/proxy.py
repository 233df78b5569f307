"""A TCP proxy that does what load balancers do: cuts a connection on which nothing has moved for a while."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager
from urllib.parse import urlsplit


class IdleProxy:
    """Forwards to one host and port; `cuts` counts the connections that it ended for being idle."""

    def __init__(self, url: str, idle_s: float) -> None:
        parts = urlsplit(url)
        self._to = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._idle_s = idle_s
        self.cuts = 0
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._pairs: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in self._pairs:
            task.cancel()
        await asyncio.gather(*self._pairs, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pairs.add(task)
        up_reader, up_writer = await asyncio.open_connection(*self._to)
        moved = asyncio.Event()
        pumps = [
            asyncio.create_task(_pump(reader, up_writer, moved)),
            asyncio.create_task(_pump(up_reader, writer, moved)),
        ]
        try:
            await self._watch(pumps, moved)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for side in (writer, up_writer):
                side.close()
            # closed a turn later, and the loop may have ended by then
            await asyncio.gather(writer.wait_closed(), up_writer.wait_closed(), return_exceptions=True)
            self._pairs.discard(task)

    async def _watch(self, pumps: list[asyncio.Task[None]], moved: asyncio.Event) -> None:
        """Until one side ends, or nothing has moved for `idle_s`."""
        while not any(pump.done() for pump in pumps):
            moved.clear()
            await asyncio.wait(pumps, timeout=self._idle_s, return_when=asyncio.FIRST_COMPLETED)
            if not moved.is_set() and not any(pump.done() for pump in pumps):
                self.cuts += 1
                return


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, moved: asyncio.Event) -> None:
    while data := await reader.read(65536):
        moved.set()
        writer.write(data)
        await writer.drain()


@contextmanager
def idle_proxy(url: str, idle_s: float) -> Generator[IdleProxy]:
    """A proxy before `url` that cuts connections that are idle for `idle_s`."""
    proxy = IdleProxy(url, idle_s)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
