"""What a job was asked, and what happened to it: the request's turns and the event log, as rows. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

import pandas as pd

from onceq import JobRequest, Message, StreamEvent
from onceq_dashboard.format import count, some, usd

ASKED = ("max_tokens", "temperature", "stop", "response_format", "tool_choice", "params", "max_cost_usd", "on_crash",
         "on_break", "on_disconnect", "max_calls", "deadline_s", "dedupe_window_s", "fresh")  # fmt: skip


class Turn(NamedTuple):
    """Who said what; an image or a tool call is named, not shown."""

    role: str
    text: str


def turns(asked: JobRequest) -> list[Turn]:
    """The conversation that the model was given."""
    system = [Turn("system", asked.system)] if asked.system else []
    prompt = [Turn("user", asked.prompt)] if asked.prompt else []
    return [*system, *prompt, *(Turn(message.role, _said(message)) for message in asked.messages or [])]


def _said(message: Message) -> str:
    said: list[str] = []
    if isinstance(message.content, str):
        said.append(message.content)
    else:
        said += [part.text if part.type == "text" else "[an image]" for part in message.content or []]
    said += [f"[calls {call.name}({call.arguments})]" for call in message.tool_calls or []]
    return "\n".join(said)


def parameters(asked: JobRequest) -> dict[str, str]:
    """What else was asked for, by name; what was left to its default is not in it."""
    given = asked.model_dump(mode="json", include=set(ASKED), exclude_defaults=True, by_alias=True)
    named = {name: str(given[name]) for name in ASKED if name in given}
    return named | ({"tools": ", ".join(tool.name for tool in asked.tools)} if asked.tools else {})


def events(log: Iterable[StreamEvent]) -> pd.DataFrame:
    """One row an event, pieces of text in a row as one: `events` (their numbers), `event`, `call`, `what`."""
    rows = [_row(list(alike)) for _, alike in groupby(log, key=_kind)]
    return pd.DataFrame(rows, columns=["events", "event", "call", "what"]).astype(
        {"events": "str", "event": "str", "call": "int64", "what": "str"}
    )


def _kind(event: StreamEvent) -> tuple[object, ...]:
    """Deltas of one call and kind are alike; no other event is like another."""
    data = event.data
    return (event.name, data.call, data.kind) if event.name == "delta" else (event.name, event.seq)


def _row(alike: list[StreamEvent]) -> tuple[str, str, int, str]:
    first, last = alike[0], alike[-1]
    numbers = str(first.seq or "—") if first is last else f"{first.seq} to {last.seq}"
    return numbers, first.name, first.data.call, _what(alike)


def _what(alike: list[StreamEvent]) -> str:
    first = alike[0].data
    if alike[0].name == "delta":
        characters = count(sum(len(event.data.text) for event in alike))
        return f"{first.kind or 'text'}: {characters} characters in {some(len(alike), 'piece')}"
    known = {
        "because of": first.reason, "model": first.model, "not before": first.retry_at and f"{first.retry_at:%H:%M:%S}",
        "error": first.error and first.error.code, "finish reason": first.finish_reason,
        "cost": usd(first.cost.nano_usd) if first.cost else None,
    }  # fmt: skip
    return ", ".join(f"{name} {value}" for name, value in known.items() if value)
