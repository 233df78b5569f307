"""Every way in which a job can end without an answer has one who can do something about it."""

from __future__ import annotations

from typing import get_args

import pytest

from onceq.wire import ErrorCode
from onceq_dashboard.causes import BLAMES, Blame, blame, most_first
from onceq_dashboard.latency import PARTS
from onceq_service.store import Store
from tests.service.store.test_blame import verdict

CODES: tuple[str, ...] = get_args(ErrorCode)
OF_JOBS = {
    *CODES[CODES.index("provider_bad_request") : CODES.index("disconnected") + 1],
    "budget_exceeded",
    "internal_error",
    "invalid_request",
}
VERDICTS: dict[Blame, set[str]] = {
    "provider throttles": {"provider_throttled"}, "provider is slow": {"provider_slow"},
    "provider fails": {"provider_slow"}, "a budget": {"budget"}, "our side": {"our_code"},
    "the caller": {"", "client_slow"},
}  # fmt: skip
"""What the service says of jobs that ended with a code of each blame."""
STATES = {"cancelled": "cancelled", "disconnected": "cancelled", "deadline_exceeded": "expired",
          "queue_timeout": "expired"}  # fmt: skip


def test_every_error_code_of_a_job_is_under_exactly_one_blame() -> None:
    known = [code for part in BLAMES.values() for code in part]
    assert set(known) == OF_JOBS
    assert len(known) == len(set(known))


@pytest.mark.parametrize("code", sorted(OF_JOBS))
async def test_each_code_is_under_the_one_whom_the_service_blames(store: Store, code: str) -> None:
    state = STATES.get(code, "failed")
    says = {await verdict(store, state, code=code, ms=took) for took in ({"queue": 100}, {"provider_ttft": 100})}
    if blame(code) == "other":
        assert says == {"queue", "provider_slow"}, "the code alone does not tell"
    else:
        assert says <= VERDICTS[blame(code)]


@pytest.mark.parametrize("part", PARTS)
async def test_the_parts_of_a_job_s_time_belong_to_whom_the_service_gives_them(store: Store, part: str) -> None:
    whose = {await verdict(store, "expired", ms={phase: 9_000}) for phase in PARTS[part]}
    assert len(whose - {""}) == 1


def test_a_code_of_a_newer_service_is_other() -> None:
    assert blame("provider_on_fire") == "other"
    assert blame("provider_rate_limited") == "provider throttles"


def test_causes_come_the_most_frequent_first_without_zeros() -> None:
    assert most_first({"b": 2, "a": 2, "c": 9, "d": 0}) == [("c", 9), ("a", 2), ("b", 2)]
