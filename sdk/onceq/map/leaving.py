"""What becomes of a map that is left before its end, and what its cell says of that. No I/O."""

from __future__ import annotations

from onceq.map.money import dollars
from onceq.map.run import Run
from onceq.wire import BatchCancelled

Became = BatchCancelled | BaseException | None
"""What a cancel came to: the service's answer, or why there is none; None where nobody wanted one."""


def left(run: Run, here: str, became: Became, *, awaited: bool) -> str:
    """What is there, what goes on, how to end it, how to come back."""
    if not run.waiting:
        return f"{here}, and none is running. Come back: run this cell again; what is done is not paid again."
    if isinstance(became, BatchCancelled):
        return f"{here}; {_ended(run, became)}. Run this cell again to ask once more for what has no answer."
    call = f"{'await ' if awaited else ''}client.cancel_batch({run.batch!r})"
    return (
        f"{here}; {len(run.waiting)} are committed and go on at the service{_most(run)}.{_failed(became)}\n"
        f"Come back: run this cell again; nothing is paid twice.\nCancel them: {call}"
    )


def _ended(run: Run, became: BatchCancelled) -> str:
    """By the service's own count: a job may have ended without its row having heard of it."""
    ended = max(0, len(run.waiting) - became.cancelled - became.requested)
    parts = [
        (became.cancelled, "cancelled"),
        (became.requested, "running and told to stop (what is written by then is paid)"),
        (ended, "answered already (and not paid again)"),
    ]
    return ", ".join(f"{count} {'was' if count == 1 else 'were'} {what}" for count, what in parts if count)


def _failed(became: Became) -> str:
    if became is None:
        return ""
    return f"\nThey could not be cancelled: {str(became) or 'that was interrupted too.'}"


def _most(run: Run) -> str:
    return f", for up to {dollars(run.purse.reserved)}{kind(run)}" if run.purse.reserved else ""


def kind(run: Run) -> str:
    """A word for money that nobody pays."""
    return " (simulated)" if run.simulated else ""
