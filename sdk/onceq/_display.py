"""How jobs and answers look, in a notebook and in a terminal. Pure: values in; HTML, Markdown or plain text out.

It stands below the contract and knows a job by what it shows of it, so that `wire` can say how its values look.
"""

from __future__ import annotations

import re
from html import escape
from typing import Protocol

from onceq._markdown import fenced, safe_html, untypeset

_QUIET = "color:gray;font-size:smaller"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class ShownUsage(Protocol):
    """Tokens."""

    @property
    def input_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def estimated(self) -> bool: ...


class ShownCost(Protocol):
    """US dollars; None where the price is not known."""

    @property
    def usd(self) -> str | None: ...


class ShownTimings(Protocol):
    """Seconds."""

    @property
    def ttft_s(self) -> float | None: ...


class ShownError(Protocol):
    """Why there is no answer."""

    @property
    def code(self) -> str: ...
    @property
    def message(self) -> str: ...


class Shown(Protocol):
    """What is shown of a job; `onceq.wire.Job` is one."""

    @property
    def id(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def simulated(self) -> bool: ...
    @property
    def calls(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def usage(self) -> ShownUsage | None: ...
    @property
    def cost(self) -> ShownCost: ...
    @property
    def timings(self) -> ShownTimings: ...
    @property
    def error(self) -> ShownError | None: ...


def job_html(job: Shown) -> str:
    """The answer so far, or why there is none, above a quiet line with what it took."""
    return answer_html(job.text, footer(job), problem(job))


def job_markdown(job: Shown) -> str:
    """The answer for exporters that know Markdown alone; model text is a code block, so that none of it is markup."""
    parts = [fenced(job.text) if job.text else "", fenced(problem(job)) if job.error else "", f"`{footer(job)}`"]
    return "\n\n".join(part for part in parts if part)


def stream_html(text: str, job: Shown | None) -> str:
    """What has arrived of a stream."""
    return answer_html(text, footer(job), problem(job)) if job else answer_html(text, "not started")


def answer_html(text: str, foot: str, error: str = "") -> str:
    """A text as Markdown, what went wrong in bold, and a quiet line below; all of it escaped."""
    body = safe_html(text) if text else ""
    wrong = f"<div><b>{escape(error)}</b></div>" if error else ""
    return untypeset(f'{body}{wrong}<div style="{_QUIET}">{escape(foot)}</div>')


def note_html(text: str) -> str:
    """A sentence of ours."""
    return untypeset(escape(text))


def plain(text: str) -> str:
    """The text without control characters, which could move a terminal's cursor or rename its window."""
    return _CONTROL.sub("", text)


def footer(job: Shown) -> str:
    """One line: model, state, tokens, cost, time to first token, id; what is not known is left out."""
    parts = [job.model, job.status, *_tokens(job), *_cost(job), *_ttft(job), job.id]
    return " · ".join([*parts, "simulated"] if job.simulated else parts)


def problem(job: Shown) -> str:
    """Why the job has no answer; empty where it has one, or may still get one."""
    return f"{job.error.message} [{job.error.code}]" if job.error else ""


def detached(job_id: str | None, *, awaited: bool) -> str:
    """What an interrupted cell says: what goes on, how to come back to it, how to end it."""
    if job_id is None:
        return "Interrupted before the job had its number: run the cell again, the same request joins the same job."
    back = f"await client.follow({job_id!r}).show()" if awaited else f"client.follow({job_id!r}).show()"
    end = f"{'await ' if awaited else ''}client.cancel({job_id!r})"
    return f"Detached: the job goes on, and is paid once. Come back: {back} - or end it: {end}"


def _tokens(job: Shown) -> list[str]:
    if job.usage is None:
        return []
    about = "≈" if job.usage.estimated else ""
    return [f"{about}{job.usage.input_tokens} + {about}{job.usage.output_tokens} tokens"]


def _cost(job: Shown) -> list[str]:
    if not job.calls:
        return []
    return ["cost unknown" if job.cost.usd is None else f"${job.cost.usd}"]


def _ttft(job: Shown) -> list[str]:
    ttft_s = job.timings.ttft_s
    return [] if ttft_s is None else [f"ttft {ttft_s:.2f} s"]
