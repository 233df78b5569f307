"""The scripted service and both clients for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.sdk.fake import FakeService, running
from tests.sdk.twins import twin


@pytest.fixture(scope="session")
def _served() -> Iterator[FakeService]:
    with running(FakeService()) as service:
        yield service


@pytest.fixture
def fake(_served: FakeService) -> FakeService:
    """The scripted service, with nothing lined up yet."""
    _served.seen.clear()
    _served.lines.clear()
    return _served


@pytest.fixture(params=["blocking", "awaiting"])
def client(request: pytest.FixtureRequest, fake: FakeService) -> Iterator[Any]:
    """`Client`, then `AsyncClient` with the same face: each test here is run on both."""
    with asyncio.Runner() as runner:
        made = twin(request.param, runner, base_url=fake.url, api_key="oq_test", model="openai/gpt-4o-mini")
        yield made
        made.close()
