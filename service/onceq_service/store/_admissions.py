"""Posts of one turn of the event loop are admitted together, each with an outcome of its own.

Plain ones go by their kind to `admit_plain.lua`, all others and what it leaves to `admit.lua`. Measured: Redis spends
150 us on an admission that comes alone to admit.lua, 100 on a plain one, and a third of either in a batch, where
the script's functions are built once, and lanes, sums and indexes are written once for all (benchmarks/README.md).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, cast

from onceq_service.store import scripts
from onceq_service.store._lua import Script
from onceq_service.store._pipe import Arg, Pipe, settle
from onceq_service.store.admission import (
    Admission,
    AdmissionTemplate,
    AdmissionValues,
    Admitted,
    admitted,
    any_kind,
    plain,
    template,
    values_of,
)
from onceq_service.store.retention import Retention

MOST: Final = 32
"""Admissions of one run: about a millisecond in which Redis does nothing else."""
Outcome = asyncio.Future[Admitted]
Tell = Callable[[object], None]
"""Takes what became of a request, an exception or Admitted, and raises nothing."""


class _Asked:
    """A request that has no outcome yet, and how the script that it goes to takes it."""

    __slots__ = ("accept_ms", "argv", "tell", "template", "values")

    def __init__(self, template: AdmissionTemplate, values: AdmissionValues, accept_ms: int, tell: Tell) -> None:
        self.template, self.values, self.accept_ms, self.tell = template, values, accept_ms, tell
        self.argv: Sequence[Arg] = ()


Read = Callable[[_Asked, object], object]
"""What an answer of a script says of a request: Admitted, an exception to raise, or None for nothing yet."""


class Admissions:
    """Collects what is to be admitted until the loop comes round."""

    def __init__(self, pipe: Pipe, root: str, retention: Retention) -> None:
        self._pipe, self._root, self._retention = pipe, root, retention
        self._kinds: defaultdict[tuple[Arg, ...], list[_Asked]] = defaultdict(list)
        self._others: list[_Asked] = []
        self._due = False

    def put(self, a: Admission, accept_ms: int) -> Outcome:
        """Raises nothing; what it gives raises KeyReused, CostTooHigh, JobNotFound, BudgetRefused, StoreError."""
        outcome: Outcome = asyncio.get_running_loop().create_future()
        self.put_from_template(self.template(a), values_of(a), accept_ms, partial(settle, outcome))
        return outcome

    def template(self, a: Admission) -> AdmissionTemplate:
        """For requests like this one."""
        return template(a, self._retention.result_s)

    def put_from_template(
        self, template: AdmissionTemplate, values: AdmissionValues, accept_ms: int, tell: Tell
    ) -> None:
        """The same for one of a pattern; whoever asks is told in the turn of the answer."""
        asked = _Asked(template, values, accept_ms, tell)
        if template.kind is None:
            self._leave(asked)
        else:
            asked.argv = plain(template.asked, values, accept_ms)
            self._kinds[template.kind].append(asked)
        self._soon()

    def _leave(self, one: _Asked) -> None:
        """To admit.lua."""
        one.argv = any_kind(one.template.whole(one.values), one.accept_ms, self._retention.result_s)
        self._others.append(one)

    def _soon(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._due = False
        kinds, self._kinds = self._kinds, defaultdict(list)
        others, self._others = self._others, []
        for kind, asked in kinds.items():
            self._send(scripts.ADMIT_PLAIN, kind, asked, self._of_plain)
        self._send(scripts.ADMIT, (), others, _of_any)
        self._pipe.flush()

    def _send(self, script: Script, shared: Sequence[Arg], asked: Sequence[_Asked], read: Read) -> None:
        for start in range(0, len(asked), MOST):
            batch = asked[start : start + MOST]
            argv: list[Arg] = [self._retention.idempotency_s, *shared]
            for one in batch:
                argv.append(len(one.argv))
                argv += one.argv
            made = asyncio.ensure_future(self._pipe.script(script, self._root, argv))
            made.add_done_callback(partial(_share, batch, read))

    def _of_plain(self, one: _Asked, created_ms: object) -> object:
        """What admit_plain.lua leaves, since something of it is known or has failed, is for admit.lua to answer."""
        if created_ms:
            return Admitted(one.values.id, "created", int(cast("bytes", created_ms)), {})
        self._leave(one)
        self._soon()
        return None


def _of_any(_: _Asked, answer: object) -> object:
    try:
        return admitted(cast("Sequence[object]", answer))
    except Exception as exc:  # noqa: BLE001 - it is the waiter's
        return exc


def _share(batch: Sequence[_Asked], read: Read, made: asyncio.Future[list[object]]) -> None:
    """Gives each its own outcome, or the error that all have met."""
    try:
        answers = made.result()
    except BaseException as exc:  # noqa: BLE001 - every waiter must hear of it, whatever it is
        for one in batch:
            one.tell(exc)
        return
    for one, answer in zip(batch, answers, strict=True):
        said = read(one, answer)
        if said is not None:
            one.tell(said)
