"""A service, a tenant of the test's own, and a folder for its cache."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from onceq import Client
from tests.sdk.twins import twin
from tests.stack import Stack


@pytest.fixture
def key(stack: Stack) -> str:
    """The API key of a tenant that has no jobs yet."""
    return stack.key(f"map-{uuid4().hex[:10]}")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the notebook would be."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def client(stack: Stack, key: str) -> Generator[Client]:
    with Client(stack.url, key, model="openai/gpt-4o-mini") as opened:
        yield opened


@pytest.fixture(params=["blocking", "awaiting"])
def either(request: pytest.FixtureRequest, stack: Stack, key: str) -> Generator[Any]:
    """`Client`, and `AsyncClient` behind the same face."""
    with asyncio.Runner() as runner:
        opened = twin(request.param, runner, base_url=stack.url, api_key=key, model="openai/gpt-4o-mini")
        yield opened
        opened.close()
