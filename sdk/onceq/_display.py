"""How jobs and answers look in a notebook. Pure: values in, HTML out; every text is escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onceq.wire import Job, Output

_TEXT = "white-space:pre-wrap"
_QUIET = "color:gray;font-size:smaller"


def job_html(job: Job) -> str:
    """The answer so far, or why there is none, above a quiet line with what it took."""
    return _block(job.text, _error(job), footer(job))


def output_html(output: Output, job: Job | None) -> str:
    """What has arrived of a stream."""
    return _block(output.text, _error(job) if job else "", footer(job) if job else "not started")


def footer(job: Job) -> str:
    """One line: model, state, tokens, cost, time to first token, id; what is not known is left out."""
    parts = [job.model, job.status, *_tokens(job), *_cost(job), *_ttft(job), job.id]
    return " · ".join([*parts, "simulated"] if job.simulated else parts)


def _tokens(job: Job) -> list[str]:
    if job.usage is None:
        return []
    about = "≈" if job.usage.estimated else ""
    return [f"{about}{job.usage.input_tokens} + {about}{job.usage.output_tokens} tokens"]


def _cost(job: Job) -> list[str]:
    if not job.calls:
        return []
    return ["cost unknown" if job.cost.usd is None else f"${job.cost.usd}"]


def _ttft(job: Job) -> list[str]:
    ttft_s = job.timings.ttft_s
    return [] if ttft_s is None else [f"ttft {ttft_s:.2f} s"]


def _error(job: Job) -> str:
    return f"{job.error.message} [{job.error.code}]" if job.error else ""


def _block(text: str, error: str, foot: str) -> str:
    body = f'<div style="{_TEXT}">{escape(text)}</div>' if text else ""
    problem = f"<div><b>{escape(error)}</b></div>" if error else ""
    return f'<div>{body}{problem}<div style="{_QUIET}">{escape(foot)}</div></div>'
