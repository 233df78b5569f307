"""The pytest plugin: `pytest_plugins = ["onceq.testing.plugin"]` in a `conftest.py` brings these fixtures.

- `onceq_server`: a private onceq for the whole session, a `onceq.testing.PrivateOnceq`.
- `onceq_client`: a `onceq.Client` on it, with a tenant of the test's own, so that no test sees or joins another's jobs.
  While the test runs, `ONCEQ_BASE_URL` and `ONCEQ_API_KEY` say the same, so that code under test that makes its own
  `onceq.Client()` or `onceq.AsyncClient()` finds it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack

import pytest

from onceq._client import Client
from onceq.errors import ConfigurationError
from onceq.testing._server import PrivateOnceq, private_onceq


@pytest.fixture(scope="session")
def onceq_server() -> Generator[PrivateOnceq]:
    """A private onceq on the simulator, for the session."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(private_onceq())
        except ConfigurationError as exc:
            pytest.fail(str(exc), pytrace=False)
        yield server


@pytest.fixture
def onceq_client(onceq_server: PrivateOnceq, monkeypatch: pytest.MonkeyPatch) -> Generator[Client]:
    """A client on the private onceq, with a tenant of the test's own; the environment names both."""
    key = onceq_server.new_tenant()
    monkeypatch.setenv("ONCEQ_BASE_URL", onceq_server.base_url)
    monkeypatch.setenv("ONCEQ_API_KEY", key)
    with Client(onceq_server.base_url, key) as client:
        yield client
