"""A row as it comes back: what was answered, what it cost, or why there is nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onceq.map.cache import Outcome
from onceq.map.money import usd
from onceq.map.output import Output, OutputMismatch
from onceq.wire import Cost, JobError, Timings, Usage
from onceq.wire import Output as Answer


@dataclass(frozen=True, slots=True)
class MapRow:
    """What became of one row of a map (with `n`, of one sample of a row).

    `index` is the row's label, `position` its number from 0. `status` is the job's (`succeeded`, `failed`, `cancelled`,
    `expired`), or `invalid` (the answer does not fit the output), `skipped` (the row makes no prompt), `refused` (by
    the service), `not_posted` (for `max_cost_usd`, or left out by `sample`), `gone` (asked before, lapsed since).
    `error` says why, and what to do. `value` is the text, or the checked output; None without an answer.

    `cost_usd` (US dollars, as in frames) is 0 in rows that share an answer with one before them, None where the price
    is not known; the job's `cost.nano_usd` is exact. `ttft_s` are seconds from the post to the first token; `tokens`
    are input and output of the call that gave the answer.
    """

    index: Any
    position: int
    sample: int
    status: str
    value: Any
    text: str | None
    cost_usd: float | None
    ttft_s: float | None
    tokens: int | None
    job_id: str | None
    error: str | None


def row_of(index: Any, position: int, sample: int, outcome: Outcome, output: Output) -> MapRow:
    """The row that an outcome makes."""
    status, error, value = outcome.status, outcome.error, None
    if status == "succeeded":
        try:
            value = output.parse(outcome.text or "")
        except OutputMismatch as exc:
            status, error = "invalid", f"{exc}. It was paid; fresh=True asks anew."
    return MapRow(
        index=index, position=position, sample=sample, status=status, value=value, text=outcome.text,
        cost_usd=usd(outcome.cost_nano_usd), ttft_s=outcome.ttft_s, tokens=outcome.tokens, job_id=outcome.job_id,
        error=error,
    )  # fmt: skip


def outcome_of(
    job_id: str, status: str, output: Answer | None, usage: Usage | None, cost: Cost, timings: Timings | None,
    error: JobError | None,
) -> Outcome:  # fmt: skip
    """A job's end as an outcome."""
    return Outcome(
        status=status,
        text=output.text if output is not None else "" if status == "succeeded" else None,
        cost_nano_usd=cost.nano_usd,
        ttft_s=timings.ttft_s if timings else None,
        tokens=usage.input_tokens + usage.output_tokens if usage else None,
        job_id=job_id,
        error=f"{error.message} [{error.code}]" if error else None if status == "succeeded" else f"the job is {status}",
    )


def gone(job_id: str | None) -> Outcome:
    """What is said of a row that was asked before, and of which nothing is left here or at the service."""
    job = f"as job {job_id} " if job_id else ""
    return Outcome(
        "gone", job_id=job_id,
        error=f"this row was sent before {job}and its answer was never fetched; the service has let go of it since. It "
        "may have been paid, so it is not asked again by itself: map these rows with fresh=True to do so.",
    )  # fmt: skip
