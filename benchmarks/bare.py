"""The least that a durable 202 could cost in Python: uvicorn, no framework, one SET in Redis, nothing decided."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

import uvicorn
from redis.asyncio import Redis

from onceq_service.api.server.serve import announce, bind

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


class Bare:
    """An ASGI app: the body of any request is stored under a new id, for a day."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        name = uuid.uuid4().hex
        await self._redis.set(name, body, ex=86_400)
        answer = b'{"id":"%b"}' % name.encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


def run() -> None:
    """Serves on a free port until SIGTERM; prints `{"url": ...}`."""
    listener = bind("127.0.0.1", 0)
    announce(listener)
    app = Bare(Redis.from_url(os.environ["BENCH_REDIS_URL"]))  # pyright: ignore[reportUnknownMemberType] - untyped
    uvicorn.Server(
        uvicorn.Config(app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False)
    ).run([listener])
