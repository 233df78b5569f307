"""The body of a 202 for a job that was just created, from a template: its other fields are the model's defaults.

What jobs share that are asked for in the same way can be filled in once for all of them (`form`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from operator import itemgetter
from typing import Final, NamedTuple

import msgspec

from onceq.wire import CostQuote, Quote, SubmittedJob, Urls, Waiting
from onceq_service.store import Admission, AdmissionValues
from onceq_service.store.views import at, usd

Values = dict[str, object]
"""By their names in the template."""
_ENCODE: Final = msgspec.json.Encoder().encode
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ID, *_TEXTS = (f"<{word}>" for word in ("id", "model", "provider", "team", "user", "retry_of"))


def _template() -> str:
    """SubmittedJob's own JSON with a `%(name)s` for what differs, so that it grows with the model."""
    model, provider, team, user, retry_of = _TEXTS
    job = SubmittedJob(
        id=_ID, status="queued", disposition="created", model=model, provider=provider, team=team, user=user,
        labels={"<": "labels"}, created_at=_EPOCH, retry_of=retry_of, fallbacks=["<fallbacks>"],
        urls=Urls(self=f"/v1/jobs/{_ID}", events=f"/v1/jobs/{_ID}/events", cancel=f"/v1/jobs/{_ID}/cancel"),
    ).model_dump_json()  # fmt: skip
    text = job.replace("%", "%%").replace(_ID, "%(id)s")
    for name in _TEXTS:
        text = text.replace(f'"{name}"', f"%({name[1:-1]})s")
    text = text.replace('"reserved_nano_usd":0', '"reserved_nano_usd":%(reserved)s')
    text = text.replace('["<fallbacks>"]', "%(fallbacks)s")
    text = text.replace('{"<":"labels"}', "%(labels)s").replace('"1970-01-01T00:00:00Z"', '"%(created_at)s"')
    text = text.replace('"band":"standard"', '"band":"%(band)s"').replace(
        '"simulated":false', '"simulated":%(simulated)s'
    )
    text = text.replace('"durability":"strict"', '"durability":"%(durability)s"')
    text = text.replace('"waiting":null', '"waiting":%(waiting)s')
    return text.replace('"quote":null', f'"quote":{_quote_template()}')


def _quote_template() -> str:
    text = Quote(cost=CostQuote()).model_dump_json().replace("%", "%%")
    for name in ("unbounded", "jobs_ahead", "expected_start_at", "upper_usd"):
        text = text.replace(f'"{name}":null', f'"{name}":%({name})s')
    for name in ("call_upper", "upper"):
        text = text.replace(f'"{name}_nano_usd":null', f'"{name}_nano_usd":%({name})s')
    return text


TEMPLATE: Final = _template()
_MARKS: Final = {
    name: f"\0{name}\0"
    for name in ("id", "reserved", "user", "labels", "created_at", "call_upper", "upper", "upper_usd")
}
"""Stand for what `form` leaves to `fill`. No JSON has them: its NULs are escaped."""


def created(
    a: Admission, durability: str, quote: Values, values: AdmissionValues, created_ms: int, upper: int | None
) -> bytes:
    """The 202's body; `upper`: nano-USD that all calls together may cost, None without a bound."""
    return (TEMPLATE % (_shared(a, durability, quote) | _values(values, created_ms, upper))).encode()


class Form(NamedTuple):
    """The 202's body for jobs that are asked for in the same way."""

    text: str
    """With a `%s` for each value that is a job's own: half the time that names would take."""
    values: itemgetter[object]
    """Those values in the text's order, of all by name."""


def form(a: Admission, durability: str, quote: Values) -> Form:
    """For jobs like this one."""
    pieces = (TEMPLATE % (_shared(a, durability, quote) | _MARKS)).split("\0")
    return Form("%s".join(piece.replace("%", "%%") for piece in pieces[::2]), itemgetter(*pieces[1::2]))


def fill(form: Form, values: AdmissionValues, created_ms: int, upper: int | None) -> bytes:
    """As `created`, for a job like that of the form."""
    return (form.text % form.values(_values(values, created_ms, upper))).encode()


def _shared(a: Admission, durability: str, quote: Values) -> Values:
    return {
        "model": _text(a.model),
        "provider": _text(a.provider),
        "team": _text(a.team),
        "retry_of": _text(a.retry_of),
        "fallbacks": _ENCODE([model for model, _ in a.chain]).decode() if a.chain else "[]",
        "band": a.band,
        "simulated": "true" if a.simulated else "false",
        "durability": durability,
        "waiting": _delayed(a.not_before_ms) if a.not_before_ms else "null",
        **quote,
    }


def _delayed(until_ms: int) -> str:
    return Waiting(reason="not_before", until=at(until_ms)).model_dump_json()


def _values(values: AdmissionValues, created_ms: int, upper: int | None) -> Values:
    return {
        "id": values.id,
        "reserved": values.reserved,
        "user": _text(values.user),
        "labels": values.labels.decode(),
        "created_at": rfc3339(created_ms),
        "call_upper": "null" if values.call_bound is None else values.call_bound,
        "upper": "null" if upper is None else upper,
        "upper_usd": "null" if upper is None else f'"{usd(upper)}"',
    }


@lru_cache(maxsize=256)
def rfc3339(ms: int) -> str:
    """Milliseconds since the epoch, written as pydantic writes a time in UTC. Posts of one moment share theirs."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()[:-6] + "Z"


def _text(value: str) -> str:
    return _ENCODE(value).decode() if value else "null"
