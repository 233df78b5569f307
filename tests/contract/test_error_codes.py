"""docs/errors.md has every code once in its place, with the status that it has and whether it is worth another go."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import get_args

from onceq import errors
from onceq._http import RETRYABLE_STATUS
from onceq.wire import ErrorCode
from onceq_service.api.http.problems import STATUS
from onceq_service.providers import _errors as meanings
from onceq_service.providers.base import ProviderError
from onceq_service.worker.retry import GiveUp, RetryState, decide

ANSWERS, OF_JOBS, OF_THE_CLIENT = (
    [[cell.strip(" `") for cell in row.strip("|").split(" | ")] for row in re.findall(r"^\| `.+$", part, re.MULTILINE)]
    for part in (Path(__file__).parents[2] / "docs" / "errors.md").read_text("utf-8").split("\n## ")[1:]
)
SPENT = RetryState(tries=20, max_tries=20, calls=3, max_calls=3, remaining_s=60)


def test_each_code_is_in_it() -> None:
    assert {row[0] for row in (*ANSWERS, *OF_JOBS, *OF_THE_CLIENT)} == set(get_args(ErrorCode))
    for table in (ANSWERS, OF_JOBS, OF_THE_CLIENT):
        assert len({row[0] for row in table}) == len(table)


def test_an_answer_has_the_status_that_the_service_gives_it() -> None:
    assert {row[0]: int(row[1]) for row in ANSWERS} == STATUS
    again = {code for code, status in STATUS.items() if status in RETRYABLE_STATUS}
    assert {row[0] for row in ANSWERS if row[-1] == "yes"} == again


def test_what_a_provider_did_is_worth_a_replay_where_a_worker_says_so() -> None:
    told = {row[0]: set(re.findall(r"\b(?:yes|no)\b", row[-1])) for row in OF_JOBS}
    for meaning in vars(meanings).values():
        if isinstance(meaning, meanings.Meaning):
            given_up = decide(ProviderError(meaning.code, "", cause=meaning.cause), SPENT, random.Random(1))
            assert isinstance(given_up, GiveUp)
            assert ("yes" if given_up.retryable else "no") in told[meaning.code], meaning.code


def test_the_clients_own_codes_are_those_of_its_errors() -> None:
    assert {getattr(errors, row[1]).code: row[0] for row in OF_THE_CLIENT} == {row[0]: row[0] for row in OF_THE_CLIENT}
