"""Runs the API: one socket, bound once; one process, or several that share it."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection

import structlog
import uvicorn

from onceq.errors import ConfigurationError
from onceq_service.api.app import build_app
from onceq_service.api.server.processes import Fleet
from onceq_service.api.server.protocol import ApiProtocol
from onceq_service.logs import configure_logs
from onceq_service.names import unknown_names, unread
from onceq_service.settings import Settings

log = structlog.get_logger("onceq.api")

BACKLOG = 2048
STOP_S = 1
"""Requests that still run this long after a stop are cancelled; streams and long polls end at once."""
KEEP_ALIVE_S = 75
"""Longer than a load balancer's 60 s, or it would reuse a connection in the moment that we close it."""


class ApiServer(uvicorn.Server):
    """uvicorn with our settings; calls `on_ready` when it answers."""

    def __init__(self, settings: Settings, on_ready: Callable[[], None]) -> None:
        config = uvicorn.Config(
            build_app(settings),
            http=ApiProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_S,
        )
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, then says so."""
        await super().startup(sockets)
        self._on_ready()


def run(settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM; prints `{"url": ...}` when it answers. Raises ConfigurationError."""
    configure_logs(settings)
    _warn_of_names(settings)
    listener = bind(settings.host, settings.port)
    try:
        if settings.api_processes == 1:
            serve(ApiServer(settings, lambda: announce(listener)), listener)
        else:
            Fleet(partial(_child, settings), listener, settings.api_processes).run(lambda: announce(listener))
    finally:
        listener.close()


def _warn_of_names(settings: Settings) -> None:
    """Once, not by each process; raises ConfigurationError when the configuration can't be read."""
    file = settings.file()
    for name, guess in unread(os.environ, file):
        log.warning("a variable is set, and nothing reads it", name=name, meant=guess)
    for name, says, advice in unknown_names(file, settings.lanes):
        log.warning("an alias or a lane names no model", name=name, says=says, advice=advice)


def serve(server: ApiServer, listener: socket.socket) -> None:
    """Serves in this thread until a signal; a clean stop ends without an exception, whatever the signal."""
    # uvicorn has no handler until it runs, and raises the signal once more when it has stopped
    before = signal.signal(signal.SIGTERM, server.handle_exit)
    try:
        with suppress(KeyboardInterrupt):
            server.run([listener])
    finally:
        signal.signal(signal.SIGTERM, before)


def _child(settings: Settings, listener: socket.socket, lifeline: Connection, word: Connection) -> None:
    configure_logs(settings)
    server = ApiServer(settings, lambda: word.send(os.getpid()))
    threading.Thread(target=_stop_with_parent, args=(lifeline, server), daemon=True).start()
    serve(server, listener)


def _stop_with_parent(lifeline: Connection, server: ApiServer) -> None:
    with suppress(EOFError, OSError):
        lifeline.recv()
    server.should_exit = True


def announce(listener: socket.socket) -> None:
    """Says where the API is, one line of JSON on stdout."""
    sys.stdout.write(json.dumps({"url": url_of(listener)}) + "\n")
    sys.stdout.flush()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; raises ConfigurationError when the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        reason = f"{exc.strerror or exc}: stop what listens there, or set ONCEQ_PORT to another port (0: any free one)"
        raise ConfigurationError(f"The API can't listen on {host} port {port}: {reason}.") from exc
    listener.set_inheritable(True)
    return listener


def url_of(listener: socket.socket) -> str:
    """http://host:port of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
