"""The Lua scripts by name, each with the arguments that its header must name (checked at import)."""

from __future__ import annotations

from typing import Final

from onceq_service.store._lua import Script, load

_FINISH = (
    "id, fence, state, first_seq, frames, rest, output, outcome, billed, estimated, input, output_tokens, cached, "
    "reasoning, spent, kept, reason, provider_ttft_ms, booked, result_ttl_s, events_ttl_s, out_bytes, "
    "measured, cache_write, brake_ms, trips, frame..."
)
_REQUEUE = (
    "id, fence, delay_ms, reason, brake_ms, fallback, outcome, billed, estimated, input, output_tokens, cached, "
    "reasoning, spent, measured, cache_write, trips"
)

ADMIT: Final = load(
    "admit",
    "idem_ttl_s, (size, id, tenant, idem, body, fp, fresh, deadline_ms, accept_ms, limits, batch, create, "
    "fields...)...",
)
ADMIT_PLAIN: Final = load(
    "admit_plain",
    "idem_ttl_s, tenant, lane, limits, deadline_ms, shared, (name, value)..., "
    "(size, id, idem, body, fp, accept_ms, fields...)...",
)
NEXT: Final = load(
    "next", "worker, nonce, want, running, lease_ms, random, result_ttl_s, events_ttl_s, providers (comma-separated)"
)
DISPATCH: Final = load(
    "dispatch", "id, fence, expected_try, lease_ms, in_bytes, price_in, price_out, price_version, periods"
)
APPEND: Final = load("append", "lease_ms, (id, fence, seq, out_bytes, cursor, frame)...")
ATTACH: Final = load("attach", "id, fence, response")
HANDOVER: Final = load("handover", "id, fence, delay_ms, reason, measured")
FINISH: Final = load("finish", _FINISH)
REQUEUE: Final = load("requeue", _REQUEUE)
AMEND: Final = load("amend", "id, try_no, estimated, input, output_tokens, cached, reasoning, spent, cache_write")
DEFER: Final = load("defer", "id, fence, at")
RELEASE: Final = load("release", "id, fence, result_ttl_s, events_ttl_s")
BEAT: Final = load("beat", "worker, info, lease_ms, (id, fence)...")
CANCEL: Final = load("cancel", "id, tenant, result_ttl_s, events_ttl_s")
FOLD: Final = load("fold", "id, output, events_ttl_s")
TEND: Final = load("tend", "lease_ms, result_ttl_s, events_ttl_s")
WATCH: Final = load("watch", "id")
WATCH_BATCH: Final = load("watch_batch", "tenant, batch")
STUCK: Final = load("stuck", "id, ms")
LEARN: Final = load("learn", "lane, limits, requests_used, brake_ms")
PAUSE: Final = load("pause", "kind (lane | band), name, word (pause | resume)")
BUDGET: Final = load("budget", "id, account, before, value")
ALERT: Final = load("alert", "id, hold_ms")
REVOKE: Final = load("revoke", "hash of the key, its id, for how long it is told (s)")
FIND: Final = load("find", "tenant, most, look, low, high, score, id, statuses, (name, value)...")
"""Reads, and changes nothing; all others are transitions."""

ALL: Final[tuple[Script, ...]] = (
    ADMIT, ADMIT_PLAIN, NEXT, DISPATCH, APPEND, ATTACH, HANDOVER, FINISH, REQUEUE, AMEND, DEFER, RELEASE, BEAT, CANCEL,
    FOLD, TEND, WATCH, WATCH_BATCH, STUCK, LEARN, PAUSE, BUDGET, ALERT, REVOKE,
)  # fmt: skip
