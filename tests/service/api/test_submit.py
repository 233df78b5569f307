"""What a 202 says, and that the same request is one job (R01 to R05), on one process, two replicas, one socket."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx2
import pytest

from onceq.wire import JOB_ID_PATTERN, SubmittedJob
from tests.service.api.kit import JOBS, MODEL, Http, ask, http, own_lane, problem_of, switch
from tests.stack import Stack


def test_a_202_is_the_job_and_says_where_to_poll_stream_and_cancel_it(client: Http) -> None:
    body = ask() | {"team": 'a "quoted" team', "user": "ünï", "labels": {"prompt": "v1%s"}, "band": "batch"}
    answer = client.post_json(body, idempotency_key="k")
    assert answer.status_code == 202
    assert answer.headers["content-type"] == "application/json"
    job = SubmittedJob.model_validate_json(answer.content)
    assert re.fullmatch(JOB_ID_PATTERN, job.id)
    assert (job.status, job.disposition, job.durability) == ("queued", "created", "strict")
    assert (job.model, job.provider, job.band, job.simulated) == (MODEL, "openai", "batch", True)
    assert (job.team, job.user, job.labels) == (body["team"], body["user"], body["labels"])
    assert answer.headers["location"] == job.urls.self == f"/v1/jobs/{job.id}"
    assert answer.headers["idempotent-replayed"] == "false"
    assert client.get(job.urls.self).json()["id"] == job.id
    assert client.get(job.urls.events).headers["content-type"].startswith("text/event-stream")
    assert client.post(job.urls.cancel).json()["id"] == job.id


def test_the_202_of_a_new_job_is_the_job_as_it_is_read_back(client: Http) -> None:
    """The 202 is written from a template: no field may drift from what the model says."""
    body = ask(ttft_ms=20_000) | {"team": "%(id)s", "labels": {"a": "\\u0041"}}
    created = client.submit(body)
    again = client.submit(body)
    client.post(created["urls"]["cancel"])
    changing = {"disposition", "quote", "status", "started_at", "timings", "calls", "tries", "output"}
    assert {k: v for k, v in created.items() if k not in changing} == {
        k: v for k, v in again.items() if k not in changing
    }


def test_a_post_again_joins_a_job_that_goes_on_and_replays_one_that_has_ended(client: Http, tenant: str) -> None:
    body = ask() | own_lane(tenant)
    switch(client, "pause", body)
    first = client.submit(body)
    joined = client.post_json(body)
    assert joined.headers["idempotent-replayed"] == "true"
    assert joined.headers["location"] == first["urls"]["self"]
    assert (joined.json()["id"], joined.json()["disposition"]) == (first["id"], "joined")
    switch(client, "resume", body)
    done = client.job(first["id"], wait=30)
    replayed = client.submit(body)
    assert (replayed["id"], replayed["disposition"], replayed["status"]) == (first["id"], "replayed", "succeeded")
    assert replayed["output"] == done.model_dump(mode="json")["output"], "the answer comes with the replay"


def test_a_key_that_replayed_one_job_replays_no_other_though_their_requests_are_equal(client: Http) -> None:
    body = ask(fault="400")
    first, second = (client.done(body, idempotency_key=key).id for key in ("one", "two"))
    key = {"idempotency-key": "again"}
    made = client.post(f"{JOBS}/{first}/replay", headers=key)
    assert (made.status_code, made.json()["disposition"]) == (202, "created")
    problem_of(client.post(f"{JOBS}/{second}/replay", headers=key), 422, "idempotency_key_reused")
    known = client.post(f"{JOBS}/{first}/replay", headers=key)
    assert (known.status_code, known.json()["id"]) == (202, made.json()["id"])
    assert client.job(made.json()["id"], wait=60).retry_of == first


def test_a_key_makes_one_job_and_another_body_under_it_is_a_422(client: Http) -> None:
    body = ask()
    first = client.submit(body, idempotency_key="k")
    assert client.submit(body, idempotency_key="k")["id"] == first["id"]
    problem = problem_of(client.post_json(ask(), idempotency_key="k"), 422, "idempotency_key_reused")
    assert first["id"] in problem.detail
    assert client.ids() == [first["id"]]


def test_the_order_of_json_keys_is_not_another_body(client: Http) -> None:
    one = {"model": MODEL, "prompt": "x", "params": {"a": 1, "b": {"c": 2, "d": 3}}, "labels": {"e": "4", "f": "5"}}
    two = {"labels": {"f": "5", "e": "4"}, "params": {"b": {"d": 3, "c": 2}, "a": 1}, "prompt": "x", "model": MODEL}
    assert client.submit(one, idempotency_key="k")["id"] == client.submit(two, idempotency_key="k")["id"]


SAME_QUESTION: list[dict[str, Any]] = [
    {"band": "batch"}, {"team": "other"}, {"labels": {"a": "b"}}, {"deadline_s": 60}, {"max_calls": 1},
    {"on_crash": "fail"}, {"on_break": "fail"},
]  # fmt: skip


@pytest.mark.parametrize("change", SAME_QUESTION, ids=lambda change: next(iter(change)))
def test_what_does_not_decide_the_answer_is_not_another_question(client: Http, change: dict[str, Any]) -> None:
    body = ask()
    assert client.submit(body | change)["id"] == client.submit(body)["id"]


ANOTHER_QUESTION: list[dict[str, Any]] = [
    {"user": "other"}, {"model": "openai/gpt-4o"}, {"system": "Be brief."}, {"max_tokens": 7}, {"temperature": 0.5},
    {"stop": ["."]}, {"params": {"seed": 1}}, {"tools": [{"name": "t"}]}, {"response_format": {"type": "json_object"}},
]  # fmt: skip


@pytest.mark.parametrize("change", ANOTHER_QUESTION, ids=lambda change: next(iter(change)))
def test_what_decides_the_answer_is_another_question(client: Http, change: dict[str, Any]) -> None:
    body = ask()
    assert client.submit(body | change)["id"] != client.submit(body)["id"]


def test_fresh_asks_for_a_new_sample(client: Http) -> None:
    body = ask()
    assert client.submit(body)["id"] != client.submit(body | {"fresh": True})["id"]


def test_a_key_alone_asks_for_no_window_and_a_window_without_a_key_can_be_closed(client: Http) -> None:
    body = ask()
    assert client.submit(body, idempotency_key="a")["id"] != client.submit(body, idempotency_key="b")["id"]
    open_ = {"dedupe_window_s": 60}
    assert client.submit(body | open_, idempotency_key="c")["id"] == client.submit(body | open_)["id"]
    shut = {"dedupe_window_s": 0}
    assert client.submit(body | shut)["id"] != client.submit(body | shut)["id"]


def test_a_failure_frees_the_question_but_not_the_key(client: Http) -> None:
    body = ask(fault=400)
    first = client.done(body, idempotency_key="k")
    assert first.status == "failed"
    assert client.submit(body, idempotency_key="k")["id"] == first.id
    without = client.done(body)
    assert client.submit(body)["id"] != without.id


def test_two_tenants_with_the_same_key_and_body_have_two_jobs(shared: Stack, client: Http, tenant: str) -> None:
    body = ask()
    with http(shared, f"{tenant}-2") as other:
        assert client.submit(body, idempotency_key="k")["id"] != other.submit(body, idempotency_key="k")["id"]


async def posts_at_once(urls: Sequence[str], key: str, body: dict[str, Any], n: int) -> list[dict[str, Any]]:
    """The same post n times, all under way together, over several APIs."""

    async def post(url: str) -> dict[str, Any]:
        async with httpx2.AsyncClient(headers={"authorization": f"Bearer {key}"}, timeout=60) as one:
            answer = await one.post(url + JOBS, json=body)
            assert answer.status_code == 202, answer.text
            return answer.json()

    return await asyncio.gather(*(post(urls[i % len(urls)]) for i in range(n)))


def test_r03_a_hundred_equal_posts_over_two_replicas_are_one_job_and_one_call(
    shared: Stack, replica: str, client: Http, tenant: str
) -> None:
    key, body = shared.key(tenant), ask(ttft_ms=300)
    jobs = asyncio.run(posts_at_once([shared.url, replica], key, body, 100))
    [job_id] = {job["id"] for job in jobs}
    said = Counter(job["disposition"] for job in jobs)
    assert said["created"] == 1
    assert said["joined"] + said["replayed"] == 99
    assert client.job(job_id, wait=30).status == "succeeded"
    assert len(shared.meter(job_id)) == 1
    assert client.ids() == [job_id]


def test_a_batch_answers_each_item_with_its_job_or_its_problem(shared: Stack, client: Http) -> None:
    known = ask()
    first = client.submit(known, idempotency_key="used")
    items = [
        {"idempotency_key": "a", "job": ask()},
        {"idempotency_key": "used", "job": known},
        {"idempotency_key": "used", "job": ask()},
        {"job": ask() | {"model": "nobody/gpt"}},
        {"job": ask() | {"params": {"a": 1}}},
    ]
    answer = client.post("/v1/jobs/batch", json={"items": items})
    assert answer.status_code == 200
    outcomes = answer.json()["items"]
    assert [o["job"] and o["job"]["disposition"] in ("created", "joined", "replayed") for o in outcomes] == [
        True, True, None, None, True,
    ]  # fmt: skip
    assert outcomes[1]["job"]["id"] == first["id"]
    assert [o["problem"] and o["problem"]["code"] for o in outcomes] == [
        None, None, "idempotency_key_reused", "unknown_model", None,
    ]  # fmt: skip
    assert len(client.ids()) == 3


def test_a_batch_whose_items_are_equal_is_one_job(shared: Stack, client: Http) -> None:
    body = ask()
    answer = client.post("/v1/jobs/batch", json={"items": [{"job": body}] * 200})
    [job_id] = {item["job"]["id"] for item in answer.json()["items"]}
    assert Counter(i["job"]["disposition"] for i in answer.json()["items"])["created"] == 1
    assert client.job(job_id, wait=30).status == "succeeded"
    assert len(shared.meter(job_id)) == 1


def test_a_batch_of_a_wrong_shape_stores_nothing(client: Http) -> None:
    many = [{"job": ask()}] * 1_001
    batches: list[Any] = [{"items": []}, {"items": many}, {"items": {}}, {}, {"items": [], "x": 1}, []]
    for batch in batches:
        problem_of(client.post("/v1/jobs/batch", json=batch), 422, "invalid_request")
    assert client.ids() == []


def test_a_wrong_item_is_refused_by_name_and_the_others_are_taken(client: Http) -> None:
    wrong: list[Any] = [
        {"job": {"prompt": "no model"}}, {"job": 1}, "a string", None, {"idempotency_key": "a b", "job": ask()},
        {"job": ask() | {"temperature": "hot"}}, {"job": ask(), "unknown": 1},
    ]  # fmt: skip
    answer = client.post("/v1/jobs/batch", json={"items": [{"job": ask()}, *wrong, {"job": ask()}]})
    assert answer.status_code == 200
    first, *refused, last = answer.json()["items"]
    assert [item["problem"]["code"] for item in refused] == ["invalid_request"] * len(wrong)
    assert refused[5]["problem"]["errors"][0]["loc"] == "job.temperature"
    assert sorted(client.ids()) == sorted([first["job"]["id"], last["job"]["id"]])
