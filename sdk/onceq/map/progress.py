"""The progress of a map in a cell or a terminal: tqdm's bar, with failures, cost so far and where it leads."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from onceq.errors import ConfigurationError
from onceq.map.money import dollars
from onceq.map.run import Run


class NoProgress:
    """Shows nothing."""

    def show(self, run: Run) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Bar:
    """tqdm's bar, a widget in a notebook."""

    def __init__(self, tqdm: Callable[..., Any], total: int | None, name: str) -> None:
        self._bar = tqdm(total=total, desc=name, unit="row", smoothing=0.1)
        self._total = total

    def show(self, run: Run) -> None:
        """Draws it, at tqdm's own pace."""
        self._bar.set_postfix_str(postfix(run, self._total), refresh=False)
        self._bar.update(run.done - self._bar.n)

    def close(self) -> None:
        """Leaves it as it is."""
        self._bar.refresh()
        self._bar.close()


def progress_for(wanted: bool | None, total: int | None, name: str) -> Bar | NoProgress:
    """A bar where one is wanted; without a word (None) where tqdm is there. Raises ConfigurationError."""
    if wanted is False:
        return NoProgress()
    try:
        auto: Any = import_module("tqdm.auto" if "IPython" in sys.modules else "tqdm")
    except ImportError as exc:
        if wanted is None:
            return NoProgress()
        raise ConfigurationError(
            "a progress bar needs tqdm: pip install 'onceq[notebook]', or pass progress=False. Nothing was sent."
        ) from exc
    return Bar(auto.tqdm, total, name)


def postfix(run: Run, total: int | None) -> str:
    """Failures, cost so far, and where it leads."""
    parts = [f"{run.failed} failed"] if run.failed else []
    parts.append(dollars(run.purse.spent) + (" and some unpriced" if run.purse.unpriced else ""))
    forecast = run.purse.forecast(run.intake.to_pay(total)) if total is not None and run.done < total else None
    if forecast is not None:
        parts.append(f"in all {dollars(forecast.low_nano_usd)} to {dollars(forecast.high_nano_usd)}")
    return ", ".join([*parts, "simulated"] if run.simulated else parts)
