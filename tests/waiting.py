"""Waiting for what must come true, instead of sleeping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(find: Callable[[], T | None], description: str, *, timeout_s: float = 20.0) -> T:
    """Calls `find` until it returns something true; fails with the description after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while True:
        found = find()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout_s} s for {description}")
        time.sleep(0.02)


async def until(find: Callable[[], Awaitable[T | None]], description: str, *, timeout_s: float = 20.0) -> T:
    """The same for coroutines."""
    end = time.monotonic() + timeout_s
    while True:
        found = await find()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout_s} s for {description}")
        await asyncio.sleep(0.02)
