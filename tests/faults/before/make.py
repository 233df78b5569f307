"""Makes jobs.json: what an older version's scripts left in Redis, in every state that a job can be in.

Run in that version's tree, with this file beside its own tests (it uses nothing that has changed since then):
`git worktree add ../before 5eef941 && cp -r tests/faults/before ../before/tests/faults/`, then there
`python -m tests.faults.before.make > jobs.json`. It was run once; not every checkout has that commit.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from redis.asyncio import Redis

from onceq.wire import JobRequest
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import Store, open_store
from onceq_service.store.engine import Claim, End, Receipt
from tests.service.store.driver import admission, claim_one, dispatch, success, text_frame

TENANT, QUEUE, MODEL = "the-version-before", "before", "openai/gpt-4o-mini"
GONE = ("window", "roll", "rolls", "claim", "worker", "workers", "pulse", "wake", "turns")
"""What lives for minutes only, or would collide with the queue that it is put into."""


async def admit(store: Store, what: str, model: str = MODEL, **changes: Any) -> str:
    prompt = f"{what} [[sim tokens=20 tps=200 ttft_ms=20]]"
    body = JobRequest(model=model, prompt=prompt).model_dump_json(exclude_none=True).encode()
    wish: dict[str, Any] = {
        "tenant": TENANT,
        "request": body,
        "model": model,
        "lane": model,
        "labels": json.dumps({"was": what}).encode(),
    }
    return (await store.jobs.admit(admission(**(wish | changes)))).id


async def held(store: Store, what: str, **changes: Any) -> Claim:
    job_id = await admit(store, what, **changes)
    claim = await claim_one(store, "before-1-0")
    assert claim.id == job_id
    return claim


async def called(store: Store, what: str, *said: str, **changes: Any) -> Claim:
    claim = await held(store, what, **changes)
    await dispatch(store, claim)
    for seq, text in enumerate(said, 3):
        await store.engine.append([text_frame(claim, seq, text)])
    return claim


async def fill(store: Store) -> None:
    """One job of each kind; those that wait come last, since every claim takes the oldest."""
    await store.engine.finish(await called(store, "succeeded", "h", "i"), success(5))
    error = b',"error":{"code":"provider_bad_request","message":"no","retryable":false}'
    refused = Receipt("provider_bad_request", billed=False)
    await store.engine.finish(await called(store, "failed"), End("failed", error, b"", refused, False, 3))
    await store.jobs.cancel(await admit(store, "cancelled"), TENANT)
    await admit(store, "expired", deadline_s=0.01)
    await asyncio.sleep(0.05)
    await store.engine.tend()
    await held(store, "claimed")
    await called(store, "dispatched")
    await called(store, "streaming", "a", "b", "c")
    await called(store, "streaming and on_crash fail", "a", on_crash="fail")
    await store.jobs.cancel((await called(store, "cancel requested", "a")).id, TENANT)
    broken = Receipt("stream_broken", billed=True, estimated=True, input_tokens=4, spent_nano_usd=6_500)
    again = await called(store, "delayed", "a")
    await store.engine.requeue(again, broken, delay_s=22, reason="stream_broken")
    turned_away = Receipt("provider_rate_limited", billed=False)
    again = await called(store, "delayed in a braked lane", model="openai/braked-before")
    await store.engine.requeue(again, turned_away, delay_s=22, reason="provider_rate_limited", brake_s=22)
    await called(store, "in a full lane", model="openai/full-before", limits="0,0,0,1")
    await admit(store, "behind a full lane", model="openai/full-before", limits="0,0,0,1")
    await store.lanes.switch_lane("openai/paused-before", "pause")
    await admit(store, "in a paused lane", model="openai/paused-before")
    await store.engine.claim("before-1-0", 1, ["openai"])
    for band in ("interactive", "standard", "batch"):
        await admit(store, f"queued {band}", band=band)


async def dump(redis: Redis, root: str) -> list[dict[str, Any]]:
    """Every key: its name below the root, its type, its lifetime in ms (-1: none), and what it holds."""
    rows: list[dict[str, Any]] = []
    for key in sorted(cast("list[str]", await redis.keys(f"{root}*"))):  # pyright: ignore[reportUnknownMemberType]
        name, kind = key.removeprefix(root), str(await redis.type(key))
        if name.split(":")[0] not in GONE:
            rows.append(
                {"key": name, "kind": kind, "ttl_ms": await redis.pttl(key), "value": await value(redis, key, kind)}
            )
    return rows


async def value(redis: Redis, key: str, kind: str) -> Any:
    commands = {"hash": ("HGETALL",), "zset": ("ZRANGE", "0", "-1", "WITHSCORES"), "stream": ("XRANGE", "-", "+")}
    name, *rest = commands[kind]
    return cast("Any", await redis.execute_command(name, key, *rest))  # pyright: ignore[reportUnknownMemberType]


async def main() -> None:
    """Prints the state as JSON, with the time (ms) of Redis at its end."""
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedRedis(Path(folder))
        server.start()
        async with open_store(server.url, QUEUE) as store:
            await fill(store)
            now_ms = await store.stats.now_ms()
            root = store.redis_keys.root
        async with Redis.from_url(server.url, decode_responses=True) as redis:  # pyright: ignore[reportUnknownMemberType]
            json.dump({"now_ms": now_ms, "tenant": TENANT, "keys": await dump(redis, root)}, sys.stdout, indent=1)
        server.stop()


if __name__ == "__main__":
    asyncio.run(main())
