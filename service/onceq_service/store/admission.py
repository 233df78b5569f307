"""A request on its way into the store: what the store has to know, how admit.lua and admit_plain.lua take it, and what
became of it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

import msgspec

from onceq.wire import Disposition
from onceq_service.store._pipe import Arg
from onceq_service.store.errors import BudgetRefused, CostTooHigh, JobNotFound, KeyReused, StoreError
from onceq_service.store.views import Fields, fields_of

_NO_BUDGET = ("over_budget", "unbounded", "stale")


def new_job_id() -> str:
    """`job_` and 32 hex digits that begin with the time (ms), so that ids sort by age; the last 80 bits are random."""
    return f"job_{time.time_ns() // 1_000_000:012x}{_random()}"


_RANDOM: Final[list[str]] = []
"""Drawn, and not used yet. Threads may share it: `pop` gives each its own. A process that is forked begins anew."""
os.register_at_fork(after_in_child=_RANDOM.clear)


def _random() -> str:
    """80 bits of the system's randomness in hex, drawn for many ids at once: a twentieth of a post's CPU otherwise."""
    while True:
        try:
            return _RANDOM.pop()
        except IndexError:
            drawn = os.urandom(10 * 64).hex()
            _RANDOM.extend([drawn[n : n + 20] for n in range(0, len(drawn), 20)])


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """One validated request on its way in. `idem`, `fp` and `body_hash` are HMACs; empty where there is none."""

    id: str
    tenant: str
    key_id: str
    request: bytes
    """The request as the worker will read it: JSON of wire.JobRequest."""
    model: str
    """`<provider>/<model id>`, aliases resolved."""
    provider: str
    lane: str
    band: str
    idem: str
    body_hash: str
    fp: str
    window_s: int
    fresh: bool
    deadline_s: float
    max_calls: int
    on_crash: str
    on_break: str
    simulated: bool
    user: str = ""
    team: str = ""
    labels: bytes = b"{}"
    limits: str = ""
    """The lane's limits as `LaneLimits.packed()` writes them; empty where it has none."""
    chain: Sequence[tuple[str, str]] = ()
    """Models that may answer instead, in order, each with its lane's limits."""
    not_before_ms: int | None = None
    """When it may start at the earliest, ms since the epoch."""
    queue_s: float | None = None
    """How long it may wait for its first start."""
    grace_s: float | None = None
    """How long it goes on without anybody who follows it; None: for ever."""
    group: bytes = b""
    """Labels that costs are summed by, as JSON."""
    retry_of: str = ""
    """The job that this one replays."""
    traceparent: str = ""
    """Where its trace goes on, as W3C writes it; empty without tracing."""
    max_cost: int | None = None
    """nano-USD that all of its calls together may cost."""
    call_bound: int | None = None
    """nano-USD that no call of any of its models can pass; None where there is no such bound."""
    batch: str = ""
    """The batch that it is followed in."""
    create: bool = True
    """Whether a job may be made where none is there."""
    budgets: str = ""
    """The budgets that it falls under, a line a budget: `amount_in` of budgets.py."""
    reserved: int = 0
    """The most that one of them will hold for it, nano-USD; the scripts work it out on their own."""
    in_est: int = 0
    out_est: int = 0
    """Tokens that the job is taken to need while it waits for its lane; corrected by what it used."""


class Admitted(NamedTuple):
    """What became of it: the job's id, and its fields where it existed before."""

    id: str
    disposition: Disposition
    created_ms: int
    fields: Fields


class AdmissionValues(NamedTuple):
    """What a request has not in common with others that ask in the same way: fields of its Admission."""

    id: str
    idem: str
    body_hash: str
    fp: str
    request: bytes
    user: str
    labels: bytes
    in_est: int
    call_bound: int | None
    budgets: str = ""
    reserved: int = 0


class AdmissionTemplate(NamedTuple):
    """Requests that differ in what is their own."""

    asked: Admission
    """Any one of them."""
    kind: tuple[Arg, ...] | None
    """What they share for admit_plain.lua, which takes requests of one kind at a time; None: it takes none of them."""

    def whole(self, values: AdmissionValues) -> Admission:
        """The one of them that has these."""
        return msgspec.structs.replace(self.asked, **values._asdict())


def is_plain(a: Admission) -> bool:
    """Whether it asks for nothing that admit_plain.lua has not: most requests."""
    return (
        a.create
        and not (a.budgets or a.batch or a.chain or a.retry_of or a.fresh)
        and a.not_before_ms is a.queue_s is a.grace_s is a.max_cost is None
    )


def template(a: Admission, result_ttl_s: int) -> AdmissionTemplate:
    """Requests like this one."""
    if not is_plain(a):
        return AdmissionTemplate(a, None)
    shared = _shared(a, result_ttl_s)
    return AdmissionTemplate(a, (a.tenant, a.lane, a.limits, _ms(a.deadline_s), len(shared), *shared))


def values_of(a: Admission) -> AdmissionValues:
    """What is this request's own."""
    return AdmissionValues(
        a.id, a.idem, a.body_hash, a.fp, a.request, a.user, a.labels, a.in_est, a.call_bound, a.budgets, a.reserved
    )


def plain(a: Admission, values: AdmissionValues, accept_ms: int) -> Sequence[Arg]:
    """A request of the pattern of `a` for admit_plain.lua, without its size."""
    return (values.id, values.idem, values.body_hash, values.fp, accept_ms, *_own(a, values))


def any_kind(a: Admission, accept_ms: int, result_ttl_s: int) -> Sequence[Arg]:
    """A request for admit.lua, without its size."""
    return [
        a.id, a.tenant, a.idem, a.body_hash, a.fp, int(a.fresh), _ms(a.deadline_s), accept_ms, _limits(a),
        a.batch, int(a.create), *_shared(a, result_ttl_s), *_own(a, values_of(a)), *_special(a),
    ]  # fmt: skip


def admitted(reply: Sequence[object]) -> Admitted:
    """What `admit.lua` answered; raises KeyReused, CostTooHigh, JobNotFound, BudgetRefused, StoreError."""
    word, job_id = cast("bytes", reply[0]).decode(), cast("bytes", reply[1]).decode()
    if word == "reused":
        raise KeyReused(job_id)
    if word == "max_cost":
        raise CostTooHigh("a call may cost more than max_cost_usd allows")
    if word == "absent":
        raise JobNotFound("no job with this key or question is there, and none was to be made")
    if word == "error":
        raise StoreError(f"Redis refused job {job_id}: {fields_of(cast('list[bytes]', reply[2]))['why'].decode()}")
    if word in _NO_BUDGET:
        raise BudgetRefused(word, fields_of(cast("list[bytes]", reply[2])))
    created_ms = int(cast("bytes", reply[3]))
    return Admitted(job_id, cast("Disposition", word), created_ms, fields_of(cast("list[bytes]", reply[2])))


def _limits(a: Admission) -> str:
    values = f"{a.lane}={a.limits}"
    return " ".join([values, *(f"{lane}={limits}" for lane, limits in a.chain)]) if a.chain else values


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


# Fields of the job's hash, without those whose absence says the same: each costs Redis half a microsecond and 50 bytes.


def _shared(a: Admission, result_ttl_s: int) -> list[Arg]:
    """The fields that many requests have in common."""
    fields: list[Arg] = [
        "key_id", a.key_id, "model", a.model, "provider", a.provider, "lane", a.lane, "band", a.band,
        "max_calls", a.max_calls, "on_crash", a.on_crash, "result_ttl_s", result_ttl_s,
    ]  # fmt: skip
    if a.simulated:
        fields += ("simulated", 1)
    if a.on_break != "retry":
        fields += ("on_break", a.on_break)
    if a.team:
        fields += ("team", a.team)
    if a.group:
        fields += ("group", a.group)
    if a.fp:
        fields += ("window_s", a.window_s)
    return fields


def _own(a: Admission, values: AdmissionValues) -> list[Arg]:
    """Those that are a request's own; `a` is one of its pattern."""
    fields: list[Arg] = ["request", values.request]
    if values.fp:
        fields += ("fp", values.fp)
    if values.user:
        fields += ("user", values.user)
    if values.labels != b"{}":
        fields += ("labels", values.labels)
    if values.in_est:
        fields += ("in_est", values.in_est)
    if a.out_est:
        fields += ("out_est", a.out_est)
    if values.call_bound is not None:
        fields += ("call_bound", values.call_bound)
    if a.traceparent:
        fields += ("traceparent", a.traceparent)
    return fields


def _special(a: Admission) -> list[Arg]:
    """Those that no plain request has."""
    some: tuple[tuple[str, Arg | None], ...] = (
        ("retry_of", a.retry_of or None),
        ("chain", " ".join([model for model, _ in a.chain]) or None),
        ("not_before_ms", a.not_before_ms or None),
        ("budgets", a.budgets or None),
        ("queue_ms", None if a.queue_s is None else _ms(a.queue_s)),
        ("grace_ms", None if a.grace_s is None else _ms(a.grace_s)),
        ("max_cost", a.max_cost),
    )
    return [part for name, value in some if value is not None for part in (name, value)]
