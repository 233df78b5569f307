"""Reading a log in the very moment in which it grows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import Store
from onceq_service.store._pipe import Arg, Pipe, connect
from onceq_service.store.events import EventLog
from tests.service.store.driver import admission, claim_one, dispatch, names, success, text_frame


class SlowReader(Pipe):
    """Something happens after the log was read, before the next look."""

    def __init__(self, url: str, meanwhile: Callable[[], Awaitable[object]]) -> None:
        super().__init__(connect(url, connections=2))
        self._meanwhile: Callable[[], Awaitable[object]] | None = meanwhile

    async def command(self, *args: Arg) -> Any:
        reply = await super().command(*args)
        if args[0] == "XRANGE" and self._meanwhile is not None:
            meanwhile, self._meanwhile = self._meanwhile, None
            await meanwhile()
        return reply


async def test_a_job_that_ends_while_its_log_is_read_is_no_snapshot(store: Store, redis_server: EmbeddedRedis) -> None:
    made = await store.jobs.admit(admission())
    claim = await claim_one(store)
    sent = await dispatch(store, claim)
    last = text_frame(claim, sent.seq + 1, "hi").data
    pipe = SlowReader(redis_server.url, lambda: store.engine.finish(claim, success(sent.seq + 1, last)))
    subscriber = connect(redis_server.url, connections=2)
    log = EventLog(pipe, store.names, subscriber)
    try:
        data = b"".join([chunk async for chunk in log.follow(made.id, sent.seq)])
    finally:
        await log.stop()
        await pipe.close()
        await subscriber.aclose()
    frames = [frame + b"\n\n" for frame in data.split(b"\n\n") if frame]
    assert names(frames) == ["delta", "succeeded"]
