"""Whether a worker of this host lives: the one question of a container's health check, `onceq doctor --worker`.

It asks Redis one thing (its imports are what it costs), and nothing else counts: a Redis that is nearly full is no
fault of the worker, and a restart of the worker would only cost the calls that it runs.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from onceq import OnceqError
from onceq_service.embedded.doctor import Check
from onceq_service.settings import Settings

if TYPE_CHECKING:
    from onceq.wire import WorkerInfo


def worker_check(settings: Settings) -> Check:
    """Fails unless a worker of this host has beaten within three leases: Redis forgets it after that."""
    host = socket.gethostname()
    try:
        workers = asyncio.run(_workers(settings))
    except (OnceqError, ValueError) as exc:
        return Check("fail", "workers", f"Redis can't be asked: {exc}", "start it, or mend ONCEQ_REDIS_URL")
    here = [worker for worker in workers if worker.host == host]
    if not here:
        advice = f"see the log of `onceq worker`; {len(workers)} are alive on other hosts"
        return Check("fail", "workers", f"none of {host} is alive in queue {settings.queue}", advice)
    return Check("ok", "workers", f"{len(here)} of {host} alive, {sum(one.running for one in here)} jobs running")


async def _workers(settings: Settings) -> list[WorkerInfo]:
    from onceq_service.store import open_store  # half of the time that other commands take to start

    async with open_store(settings.redis_url, settings.queue) as store:
        return await store.stats.workers()
