"""A Redis to break, for the tests of a worker that has to do without."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from onceq_service.embedded.redis_server import EmbeddedRedis
from tests.stack import running_redis


@pytest.fixture
def own_redis() -> Generator[EmbeddedRedis]:
    """A Redis of one's own to stop."""
    with running_redis() as server:
        yield server
