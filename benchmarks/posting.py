"""The load on the door: processes that post over raw connections, in a closed loop or at a rate.

A client library would cost more than the server: here one post costs the client about 15 us. At a rate, a post's time
runs from the moment it was due, so a server that stalls can't hide behind a client that waits for it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from typing import Final, cast

import uvloop
from tests.waiting import until
from typing_extensions import override

from benchmarks.deployment import Address

START_S: Final = 2.0
"""All processes begin together, this long after they were asked for."""
PATIENCE_S: Final = 30.0
"""How long answers may still come after the last post."""


@dataclass(frozen=True, slots=True)
class Load:
    """`rate` posts a second (0: each connection posts again as soon as it was answered) for `seconds`."""

    address: Address
    api_key: str
    connections: int
    seconds: float
    rate: float = 0.0
    directive: str = ""
    """Put into the prompt, for the simulator."""


@dataclass(frozen=True, slots=True)
class Posted:
    """Seconds that each 202 took, how many posts had another answer or none, and how long it all took."""

    took_s: list[float] = field(default_factory=list[float])
    refused: int = 0
    wall_s: float = 0.0


def post(load: Load, processes: int) -> Posted:
    """Runs the load from several processes and returns what they saw together."""
    share = replace(load, connections=load.connections // processes, rate=load.rate / processes)
    begin_at = time.time() + START_S
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        parts = list(pool.map(_run, [share] * processes, [begin_at] * processes))
    return _together(parts)


def _together(parts: Sequence[Posted]) -> Posted:
    took_s = [one for part in parts for one in part.took_s]
    return Posted(took_s, sum(part.refused for part in parts), max(part.wall_s for part in parts))


def _run(load: Load, begin_at: float) -> Posted:
    return uvloop.run(_Poster(load).run(begin_at))


class _Poster:
    """One process: requests that are due, connections that are free."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._salt = os.urandom(6).hex().encode()
        self._sent = self._refused = 0
        self._took_s: list[float] = []
        self._due: deque[float] = deque()
        self._free: deque[_Connection] = deque()
        self._open = True

    async def run(self, begin_at: float) -> Posted:
        """From a Unix time on, until the time is up and everything is answered."""
        loop, load = asyncio.get_running_loop(), self._load
        made = [
            await loop.create_connection(lambda: _Connection(self), load.address.host, load.address.port)
            for _ in range(load.connections)
        ]
        self._free.extend(connection for _, connection in made)
        await asyncio.sleep(max(0.0, begin_at - time.time()))
        began = time.perf_counter()
        await (self._at_rate() if load.rate else self._closed_loop())
        self._open = False
        wall_s = time.perf_counter() - began
        await self._answered()
        return Posted(self._took_s, self._refused + self._missing(), wall_s)

    async def _closed_loop(self) -> None:
        while self._free:
            self._free.popleft().post(time.perf_counter(), self._request())
        await asyncio.sleep(self._load.seconds)

    async def _at_rate(self) -> None:
        began = time.perf_counter()
        for n in range(round(self._load.rate * self._load.seconds)):
            due = began + n / self._load.rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            self._due.append(due)
            self._hand_out()

    def _hand_out(self) -> None:
        """In turn: a connection that is left idle is closed by the server after a while."""
        while self._due and self._free:
            self._free.popleft().post(self._due.popleft(), self._request())

    def _missing(self) -> int:
        return self._sent + len(self._due) - len(self._took_s) - self._refused

    async def _answered(self) -> None:
        with suppress(AssertionError):  # what is missing is counted as refused
            await until(self._all_there, "the last answers", timeout_s=PATIENCE_S)

    async def _all_there(self) -> bool:
        return not self._missing()

    def note(self, connection: _Connection, took_s: float, accepted: bool) -> None:
        """An answer is there; the connection is free again."""
        if accepted:
            self._took_s.append(took_s)
        else:
            self._refused += 1
        if self._open and not self._load.rate:
            connection.post(time.perf_counter(), self._request())
        else:
            self._free.append(connection)
            self._hand_out()

    def _request(self) -> bytes:
        self._sent += 1
        prompt = b"Question %d of %b, about rivers and mountains of the world, in a few words." % (
            self._sent, self._salt,
        )  # fmt: skip
        body = b'{"model":"openai/gpt-4o-mini","messages":[{"role":"user","content":"%b %b"}],"max_tokens":100,' % (
            prompt, self._load.directive.encode(),
        ) + b'"team":"search"}'  # fmt: skip
        return post_head(self._load.api_key, len(body), b"%b-%d" % (self._salt, self._sent)) + body


def post_head(api_key: str, length: int, idempotency_key: bytes) -> bytes:
    """The head of POST /v1/jobs, as the SDK would send it."""
    return (
        b"POST /v1/jobs HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer %b\r\ncontent-type: application/json\r\n"
        b"accept: application/json\r\nidempotency-key: %b\r\ncontent-length: %d\r\n\r\n"
    ) % (api_key.encode(), idempotency_key, length)


class _Connection(asyncio.Protocol):
    """One request at a time over one connection."""

    def __init__(self, poster: _Poster) -> None:
        self._poster = poster
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._since = 0.0

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods, not by its class

    def post(self, since: float, request: bytes) -> None:
        """Sends a request that was due at `since`."""
        assert self._transport is not None
        self._since = since
        self._transport.write(request)

    @override
    def data_received(self, data: bytes) -> None:
        self._received += data
        if whole(self._received):
            accepted = self._received.startswith(b"HTTP/1.1 202")
            self._received = b""
            self._poster.note(self, time.perf_counter() - self._since, accepted)


def whole(answer: bytes) -> bool:
    """Whether an answer with a Content-Length is all there."""
    head = answer.find(b"\r\n\r\n")
    at = answer.find(b"content-length: ", 0, head)
    return head > 0 and at > 0 and len(answer) >= head + 4 + int(answer[at + 16 : answer.index(b"\r", at)])
