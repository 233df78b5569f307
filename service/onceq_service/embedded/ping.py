"""One question to a redis-server on a unix socket, in the inline form of its protocol.

Only the store speaks Redis; here it is just asked whether it lives and who it is, before there is a store.
"""

from __future__ import annotations

import socket
from pathlib import Path


def ask_redis(path: Path, command: str, timeout_s: float = 2.0) -> str | None:
    """The raw answer, its type mark first (`+PONG`, `-LOADING ...`, `$...`); None when nothing answers there."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wire:
            wire.settimeout(timeout_s)
            wire.connect(str(path))
            wire.sendall(command.encode("ascii") + b"\r\n")
            return _answer(wire).decode("utf-8", "replace")
    except OSError:
        return None


def listens(path: Path, timeout_s: float = 2.0) -> bool:
    """Whether a server has this socket, however long it takes to answer; a file that a dead one left has none."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wire:
            wire.settimeout(timeout_s)
            wire.connect(str(path))
    except (TimeoutError, BlockingIOError, PermissionError):
        return True  # its queue of connections is full, or we may not ask: there is one
    except OSError:
        return False
    return True


def _answer(wire: socket.socket) -> bytes:
    data = b""
    while not _whole(data):
        more = wire.recv(65536)
        if not more:
            raise ConnectionResetError("the server closed the connection in the middle of its answer")
        data += more
    return data


def _whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n")
    return bool(end) and (not head.startswith(b"$") or len(body) >= int(head[1:]) + 2)
