"""What all tests stand on: a real redis-server for the session, a queue of its own for each test, the whole stack."""

from __future__ import annotations

import functools
import gc
import os
import ssl
import tempfile
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from uuid import uuid4

import httpcore2
import pytest
from httpcore2 import default_ssl_context
from hypothesis import settings

from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import Store, open_store
from tests.stack import RUNNING, Stack, running_redis, running_stack

settings.register_profile("untimed", deadline=None)  # a busy machine is no defect
settings.load_profile("untimed")


@functools.cache
def _read(trust_env: bool, *_: str | None) -> ssl.SSLContext:
    return default_ssl_context(_trust_env=trust_env)


def _trusted(*, _trust_env: bool = True) -> ssl.SSLContext:
    """Whom an HTTP client trusts; each of the tests' would read the system's certificates, 30 ms of CPU."""
    return _read(_trust_env, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


httpcore2.default_ssl_context = _trusted

LONGEST = ("tests/service/embedded/", "tests/rows/", "tests/dashboard/test_browser.py", "tests/sdk/notebook/")


def pytest_configure() -> None:
    """What is collected stays to the end: to look through it again and again for garbage is a quarter of that time."""
    gc.disable()


def pytest_collection_finish() -> None:
    """From here on there is garbage."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first: in parallel running nobody is left with it at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What API and workers said is part of a failure's report; their files are gone when anybody reads it."""
    report = yield
    if report.failed:
        report.sections += [(f"said by the stack of queue {stack.queue} until {item.name} failed", stack.said())
                            for stack in RUNNING]  # fmt: skip
    return report


@pytest.fixture(scope="session")
def redis_server() -> Generator[EmbeddedRedis]:
    """A real redis-server: AOF always, noeviction, its own folder and socket."""
    with running_redis(maxmemory=2 * 1024**3) as server:
        yield server


@pytest.fixture
def queue() -> str:
    """A queue that no other test uses."""
    return f"t{uuid4().hex[:12]}"


@pytest.fixture
async def store(redis_server: EmbeddedRedis, queue: str) -> AsyncGenerator[Store]:
    """The store on a queue of its own; at the end every key has a lifetime, is permanent, or belongs to a live job."""
    async with open_store(redis_server.url, queue) as opened:
        yield opened
        await check_lifetimes(opened)


async def check_lifetimes(store: Store) -> None:
    """Fails when a key would stay for ever that keys.py does not name as permanent or that no live job needs."""
    left = await store.keys_without_lifetime()
    assert not left, f"keys without a lifetime: {left}"


@pytest.fixture(scope="session")
def stack(redis_server: EmbeddedRedis) -> Generator[Stack]:
    """API, two worker processes and the simulator as real processes on the session's Redis."""
    with running_stack(redis_server) as running:
        yield running


@pytest.fixture
def short_folder() -> Generator[Path]:
    """A folder with a short name: the path of a unix socket has about a hundred bytes."""
    with tempfile.TemporaryDirectory(prefix="oq-") as name:
        yield Path(name)
