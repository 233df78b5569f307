"""One HTTP exchange at the ASGI level: read the body, notice at once when the client goes away, write the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from starlette.types import Receive, Scope, Send

from onceq_service.simulator.dialect import RawHeaders, Reply

MAX_BODY = 32 * 1024 * 1024

CLOSE = "onceq.close"
"""The ASGI extension by which server.py lets an application close its connection."""


class GoneError(Exception):
    """The client went away before its request was complete."""


class TooLargeError(Exception):
    """The body is larger than MAX_BODY."""


async def read_body(receive: Receive) -> bytes:
    """The whole request body. Raises GoneError or TooLargeError."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise GoneError
        part: bytes = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > MAX_BODY:
            raise TooLargeError
        if not message.get("more_body", False):
            return b"".join(parts)


async def while_connected(work: Coroutine[None, None, None], receive: Receive) -> None:
    """Run the work; cancel it when the client disconnects, or when this is cancelled, and wait until it has ended."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
        ended = await asyncio.gather(task, gone, return_exceptions=True)
    if isinstance(ended[0], Exception):
        raise ended[0]


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Wire:
    """The answering side of one exchange."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send

    async def start(self, status: int, headers: RawHeaders) -> None:
        """Send status and headers; once, and first."""
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes, *, more: bool = True) -> None:
        """Send; waits while the client reads slower than this."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def end(self) -> None:
        """Complete the answer as HTTP has it."""
        await self.write(b"", more=False)

    async def hang_up(self) -> None:
        """Close the connection after what has been written, complete or not. Does not return."""
        self._scope["extensions"][CLOSE]["close"]()
        await forever()

    async def reply(self, reply: Reply) -> None:
        """A whole answer with its length."""
        length = (b"content-length", str(len(reply.body)).encode())
        await self.start(reply.status, [*reply.headers, length])
        await self.write(reply.body, more=False)


async def forever() -> None:
    """Wait until cancelled, by the client's leaving or by the end of the server."""
    await asyncio.Event().wait()
