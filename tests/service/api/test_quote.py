"""What a job may cost and when it may start: by POST /v1/quote, and in the 202."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from onceq.wire import Quote
from tests.service.api.kit import JOBS, MODEL, Http, ask, http, problem_of
from tests.stack import Stack


def quoted(client: Http, body: dict[str, Any]) -> Quote:
    answer = client.post("/v1/quote", json=body)
    assert answer.status_code == 200, answer.text
    return Quote.model_validate_json(answer.content)


def test_a_quote_bounds_what_is_booked_and_creates_nothing(client: Http, shared: Stack) -> None:
    for n in range(12):
        body = ask(tokens=7 * n, cache_write=5 * n) | {"max_tokens": 60}
        told = quoted(client, body)
        assert client.ids() == [] if n == 0 else len(client.ids()) == n
        job = client.done(body)
        (row,) = shared.meter(job.id)
        assert told.cost.call_upper_nano_usd is not None
        assert told.cost.upper_nano_usd == 3 * told.cost.call_upper_nano_usd
        assert told.cost.lower_nano_usd <= row["nano_usd"] <= told.cost.call_upper_nano_usd
        assert job.cost.nano_usd == row["nano_usd"]


def test_the_202_says_what_the_quote_says_and_a_joined_one_says_nothing(client: Http) -> None:
    body = ask(ttft_ms=3_000) | {"max_tokens": 60, "max_calls": 2}
    told, made = quoted(client, body), client.submit(body)
    in_202 = Quote.model_validate(made["quote"])
    assert in_202.cost == told.cost
    assert in_202.cost.expected_nano_usd is None
    assert in_202.jobs_ahead is not None
    assert client.submit(body)["quote"] is None
    client.post(made["urls"]["cancel"])


def test_an_expected_cost_is_one_call_as_they_were_lately(client: Http) -> None:
    body = ask(tokens=40) | {"max_tokens": 500}
    assert quoted(client, body).cost.expected_nano_usd is None
    job = client.done(body)
    expected = quoted(client, ask(tokens=40) | {"max_tokens": 500}).cost.expected_nano_usd
    assert expected is not None
    assert job.cost.nano_usd is not None
    assert job.cost.nano_usd / 2 < expected < job.cost.nano_usd * 2
    cut = quoted(client, ask() | {"max_tokens": 1}).cost.expected_nano_usd
    assert cut is not None
    assert cut < expected


def test_a_limit_is_the_upper_bound_and_says_when_a_post_would_be_refused(client: Http) -> None:
    told = quoted(client, ask() | {"max_tokens": 60, "max_cost_usd": 0.0002})
    assert (told.cost.upper_nano_usd, told.cost.upper_usd, told.refused) == (200_000, "0.0002", None)
    assert quoted(client, ask() | {"max_cost_usd": 0.0002}).refused == "max_cost_exceeded"
    unknown = quoted(client, ask() | {"model": "openai/nobody-knows-me", "max_cost_usd": 1.0})
    assert (unknown.cost.upper_nano_usd, unknown.refused) == (None, "unpriced_model")
    assert "price" in (unknown.cost.unbounded or "")


def test_a_free_worker_starts_a_job_now_and_not_before_is_kept(client: Http) -> None:
    now = datetime.now(UTC)
    start = quoted(client, ask() | {"band": "interactive"}).expected_start_at
    assert start is not None
    assert abs(start - now) < timedelta(minutes=1)
    later = now + timedelta(hours=2)
    delayed = quoted(client, ask() | {"not_before": later.isoformat()}).expected_start_at
    assert delayed is not None
    assert abs(delayed - later) < timedelta(seconds=1)


def test_a_quote_needs_the_right_to_post_and_a_request_that_is_one(shared: Stack, tenant: str) -> None:
    with http(shared, tenant, "read") as reader:
        problem_of(reader.post("/v1/quote", json=ask()), 403, "forbidden")
    with http(shared, tenant, "submit") as poster:
        assert quoted(poster, ask()).cost.upper_nano_usd is not None
        problem_of(poster.post("/v1/quote", json={"model": MODEL}), 422, "invalid_request")
        problem_of(poster.post("/v1/quote", json=ask() | {"model": "nowhere/m"}), 422, "unknown_model")


REFUSED = {
    "a number that JSON has not": {"params": {"x": float("inf")}},
    "a start after the deadline": {"not_before": "9998-12-31T00:00:00Z"},
    "a call that can't be resumed": {"on_crash": "resume", "model": "anthropic/claude-haiku-4-5"},
}


@pytest.mark.parametrize("wrong", REFUSED.values(), ids=REFUSED)
def test_a_quote_refuses_what_a_post_would_be_refused_for(client: Http, wrong: dict[str, Any]) -> None:
    body = json.dumps(ask() | wrong).replace("Infinity", "1e999")
    heads = {"content-type": "application/json"}
    said = [client.post(path, content=body, headers=heads) for path in ("/v1/quote", JOBS)]
    first, second = [problem_of(answer, 422, "invalid_request") for answer in said]
    assert first.errors == second.errors
