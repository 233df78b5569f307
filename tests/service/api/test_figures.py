"""What the service says of itself: health, statistics, metrics, models, its document, and to which pages."""

from __future__ import annotations

import sys
from typing import Any

import httpx2
import pytest

from tests.service.api.kit import JOBS, MODEL, Http, ask, http
from tests.stack import API, Stack, start, url_printed_by
from tests.waiting import wait_until


def test_health_needs_no_key_and_says_how_safely_jobs_are_taken(shared: Stack) -> None:
    live, ready = httpx2.get(f"{shared.url}/livez"), httpx2.get(f"{shared.url}/readyz")
    assert (live.status_code, live.json()["status"]) == (200, "ok")
    assert (ready.status_code, ready.json()["status"], ready.json()["durability"]) == (200, "ok", "strict")
    assert ready.json()["problems"] == []


def test_stats_count_the_jobs_of_the_caller_by_state_and_sum_simulated_work_apart(shared: Stack, client: Http) -> None:
    done, failed = client.done(ask(tokens=7)), client.done(ask(fault=400))
    waits = client.submit(ask(ttft_ms=60_000))["id"]
    wait_until(lambda: client.job(waits).status == "running", "a job to run")

    def seen() -> dict[str, Any] | None:
        stats = client.get("/v1/stats").json()
        return stats if stats["depth"]["running"] == 1 else None

    stats = wait_until(seen, "the figures, which are at most a second old")
    assert stats["depth"] == {"queued": 0, "running": 1, "succeeded": 1, "failed": 1, "cancelled": 0, "expired": 0}
    sums = stats["last_24h_simulated"]
    assert (sums["jobs"], sums["succeeded"], sums["failed"], sums["output_tokens"]) == (3, 1, 1, 7)
    assert sums["spent_nano_usd"] == done.cost.nano_usd
    assert sums["bill_amplification"] is not None
    assert stats["last_24h"]["jobs"] == 0, "simulated work is never in one sum with real money"
    assert stats["simulated"] is True
    assert sum(hour["totals"]["jobs"] for hour in stats["hours"]) == 3
    assert {hour["model"] for hour in stats["hours"]} == {MODEL}
    assert stats["fleet"]["capacity"] == stats["workers"][0]["capacity"] == 32
    assert failed.error is not None
    client.post(f"{JOBS}/{waits}/cancel")


def test_joined_and_replayed_posts_are_counted_and_cost_nothing(client: Http) -> None:
    body = ask()
    client.done(body)
    for _ in range(3):
        assert client.submit(body)["disposition"] == "replayed"

    def seen() -> dict[str, Any] | None:
        sums = client.get("/v1/stats").json()["last_24h_simulated"]
        return sums if sums["replayed"] == 3 else None

    sums = wait_until(seen, "three replays in the figures")
    assert (sums["jobs"], sums["calls"], sums["bill_amplification"]) == (1, 1, 1.0)


def test_jobs_that_wait_for_a_retry_are_counted_for_their_own_tenant_alone(
    shared: Stack, client: Http, tenant: str
) -> None:
    own_lane = {"model": f"openai/braked-{tenant}"}  # its brake must not hold up other tests
    job_id = client.submit(ask(fault=429, retry_after=3_000) | own_lane)["id"]
    wait_until(lambda: client.get("/v1/stats").json()["waiting_retry"] == 1, "the job to wait for its retry")
    with http(shared, f"{tenant}-other") as other:
        assert other.get("/v1/stats").json()["waiting_retry"] == 0
    client.post(f"{JOBS}/{job_id}/cancel")
    wait_until(lambda: client.get("/v1/stats").json()["waiting_retry"] == 0, "it to wait no longer")


def test_models_name_the_providers_and_whether_a_worker_serves_them(client: Http) -> None:
    def told() -> dict[str, Any] | None:
        found = client.get("/v1/models").json()
        return found if any(p["served"] for p in found["providers"]) else None

    models = wait_until(told, "this process to have heard of a worker")
    assert [(p["name"], p["served"], p["simulated"]) for p in models["providers"]] == [
        ("anthropic", True, True), ("bedrock", True, True), ("openai", True, True),
    ]  # fmt: skip
    assert models["simulated"] is True


def test_the_document_is_open_and_says_which_routes_need_no_key(shared: Stack) -> None:
    document = httpx2.get(f"{shared.url}/openapi.json").json()
    assert document["security"] == [{"bearer": []}, {"api_key": []}]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert bool(operation["security"]) == (path not in ("/livez", "/readyz")), path
            assert operation["description"]


PAGE = "https://app.example.com"


def test_only_pages_that_are_named_may_read_answers_and_a_preflight_needs_no_key(shared: Stack) -> None:
    env = shared.env | {"ONCEQ_CORS_ORIGINS": f'["{PAGE}"]'}
    process = start([sys.executable, "-c", API], env, shared.folder / "cors.log")
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,idempotency-key"}
    try:
        url = url_printed_by(process)
        allowed = httpx2.options(url + JOBS, headers={"origin": PAGE} | asks)
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, PAGE)
        refused = httpx2.options(url + JOBS, headers={"origin": "https://evil.example.com"} | asks)
        assert refused.status_code == 400
        assert "access-control-allow-origin" not in refused.headers
        problem = httpx2.get(url + JOBS, headers={"origin": PAGE})
        assert problem.status_code == 401
        assert problem.headers["access-control-allow-origin"] == PAGE, "a page may read why it was refused"
        assert "ETag" in problem.headers["access-control-expose-headers"]
    finally:
        process.stop()


def test_an_api_for_pages_of_everybody_does_not_start(shared: Stack) -> None:
    process = start(
        [sys.executable, "-c", API], shared.env | {"ONCEQ_CORS_ORIGINS": '["*"]'}, shared.folder / "any.log"
    )
    assert process.popen.wait(30) != 0
    assert "ONCEQ_CORS_ORIGINS" in process.text()


@pytest.mark.parametrize("level", ["debug", "info"])
def test_the_log_says_what_was_asked_and_never_with_which_words(shared: Stack, tenant: str, level: str) -> None:
    env = shared.env | {"ONCEQ_LOG_LEVEL": level, "ONCEQ_LOG_JSON": "true"}
    process = start([sys.executable, "-c", API], env, shared.folder / f"{level}.log")
    try:
        with Http(url_printed_by(process), shared.key(tenant)) as client:
            job = client.done(ask())
            client.read(job.id)
            client.post_json(b'{"prompt": "sesame"', idempotency_key="sesame")
            client.get(JOBS, params={"team": "sesame"})
    finally:
        process.stop()
    said = process.text()
    assert "sesame" not in said
    assert shared.key(tenant) not in said
    assert ('"path": "/v1/jobs"' in said) == (level == "debug")
