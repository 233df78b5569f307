"""Cancelling from any process: what waits never starts, what runs is cut at the provider, everyone is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from onceq.wire import Job
from tests.service.api.kit import JOBS, Http, ask, meter_of, problem_of
from tests.stack import Stack
from tests.waiting import wait_until


def in_an_hour() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat()


def test_a_job_that_waits_is_cancelled_at_once_and_never_called(shared: Stack, replica: str, client: Http) -> None:
    job_id = client.submit(ask() | {"not_before": in_an_hour()})["id"]
    with Http(replica, shared.key(_tenant(client))) as elsewhere:
        answer = elsewhere.post(f"{JOBS}/{job_id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert [event.name for event in client.read(job_id)] == ["queued", "cancelled"]
    assert shared.meter(job_id) == []
    assert client.get("/v1/stats").json()["depth"]["queued"] == 0


def _tenant(client: Http) -> str:
    return client.get("/v1/keys").json()["keys"][-1]["tenant"]


def test_a_job_that_runs_is_cut_at_the_provider_though_another_process_was_asked(
    shared: Stack, replica: str, client: Http
) -> None:
    job_id = client.submit(ask(tokens=10_000, tps=100))["id"]
    wait_until(lambda: client.job(job_id).text, "its first text")
    with Http(replica, shared.key(_tenant(client))) as elsewhere:
        assert elsewhere.post(f"{JOBS}/{job_id}/cancel").status_code in (200, 202)
    call = meter_of(shared, job_id, lambda call: call["status"] == "aborted", "the provider to see the cut")
    assert call["output_tokens"] < 10_000
    job = client.job(job_id, wait=30)
    assert (job.status, job.calls) == ("cancelled", 1)
    assert job.text, "what had come is kept"
    assert call["text"].startswith(job.text)
    assert client.read(job_id)[-1].name == "cancelled"


def test_everyone_who_joined_is_told_of_the_cancel(client: Http) -> None:
    body = ask(tokens=10_000, tps=100)
    job_id = client.submit(body)["id"]
    assert client.submit(body)["disposition"] == "joined"
    client.post(f"{JOBS}/{job_id}/cancel")
    assert client.read(job_id)[-1].name == "cancelled"
    another = client.submit(body)["id"]
    client.post(f"{JOBS}/{another}/cancel")
    assert another != job_id, "a cancelled answer is nobody's answer"


def test_a_cancel_again_or_after_the_end_changes_nothing(client: Http) -> None:
    done = client.done(ask())
    for _ in range(2):
        answer = client.post(f"{JOBS}/{done.id}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    waits = client.submit(ask() | {"not_before": in_an_hour()})["id"]
    first, second = (client.post(f"{JOBS}/{waits}/cancel") for _ in range(2))
    assert first.json() == second.json()
    assert [event.name for event in client.read(waits)] == ["queued", "cancelled"]


def test_a_cancel_takes_no_body_and_minds_none(client: Http) -> None:
    job_id = client.submit(ask() | {"not_before": in_an_hour()})["id"]
    assert client.post(f"{JOBS}/{job_id}/cancel", content=b"not JSON").status_code == 200
    problem_of(client.post(f"{JOBS}/job_{'0' * 32}/cancel"), 404, "job_not_found")


def test_a_key_that_may_only_cancel_is_told_the_state_and_not_the_answer(shared: Stack, client: Http) -> None:
    whose = {"user": "ada", "team": "red", "labels": {"project": "x"}}
    done = client.done(ask() | whose)
    with Http(shared.url, shared.key(_tenant(client), "cancel")) as canceller:
        problem_of(canceller.get(f"{JOBS}/{done.id}"), 403, "forbidden")
        answer = canceller.post(f"{JOBS}/{done.id}/cancel")
    told = Job.model_validate_json(answer.content)
    assert (answer.status_code, told.id, told.status, told.model) == (200, done.id, "succeeded", done.model)
    assert done.text
    assert (told.output, told.usage, told.error) == (None, None, None)
    assert (told.user, told.team, told.labels) == (None, None, {})
    assert (told.cost.nano_usd, told.cost.usd, told.cost.wasted_nano_usd) == (None, None, 0)
    assert client.post(f"{JOBS}/{done.id}/cancel").json()["output"]["text"] == done.text, "a reader sees it whole"


def test_what_a_key_that_may_only_cancel_has_cut_comes_with_its_receipt(shared: Stack, client: Http) -> None:
    job_id = client.submit(ask(tokens=10_000, tps=100))["id"]
    wait_until(lambda: client.job(job_id).text, "its first text")
    with Http(shared.url, shared.key(_tenant(client), "cancel")) as canceller:
        first = canceller.post(f"{JOBS}/{job_id}/cancel").json()
        ended = client.job(job_id, wait=30)
        last = canceller.post(f"{JOBS}/{job_id}/cancel").json()
    assert ended.text, "a reader sees what had come"
    assert ended.receipt is not None
    assert (first["output"], last["output"], last["status"]) == (None, None, "cancelled")
    assert last["receipt"] == ended.receipt.model_dump(mode="json")
