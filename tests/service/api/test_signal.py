"""The event that uvicorn waits for wakes all who wait, once, and holds nobody who comes while it is set."""

from __future__ import annotations

import asyncio

from onceq_service.api.server.protocol import Signal


async def waiting(signal: Signal, count: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(signal.wait()) for _ in range(count)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)
    return tasks


async def test_all_who_wait_are_woken_and_who_comes_later_does_not_wait() -> None:
    signal = Signal()
    tasks = await waiting(signal, 3)
    signal.set()
    async with asyncio.timeout(20):
        await asyncio.gather(*tasks, signal.wait())
    assert signal.is_set()


async def test_who_comes_after_clear_waits_again() -> None:
    signal = Signal(on=True)
    await signal.wait()
    signal.clear()
    (task,) = await waiting(signal, 1)
    signal.set()
    signal.clear()
    async with asyncio.timeout(20):
        await task
    assert not signal.is_set()


async def test_one_who_is_cancelled_takes_nobody_else_down() -> None:
    signal = Signal()
    gone, stays = await waiting(signal, 2)
    gone.cancel()
    signal.set()
    async with asyncio.timeout(20):
        await stays
        await asyncio.gather(gone, return_exceptions=True)
    assert gone.cancelled()
