"""Which settings a call gets: flags, then PUT /control, then the fault queue, then the prompt's own directive."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from dataclasses import dataclass

import msgspec

from onceq_service.simulator.ask import Ask, Provider, RefusedError
from onceq_service.simulator.dialect import Limits, Quota
from onceq_service.simulator.faults import read_fault
from onceq_service.simulator.knobs import BUILT_IN, Knobs, read_directive
from onceq_service.simulator.script import Script


class QueuedFault(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A fault for the next `times` calls of a provider (any) whose model begins with `model` (any).

    `times` 0 is used up; the other fields mean what they mean in Knobs.
    """

    fault: str
    times: int = 1
    provider: Provider | None = None
    model: str = ""
    after: int | None = None
    retry_after: float | None = None
    slow_ms: float | None = None

    def fits(self, ask: Ask) -> bool:
        """Whether this call is the one it waits for."""
        provider_fits = self.provider in (None, ask.provider)
        return self.times > 0 and provider_fits and ask.model.startswith(self.model)

    def knobs(self) -> Knobs:
        """The fault as a layer of settings."""
        return Knobs(fault=self.fault, after=self.after, retry_after=self.retry_after, slow_ms=self.slow_ms)


class ControlRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of PUT /control. What is absent stays; what is given replaces what was put before."""

    defaults: Knobs | None = None
    faults: list[QueuedFault] | None = None


@dataclass(slots=True)
class Spent:
    """What the calls of one model have used up in a minute."""

    requests: int = 0
    input: int = 0
    output: int = 0


class Control:
    """The simulator's only memory of orders. `flags` come from the command line and survive a reset."""

    def __init__(self, flags: Knobs) -> None:
        self._flags = flags.over(BUILT_IN)
        self.reset()

    def reset(self) -> None:
        """Back to the flags, no faults waiting, every prompt new again."""
        self._defaults = Knobs()
        self._faults: list[QueuedFault] = []
        self._seen: Counter[bytes] = Counter()
        self._minute: dict[tuple[int, Provider, str], Spent] = {}

    def apply(self, request: ControlRequest) -> None:
        """Take over orders; RefusedError (400) for a fault that does not exist, before anything changes."""
        for fault in request.faults or ():
            read_fault(fault.knobs())
        if request.defaults is not None:
            read_fault(request.defaults)
            self._defaults = request.defaults
        if request.faults is not None:
            self._faults = request.faults

    def shown(self) -> dict[str, object]:
        """The settings in force and the faults still waiting, as JSON."""
        return {"defaults": self._defaults.over(self._flags), "faults": self._faults}

    def knobs_for(self, ask: Ask) -> Knobs:
        """The settings of this call. Counts it: a fault with `times` is used up by asking."""
        below = self._defaults.over(self._flags)
        directive = self._counted(read_directive(ask.texts), ask)
        if directive.fault is None and (queued := self._next_fault(ask)):
            below = queued.over(below)
        return directive.over(below)

    def spend(self, script: Script, knobs: Knobs) -> Limits:
        """Counts a call in the minute of its model; RefusedError (429) when it is one too many."""
        now, ask = time.time(), script.ask
        minute, reset_s = int(now // 60), round(60 - now % 60, 3)
        self._forget_before(minute)
        spent = self._minute.setdefault((minute, ask.provider, ask.model), Spent())
        for unit, limit, used in (
            ("requests", knobs.rpm, spent.requests),
            ("tokens", knobs.tpm, spent.input + spent.output),
        ):
            if limit and used >= limit:
                raise RefusedError(429, f"Rate limit reached for {unit} per minute.", retry_after_s=reset_s)
        spent.requests += 1
        spent.input += script.usage.input
        spent.output += script.usage.output
        return _limits(knobs, spent, reset_s)

    def _counted(self, directive: Knobs, ask: Ask) -> Knobs:
        if directive.fault is None or directive.times is None:
            return directive
        prompt = hashlib.sha256("\0".join(ask.texts).encode()).digest()
        self._seen[prompt] += 1
        if self._seen[prompt] <= directive.times:
            return directive
        return msgspec.structs.replace(directive, fault="none")

    def _next_fault(self, ask: Ask) -> Knobs | None:
        for fault in self._faults:
            if fault.fits(ask):
                fault.times -= 1
                self._faults = [each for each in self._faults if each.times > 0]
                return fault.knobs()
        return None

    def _forget_before(self, minute: int) -> None:
        if len(self._minute) > 1000:
            self._minute = {lane: spent for lane, spent in self._minute.items() if lane[0] >= minute}


def _limits(knobs: Knobs, spent: Spent, reset_s: float) -> Limits:
    tpm = knobs.tpm
    return Limits(
        requests=Quota(knobs.rpm, spent.requests) if knobs.rpm else None,
        tokens=Quota(tpm, spent.input + spent.output) if tpm else None,
        input=Quota(tpm, spent.input) if tpm else None,
        output=Quota(tpm, spent.output) if tpm else None,
        reset_s=reset_s,
    )
