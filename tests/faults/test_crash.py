"""Processes that die: workers, Redis, API replicas. Nothing is lost, and only what was in flight is paid again."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace

import pytest

from tests.faults.house import LEASE_S, House
from tests.faults.run import Expect
from tests.faults.trial import Trial

pytestmark = pytest.mark.faults

CALM = Expect(lease_s=LEASE_S)


async def test_nothing_goes_wrong(trial: Trial) -> None:
    async with trial.load(24):
        pass
    await trial.judge(CALM)


async def test_a_worker_is_killed_in_mid_stream(trial: Trial, house: House) -> None:
    async with trial.load(24, tokens=80):
        node = house.workers[0]
        await trial.streaming(node, 3)
        pid = house_pid = await asyncio.to_thread(house.pid_of, node)
        assert house_pid is not None
        held = await trial.lose(node, "kill -9", lambda: os.kill(pid or 0, signal.SIGKILL))
    await trial.judge(replace(CALM, extra_calls=len(held)))


async def test_redis_is_killed_under_load(trial: Trial, house: House) -> None:
    async with trial.load(24, tokens=80):
        await trial.streaming(house.workers[0], 3)
        await asyncio.to_thread(house.kill_redis)
        trial.fault("kill -9", "redis")
        await asyncio.to_thread(house.redis.revive)
    await trial.judge(replace(CALM, redis_was_up=False))


async def test_a_replica_is_killed_while_readers_follow(trial: Trial, house: House) -> None:
    async with trial.load(24, tokens=80):
        await trial.streaming(house.workers[0], 3)
        for node in house.apis:
            await asyncio.to_thread(node.kill)
            trial.fault("kill -9", node.name)
            node.start()
            await asyncio.to_thread(house.ready)
    await trial.judge(CALM)
