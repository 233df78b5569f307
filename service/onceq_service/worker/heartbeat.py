"""Renews the leases of this worker's jobs from a thread of its own, so that a blocked event loop is not a dead worker.

It stops renewing when the loop has not moved for LOOP_DEAD_S: then the worker is as good as dead.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from onceq_service.store import StoreError
from onceq_service.store.heartbeat import HeartbeatClient
from onceq_service.worker import outage
from onceq_service.worker.claimed import ClaimedJobs

LOOP_DEAD_S = 60.0


class Heartbeat:
    """Made in the event loop that runs the jobs; stop() joins the thread."""

    def __init__(
        self, client: HeartbeatClient, worker: str, claimed: ClaimedJobs, providers: Sequence[str], lease_s: float
    ) -> None:
        self._client, self._worker, self._claimed = client, worker, claimed
        self._providers, self._every_s = list(providers), lease_s / 4
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._ticked = time.monotonic()
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Begins to beat; the first beat makes the worker known."""
        self._tick()
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join(timeout=5)
        self._client.close()

    def _tick(self) -> None:
        self._ticked = time.monotonic()
        if not self._stop.is_set():
            self._loop.call_later(1.0, self._tick)

    def _run(self) -> None:
        while True:
            if time.monotonic() - self._ticked < LOOP_DEAD_S:
                self._beat()
            if self._stop.wait(self._every_s):
                return

    def _beat(self) -> None:
        held = self._claimed.pairs()
        try:
            words = self._client.beat(self._worker, self._info(), held)
        except StoreError as exc:
            outage.REDIS.away(exc)
            return
        outage.REDIS.back()
        for (job_id, fence), word in zip(held, words, strict=True):
            if word != "ok":
                self._call(lambda j=job_id, f=fence, w=word: self._stop_job(j, f, w))

    def _call(self, function: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)

    def _stop_job(self, job_id: str, fence: str, word: str) -> None:
        job = self._claimed.get(job_id)
        if job is not None and job.claim.fence == fence:
            job.stop("cancel" if word == "cancel" else "lost")

    def _info(self) -> bytes:
        return msgspec.json.encode({
            "id": self._worker, "pid": os.getpid(), "host": socket.gethostname(), "running": len(self._claimed),
            "capacity": self._claimed.capacity, "providers": self._providers,
        })  # fmt: skip
