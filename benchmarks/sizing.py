"""How much Redis a month of traffic needs: bytes of all that a job leaves, for as long as each is kept.

Jobs run through the store by hand, then every key is asked for its size (MEMORY USAGE). What one of a kind takes times
how many of it live at once is the table; times are the service's defaults.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis
from tests.service.store.driver import admission, claim_one, dispatch, success, text_frame

from benchmarks.figures import Figures
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import Store, open_store

QUEUE: Final = "bench"
KIB: Final = 1024
PROMPT: Final = "Summarise the following report in three sentences please: " + "the quarter went well. " * 40
"""1 kB."""
TEXT: Final = "Revenue rose, costs fell, and the team is confident about what comes next. " * 13
"""1 kB, streamed in FRAMES pieces."""
FRAMES: Final = 40
MODELS: Final = 4
"""Each of them is used every hour, by one team."""
LOG_S: Final = 3_600
DAY_S: Final = 86_400
LEDGER_ROWS: Final = 500_000
"""Of a tenant; older ones leave."""
MONTH: Final = 30
PER_JOB: Final = ("job", "events", "idem", "fp", "jobs")


def kinds(jobs: int) -> Figures:
    """Bytes of one of each kind: by job, by row of the ledger, by hour and combination of what sums are told by."""
    with (
        tempfile.TemporaryDirectory(prefix="oq-bench-", ignore_cleanup_errors=True) as name,
        EmbeddedRedis(Path(name)) as redis,
    ):
        return asyncio.run(_measured(redis.url, jobs))


async def _measured(url: str, jobs: int) -> Figures:
    async with open_store(url, QUEUE) as store:
        for n in range(jobs):
            await _finished(store, n)
    sizes, counts = await _sizes(url)
    figures = {f"{kind}_bytes": sizes[kind] / jobs for kind in PER_JOB}
    return {**figures, "ledger_bytes": sizes["ledger"] / jobs, "sum_bytes": sizes["roll"] / counts["roll"]}


async def _finished(store: Store, n: int) -> None:
    model = f"openai/m{n % MODELS}"
    named = {"model": model, "lane": model, "team": f"team-{n % MODELS}", "idem": f"{n:064x}", "fp": f"{n:064x}"}
    await store.jobs.admit(admission(f"{PROMPT} {n}", **named))
    claim = await claim_one(store)
    sent = await dispatch(store, claim)
    size = len(TEXT) // FRAMES
    pieces = [TEXT[k * size : (k + 1) * size] for k in range(FRAMES)]
    await store.engine.append([text_frame(claim, sent.seq + 1 + k, piece) for k, piece in enumerate(pieces)])
    await store.engine.finish(claim, success(sent.seq + FRAMES + 1, text=TEXT))


async def _sizes(url: str) -> tuple[Counter[str], Counter[str]]:
    """Bytes and keys by kind."""
    redis: Any = Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType] - untyped
    sizes, counts = Counter[str](), Counter[str]()
    try:
        root = f"onceq:{{{QUEUE}}}:"
        async for key in redis.scan_iter(match=f"{root}*", count=1_000):
            kind = key.decode().removeprefix(root).partition(":")[0]
            sizes[kind] += await redis.memory_usage(key, samples=0)
            counts[kind] += 1
    finally:
        await redis.aclose()
    return sizes, counts


def month(kind: Figures, per_day: int) -> Figures:
    """MiB that `per_day` jobs a day, spread evenly and of one tenant, come to after a month."""
    logs = kind["events_bytes"] * per_day * LOG_S / DAY_S
    results = (kind["job_bytes"] + kind["jobs_bytes"]) * per_day
    # both kinds of keys live for the deadline of a day after their job was made, and idempotency a day more
    keys = (2 * kind["idem_bytes"] + kind["fp_bytes"]) * per_day
    ledger = kind["ledger_bytes"] * min(LEDGER_ROWS, per_day * MONTH)
    sums = kind["sum_bytes"] * MODELS * (MONTH * 24 + MONTH)
    parts = {"logs": logs, "results": results, "keys": keys, "ledger": ledger, "sums": sums}
    return {f"{name}_mib": size / KIB**2 for name, size in parts.items()} | {"all_mib": sum(parts.values()) / KIB**2}
