"""Closing what awaits, also where its event loop ends at the same time.

A loop that ends closes every generator that was begun in it, all at once: those within others a second time, while
their owners do so. And what is to be closed by a task is cancelled where that first waits. So the loop is to know the
outermost generator alone, and closing does not wait.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from functools import partial
from types import coroutine
from typing import Any, Generic, Self, TypeVar, cast

T = TypeVar("T")


class Inner(Generic[T]):
    """What a generator within another one yields. The other closes it: `async with aclosing(Inner(...)) as steps`."""

    def __init__(self, steps: AsyncGenerator[T]) -> None:
        self._steps = steps

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        return await _unknown(_begun(self._steps.__anext__))

    async def aclose(self) -> None:
        """Close it, and what it holds."""
        closing = at_once(_begun(self._steps.aclose))
        await _unknown(cast("Generator[Any, Any, None]", closing))


async def _begun(step: Callable[[], Awaitable[T]]) -> T:
    return await step()  # called in here, as it is then that a generator takes note of the hooks


@coroutine
def _unknown(step: Coroutine[Any, Any, T] | Generator[Any, Any, T]) -> Generator[Any, Any, T]:
    """Awaits `step`; the loop does not come to know the generators that it begins, httpx2's among them."""
    advance = partial(step.send, None)
    while True:
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, None)
        try:
            awaited = advance()
        except StopIteration as end:
            return end.value
        finally:
            sys.set_asyncgen_hooks(*hooks)
        try:
            advance = partial(step.send, (yield awaited))
        except BaseException as exc:  # noqa: BLE001 - a cancellation, for instance: it is thrown on
            advance = partial(step.throw, exc)


@coroutine
def at_once(closing: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
    """Awaits `closing`, and skips the turns that it gives to others: they may be the loop's last."""
    advance = partial(closing.send, None)
    while True:
        try:
            awaited = advance()
        except StopIteration:
            return
        if awaited is None:  # asyncio.sleep(0)
            advance = partial(closing.send, None)
            continue
        try:
            advance = partial(closing.send, (yield awaited))
        except BaseException as exc:  # noqa: BLE001 - as above
            advance = partial(closing.throw, exc)
