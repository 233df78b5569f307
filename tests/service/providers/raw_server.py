"""A server that answers exactly the bytes it is given, for what no well-behaved server says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Literal

import msgspec

from onceq_service.providers import Provider, open_providers
from onceq_service.settings import ProviderConfig, ProviderKind
from onceq_service.simulator.eventstream import event_headers, message

After = Literal["end", "cut", "hang", "keep"]


def sse(*events: object) -> bytes:
    """Events as both SSE providers write them; a string goes out as it is."""
    lines = [event.encode() if isinstance(event, str) else msgspec.json.encode(event) for event in events]
    return b"".join(b"data: " + line + b"\n\n" for line in lines)


def binary(*events: tuple[str, object]) -> bytes:
    """Events as Bedrock writes them."""
    return b"".join(message(event_headers(kind), msgspec.json.encode(payload)) for kind, payload in events)


def answer(body: bytes, *, status: int = 200, headers: str = "") -> bytes:
    """A whole response with a length."""
    return f"HTTP/1.1 {status} X\r\n{headers}content-length: {len(body)}\r\n\r\n".encode() + body


def chunked(*chunks: bytes, end: bool) -> bytes:
    """A streamed response; without `end` the last chunk never comes."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head + body + (b"0\r\n\r\n" if end else b"")


@asynccontextmanager
async def raw_provider(
    kind: ProviderKind,
    reply: bytes | Callable[[bytes], bytes],
    after: After = "end",
    connections: list[int] | None = None,
) -> AsyncGenerator[Provider]:
    """A provider at a server that sends `reply`, or what it makes of a request's head, then ends, cuts or keeps the
    connection, or hangs.

    `connections` gets one item for each connection, the number of requests on it.
    """
    counts: list[int] = [] if connections is None else connections
    closing = asyncio.Event()
    writers: set[asyncio.StreamWriter] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = len(counts)
        writers.add(writer)
        counts.append(0)
        try:
            while head := await _take_request(reader):
                counts[mine] += 1
                writer.write(reply if isinstance(reply, bytes) else reply(head))
                await writer.drain()
                if after == "hang":
                    await closing.wait()
                if after != "keep":
                    break
        finally:
            writers.discard(writer)
            writer.transport.abort() if after == "cut" else writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    provider = open_providers({kind: ProviderConfig(kind=kind, base_url=url, simulated=True)}, {})[kind]
    try:
        yield provider
    finally:
        closing.set()
        await provider.close()
        server.close()
        for writer in writers:  # boto3's idle connections end when the garbage collector comes by
            writer.transport.abort()
        await server.wait_closed()


async def _take_request(reader: asyncio.StreamReader) -> bytes:
    """Its head; empty when the client has ended the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    lines = head.lower().split(b"\r\n")
    length = next((line for line in lines if line.startswith(b"content-length")), b"content-length: 0")
    await reader.readexactly(int(length.partition(b":")[2]))
    return head
