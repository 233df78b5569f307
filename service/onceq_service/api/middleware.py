"""The outermost ASGI app: no request passes without a key, and whatever goes wrong leaves as a problem.

The hot route is answered from here: the stack behind (exception handling, routing, dependencies) costs more than its
work. Its handler returns a whole Reply, so nothing is half sent when it fails. Streams begin here, since that stack
would stay in memory as long as they do. No exception leaves it: the server would log its words. An answer that
has begun is broken off instead.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import structlog
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onceq_service.api.auth import KEY
from onceq_service.api.http.body import ClientGone, Heads, heads_of
from onceq_service.api.http.connection import cut
from onceq_service.api.http.problems import answer_to
from onceq_service.api.http.replies import Reply, send_reply
from onceq_service.api.service import Service
from onceq_service.api.stream_token import key_of_token
from onceq_service.store import ApiKey

HEADS: Final = "onceq.heads"
"""Where the headers by name are in an ASGI scope."""
Handler = Callable[[Service, ApiKey, Heads, Receive], Awaitable[Reply]]

log = structlog.get_logger("onceq.api")


class TrackedSend:
    """A server's `send` that knows how far the answer is."""

    __slots__ = ("_send", "ended", "started")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = self.ended = False

    def __call__(self, message: Message) -> Awaitable[None]:
        """ASGI's send."""
        self.started = True
        self.ended = message["type"] == "http.response.body" and not message.get("more_body", False)
        return self._send(message)


class ApiMiddleware:
    """Identifies the caller, then hands over to a hot route, to a stream, or to the app behind."""

    def __init__(
        self, app: ASGIApp, service: Service, hot: Mapping[tuple[str, str], Handler], streams: Sequence[Route]
    ) -> None:
        self.app, self._service, self._hot, self._streams = app, service, hot, streams
        self._log_access = service.settings.log_level == "debug"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif self._log_access:
            await self._logged(scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        tracked = TrackedSend(send)
        if scope["method"] == "HEAD":
            scope = self._as_get(scope)
        try:
            path = scope["path"]
            heads = heads_of(scope["headers"])
            if path.startswith("/v1/") or path == "/metrics":
                key = await key_of_token(self._service, scope, heads) or await self._service.authenticator.identify(
                    heads
                )
                hot = self._hot.get((scope["method"], path))
                if hot is not None:
                    await send_reply(send, await hot(self._service, key, heads, receive))
                    return
                scope[KEY] = key
            scope[HEADS] = heads
            await self._behind(scope)(scope, receive, tracked)
        except ClientGone:
            return
        except Exception as exc:  # noqa: BLE001 - the server would log its words
            if tracked.ended:  # the app has answered and logged it, and raises it once more for the server to print
                return
            refused = answer_to(exc, f"{scope['method']} {scope['path']}")
            if tracked.started:
                cut(scope)
            else:
                await send_reply(send, refused.reply(scope["path"]))

    def _as_get(self, scope: Scope) -> Scope:
        """A HEAD is answered as the GET, whose body the server leaves out; not a stream's, which goes on."""
        asked = {**scope, "method": "GET"}
        streams = any(route.matches(asked)[0] is Match.FULL for route in self._streams)
        return scope if streams else asked

    def _behind(self, scope: Scope) -> ASGIApp:
        for route in self._streams:
            match, found = route.matches(scope)
            if match is Match.FULL:
                scope.update(found)
                return route.app
        return self.app

    async def _logged(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, status = time.perf_counter(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        await self._answer(scope, receive, noted)
        ms = round((time.perf_counter() - began) * 1000, 2)
        log.debug("request", method=scope["method"], path=scope["path"], status=status, ms=ms)
