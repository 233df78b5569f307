"""One stack for all tests of the API, a tenant for each, and stacks to break for those that break them."""

from __future__ import annotations

import sys
from collections.abc import Generator
from uuid import uuid4

import pytest

from onceq_service.embedded.redis_server import EmbeddedRedis
from tests.service.api.kit import SECRET, Http, http
from tests.stack import API, Stack, running_redis, running_stack, start, url_printed_by


@pytest.fixture(scope="package")
def shared(redis_server: EmbeddedRedis) -> Generator[Stack]:
    """API, worker and simulator; at the end no word of a request and no trace is in a log."""
    with running_stack(redis_server, workers=1, keep_alive_s="0.3", drain_s="5") as stack:
        yield stack
        said = stack.api.text() + stack.worker.text()
        assert SECRET not in said
        assert "Traceback" not in said


@pytest.fixture
def tenant() -> str:
    """A tenant that no other test uses."""
    return f"t{uuid4().hex[:12]}"


@pytest.fixture
def client(shared: Stack, tenant: str) -> Generator[Http]:
    """With every scope of a tenant of its own."""
    with http(shared, tenant) as opened:
        yield opened


@pytest.fixture(scope="package")
def replica(shared: Stack) -> Generator[str]:
    """The URL of a second API on the same queue."""
    process = start([sys.executable, "-c", API], shared.env, shared.folder / "replica.log")
    yield url_printed_by(process)
    process.stop()
    assert SECRET not in process.text()


@pytest.fixture(scope="module")
def own_redis() -> Generator[EmbeddedRedis]:
    """A Redis of one's own to break."""
    with running_redis() as server:
        yield server
