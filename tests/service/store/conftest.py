"""What tests of the store stand on beside the common fixtures."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import Retention, Store, open_store
from tests.conftest import check_lifetimes
from tests.service.store.timed import open_timed


@pytest.fixture
async def timed(redis_server: EmbeddedRedis, queue: str) -> AsyncGenerator[Store]:
    """As `store`, in a time that passes only where the test says so (`later`): what is to happen before a delay ends
    happens before it, however long processes stand still."""
    async with open_timed(redis_server.url, queue) as opened:
        yield opened
        await check_lifetimes(opened)


@pytest.fixture
async def brief(redis_server: EmbeddedRedis, queue: str) -> AsyncGenerator[Store]:
    """A store whose leases last a second."""
    async with open_store(redis_server.url, queue, Retention(lease_s=1.0)) as opened:
        yield opened
