"""One run in a deployment: clients that retry with the same key over both replicas, readers that hop and drop, a judge.

Each run has a tenant of its own, so that one deployment serves many runs and each is judged alone.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx2

from onceq.wire import TERMINAL, BudgetStatus
from onceq_service.store import Store, open_store
from tests.faults.collect import budgets_of, collect, meter_rows, running_jobs
from tests.faults.deployment import Deployment, Node
from tests.faults.history import History, Record
from tests.faults.report import Figures, figures_of
from tests.faults.run import Expect, parse_frame
from tests.waiting import until

GIVE_UP_S = 90.0
TIMEOUT = httpx2.Timeout(10.0, read=4.0)
"""A stream says something every second (ONCEQ_KEEP_ALIVE_S); four of silence are a dead replica."""
OPENAI, ANTHROPIC, BEDROCK = "openai/gpt-4o-mini", "anthropic/claude-haiku-4-5", "bedrock/amazon.nova-lite-v1:0"
MODELS = (OPENAI, ANTHROPIC, BEDROCK)


class Trial:
    """Clients, readers and the saboteur of one run."""

    def __init__(
        self, deployment: Deployment, name: str, key: str, tenant: str, http: httpx2.AsyncClient, store: Store
    ) -> None:
        self.deployment, self.name, self.tenant, self.store = deployment, name, tenant, store
        self.history = History(deployment.folder / f"{tenant}.jsonl")
        self.rng = random.Random(f"{deployment.seed}/{name}")
        self._http, self._auth = http, {"Authorization": f"Bearer {key}"}
        self._readers = 0
        self.watched: list[BudgetStatus] = []
        self.hit = 0
        self._began = time.monotonic()

    async def post(self, prompt: str, *, key: str | None = None, who: str = "client", **body: Any) -> str:
        """Posts until a replica has accepted it, with the same key; the job's id."""
        key = key or f"k{self.rng.getrandbits(64):x}"
        headers = self._auth | {"Idempotency-Key": key}
        end, api = time.monotonic() + GIVE_UP_S, self.rng.randrange(2)
        while time.monotonic() < end:
            job_id = await self._post_once(api, key, who, headers, {"model": OPENAI, "prompt": prompt} | body)
            if job_id is not None:
                return job_id
            api ^= 1
            await asyncio.sleep(self.rng.uniform(0.02, 0.2))
        self.history.write("post", "fail", who=who, key=key, note=f"not accepted in {GIVE_UP_S} s")
        raise AssertionError(f"{key} was not accepted in {GIVE_UP_S} s")

    async def _post_once(
        self, api: int, key: str, who: str, headers: dict[str, str], body: dict[str, Any]
    ) -> str | None:
        note = {"who": who, "key": key, "api": api}
        self.history.write("post", "invoke", **note)
        try:
            reply = await self._http.post(f"{self.deployment.urls[api]}/v1/jobs", headers=headers, json=body)
        except httpx2.HTTPError as exc:
            self.history.write("post", "info", note=repr(exc), **note)
            return None
        if reply.status_code == 503:
            self.history.write("post", "info", note=reply.text, **note)
            return None
        if reply.status_code != 202:
            self.history.write("post", "fail", note=reply.text, **note)
            raise AssertionError(reply.text)
        job = reply.json()
        self.history.write("post", "ok", job=job["id"], status=job["disposition"], **note | {"note": job["durability"]})
        return str(job["id"])

    async def read(self, job_id: str, *, drop: float = 0.05) -> None:
        """Follows a job to its end, hopping to the other replica at each cut; cuts itself off with `drop` an event."""
        self._readers += 1
        who, after = f"reader{self._readers}", 0
        end, api = time.monotonic() + GIVE_UP_S, self.rng.randrange(2)
        while time.monotonic() < end:
            self.history.write("read", "invoke", who=who, job=job_id, seq=after, api=api)
            try:
                async for seq, name in self._follow(who, job_id, after, api):
                    after = seq
                    if name in TERMINAL:
                        self.history.write("read", "ok", who=who, job=job_id)
                        return
                    if self.rng.random() < drop:
                        break
            except httpx2.HTTPError as exc:
                self.history.write("read", "info", who=who, job=job_id, api=api, note=repr(exc))
            api ^= 1
            await asyncio.sleep(self.rng.uniform(0, 0.1))
        self.history.write("read", "fail", who=who, job=job_id, seq=after)

    async def leave(self, job_id: str, events: int, api: int) -> str:
        """Follows a job for so many events, and goes away for good; the reader's name."""
        self._readers += 1
        who = f"reader{self._readers}"
        self.history.write("read", "invoke", who=who, job=job_id, api=api)
        async with aclosing(self._follow(who, job_id, 0, api)) as following:
            async for seq, _ in following:
                if seq == events:
                    break
        return who

    async def _follow(self, who: str, job_id: str, after: int, api: int) -> AsyncGenerator[tuple[int, str]]:
        headers = self._auth | {"Last-Event-ID": str(after)}
        url = f"{self.deployment.urls[api]}/v1/jobs/{job_id}/events"
        async with self._http.stream("GET", url, headers=headers) as reply:
            if reply.status_code != 200:
                self.history.write("read", "info", who=who, job=job_id, api=api, note=f"status {reply.status_code}")
                return
            rest = b""
            async for chunk in reply.aiter_bytes():
                *frames, rest = (rest + chunk).split(b"\n\n")
                for frame in frames:
                    if not frame.startswith(b":"):
                        event = parse_frame(frame.decode() + "\n\n")
                        self.history.write("read", "info", who=who, job=job_id, seq=event.seq, frame=event.frame)
                        yield event.seq, event.name

    async def cancel(self, job_id: str, api: int = 0) -> str:
        """Cancels a job; its state as the answer says it."""
        self.history.write("cancel", "invoke", job=job_id, api=api)
        reply = await self._http.post(f"{self.deployment.urls[api]}/v1/jobs/{job_id}/cancel", headers=self._auth)
        status = str(reply.json()["status"])
        self.history.write("cancel", "ok", job=job_id, api=api, status=status)
        return status

    async def ask(self, prompt: str, *, readers: int = 2, drop: float = 0.05, **body: Any) -> str:
        """Posts and reads to the end; the job's id."""
        job_id = await self.post(prompt, **body)
        await asyncio.gather(*(self.read(job_id, drop=drop) for _ in range(readers)))
        return job_id

    @asynccontextmanager
    async def load(self, jobs: int, *, tokens: int = 60, tps: float = 40) -> AsyncGenerator[list[str]]:
        """So many jobs at once, of all three providers, in the background; behind the block all are done."""
        ids: list[str] = []
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(self._one(n, tokens, tps)) for n in range(jobs)]
            yield ids
        ids += [task.result() for task in asked]

    @asynccontextmanager
    async def busy(self, *, per_s: float = 6, tokens: int = 60, tps: float = 40) -> AsyncGenerator[None]:
        """New jobs all the time, of all three providers, as long as the block lasts; behind it all are done."""
        async with asyncio.TaskGroup() as group:
            pump = asyncio.create_task(self._pump(group, per_s, tokens, tps))
            try:
                yield
            finally:
                pump.cancel()
                await asyncio.wait([pump])

    async def _pump(self, group: asyncio.TaskGroup, per_s: float, tokens: int, tps: float) -> None:
        for n in range(10_000):
            group.create_task(self._one(n, tokens, tps))
            await asyncio.sleep(self.rng.expovariate(per_s))

    async def _one(self, n: int, tokens: int, tps: float) -> str:
        prompt = f"{self.name} {n} [[sim tokens={tokens} tps={tps} ttft_ms=50]]"
        return await self.ask(prompt, model=MODELS[n % len(MODELS)])

    def fault(self, what: str, who: str) -> None:
        """Notes what the saboteur did."""
        self.history.write("fault", "info", who=who, note=what)

    async def died(self, what: str, who: str, held: Sequence[str]) -> None:
        """Notes what was deadly to a worker just now, and how far each of the jobs that it held was told."""
        now, hashes = time.time(), [await self.store.jobs.fields(job_id, self.tenant) or {} for job_id in held]
        seqs = tuple(int(fields["seq"]) for fields in hashes)
        self.history.append(Record("fault", "info", now, who=who, note=what, jobs=tuple(held), seqs=seqs))

    async def held_by(self, node: Node, *, phase: str | None = None) -> list[str]:
        """Running jobs of this run that a worker group holds, those in one phase of their call when it is given."""
        return [
            job_id
            for job_id, fields in (await running_jobs(self.store, self.tenant)).items()
            if node.owns(int(fields["worker"].rsplit(b"-", 2)[1])) and phase in (None, fields["phase"].decode())
        ]

    async def events_of(self, node: Node) -> list[int]:
        """How many events each job has so far that a worker group holds; an event holds a token or a few."""
        held, jobs = await self.held_by(node), await running_jobs(self.store, self.tenant)
        return [int(jobs[job_id]["seq"]) for job_id in held if job_id in jobs]

    async def streaming(self, node: Node, at_least: int = 1) -> list[str]:
        """Waits until a worker group is in the middle of so many answers."""

        async def look() -> list[str] | None:
            held = await self.held_by(node, phase="streaming")
            return held if len(held) >= at_least else None

        return await until(look, f"{node.name} to stream {at_least} answers")

    async def dispatched(self) -> tuple[str, Node]:
        """Waits for a call that is on record and has no token yet: the job, and the worker group that holds it."""

        async def look() -> tuple[str, Node] | None:
            for node in self.deployment.workers:
                for job_id in await self.held_by(node, phase="dispatched"):
                    return job_id, node
            return None

        return await until(look, "a dispatched call")

    async def called(self, ids: Sequence[str]) -> None:
        """Waits until the provider works at all of these jobs."""

        async def look() -> bool:
            return set(ids) <= {
                row.job for row in await meter_rows(self.deployment, set(ids)) if row.status == "running"
            }

        await until(look, "the calls to begin")

    async def hang_up(self) -> None:
        """Closes the connections that the clients keep."""
        await self._http.aclose()

    def raw_request(self, job_id: str, host: str) -> bytes:
        """A request for a job's events, as bytes."""
        head = [f"GET /v1/jobs/{job_id}/events HTTP/1.1", f"Host: {host}", *map(": ".join, self._auth.items()), "", ""]
        return "\r\n".join(head).encode()

    async def nothing_held_by(self, node: Node) -> None:
        """Waits until a silent worker group has lost everything that it held."""

        async def look() -> bool:
            return not await self.held_by(node)

        await until(look, f"{node.name} to lose its jobs", timeout_s=self.deployment.lease_s + 10)

    async def let_go(self, node: Node) -> None:
        """Waits until a worker group says that it holds nothing: it has told all that it knew."""

        async def look() -> bool:
            mine = [w for w in await self.store.stats.workers() if node.owns(w.pid)]
            return bool(mine) and not any(w.running for w in mine)

        await until(look, f"{node.name} to let go of its jobs")

    async def quiet(self) -> bool:
        """Whether every job of this run has ended."""
        depth = await self.store.stats.depth(self.tenant)
        return depth.queued + depth.running == 0

    async def refused_post(self) -> httpx2.Response | None:
        """Posts a job that is in no history; the answer when it was turned away."""
        body = {"model": OPENAI, "prompt": "one more [[sim tokens=1 tps=0]]"}
        reply = await self._http.post(f"{self.deployment.urls[0]}/v1/jobs", headers=self._auth, json=body)
        if reply.status_code == 503:
            return reply
        self.history.write("post", "ok", who="more", key=reply.json()["id"], job=reply.json()["id"], note="strict")
        return None

    async def lose(self, node: Node, what: str, how: Callable[[], object]) -> list[str]:
        """Does something deadly to a worker group, and notes which jobs it held in that moment."""
        held = await self.held_by(node)
        how()
        await self.died(what, node.name, held)
        assert held, f"{node.name} held nothing when it was hit: the fault proves nothing"
        self.hit += len(held)
        return held

    async def kill_worker(self, node: Node) -> list[str]:
        """Kill -9 of the process that runs a group's jobs; its manager starts another. The jobs that it held."""
        pid = await self.pid(node)
        return await self.lose(node, "kill -9", lambda: os.kill(pid, signal.SIGKILL))

    async def pid(self, node: Node) -> int:
        """The process that runs a group's jobs."""

        async def look() -> int | None:
            return next((w.pid for w in await self.store.stats.workers() if node.owns(w.pid)), None)

        return await until(look, f"{node.name} to be known")

    async def limited(self, limit_usd: float) -> None:
        """Gives the tenant a hard budget over all of its jobs, which both replicas know when this returns."""
        body = {"name": "all", "limit_usd": limit_usd, "period": "total"}
        reply = await self._http.post(f"{self.deployment.urls[0]}/v1/budgets", headers=self._auth, json=body)
        assert reply.status_code == 201, reply.text

        async def look() -> bool:
            known = await self._http.get(f"{self.deployment.urls[1]}/v1/budgets", headers=self._auth)
            return bool(known.json()["budgets"])  # whoever lists them has looked

        await until(look, "the other replica to know the budget")

    @asynccontextmanager
    async def watching_budgets(self) -> AsyncGenerator[None]:
        """Looks at the tenant's budgets all the time, as long as the block lasts."""

        async def watch() -> None:
            while True:
                self.watched += await budgets_of(self.store, self.tenant)
                await asyncio.sleep(0.1)

        watcher = asyncio.create_task(watch())
        try:
            yield
        finally:
            watcher.cancel()
            await asyncio.wait([watcher])

    async def judge(self, expect: Expect) -> Figures:
        """Waits for the end of every job, collects all that is known, and fails with everything that is wrong."""
        run = await collect(self.deployment, self.store, self.tenant, self.history.read(), expect, self.watched)
        figures = figures_of(self.name, run, time.monotonic() - self._began)
        assert not figures.findings, f"seed {self.deployment.seed}: " + "\n".join(figures.findings[:20])
        return figures


@asynccontextmanager
async def running_trial(deployment: Deployment, name: str, key: str, tenant: str) -> AsyncGenerator[Trial]:
    """Opens a run; the caller has made the tenant and its key."""
    limits = httpx2.Limits(max_connections=2000, max_keepalive_connections=200)
    async with (
        open_store(deployment.redis.url, deployment.queue) as store,
        httpx2.AsyncClient(timeout=TIMEOUT, limits=limits, trust_env=False) as http,
    ):
        trial = Trial(deployment, name, key, tenant, http, store)
        try:
            yield trial
        finally:
            trial.history.close()


def new_tenant() -> str:
    """A name that no other run has."""
    return f"t{uuid4().hex[:10]}"
