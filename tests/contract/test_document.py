"""The OpenAPI document holds together: what it refers to is there, each route says which scope it needs."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import pytest

import onceq
from onceq._submission import DEDUPE_WINDOW_S
from onceq.wire import SCOPES
from onceq_service.anthropic_limit import DEFAULT_MAX_TOKENS
from onceq_service.api.app import build_app
from onceq_service.providers.base import Clocks
from onceq_service.settings import Settings

document: dict[str, Any] = build_app(Settings()).openapi()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, operations in document["paths"].items()
    for method, operation in operations.items()
}


def test_all_that_it_refers_to_is_there() -> None:
    found = set(re.findall(r'"\$ref": "#/([^"]*)"', json.dumps(document)))
    assert "components/schemas/JobRequest" in found
    for pointer in found:
        part = document
        for name in pointer.split("/"):
            assert name in part, pointer
            part = part[name]


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_problem_has_another_shape_than_ours(name: str) -> None:
    for status, response in OPERATIONS[name]["responses"].items():
        if int(status) >= 400 and name != "GET /readyz":
            assert list(response["content"]) == ["application/problem+json"], status


def test_each_route_says_which_scope_it_needs() -> None:
    needed = {name: [way[next(iter(way))] for way in one["security"]] for name, one in OPERATIONS.items()}
    assert [name for name, ways in needed.items() if not ways] == ["GET /livez", "GET /readyz"]
    assert [name for name, ways in needed.items() if ways and not ways[0]] == ["GET /v1/keys/self"]
    assert {scope for ways in needed.values() for scopes in ways for scope in scopes} == set(SCOPES)
    assert needed["POST /v1/jobs"][0] == ["submit"]


def test_headers_that_make_posts_and_polls_safe_are_in_it() -> None:
    for name in ("POST /v1/jobs", "POST /v1/jobs/{job_id}/replay"):
        assert "Idempotency-Key" in [one["name"] for one in OPERATIONS[name]["parameters"]]
        assert {"Location", "Idempotent-Replayed"} <= set(OPERATIONS[name]["responses"]["202"]["headers"])
    poll = OPERATIONS["GET /v1/jobs/{job_id}"]
    assert "If-None-Match" in [one["name"] for one in poll["parameters"]]
    assert "ETag" in poll["responses"]["200"]["headers"]
    assert "Retry-After" in poll["responses"]["200"]["headers"]


def test_a_stream_is_nothing_but_events() -> None:
    for name in ("GET /v1/jobs/{job_id}/events", "GET /v1/events"):
        assert list(OPERATIONS[name]["responses"]["200"]["content"]) == ["text/event-stream"]
    assert {"stream_token": ["read"]} in OPERATIONS["GET /v1/jobs/{job_id}/events"]["security"]


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_parameter_of_a_route_says_what_it_is(name: str) -> None:
    parameters = OPERATIONS[name].get("parameters", [])
    assert [one["name"] for one in parameters if not one.get("description")] == []


@pytest.mark.parametrize("schema", ["JobRequest", "Timeouts"])
def test_each_field_of_a_job_says_what_it_is(schema: str) -> None:
    fields = document["components"]["schemas"][schema]["properties"]
    assert [name for name, field in fields.items() if not field.get("description")] == []


def test_what_is_said_of_defaults_is_so() -> None:
    usual, fields = Settings(), document["components"]["schemas"]["JobRequest"]["properties"]
    clocks = document["components"]["schemas"]["Timeouts"]["properties"]
    for described, default, name in (
        (fields["deadline_s"], usual.deadline_s, "ONCEQ_DEADLINE_S"),
        (fields["max_calls"], usual.max_calls, "ONCEQ_MAX_CALLS"),
        (fields["dedupe_window_s"], usual.dedupe_window_s, "ONCEQ_DEDUPE_WINDOW_S"),
        (clocks["first_byte_s"], Clocks().first_byte_s, "`first_byte_s` in onceq.toml"),
        (clocks["between_bytes_s"], Clocks().between_bytes_s, "`between_bytes_s` in onceq.toml"),
    ):  # fmt: skip
        assert f"({default:,.0f}; {name})" in " ".join(described["description"].split())
    assert f"onceq sends {DEFAULT_MAX_TOKENS:,}" in " ".join(fields["max_tokens"]["description"].split())
    assert f"SDK sends {DEDUPE_WINDOW_S} itself" in " ".join(fields["dedupe_window_s"]["description"].split())


def test_what_the_public_reads_says_after_where_it_means_after() -> None:
    """Events, rows and models come after one another; "behind" is where a queue or a proxy stands."""
    offered = [getattr(onceq, name) for name in onceq.__all__]
    parts = [part for one in offered if inspect.isclass(one) for _, part in inspect.getmembers(one)]
    said = [inspect.getdoc(one) or "" for one in (*offered, *parts)] + [json.dumps(document)]
    assert len(said) > 500
    misread = re.compile(r"[^.]*\bbehind (?!a queue|each of the models)[^.]*|[^.]*\bended so\b[^.]*")
    assert {found for words in said for found in misread.findall(words)} == set()
