"""The progress of a map in a cell or a terminal: tqdm's bar, with failures, cost so far and where it leads."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from onceq.errors import ConfigurationError
from onceq.map.money import Forecast, dollars
from onceq.map.run import Run

WIDE: Final = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix} [{elapsed}<{remaining}, {rate_fmt}]"
"""As tqdm writes it, but what a narrow screen may cut off at the end is the rate, and not the money."""
NARROW: Final = "{n_fmt}/{total_fmt}{postfix}, {remaining} left, {rate_fmt}"
COUNTED: Final = "{desc}: {n_fmt} rows{postfix} [{elapsed}, {rate_fmt}]"
NARROW_COLUMNS: Final = 100
"""Below it there is no room for a bar beside what it says."""


class NoProgress:
    """Shows nothing."""

    def show(self, run: Run) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Bar:
    """tqdm's bar, a widget in a notebook. `rows` are those of the result; `counted`: not all of them are asked.

    Rows that were remembered do not count for the rate, so that the time left is that of the others.
    """

    def __init__(self, tqdm: Callable[..., Any], rows: int | None, name: str, *, counted: bool) -> None:
        layout = COUNTED if counted or not rows else NARROW if _is_narrow() else WIDE
        total = None if counted else rows
        # the mean rate, not that of the last moments: rows come in bursts, as posts and workers have it
        self._bar = tqdm(total=total, desc=name, unit="row", smoothing=0, miniters=1, bar_format=layout)
        self._rows = rows

    def show(self, run: Run) -> None:
        """Draws it, at tqdm's own pace."""
        self._bar.initial = run.remembered
        self._bar.set_postfix_str(postfix(run, self._rows), refresh=False)
        self._bar.update(run.done - run.left_out - self._bar.n)

    def close(self) -> None:
        """Leaves it as it is."""
        self._bar.refresh()
        self._bar.close()


def progress_for(wanted: bool | None, rows: int | None, name: str, *, counted: bool) -> Bar | NoProgress:
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
    return Bar(auto.tqdm, rows, name, counted=counted)


def postfix(run: Run, rows: int | None) -> str:
    """What has no answer, the cost so far, and where it leads."""
    parts = [f"{count} {what}" for count, what in ((run.failed, "failed"), (run.left_out, "not posted")) if count]
    forecast = run.budget.forecast(run.intake.to_pay(rows)) if rows is not None and run.done < rows else None
    parts.append(dollars(run.budget.spent) + (f" of {_range(forecast)}" if forecast else ""))
    parts += ["some unpriced"] if run.budget.unpriced else []
    return ", ".join([*parts, "simulated"] if run.simulated else parts)


def _is_narrow() -> bool:
    """Whether a terminal is shown to, and has no room for a bar; a cell and a file have."""
    return sys.stderr.isatty() and 0 < os.get_terminal_size(sys.stderr.fileno()).columns < NARROW_COLUMNS


def _range(forecast: Forecast) -> str:
    low, high = dollars(forecast.low_nano_usd, 3), dollars(forecast.high_nano_usd, 3)
    return f"about {low}" if low == high else f"{low}–{high.removeprefix('$')}"
