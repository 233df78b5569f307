"""Leaving a call early: the provider sees it at once, and nothing is read to the end that nobody wants.

"At once" is not measured by a clock, which a machine that stands still would break. To leave a call may take some turns
of the loop and wait for nothing; then the loop is held, so that what it had still to do for the connection's end is
never done: the provider sees that end only if it was sent before.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable

import pytest

from onceq_service.providers import CallSpec, Provider
from onceq_service.settings import ProviderKind
from tests.service.providers.kit import Meter, hear, sim, spec_for
from tests.waiting import until, wait_until

TURNS = 10
"""More than leaving takes (2), fewer than the loop makes while it waits for anything from outside."""


def see_the_end(meter: Meter, spec: CallSpec) -> None:
    """Holds the loop until the provider has seen the end of the connection."""

    def seen() -> bool:
        return [row["status"] for row in meter.rows_while_the_loop_stands(spec)] == ["aborted"]

    wait_until(seen, "the provider to see the end of the connection")


async def watched(use: Awaitable[object], meter: Meter, spec: CallSpec) -> None:
    """Uses a call; the end of its connection has been sent the moment the call is left, however that comes."""
    try:
        await use
    finally:
        see_the_end(meter, spec)


async def ended(task: asyncio.Task[None]) -> None:
    """The task's end, which may wait for nothing; raises what it raised."""
    for _ in range(TURNS):
        if task.done():
            break
        await asyncio.sleep(0)
    assert task.done(), "leaving a call waits for something"
    await task


async def test_leaving_early_closes_the_providers_connection_at_once(
    provider: Provider, kind: ProviderKind, meter: Meter
) -> None:
    spec = spec_for(kind, sim(tokens=100_000, tps=400))
    leaves = asyncio.Event()

    async def consume() -> None:
        async with provider.call(spec) as stream:
            await anext(aiter(stream))
            leaves.set()

    task = asyncio.create_task(watched(consume(), meter, spec))
    await leaves.wait()
    await ended(task)


async def test_cancelling_the_task_in_mid_stream_closes_at_once(
    provider: Provider, kind: ProviderKind, meter: Meter
) -> None:
    spec = spec_for(kind, sim(tokens=100_000, tps=400))
    begun = asyncio.Event()

    async def consume() -> None:
        async with provider.call(spec) as stream:
            async for _ in stream:
                begun.set()

    task = asyncio.create_task(watched(consume(), meter, spec))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ended(task)


@pytest.mark.parametrize("fault", ["hang", "half", "stall"])
async def test_cancelling_a_silent_call_closes_at_once(
    provider: Provider, kind: ProviderKind, meter: Meter, fault: str
) -> None:
    """`hang` has not even sent headers: there is no stream yet that could be closed."""
    spec = spec_for(kind, sim(fault=fault, tokens=50))
    task = asyncio.create_task(watched(hear(provider, spec), meter, spec))
    await until(lambda: meter.runs(spec), "the provider to have the request")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ended(task)


async def test_an_error_of_the_consumer_closes_at_once_too(
    provider: Provider, kind: ProviderKind, meter: Meter
) -> None:
    spec = spec_for(kind, sim(tokens=100_000, tps=400))
    fails = asyncio.Event()

    async def consume() -> None:
        async with provider.call(spec) as stream:
            await anext(aiter(stream))
            fails.set()
            raise ZeroDivisionError

    task = asyncio.create_task(watched(consume(), meter, spec))
    await fails.wait()
    with pytest.raises(ZeroDivisionError):
        await ended(task)


async def test_other_calls_go_on_when_one_is_left(provider: Provider, kind: ProviderKind) -> None:
    others = [asyncio.create_task(hear(provider, spec_for(kind, sim(tokens=60, tps=200)))) for _ in range(10)]
    for _ in range(10):
        async with provider.call(spec_for(kind, sim(tokens=100_000, tps=400))) as stream:
            await anext(aiter(stream))
    heard = await asyncio.gather(*others)
    assert [one.finish_reason for one in heard] == ["stop"] * 10
    assert [len(one.deltas) for one in heard] == [60] * 10


async def test_closing_the_provider_ends_its_threads(provider: Provider, kind: ProviderKind, meter: Meter) -> None:
    spec = spec_for(kind, sim(fault="hang"))
    task = asyncio.create_task(hear(provider, spec))
    await until(lambda: meter.runs(spec), "the provider to have the request")
    await provider.close()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("onceq-")]
    see_the_end(meter, spec)
