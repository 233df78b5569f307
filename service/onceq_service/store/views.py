"""A job's hash in Redis -> the job that a client sees; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from sys import intern
from typing import Final, Literal, cast

import msgspec

from onceq.wire import (
    Band,
    Cost,
    Disposition,
    Durability,
    Event,
    Job,
    Output,
    Status,
    SubmittedJob,
    Timings,
    Urls,
    Waiting,
)

Fields = Mapping[str, bytes]
SHOWN = (
    "state", "seq", "tenant", "model", "provider", "lane", "band", "user", "team", "labels", "simulated", "chain",
    "created_ms", "claimed_ms", "started_ms", "first_ms", "finished_ms", "not_before_ms", "wait_reason", "grace_ms",
    "result_ttl_s", "calls", "tries", "spent", "wasted", "unpriced", "reserved", "cancel", "retry_of", "replayed_by",
    "output", "end",
)  # fmt: skip
"""What of a job's hash a client is shown: all that job_view looks at, and nothing as large as the request."""


def fields_of(flat: Sequence[bytes]) -> dict[str, bytes]:
    """Redis's flat list of fields and values as a dict; empty when the key does not exist.

    Names are interned: all jobs have the same, and a worker holds thousands of them.
    """
    return {intern(flat[n].decode()): flat[n + 1] for n in range(0, len(flat), 2)}


LAST_MS: Final = 253_402_300_799_000
"""The last second of the year 9999."""


def at(ms: bytes | int | None) -> datetime | None:
    """Milliseconds since the epoch as a time in UTC; what is later than any time is the last one."""
    return None if ms is None else datetime.fromtimestamp(min(int(ms), LAST_MS) / 1000, UTC)


def urls(job_id: str) -> Urls:
    """Where a job can be read, followed and cancelled."""
    base = f"/v1/jobs/{job_id}"
    return Urls(self=base, events=f"{base}/events", cancel=f"{base}/cancel")


def job_view(job_id: str, f: Fields, durability: Durability, partial: Output | None = None) -> Job:
    """The job as it stands; `partial` is what its event log holds of the text where the hash has no output yet."""
    end = Event.model_validate_json(f["end"]) if "end" in f else None
    expires = int(f["finished_ms"]) + int(f.get("result_ttl_s", b"86400")) * 1000 if "finished_ms" in f else None
    return Job(
        id=job_id,
        status=cast("Status", _text(f, "state")),
        model=_text(f, "model"),
        provider=_text(f, "provider"),
        team=_text(f, "team") or None,
        user=_text(f, "user") or None,
        labels=cast("dict[str, str]", msgspec.json.decode(f.get("labels", b"") or b"{}")),
        band=cast("Band", _text(f, "band")),
        simulated=f.get("simulated") == b"1",
        created_at=cast("datetime", at(f["created_ms"])),
        started_at=at(f.get("started_ms")),
        first_token_at=at(f.get("first_ms")),
        finished_at=at(f.get("finished_ms")),
        expires_at=at(expires),
        output=Output.model_validate_json(f["output"]) if f.get("output") else partial,
        usage=end.usage if end else None,
        cost=end.cost if end and end.cost else _cost_so_far(f),
        timings=end.timings if end and end.timings else Timings(queue_s=_between(f, "created_ms", "claimed_ms")),
        calls=int(f["calls"]),
        tries=int(f["tries"]),
        error=end.error if end else None,
        waiting=_waiting(f),
        receipt=end.receipt if end else None,
        retry_of=_text(f, "retry_of") or None,
        replayed_by=_text(f, "replayed_by") or None,
        fallbacks=_text(f, "chain").split(),
        cancel_requested="cancel" in f,
        urls=urls(job_id),
        durability=durability,
    )


def _waiting(f: Fields) -> Waiting | None:
    """A queued job's delay, which a cancel ends; why its lane lets it wait is not written in the job."""
    if f["state"] != b"queued" or "not_before_ms" not in f or "cancel" in f:
        return None
    return Waiting(reason=_text(f, "wait_reason") or "not_before", until=at(f["not_before_ms"]))


def submitted(job: Job, disposition: Disposition) -> SubmittedJob:
    """The job with what the post did."""
    return SubmittedJob.model_construct(**job.__dict__, disposition=disposition)


def _text(f: Fields, name: str) -> str:
    return f.get(name, b"").decode()


def _cost_so_far(f: Fields) -> Cost:
    nano, unpriced = int(f.get("spent", 0)), int(f.get("unpriced", 0))
    wasted, reserved = int(f.get("wasted", 0)), int(f.get("reserved", 0))
    if unpriced:
        return Cost(nano_usd=None, usd=None, wasted_nano_usd=wasted, reserved_nano_usd=reserved, priced=False)
    return Cost(nano_usd=nano, usd=usd(nano), wasted_nano_usd=wasted, reserved_nano_usd=reserved)


@lru_cache(maxsize=256)
def usd(nano: int) -> str:
    """Exact US dollars of nano-USD, without trailing zeros: 1_500_000_000 -> "1.5"."""
    whole, rest = divmod(nano, 1_000_000_000)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".")


def _between(f: Fields, start: str, end: str) -> float | None:
    if start not in f or end not in f:
        return None
    return max(0, int(f[end]) - int(f[start])) / 1000


class _Delta(msgspec.Struct):
    kind: Literal["text", "reasoning", "tool_call"] | None = None
    text: str = ""
    index: int = 0
    id: str | None = None
    name: str | None = None


_decode_delta = msgspec.json.Decoder(_Delta).decode


def fold_frames(frames: Sequence[bytes]) -> Output | None:
    """The text so far from a job's frames; a `reset` voids what came before. None when there is no text."""
    text: list[str] = []
    reasoning: list[str] = []
    calls: dict[int, dict[str, str]] = {}
    for frame in frames:
        _, event, data = frame.split(b"\n", 2)
        if event == b"event: reset":
            text, reasoning, calls = [], [], {}
        elif event == b"event: delta":
            _fold(_decode_delta(data[6:]), text, reasoning, calls)
    if not (text or reasoning or calls):
        return None
    return Output.model_validate(
        {"text": "".join(text), "reasoning": "".join(reasoning), "tool_calls": [calls[n] for n in sorted(calls)]}
    )


def _fold(delta: _Delta, text: list[str], reasoning: list[str], calls: dict[int, dict[str, str]]) -> None:
    if delta.kind == "text":
        text.append(delta.text)
    elif delta.kind == "reasoning":
        reasoning.append(delta.text)
    elif delta.kind == "tool_call":
        call = calls.setdefault(delta.index, {"id": "", "name": "", "arguments": ""})
        call["id"] = delta.id or call["id"]
        call["name"] = delta.name or call["name"]
        call["arguments"] += delta.text
