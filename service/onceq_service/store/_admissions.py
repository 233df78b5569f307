"""Posts of one turn of the event loop are admitted by one run of `admit.lua`, each with an outcome of its own.

Measured: Redis spends 85 us on an admission that comes alone and a third of that in a batch, where the script's
functions are built once, and lanes, sums and indexes are written once for all (benchmarks/README.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Final

from onceq_service.store import scripts
from onceq_service.store._pipe import Arg, Pipe, settle

MOST: Final = 32
"""Admissions of one run: about a millisecond in which Redis does nothing else."""
Waiting = tuple[Sequence[Arg], asyncio.Future[list[object]]]


class Admissions:
    """Collects what is to be admitted until the loop comes round."""

    def __init__(self, pipe: Pipe, root: str, idem_ttl_s: int) -> None:
        self._pipe, self._root, self._idem_ttl_s = pipe, root, idem_ttl_s
        self._waiting: list[Waiting] = []

    def put(self, argv: Sequence[Arg]) -> asyncio.Future[list[object]]:
        """One request as `admit.lua` takes it, without its size; gives its answer, raises StoreError and its kinds."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[object]] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append((argv, future))
        return future

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), MOST):
            batch = waiting[start : start + MOST]
            argv = [self._idem_ttl_s, *chain.from_iterable((len(one), *one) for one, _ in batch)]
            made = asyncio.ensure_future(self._pipe.script(scripts.ADMIT, self._root, argv))
            made.add_done_callback(partial(_share, batch))
        self._pipe.flush()


def _share(batch: Sequence[Waiting], made: asyncio.Future[list[object]]) -> None:
    """Gives each its own answer, or the error that all have met."""
    try:
        answers: Sequence[object] = made.result()
    except BaseException as exc:  # noqa: BLE001 - every waiter must hear of it, whatever it is
        answers = [exc] * len(batch)
    for (_, future), answer in zip(batch, answers, strict=True):
        settle(future, answer)
