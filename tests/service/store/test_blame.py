"""Who is to blame, row by row: the classifier runs in Redis as it does beside the terminal event."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import cast

import pytest

from onceq.wire import PHASES, VERDICTS
from onceq_service.store import Store
from onceq_service.store._lua import Script
from tests.service.store.lua import shared

JUDGE = shared("local job = cjson.decode(ARGV[1])\nreturn blame(job) or ''")
OURS = ("accept", "worker", "delivery")
PROVIDERS = ("backoff", "connect", "provider_ttft", "generation", "stalls")


async def verdict(
    store: Store, state: str = "succeeded", *, code: str = "", tokens: int = 20, reader_ms: int = 0,
    ms: Mapping[str, int] | None = None, **took: int,
) -> str:  # fmt: skip
    """What the script says of a job that ended so; `took` is ms by phase."""
    job: dict[str, object] = {"state": state, "tokens": tokens, "reader_ms": reader_ms}
    job |= {"took": dict.fromkeys(PHASES, 0) | took | dict(ms or {})} | ({"code": code} if code else {})
    script = Script("judge", JUDGE, hashlib.sha1(JUDGE.encode(), usedforsecurity=False).hexdigest(), "job")
    return cast(
        "bytes",
        await store.jobs._pipe.script(  # pyright: ignore[reportPrivateUsage]
            script, "onceq:{blame}", [json.dumps(job)]
        ),
    ).decode()


async def test_a_quick_job_has_nothing_to_explain(store: Store) -> None:
    assert await verdict(store, queue=100, worker=10, connect=40, provider_ttft=600, generation=1500, delivery=5) == ""


async def test_an_answer_takes_the_time_that_its_tokens_need(store: Store) -> None:
    assert await verdict(store, tokens=600, provider_ttft=800, generation=60_000) == ""
    assert await verdict(store, tokens=60, provider_ttft=800, generation=60_000) == "provider_slow"


async def test_time_that_was_asked_for_is_nobodys_fault(store: Store) -> None:
    assert await verdict(store, scheduled=3_600_000, provider_ttft=500) == ""


@pytest.mark.parametrize("phase", OURS)
async def test_our_own_code_is_blamed_for_its_time(store: Store, phase: str) -> None:
    assert await verdict(store, ms={phase: 1500}) == "our_code"


@pytest.mark.parametrize("phase", PROVIDERS)
async def test_the_provider_is_blamed_for_its_time(store: Store, phase: str) -> None:
    assert await verdict(store, ms={phase: 9000}) == "provider_slow"


async def test_waits_are_blamed_on_what_was_waited_for(store: Store) -> None:
    assert await verdict(store, queue=2500) == "queue"
    assert await verdict(store, limiter=2500) == "provider_throttled"
    assert await verdict(store, budget=2500) == "budget"


async def test_a_stuck_reader_is_blamed_where_the_job_itself_was_quick(store: Store) -> None:
    assert await verdict(store, reader_ms=4000, generation=6000, tokens=90) == "client_slow"
    assert await verdict(store, reader_ms=4000, limiter=9000) == "provider_throttled"


async def test_the_one_who_took_most_is_blamed(store: Store) -> None:
    assert await verdict(store, queue=3000, provider_ttft=7000) == "queue"  # the first token may take five seconds
    assert await verdict(store, queue=3000, provider_ttft=9000) == "provider_slow"
    assert await verdict(store, limiter=3000, worker=3500) == "our_code"


@pytest.mark.parametrize(("code", "who"), [
    ("provider_rate_limited", "provider_throttled"), ("provider_error", "provider_slow"),
    ("provider_overloaded", "provider_slow"), ("provider_timeout", "provider_slow"),
    ("stream_broken", "provider_slow"), ("provider_auth", "our_code"), ("model_not_found", "our_code"),
    ("worker_lost", "our_code"), ("poison", "our_code"),
])  # fmt: skip
async def test_a_failure_is_blamed_on_whoever_caused_it_however_quick_it_was(store: Store, code: str, who: str) -> None:
    assert await verdict(store, "failed", code=code, provider_ttft=3) == who


@pytest.mark.parametrize("code", ["provider_bad_request", "content_refused", "provider_too_large"])
async def test_a_request_that_is_itself_wrong_is_nobodys_fault(store: Store, code: str) -> None:
    assert await verdict(store, "failed", code=code, provider_ttft=200) == ""


async def test_a_provider_is_not_late_when_our_worker_did_not_look(store: Store) -> None:
    assert await verdict(store, "failed", code="provider_timeout", worker=9000, provider_ttft=900) == "our_code"
    assert await verdict(store, "failed", code="provider_timeout", worker=1200, provider_ttft=9000) == "provider_slow"


async def test_a_job_that_came_too_late_is_blamed_on_what_took_longest(store: Store) -> None:
    assert await verdict(store, "expired", code="queue_timeout", queue=900) == "queue"
    assert await verdict(store, "expired", code="deadline_exceeded", queue=200, provider_ttft=800) == "provider_slow"
    assert await verdict(store, "expired", code="deadline_exceeded", limiter=5000, queue=900) == "provider_throttled"


async def test_a_job_that_its_readers_left_is_blamed_on_them(store: Store) -> None:
    assert await verdict(store, "cancelled", code="disconnected", generation=900) == "client_slow"
    assert await verdict(store, "cancelled", generation=900) == ""


async def test_every_verdict_can_be_had(store: Store) -> None:
    takes = {"queue": "queue", "worker": "our_code", "stalls": "provider_slow", "limiter": "provider_throttled",
             "budget": "budget"}  # fmt: skip
    had = {await verdict(store, ms={phase: 99_000}) for phase in takes} | {await verdict(store, reader_ms=99_000)}
    assert had == set(VERDICTS)
