"""Leaving a call early: the provider sees it at once, and nothing is read to the end that nobody wants."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import Generator

import pytest

from onceq_service.providers import CallSpec, Provider
from onceq_service.settings import ProviderKind
from tests.service.providers.kit import Meter, Row, hear, sim, spec_for
from tests.waiting import until

AT_ONCE_S = 0.25


@pytest.fixture(scope="module", autouse=True)
def no_long_pauses() -> Generator[None]:
    """A full garbage collection over three provider SDKs and the price tables stops everything for 0.2 s or more.

    What is there by now is set aside, so that what is measured is our own doing.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


async def closed_row(meter: Meter, spec: CallSpec) -> Row:
    async def find() -> Row | None:
        rows = await meter.rows(spec)
        return rows[0] if rows and rows[0]["status"] == "aborted" else None

    return await until(find, "the provider to see the end of the connection")


async def test_leaving_early_closes_the_providers_connection_at_once(
    provider: Provider, kind: ProviderKind, meter: Meter
) -> None:
    spec = spec_for(kind, sim(tokens=100_000, tps=400))
    async with provider.call(spec) as stream:
        await anext(aiter(stream))
        left_at = time.time()
    row = await closed_row(meter, spec)
    assert row["closed_at"] - left_at < AT_ONCE_S
    assert row["output_tokens"] < 1_000


async def test_cancelling_the_task_in_mid_stream_closes_at_once(
    provider: Provider, kind: ProviderKind, meter: Meter
) -> None:
    spec = spec_for(kind, sim(tokens=100_000, tps=400))
    begun = asyncio.Event()

    async def consume() -> None:
        async with provider.call(spec) as stream:
            async for _ in stream:
                begun.set()

    task = asyncio.create_task(consume())
    await begun.wait()
    left_at = time.time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.time() - left_at < AT_ONCE_S
    assert (await closed_row(meter, spec))["closed_at"] - left_at < AT_ONCE_S


@pytest.mark.parametrize("fault", ["hang", "half", "stall"])
async def test_cancelling_a_silent_call_closes_at_once(
    provider: Provider, kind: ProviderKind, meter: Meter, fault: str
) -> None:
    """`hang` has not even sent headers: there is no stream yet that could be closed."""
    spec = spec_for(kind, sim(fault=fault, tokens=50))
    task = asyncio.create_task(hear(provider, spec))
    await until(lambda: meter.runs(spec), "the provider to have the request")
    left_at = time.time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.time() - left_at < AT_ONCE_S
    assert (await closed_row(meter, spec))["closed_at"] - left_at < AT_ONCE_S


async def test_an_error_of_the_consumer_closes_too(provider: Provider, kind: ProviderKind, meter: Meter) -> None:
    spec = spec_for(kind, sim(tokens=100_000, tps=400))
    with contextlib.suppress(ZeroDivisionError):
        async with provider.call(spec) as stream:
            await anext(aiter(stream))
            raise ZeroDivisionError
    await closed_row(meter, spec)


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
    await closed_row(meter, spec)
