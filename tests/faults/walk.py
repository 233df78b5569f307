"""What the state machines are made of: steps in any order, a loop that runs them, and how far to look.

In CI the examples are few and always the same; ONCEQ_MODEL_EXAMPLES asks for more, and then each run tries others.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])
EXAMPLES = int(os.environ.get("ONCEQ_MODEL_EXAMPLES") or 0)
PHASES = (Phase.generate,) if os.environ.get("ONCEQ_MODEL_UNSHRUNK") else tuple(Phase)


class Steps:
    """The steps of a machine. Not a rule each: hypothesis leaves most rules out of an example, to see more of the
    others, and would never come as deep as a second call."""

    def __init__(self) -> None:
        self.arguments: dict[str, st.SearchStrategy[dict[str, Any]]] = {}

    def __call__(self, **arguments: st.SearchStrategy[Any]) -> Callable[[F], F]:
        """Makes a method a step, whose arguments are drawn from these."""

        def remember(function: F) -> F:
            self.arguments[function.__name__] = st.fixed_dictionaries(arguments)
            return function

        return remember

    def take(self, machine: object, possible: Iterable[str], data: st.DataObject) -> str:
        """Does one of the possible steps; its name."""
        name = data.draw(st.sampled_from(list(possible)), label="step")
        getattr(machine, name)(**data.draw(self.arguments[name], label=name))
        return name


class Walk(RuleBasedStateMachine):
    """A machine whose steps speak to Redis."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()

    def run(self, doing: Awaitable[T]) -> T:
        """What it comes to."""

        async def wait() -> T:
            return await doing

        return self.runner.run(wait())


def explore(machine: type[Walk], examples: int) -> None:
    """Walks so many times, or as often as ONCEQ_MODEL_EXAMPLES says, forty steps each."""
    wanted = settings(
        max_examples=EXAMPLES or examples, stateful_step_count=40, derandomize=not EXAMPLES, deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        database=None, print_blob=False, phases=PHASES,
    )  # fmt: skip
    run_state_machine_as_test(machine, settings=wanted)
