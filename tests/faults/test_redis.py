"""Redis dies, stops answering, fills up, forgets who to wake: nothing is lost and nothing is called twice."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from dataclasses import replace

import pytest

from onceq.wire import Job
from onceq_service.embedded.ping import ask_redis
from onceq_service.store.keys import Keys
from tests.faults.deployment import LEASE_S, Deployment
from tests.faults.run import Expect
from tests.faults.trial import Trial
from tests.waiting import until

pytestmark = pytest.mark.faults
full = pytest.mark.faults_full

REDIS = Expect(lease_s=LEASE_S, recovers=False)


async def crash(trial: Trial, deployment: Deployment, down_s: float = 0.0) -> None:
    """Kill -9 while answers are being written, and a restart on the same folder."""
    await trial.streaming(deployment.workers[0], 4)
    await asyncio.to_thread(deployment.kill_redis)
    trial.fault("kill -9", "redis")
    await asyncio.sleep(down_s)
    await asyncio.to_thread(deployment.redis.revive)


async def test_redis_is_killed_under_load(trial: Trial, deployment: Deployment) -> None:
    async with trial.load(24, tokens=120):
        await crash(trial, deployment)
    await trial.judge(REDIS)


@full
async def test_redis_is_killed_three_times_under_load(trial: Trial, deployment: Deployment) -> None:
    async with trial.busy(tokens=120):
        for _ in range(3):
            await crash(trial, deployment)
    await trial.judge(REDIS)


@full
async def test_redis_is_down_for_ten_seconds(trial: Trial, deployment: Deployment) -> None:
    async with trial.busy(tokens=120):
        await crash(trial, deployment, down_s=10)
    await trial.judge(REDIS)


@full
async def test_redis_is_frozen_for_ten_seconds(trial: Trial, deployment: Deployment) -> None:
    async with trial.busy(tokens=120):
        await trial.streaming(deployment.workers[0], 2)
        deployment.signal_redis(signal.SIGSTOP)
        trial.fault("SIGSTOP", "redis")
        await asyncio.sleep(10)  # the fault itself: how long it is away
        deployment.signal_redis(signal.SIGCONT)
    await trial.judge(REDIS)


async def test_wake_ups_are_lost_while_jobs_wait(trial: Trial, deployment: Deployment) -> None:
    """More jobs than slots, and nobody is ever woken: each starts within a poll (1 s) of a free slot."""
    stop = threading.Event()

    def steal() -> None:
        while not stop.wait(0.001):
            ask_redis(deployment.redis.socket, f"DEL {Keys(deployment.queue)('wake', 'openai')}")

    thief = asyncio.create_task(asyncio.to_thread(steal))
    async with trial.load(48, tokens=40) as ids:
        pass
    stop.set()
    await thief
    await trial.judge(Expect(lease_s=LEASE_S))
    jobs = [await trial.store.jobs.get(job_id, trial.tenant) for job_id in ids]
    one_answer_s = 40 / 40 + 0.05
    waited = [queued_s(deployment, job) for job in jobs if job is not None]
    assert len(waited) == 48
    assert max(waited) < one_answer_s + 2 * 1.0 + 1.0, "a poll, the answer before it, a poll, and a busy machine"


def queued_s(deployment: Deployment, job: Job) -> float:
    """How long a job waited to be started, without what the machine kept others waiting."""
    created = job.created_at.timestamp()
    return deployment.watch.worked_s(created, created + (job.timings.queue_s or 0.0))


async def test_memory_runs_out_and_running_jobs_finish_while_new_ones_are_turned_away(
    trial: Trial, deployment: Deployment
) -> None:
    used, limit = await trial.store.memory()

    async def eight_are_streamed() -> bool:  # by whichever worker: one may have taken them all
        return sum([len(await trial.held_by(node, phase="streaming")) for node in deployment.workers]) >= 8

    async with trial.load(24, tokens=160):
        await until(eight_are_streamed, "eight answers to be under way")
        ask_redis(deployment.redis.socket, f"CONFIG SET maxmemory {used + 1}")
        try:
            refusal = await until(trial.refused_post, "a post to be turned away")
            assert refusal.headers["retry-after"]
            assert refusal.json()["code"] == "store_full"
            await until(trial.quiet, "the running jobs to end")
        finally:
            ask_redis(deployment.redis.socket, f"CONFIG SET maxmemory {limit}")
    await trial.judge(replace(REDIS, recovers=True))


async def test_twenty_keys_posted_fifty_times_each_over_two_replicas_are_twenty_jobs(trial: Trial) -> None:
    began = time.monotonic()
    prompts = {f"key-{n}": f"burst {n} [[sim tokens=20 tps=100 ttft_ms=50]]" for n in range(20)}
    posts = [trial.post(prompts[key], key=key, who=f"client{n}") for n in range(50) for key in prompts]
    ids = set(await asyncio.gather(*posts))
    await asyncio.gather(*(trial.read(job_id) for job_id in ids))
    figures = await trial.judge(Expect(lease_s=LEASE_S))
    assert (figures.jobs, figures.calls) == (20, 20)
    assert time.monotonic() - began < 60
