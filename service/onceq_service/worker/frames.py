"""Deltas -> the frames that readers get, encoded once, here; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from onceq_service.providers.base import Delta

_json = msgspec.json.encode


def coalesce(deltas: Sequence[Delta]) -> Iterator[Delta]:
    """Neighbouring pieces of one kind (and one tool call) as one."""
    start = 0
    for n in range(1, len(deltas) + 1):
        if n == len(deltas) or not _same(deltas[start], deltas[n]):
            yield deltas[start] if n - start == 1 else _joined(deltas[start:n])
            start = n


def _same(a: Delta, b: Delta) -> bool:
    return a.kind == b.kind and a.index == b.index and not b.id and not b.name


def _joined(run: Sequence[Delta]) -> Delta:
    first = run[0]
    return Delta(first.kind, "".join([d.text for d in run]), first.index, first.id, first.name, run[-1].at)


def delta_frame(job: bytes, seq: int, call: int, delta: Delta) -> bytes:
    """One `delta` event as SSE bytes."""
    head = b'id: %d\nevent: delta\ndata: {"job":"%b","seq":%d,"call":%d,"kind":"%b","text":%b' % (
        seq, job, seq, call, delta.kind.encode(), _json(delta.text),
    )  # fmt: skip
    return head + (_tool_members(delta) if delta.kind == "tool_call" else b"") + b"}\n\n"


def _tool_members(delta: Delta) -> bytes:
    members = b',"index":%d' % delta.index
    if delta.id:
        members += b',"id":%b' % _json(delta.id)
    if delta.name:
        members += b',"name":%b' % _json(delta.name)
    return members
