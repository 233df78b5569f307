"""One whole answer as bytes, and how it is sent: what hot routes return instead of a response object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starlette.types import Send

Headers = Sequence[tuple[bytes, bytes]]
JSON_TYPE: Final = "application/json"
JSON: Final = (b"content-type", JSON_TYPE.encode())


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, body and headers (without Content-Length, which is the body's)."""

    status: int
    body: bytes = b""
    headers: Headers = ()


async def send_reply(send: Send, reply: Reply) -> None:
    """Sends it whole."""
    bodiless = reply.status in (204, 304)
    length = () if bodiless else ((b"content-length", b"%d" % len(reply.body)),)
    headers = [*reply.headers, *length]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if bodiless else reply.body})
