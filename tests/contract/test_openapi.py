"""The OpenAPI document against the running service: every route is in it, and generated requests find no server error.

Schemathesis makes the requests from the document, good and bad ones, always the same (derandomized). A job that it
creates runs on the simulator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants
from schemathesis import checks as basic_checks
from schemathesis.specs.openapi import checks as openapi_checks

from onceq_service.api.app import build_app
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.settings import Settings
from tests.stack import Stack, running_stack

pytestmark = pytest.mark.alone  # its cases share one id, and running in parallel keeps one test an id
MOST = 25
"""Requests made for each route."""
SLOW = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large, HealthCheck.large_base_example)
_BASIC: Any = basic_checks  # generic without saying of what, as the schema is
_OPENAPI: Any = openapi_checks
CHECKS = [
    _BASIC.not_a_server_error, _OPENAPI.status_code_conformance, _OPENAPI.content_type_conformance,
    _OPENAPI.response_headers_conformance, _OPENAPI.response_schema_conformance,
]  # fmt: skip
document = build_app(Settings()).openapi()
schema: Any = schemathesis.openapi.from_dict(document)


SEEN: dict[str, Counter[int]] = {}
"""What each route has answered, so that a run that asked nothing does not pass."""


@pytest.fixture(autouse=True)
def same_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hypothesis draws from the constants of all modules of ours that happen to be imported, so the file asked other
    things alone than with its neighbours, among them some that Schemathesis fails to make ("no values").
    """
    monkeypatch.setattr(providers, "_get_local_constants", Constants)


@pytest.fixture(scope="module")
def service(redis_server: EmbeddedRedis) -> Generator[Stack]:
    """A stack whose queue may be filled with anything."""
    with running_stack(redis_server, workers=1, drain_s="1", keep_alive_s="0.3") as stack:
        yield stack
        assert "Traceback" not in stack.api.text()
        assert "a request failed" not in stack.api.text()


@pytest.fixture(scope="module")
def job_id(service: Stack) -> str:
    """A job that has ended, for routes that are about one."""
    headers = {"authorization": f"Bearer {service.api_key}"}
    body = {"model": "openai/gpt-4o-mini", "prompt": "For the document. [[sim tokens=5 tps=0 ttft_ms=0]]"}
    with httpx2.Client(base_url=service.url, headers=headers, timeout=60) as client:
        made = client.post("/v1/jobs", json=body).json()["id"]
        assert client.get(f"/v1/jobs/{made}", params={"wait": 30}).json()["status"] == "succeeded"
    return made


@pytest.fixture(scope="module")
def budget_id(service: Stack) -> str:
    """A budget, for routes that are about one; the last of them takes it away."""
    headers = {"authorization": f"Bearer {service.api_key}"}
    with httpx2.Client(base_url=service.url, headers=headers, timeout=60) as client:
        return client.post("/v1/budgets", json={"name": "of the document", "limit_usd": 1_000}).json()["id"]


@schema.parametrize()  # pyright: ignore[reportUntypedFunctionDecorator] - see schema
@settings(max_examples=MOST, derandomize=True, deadline=None, database=None, suppress_health_check=SLOW)
def test_no_generated_request_finds_a_server_error_or_an_answer_that_is_not_documented(
    case: Any, service: Stack, job_id: str, budget_id: str
) -> None:
    seen = SEEN.setdefault(case.operation.label, Counter())
    if "job_id" in case.path_parameters and seen.total() % 2:
        case.path_parameters["job_id"] = job_id
    if "budget_id" in case.path_parameters and seen.total() % 2:
        case.path_parameters["budget_id"] = budget_id
    response = case.call(base_url=service.url, headers={"authorization": f"Bearer {service.api_key}"}, timeout=30)
    seen[response.status_code] += 1
    case.validate_response(response, checks=CHECKS)


def test_every_route_of_the_document_was_asked_and_most_have_answered_well() -> None:
    documented = {f"{method.upper()} {path}" for path, ways in document["paths"].items() for method in ways}
    assert set(SEEN) == documented
    assert len(documented) > 12
    well = {route for route, answers in SEEN.items() if any(status < 300 for status in answers)}
    assert len(well) > len(documented) * 0.8, documented - well
