"""How the commands write: colour only on a terminal, money and times in one form."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import typer

from onceq.wire import NANO, Cost, Job


def say(text: str = "") -> None:
    """One line for people, at once."""
    typer.echo(text)
    sys.stdout.flush()


def hint(text: str) -> None:
    """A line beside the output proper, so that a pipe gets the output alone."""
    typer.secho(text, err=True, dim=True)


def fail(sentence: str) -> int:
    """Says what went wrong; the exit code."""
    typer.secho(f"onceq: {sentence}", err=True, fg=typer.colors.RED)
    return 1


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> list[str]:
    """Aligned columns; those numbered in `right` are aligned to the right, as numbers are."""
    whole = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in whole) for i in range(len(head))]
    to_right = frozenset(right)

    def line(row: list[str]) -> str:
        cells = zip(row, widths, range(len(row)), strict=True)
        return "  ".join(c.rjust(w) if i in to_right else c.ljust(w) for c, w, i in cells).rstrip()

    return [line(row) for row in whole]


def money(cost: Cost) -> str:
    """What a job cost, in USD; `unpriced` where nobody knows, never 0."""
    return usd(cost.nano_usd) if cost.nano_usd is not None else "unpriced"


def usd(nano: int) -> str:
    """Dollars with enough digits to tell two small calls apart."""
    return f"${nano / NANO:.6f}"


def seconds(value: float | None) -> str:
    """Seconds to the hundredth; a dash where there is none."""
    return "-" if value is None else f"{value:.2f} s"


def age(then: datetime, now: datetime | None = None) -> str:
    """How long ago, in the largest unit that fits."""
    passed = max(0, int(((now or datetime.now(UTC)) - then).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if passed >= size:
            return f"{passed // size} {unit} ago"
    return f"{passed} s ago"


def summary(job: Job, disposition: str | None = None) -> str:
    """A finished job in one line: what became of it, what it took, what it cost."""
    usage = job.usage
    parts = [
        job.id,
        disposition if disposition and disposition != "created" else None,
        job.status,
        f"{usage.output_tokens} tokens" if usage else None,
        f"first token after {seconds(job.timings.ttft_s)}",
        money(job.cost),
        "simulated" if job.simulated else None,
    ]
    return " · ".join(part for part in parts if part)
