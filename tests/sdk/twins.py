"""One face for both clients, so that one table of tests holds for the twins: what awaits is awaited."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

from onceq import AsyncClient, Client


class Awaited:
    """Wraps an object of the async side: coroutines are run, async iterators are walked, results are wrapped."""

    def __init__(self, inner: Any, runner: asyncio.Runner) -> None:
        self._inner = inner
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        return self._wrap_call(value) if inspect.isroutine(value) else self._wrap(value)

    def __iter__(self) -> Iterator[Any]:
        return self._walk(aiter(self._inner))

    def __repr__(self) -> str:
        return repr(self._inner)

    def _wrap_call(self, method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            value = method(*args, **kwargs)
            return self._wrap(self._runner.run(value) if inspect.iscoroutine(value) else value)

        return call

    def _wrap(self, value: Any) -> Any:
        if inspect.isasyncgen(value):
            return self._walk(value)
        if isinstance(value, list):
            return [self._wrap(v) for v in value]  # pyright: ignore[reportUnknownVariableType] - a wrapper of anything
        return Awaited(value, self._runner) if type(value).__name__.startswith("Async") else value

    def _walk(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        async def step() -> Any:
            return await anext(items)

        async def leave() -> None:
            if inspect.isasyncgen(items):
                await items.aclose()

        try:
            while True:
                try:
                    yield self._runner.run(step())
                except StopAsyncIteration:
                    return
        finally:
            self._runner.run(leave())


def twin(kind: str, runner: asyncio.Runner, **options: Any) -> Any:
    """A `Client`, or an `AsyncClient` behind the same face."""
    if kind == "blocking":
        return Client(**options)

    async def build() -> AsyncClient:
        return AsyncClient(**options)

    return Awaited(runner.run(build()), runner)
