"""The body of a 202 for a job that was just created, from a template: its other fields are the model's defaults."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec

from onceq.wire import SubmittedJob, Urls
from onceq_service.store import Admission

_ENCODE: Final = msgspec.json.Encoder().encode
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ID, *_TEXTS = (f"<{word}>" for word in ("id", "model", "provider", "team", "user", "retry_of"))


def _template() -> str:
    """SubmittedJob's own JSON with a `%s` for what differs, so that it grows with the model."""
    model, provider, team, user, retry_of = _TEXTS
    job = SubmittedJob(
        id=_ID, status="queued", disposition="created", model=model, provider=provider, team=team, user=user,
        labels={"<": "labels"}, created_at=_EPOCH, retry_of=retry_of, fallbacks=["<fallbacks>"],
        urls=Urls(self=f"/v1/jobs/{_ID}", events=f"/v1/jobs/{_ID}/events", cancel=f"/v1/jobs/{_ID}/cancel"),
    ).model_dump_json()  # fmt: skip
    text = job.replace("%", "%%").replace(_ID, "%(id)s")
    for name in _TEXTS:
        text = text.replace(f'"{name}"', f"%({name[1:-1]})s")
    text = text.replace('"reserved_nano_usd":0', '"reserved_nano_usd":%(reserved)d')
    text = text.replace('"quote":null', '"quote":%(quote)s').replace('["<fallbacks>"]', "%(fallbacks)s")
    text = text.replace('{"<":"labels"}', "%(labels)s").replace('"1970-01-01T00:00:00Z"', '"%(created_at)s"')
    text = text.replace('"band":"standard"', '"band":"%(band)s"').replace(
        '"simulated":false', '"simulated":%(simulated)s'
    )
    return text.replace('"durability":"strict"', '"durability":"%(durability)s"')


TEMPLATE: Final = _template()


def created(a: Admission, created_ms: int, durability: str, quote: str) -> bytes:
    """The 202's body; `quote` as JSON."""
    return (
        TEMPLATE
        % {
            "id": a.id,
            "model": _text(a.model),
            "provider": _text(a.provider),
            "team": _text(a.team),
            "user": _text(a.user),
            "retry_of": _text(a.retry_of),
            "fallbacks": _ENCODE([model for model, _ in a.chain]).decode() if a.chain else "[]",
            "labels": a.labels.decode(),
            "created_at": rfc3339(created_ms),
            "band": a.band,
            "reserved": a.reserved,
            "simulated": "true" if a.simulated else "false",
            "durability": durability,
            "quote": quote,
        }
    ).encode()


@lru_cache(maxsize=256)
def rfc3339(ms: int) -> str:
    """Milliseconds since the epoch, written as pydantic writes a time in UTC. Posts of one moment share theirs."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()[:-6] + "Z"


def _text(value: str) -> str:
    return _ENCODE(value).decode() if value else "null"
