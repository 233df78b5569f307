"""`max_cost_usd` over HTTP: refused at the door with what would fit, and held over all calls of a job."""

from __future__ import annotations

import re
from typing import Any

import pytest

from onceq.wire import JobRequest
from onceq_service.pricing import Tariff, call_bound
from onceq_service.settings import DEFAULT_PROVIDERS
from tests.service.api.kit import MODEL, Http, ask, problem_of
from tests.stack import Stack

TARIFF = Tariff(DEFAULT_PROVIDERS)


def bound_usd(body: dict[str, Any]) -> float:
    request = JobRequest.model_validate(body)
    nano = call_bound(TARIFF, MODEL, request, request.model_dump_json(exclude_none=True).encode()).nano_usd
    assert nano is not None
    return nano / 1e9


def test_a_job_that_may_cost_more_is_refused_with_what_would_fit(client: Http) -> None:
    body = ask() | {"max_cost_usd": 0.001}
    problem = problem_of(client.post_json(body, idempotency_key="k"), 402, "max_cost_exceeded")
    fits = re.search(r"max_tokens to (\d+) or less", problem.detail)
    assert fits is not None, problem.detail
    assert client.ids() == []
    problem_of(client.post_json(body | {"max_tokens": int(fits[1]) + 60}), 402, "max_cost_exceeded")
    job = client.done(body | {"max_tokens": int(fits[1]) - 60}, idempotency_key="k")
    assert job.status == "succeeded"
    assert 0 < (job.cost.nano_usd or 0) <= 1_000_000


def test_where_the_input_alone_is_too_dear_nothing_is_said_of_max_tokens(client: Http) -> None:
    problem = problem_of(client.post_json(ask() | {"max_cost_usd": 1e-9, "max_tokens": 1}), 402, "max_cost_exceeded")
    assert "max_tokens to" not in problem.detail
    assert "shorten" in problem.detail


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"model": "openai/nobody-knows-me", "max_tokens": 5}, "unpriced_model"),
        ({"params": {"web_search_options": {}}, "max_tokens": 5}, "unbounded_cost"),
    ],
)
def test_a_limit_needs_a_bound_and_a_job_without_a_limit_does_not(
    client: Http, fields: dict[str, Any], code: str
) -> None:
    problem_of(client.post_json(ask() | fields | {"max_cost_usd": 100.0}), 402, code)
    assert client.submit(ask() | fields)["status"] == "queued"


def test_the_dearest_of_several_models_must_fit(client: Http) -> None:
    body = ask() | {"max_tokens": 1_000, "max_cost_usd": 0.005}
    assert client.done(body).status == "succeeded"
    both = body | {"model": [MODEL, "openai/gpt-4o"], "fresh": True}
    assert "openai/gpt-4o " in problem_of(client.post_json(both), 402, "max_cost_exceeded").detail


def test_an_answer_that_is_there_already_is_given_whatever_a_call_would_cost(client: Http) -> None:
    body = ask()
    first = client.done(body)
    again = client.submit(body | {"max_cost_usd": 1e-9})
    assert (again["id"], again["disposition"]) == (first.id, "replayed")


@pytest.mark.parametrize(("calls", "status"), [(1.5, "failed"), (2.5, "succeeded")])
def test_a_broken_call_is_made_again_only_where_the_money_is_enough_for_both(
    client: Http, shared: Stack, calls: float, status: str
) -> None:
    body = ask(tokens=30, fault="cut", after=9, times=1) | {"max_tokens": 2_000}
    limit = calls * bound_usd(body)
    job = client.done(body | {"max_cost_usd": limit})
    assert job.status == status, job.error
    rows = shared.meter(job.id)
    assert len(rows) == job.calls == (1 if status == "failed" else 2)
    assert sum(row["nano_usd"] for row in rows) <= limit * 1e9
    if status == "failed":
        assert job.error is not None
        assert job.error.code == "max_cost_exceeded"
        assert job.text, "what was paid for is kept"
        assert rows[0]["text"].startswith(job.text)
        assert job.timings.verdict == "budget"
    problem = client.post_json(body | {"max_cost_usd": -1.0})
    problem_of(problem, 422, "invalid_request")
