"""The producer's thinking, without I/O: a validated request -> what the store admits.

Same Idempotency-Key, other body: told apart by `body_hash`, over the whole request and the job that it replays. Same
question, whatever its key: found by `fingerprint`, over what decides the answer (G2). In neither does the order of keys
in a JSON object matter.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from onceq.wire import IDEMPOTENCY_KEY_PATTERN, JobRequest, Message
from onceq.wire.words import nano_usd_of
from onceq_service.api.catalog import Resolved
from onceq_service.api.defaults import Defaults
from onceq_service.api.http.problems import Refused, invalid_field
from onceq_service.api.submission import codec
from onceq_service.pricing import CostBounds
from onceq_service.settings import limits_of
from onceq_service.store import Admission, ApiKey, Hasher, new_job_id
from onceq_service.tracing import TRACEPARENT

_KEY = re.compile(IDEMPOTENCY_KEY_PATTERN)
BYTES_PER_TOKEN: Final = 4
"""UTF-8 bytes that a token of English takes, about: a lane's room is corrected when the real number is known."""
OUTPUT_TOKENS: Final = 500
"""What an answer without `max_tokens` is taken to need of its lane until it has ended."""
MOST_OUTPUT: Final = 32_768
"""What a lane counts of a call's output until it has ended, at most: few calls write more, whatever they may, and one
that is counted with a minute's worth shuts its lane for all others until it starts alone."""
_ENCODE: Final = msgspec.json.Encoder().encode


class BoundedRequest(NamedTuple):
    """A request, the JSON that its worker will read, and what it may cost."""

    request: JobRequest
    body: bytes
    bounds: CostBounds

    @property
    def max_cost(self) -> int | None:
        """Nano-USD that all calls together may cost, never more than was said."""
        limit = self.request.max_cost_usd
        return None if limit is None else nano_usd_of(limit)

    @property
    def upper(self) -> int | None:
        """Nano-USD that all calls together will cost at most, by bounds and by what was said; None without a bound."""
        return upper(self.bounds.nano_usd, self.max_cost)


def upper(bound: int | None, max_cost: int | None) -> int | None:
    """The lower of what all calls of a job can cost and of what they may."""
    return bound if bound is None or max_cost is None else min(bound, max_cost)


def idempotency_key(sent: bytes | None) -> str | None:
    """The header's value; raises Refused (400) unless it is 1 to 255 visible ASCII characters."""
    if sent is None:
        return None
    key = sent.decode("latin-1")
    if not _KEY.fullmatch(key):
        detail = "Idempotency-Key must be 1 to 255 visible ASCII characters without spaces. Nothing was stored."
        raise Refused("malformed_idempotency_key", detail)
    return key


def admission(
    bounded: BoundedRequest,
    key: ApiKey,
    idem_key: str | None,
    models: Sequence[Resolved],
    hasher: Hasher,
    defaults: Defaults,
    retry_of: str = "",
) -> Admission:
    """Everything that the store needs to decide; raises Refused (422) for numbers that JSON does not have."""
    request, body, free = bounded.request, bounded.body, free_form(bounded.request)
    if request.on_crash == "resume" and not all(m.can_resume for m in models):
        raise invalid_field("on_crash", "resume needs OpenAI's Responses API behind each of the models")
    tenant, (model, *others) = key.tenant.encode(), models
    again = (retry_of.encode(),) if retry_of else ()  # which has no body that says so
    deadline_s = request.deadline_s or defaults.deadline_s
    window_s = dedupe_window_s(request, idem_key, defaults.dedupe_window_s)
    return Admission(
        id=new_job_id(),
        tenant=key.tenant,
        key_id=key.id,
        request=body,
        model=model.model,
        provider=model.provider,
        lane=model.model,
        band=request.band,
        idem=hasher(b"idem", tenant, idem_key.encode()) if idem_key else "",
        body_hash=hasher(b"body", tenant, *whole(request, body, free), *again) if idem_key else "",
        fp=hasher(b"fp", tenant, *question(request, models, free)) if window_s else "",
        window_s=window_s,
        fresh=request.fresh,
        deadline_s=deadline_s,
        max_calls=bounded.bounds.max_calls,
        max_cost=bounded.max_cost,
        call_bound=bounded.bounds.call.nano_usd,
        on_crash=request.on_crash or "retry",
        on_break=request.on_break or "retry",
        simulated=model.simulated,
        user=request.user or "",
        team=request.team or "",
        labels=labels_of(request),
        limits=_limits(model, defaults),
        in_est=likely_input_tokens(body),
        out_est=min(request.max_tokens or OUTPUT_TOKENS, MOST_OUTPUT),
        chain=[(other.model, _limits(other, defaults)) for other in others],
        not_before_ms=not_before_ms(request, deadline_s),
        queue_s=request.timeouts.queue_s if request.timeouts else None,
        retry_of=retry_of,
        traceparent=TRACEPARENT.get(),
        group=group_of(request, defaults.label_keys),
        grace_s=request.disconnect_grace_s if request.on_disconnect == "cancel" else None,
    )


def likely_input_tokens(body: bytes) -> int:
    """Input tokens that a request is taken to have until its provider has counted them."""
    return len(body) // BYTES_PER_TOKEN + 1


def not_before_ms(request: JobRequest, deadline_s: float) -> int | None:
    """When the job may start, ms since the epoch; raises Refused (422) when that is not before its deadline."""
    if request.not_before is None:
        return None
    at = request.not_before.timestamp()
    if at - time.time() >= deadline_s:
        what = "is after the job's deadline: give a later deadline_s, or an earlier not_before"
        raise invalid_field("not_before", what)
    return round(at * 1000)


def labels_of(request: JobRequest) -> bytes:
    """All labels, as JSON."""
    return _ENCODE(request.labels) if request.labels else b"{}"


def group_of(request: JobRequest, keys: Sequence[str]) -> bytes:
    """The labels that costs are summed by, as JSON; empty without one."""
    labels = request.labels or {}
    chosen = {key: labels[key] for key in keys if key in labels}
    return _ENCODE(chosen) if chosen else b""


def _limits(model: Resolved, defaults: Defaults) -> str:
    limits = limits_of(model.model, defaults.lanes)
    return limits.packed() if limits else ""


def dedupe_window_s(request: JobRequest, idem_key: str | None, default_s: int) -> int:
    """How long the same question finds this job: as asked, else not at all with a key, else the default."""
    if request.dedupe_window_s is not None:
        return request.dedupe_window_s
    return 0 if idem_key else default_s


def free_form(request: JobRequest) -> bytes:
    """The parts whose keys the client chooses, as JSON with sorted keys; raises Refused (422) on NaN and Infinity."""
    shape = request.response_format
    if request.params is None and request.tools is None and (shape is None or shape.json_schema is None):
        return b""
    tools = [(t.name, t.description, t.parameters) for t in request.tools or ()]
    schema = None if shape is None else shape.json_schema
    parts = (("params", request.params), ("tools", tools), ("response_format.schema", schema))
    return b"\n".join(_sorted_json(loc, part) for loc, part in parts)


def whole(request: JobRequest, body: bytes, free: bytes) -> Sequence[bytes]:
    """The whole request, one way of writing it for each thing it says; `body` is how its worker will read it."""
    labels = _ENCODE(sorted(request.labels.items())) if request.labels else b""
    return (codec.unlabelled(request, body), labels, free, _shape(request))


def question(request: JobRequest, models: Sequence[Resolved], free: bytes) -> Sequence[bytes]:
    """What decides the answer, and for whom: not band, team, labels, deadlines or what to do on trouble."""
    choice = request.tool_choice
    asked = (
        request.user,
        models[0].model if len(models) == 1 else [m.model for m in models],
        [_turn(m) for m in request.messages] if request.messages is not None else [("user", request.prompt)],
        request.system,
        request.max_tokens,
        request.temperature,
        request.stop,
        choice if choice is None or isinstance(choice, str) else [choice.name],
    )
    return (_ENCODE(asked), free, _shape(request))


def _turn(m: Message) -> tuple[object, ...]:
    content = m.content if m.content is None or isinstance(m.content, str) else [p.model_dump() for p in m.content]
    if m.tool_calls is None and m.tool_call_id is None:
        return (m.role, content)
    return (m.role, content, [(c.id, c.name, c.arguments) for c in m.tool_calls or ()], m.tool_call_id)


def _shape(request: JobRequest) -> bytes:
    shape = request.response_format
    return b"" if shape is None else _ENCODE((shape.type, shape.name, shape.strict))


def _sorted_json(loc: str, value: object) -> bytes:
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except ValueError as exc:
        raise invalid_field(loc, "NaN, Infinity and numbers beyond a double are not JSON") from exc
