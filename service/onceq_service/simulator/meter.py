"""The meter: what each call would have cost, counted from what was really sent.

One row a request. A refusal (any status from 400 on, before the first byte) has `billed` false and costs nothing, as
does a request whose body is still on its way. All others are billed for their input and for the tokens that were
generated until they ended.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from onceq_service.simulator.ask import Provider
from onceq_service.simulator.frames import Frame
from onceq_service.simulator.journal import Journal
from onceq_service.simulator.price import price_nano_usd
from onceq_service.simulator.script import Script, Usage

Status = Literal[
    "arriving",
    "running",
    "completed",
    "aborted",
    "cut",
    "ended",
    "error",
    "dropped",
    "refused",
    "cancelled",
    "failed",
]
"""arriving: its body is not whole. aborted: the client went away. cut, ended, error, dropped: by a fault. cancelled: by
the client's request."""

KEPT_ROWS = 100_000
NOT_BILLED: frozenset[Status] = frozenset({"arriving", "refused", "dropped"})


@dataclass(slots=True)
class Row:
    """One request. Times are Unix seconds; `job` and `call` come from the client's request id."""

    n: int
    job: str | None
    call: int | None
    provider: Provider
    model: str = ""
    stream: bool = False
    started_at: float = field(default_factory=time.time)
    first_token_at: float | None = None
    ended_at: float | None = None
    closed_at: float | None = None
    status: Status = "arriving"
    http_status: int = 200
    fault: str | None = None
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    nano_usd: int | None = None
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)

    def begin(self, script: Script) -> None:
        """The request was understood: its input will be paid for."""
        self.status = "running"
        self.stream = script.ask.stream
        self.fault = script.fault.name if script.fault else None
        self.input_tokens = script.usage.input
        self.cached_tokens = script.usage.cached
        self.cache_write_tokens = script.usage.cache_write

    def take(self, frames: Iterable[Frame]) -> None:
        """Count what is about to be sent."""
        for frame in frames:
            if not frame.tokens:
                continue
            self.output_tokens += frame.tokens
            if frame.kind == "reasoning":
                self.reasoning_tokens += frame.tokens
                self.thoughts.append(frame.text)
            elif frame.kind == "text":
                self.texts.append(frame.text)
        if self.first_token_at is None and self.output_tokens:
            self.first_token_at = time.time()

    @property
    def billed(self) -> bool:
        """Whether the provider would have charged for it."""
        return self.status not in NOT_BILLED

    @property
    def usage(self) -> Usage:
        """The counts so far."""
        return Usage(
            self.input_tokens, self.cached_tokens, self.cache_write_tokens, self.output_tokens, self.reasoning_tokens
        )

    def shown(self, *, with_text: bool) -> dict[str, object]:
        """The row as JSON."""
        text = "".join(self.texts)
        values: dict[str, object] = {name: getattr(self, name) for name in SHOWN}
        values |= {"billed": self.billed, "text_sha256": hashlib.sha256(text.encode()).hexdigest()}
        if with_text:
            values |= {"text": text, "reasoning": "".join(self.thoughts)}
        return values


SHOWN = tuple(name for name in Row.__dataclass_fields__ if name not in ("texts", "thoughts"))
SUMMED = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")


@dataclass(slots=True)
class Totals:
    """Sums over billed rows; `refused` counts the others, `unpriced` the billed rows without a price."""

    calls: int = 0
    refused: int = 0
    running: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    nano_usd: int = 0

    def add(self, row: Row) -> None:
        """Count one row in."""
        if not row.billed:
            self.refused += 1
            return
        self.calls += 1
        self.running += row.status == "running"
        self.unpriced += row.nano_usd is None and row.status != "running"
        self.nano_usd += row.nano_usd or 0
        for name in SUMMED:
            setattr(self, name, getattr(self, name) + getattr(row, name))

    def shown(self) -> dict[str, int]:
        """The sums as JSON."""
        return {name: getattr(self, name) for name in Totals.__dataclass_fields__}


class Meter:
    """All rows since the start or the last reset, the oldest folded into totals beyond KEPT_ROWS."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.reset()

    def reset(self) -> None:
        """Forget all rows; calls still going on are not shown again."""
        self._count = 0
        self._rows: deque[Row] = deque()
        self._folded = Totals()

    def open(self, provider: Provider, model: str, request_id: str | None) -> Row:
        """A new request. `request_id` is `<job>/<call>`, or anything, or None."""
        job, call = _job_and_call(request_id)
        self._count += 1
        row = Row(self._count, job, call, provider, model)
        self._rows.append(row)
        if len(self._rows) > KEPT_ROWS:
            self._folded.add(self._rows.popleft())
        self._journal.write({"event": "request", **_brief(row)})
        return row

    def close(self, row: Row, status: Status, http_status: int = 200) -> None:
        """The request has ended; the first of several endings counts."""
        if row.ended_at is not None:
            return
        row.status, row.http_status, row.ended_at = status, http_status, time.time()
        if status == "aborted":
            row.closed_at = row.ended_at
        if row.billed:
            row.nano_usd = price_nano_usd(row.provider, row.model, row.usage)
        else:
            row.input_tokens = row.cached_tokens = row.cache_write_tokens = 0
        self._journal.write({"event": "outcome", **row.shown(with_text=False)})

    def report(self, *, job: str | None, refused: bool, with_text: bool) -> dict[str, object]:
        """Rows and totals, of one job or of all; unbilled rows are listed only when asked for."""
        rows = [row for row in self._rows if job is None or row.job == job]
        totals = Totals() if job is not None else _copy(self._folded)
        for row in rows:
            totals.add(row)
        calls = [row.shown(with_text=with_text) for row in rows if row.billed or refused]
        return {"calls": calls, "totals": totals.shown()}


def _job_and_call(request_id: str | None) -> tuple[str | None, int | None]:
    if not request_id:
        return None, None
    job, slash, call = request_id.rpartition("/")
    return (job, int(call)) if slash and call.isdigit() else (request_id, None)


def _brief(row: Row) -> dict[str, object]:
    return {name: getattr(row, name) for name in ("n", "job", "call", "provider", "model", "started_at")}


def _copy(totals: Totals) -> Totals:
    return Totals(**totals.shown())
