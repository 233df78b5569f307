"""Run the simulator: in this process in a thread of its own (tests, notebooks), or as the process itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from types import TracebackType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from onceq_service.simulator.app import make_app
from onceq_service.simulator.exchange import CLOSE
from onceq_service.simulator.journal import open_journal
from onceq_service.simulator.knobs import Knobs

BACKLOG = 2048


class SimulatorServer:
    """A simulator on a socket of its own; `port` 0 takes a free one. Use it with `with`, or start() and stop().

    It runs in a thread, so it serves whatever event loop the caller has, or none. start() returns when it
    answers; stop() breaks open streams and returns when the thread has ended, in well under a second.
    """

    def __init__(
        self, knobs: Knobs | None = None, *, host: str = "127.0.0.1", port: int = 0, journal: Path | None = None
    ) -> None:
        self._journal = open_journal(journal)
        self._socket = _bind(host, port)
        self._server = _Server(make_app(knobs or Knobs(), self._journal))
        self._thread: threading.Thread | None = None
        self.url = _url(self._socket)

    def start(self) -> SimulatorServer:
        """Start serving; nothing when it was started before."""
        if self._thread is not None:
            return self
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run_in_thread, args=(ready,), name="simulator", daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def stop(self) -> None:
        """Stop serving; may be called twice, from any thread and from a signal handler."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()

    def run(self, on_ready: Callable[[], None]) -> None:
        """Serve in this thread until stop() is called from elsewhere; `on_ready` is called when it answers."""
        self._server.on_ready = on_ready
        loop_factory = self._server.config.get_loop_factory()
        try:
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(self._server.serve(sockets=[self._socket]))
        finally:
            self._journal.close()

    def _run_in_thread(self, ready: threading.Event) -> None:
        try:
            self.run(ready.set)
        finally:
            ready.set()  # start() must not wait for ever for a server that could not start

    def __enter__(self) -> SimulatorServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def serve(knobs: Knobs | None = None, *, journal: Path | None = None) -> SimulatorServer:
    """A started simulator on a free local port: `with serve(Knobs(tps=0)) as simulator: simulator.url`."""
    return SimulatorServer(knobs, journal=journal).start()


class _Protocol(HttpToolsProtocol):
    """Lets the application close its connection, which ASGI has no word for."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CLOSE: {"close": self.transport.close}}


class _Server(uvicorn.Server):
    def __init__(self, app: object) -> None:
        config = uvicorn.Config(
            app,  # pyright: ignore[reportArgumentType] - a Starlette, uvicorn's own type for it is a union of callables
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,  # the host process decides about logging
            access_log=False,
            backlog=BACKLOG,
        )
        super().__init__(config)
        self.on_ready: Callable[[], None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.on_ready is not None:
            self.on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to the process: uvicorn would raise them again after the shutdown."""
        yield


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.listen(BACKLOG)
    return sock


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
