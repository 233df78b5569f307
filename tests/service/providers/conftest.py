"""The simulator on a real socket, and the three providers opened at it as the worker opens them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator

import pytest

from onceq_service.providers import Provider, open_providers
from onceq_service.settings import DEFAULT_PROVIDERS, ProviderKind, on_simulator
from onceq_service.simulator import Knobs, SimulatorServer
from tests.service.providers.kit import KINDS, LEARNT, Meter, hear, sim, spec_for


@pytest.fixture(scope="session")
def simulator() -> Generator[SimulatorServer]:
    with SimulatorServer(Knobs(tps=0, ttft_ms=0, tokens=20)) as running:
        yield running


@pytest.fixture
def meter(simulator: SimulatorServer) -> Meter:
    return Meter(simulator.url)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> ProviderKind:
    found: ProviderKind = request.param
    return found


@pytest.fixture
async def provider(simulator: SimulatorServer, kind: ProviderKind) -> AsyncGenerator[Provider]:
    """One provider, each in its turn, as after a minute's work: its SDK's requests are repeated (_calls.py).

    Those that the SDK makes itself are tested in test_calls.py, and by every provider at a server of raw bytes.
    """
    config = on_simulator(DEFAULT_PROVIDERS[kind], simulator.url)
    opened = open_providers({kind: config}, {})[kind]
    for _ in range(LEARNT):
        await hear(opened, spec_for(kind, sim(tokens=1)))
    yield opened
    await opened.close()
