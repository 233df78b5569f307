"""Connections that idle: kept long enough to be of use, and what the other side has closed meanwhile costs a retry."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

import pytest

from onceq._config import Config
from onceq._http import client_options
from onceq_service.api.server.serve import KEEP_ALIVE_S
from tests.sdk.fake import job
from tests.sdk.twins import twin

BALANCER_S = 60
"""After which most balancers close an idle connection."""
End = Literal["while it idles", "as a request arrives", "with a reset"]


def test_an_idle_connection_is_used_again_for_some_time_and_left_before_others_close_it() -> None:
    kept_s = client_options(Config("http://127.0.0.1:9", "oq_test"))["limits"].keepalive_expiry
    assert kept_s is not None
    assert 20 < kept_s < BALANCER_S < KEEP_ALIVE_S


class Server:
    """Answers two posts, each on a connection of its own: the first connection is closed as `end` says."""

    def __init__(self, end: End) -> None:
        self.end = end
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.keys: list[str] = []
        """The Idempotency-Keys of the posts that arrived."""
        self.closed = threading.Event()

    def serve(self) -> None:
        with self.listener.accept()[0] as first:
            self.answer(first)
            if self.end != "while it idles":
                self.keys.append(key_of(first))
            if self.end == "with a reset":
                first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.closed.set()
        with self.listener.accept()[0] as second:
            self.answer(second)

    def answer(self, connection: socket.socket) -> None:
        self.keys.append(key_of(connection))
        body = json.dumps({**job(), "disposition": "created"}).encode()
        connection.sendall(b"HTTP/1.1 202 Accepted\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


def key_of(connection: socket.socket) -> str:
    """The Idempotency-Key of the request that comes next, which is read to its end."""
    with connection.makefile("rb") as stream:
        lines = iter(stream.readline, b"\r\n")
        headers = dict(line.decode().lower().strip().split(": ", 1) for line in lines if b": " in line)
        stream.read(int(headers["content-length"]))
    return headers["idempotency-key"]


@contextmanager
def serving(end: End) -> Generator[Server]:
    server = Server(end)
    thread = threading.Thread(target=server.serve, daemon=True)  # where the test fails, it waits for ever
    with server.listener:
        thread.start()
        yield server
        thread.join()


@pytest.mark.parametrize("kind", ["blocking", "awaiting"])
@pytest.mark.parametrize("end", ["while it idles", "as a request arrives", "with a reset"])
def test_a_post_on_a_connection_that_the_server_has_closed_is_sent_again_with_its_key(kind: str, end: End) -> None:
    with serving(end) as server, asyncio.Runner() as runner:
        url = f"http://127.0.0.1:{server.listener.getsockname()[1]}"
        client = twin(kind, runner, base_url=url, api_key="oq_test", model="openai/gpt-4o-mini")
        client.submit("a")
        if end == "while it idles":
            assert server.closed.wait(20)
        client.submit("b")
        client.close()
    first, *others = server.keys
    assert len(others) == (1 if end == "while it idles" else 2)
    assert len({*others}) == 1, "of one post"
    assert first not in others
