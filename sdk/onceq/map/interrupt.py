"""What becomes of a map that is left before its end, and what its cell says of that. No I/O."""

from __future__ import annotations

from typing import Final

from onceq._flows import cancel_batch
from onceq._http import Backoff, Flow
from onceq.errors import ConfigurationError, NotFoundError
from onceq.map.money import dollars
from onceq.map.run import Run
from onceq.wire import BatchCancelled

CancelResult = BatchCancelled | BaseException | None
"""What a cancel came to: the service's answer, or why there is none; None where nobody wanted one."""

LOOKS: Final = 4
LOOK_S: Final = 0.3
"""How often, and how far apart, a cancel looks for jobs of a post that was cut off."""


def cancel_in_flight(run: Run, backoff: Backoff) -> Flow[BatchCancelled]:
    """Cancel what a map has in flight; a post that was cut off may arrive behind a cancel, and is looked for again."""
    cancelled = requested = 0
    for look in range(LOOKS if run.unanswered else 1):
        answer = yield from _cancelled(run.batch, backoff, LOOK_S if look else 0.0)
        cancelled, requested = cancelled + answer.cancelled, max(requested, answer.requested)
        if cancelled + requested >= run.in_flight:
            break
    return BatchCancelled(cancelled=cancelled, requested=requested)


def _cancelled(batch: str, backoff: Backoff, after_s: float) -> Flow[BatchCancelled]:
    try:
        return (yield from cancel_batch(batch, backoff, after_s))
    except NotFoundError:  # nothing of it has arrived
        return BatchCancelled(cancelled=0, requested=0)


def forked_map_error() -> ConfigurationError:
    """The error of a process that would go on with a map of the one that it was forked from."""
    return ConfigurationError(
        "this map was begun in another process, and goes on there: begin it here again. What is done is not paid again."
    )


def left(run: Run, here: str, cancel_result: CancelResult, *, awaited: bool) -> str:
    """What is there, what goes on, how to end it, how to come back."""
    if not run.in_flight:
        return f"{here}, and none is running. Come back: run this cell again; what is done is not paid again."
    if isinstance(cancel_result, BatchCancelled):
        return f"{here}; {_ended(run, cancel_result)}. Run this cell again to ask once more for what has no answer."
    call = f"{'await ' if awaited else ''}client.cancel_batch({run.batch!r})"
    return (
        f"{here}; {_going_on(run)}.{_failed(cancel_result)}\n"
        f"Come back: run this cell again; nothing is paid twice.\nCancel them: {call}"
    )


def _going_on(run: Run) -> str:
    most = f", for up to {dollars(run.budget.reserved)}{kind(run)}" if run.budget.reserved else ""
    sure = f"{len(run.waiting)} are committed and go on at the service{most}"
    cut_off = f"{run.unanswered} were just being sent, and go on too as far as they have arrived"
    return "; ".join(([sure] if run.waiting else []) + ([cut_off] if run.unanswered else []))


def _ended(run: Run, cancel_result: BatchCancelled) -> str:
    """By the service's own count: a job may have ended without its row having heard of it, or never have arrived."""
    others = max(0, run.in_flight - cancel_result.cancelled - cancel_result.requested)
    never = " or never arrived" if run.unanswered else ""
    parts = [
        (cancel_result.cancelled, "cancelled"),
        (cancel_result.requested, "running and told to stop (what is written by then is paid)"),
        (others, f"answered already (and not paid again){never}"),
    ]
    return ", ".join(f"{count} {'was' if count == 1 else 'were'} {what}" for count, what in parts if count)


def _failed(cancel_result: CancelResult) -> str:
    if cancel_result is None:
        return ""
    return f"\nThat they are cancelled is not confirmed: {str(cancel_result) or 'asking for it was interrupted too.'}"


def kind(run: Run) -> str:
    """A word for money that nobody pays."""
    return " (simulated)" if run.simulated else ""
