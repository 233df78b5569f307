"""Every way in which a job can end without an answer has one who can do something about it."""

from __future__ import annotations

from typing import get_args

from onceq.wire import ErrorCode
from onceq_dashboard.causes import BLAMES, blame, most_first


def test_every_error_code_of_a_job_is_under_exactly_one_blame() -> None:
    codes = get_args(ErrorCode)
    of_jobs = set(codes[codes.index("provider_bad_request") : codes.index("disconnected") + 1])
    known = [code for part in BLAMES.values() for code in part]
    assert set(known) == of_jobs
    assert len(known) == len(set(known))


def test_a_code_of_a_newer_service_is_other() -> None:
    assert blame("provider_on_fire") == "other"
    assert blame("provider_rate_limited") == "provider throttles"


def test_causes_come_the_most_frequent_first_without_zeros() -> None:
    assert most_first({"b": 2, "a": 2, "c": 9, "d": 0}) == [("c", 9), ("a", 2), ("b", 2)]
