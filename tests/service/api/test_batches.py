"""A batch: the ends of many jobs over one connection, from any number, on any replica; cancelled together."""

from __future__ import annotations

from typing import Any

import msgspec

from onceq.wire import BatchAnswer, Job
from tests.service.api.kit import JSON, Frame, Http, ask, frames, http, problem_of
from tests.stack import Stack
from tests.waiting import wait_until

BATCH = "/v1/jobs/batch"


def post(client: Http, batch: str, *asked: dict[str, Any], **item: Any) -> list[Job]:
    """Posts items into a batch; fails where one became no job."""
    body = {"batch": batch, "items": [{"job": request, **item} for request in asked]}
    answer = client.post(BATCH, content=msgspec.json.encode(body), headers=JSON)
    assert answer.status_code == 200, answer.text
    jobs = [made.job for made in BatchAnswer.model_validate_json(answer.content).items]
    return [job for job in jobs if job is not None]


def follow(client: Http, batch: str, after: int = 0) -> list[Frame]:
    """The batch's events behind `after`, to the end of the stream."""
    headers = {"last-event-id": str(after)} if after else {}
    answer = client.get("/v1/events", params={"batch": batch}, headers=headers)
    assert answer.status_code == 200, answer.text
    return list(frames(answer.text))


def test_each_job_of_several_posts_ends_once_in_one_stream_with_its_answer(client: Http) -> None:
    made = [*post(client, "b", *(ask() for _ in range(7))), *post(client, "b", *(ask(tokens=3) for _ in range(5)))]
    seen = follow(client, "b")
    assert [frame.id for frame in seen] == list(range(1, 13))
    assert sorted(frame.data.job for frame in seen) == sorted(job.id for job in made)
    for frame in seen:
        job = client.job(frame.data.job)
        assert (frame.name, frame.data.status) == ("succeeded", "succeeded")
        assert (frame.data.output, frame.data.cost, frame.data.usage) == (job.output, job.cost, job.usage)


def test_a_stream_goes_on_behind_any_number_with_the_same_events_and_ends_with_204(replica: str, client: Http) -> None:
    post(client, "b", *(ask() for _ in range(6)))
    whole = follow(client, "b")
    assert [follow(client, "b", after) for after in range(6)] == [whole[after:] for after in range(6)]
    with Http(replica, client.headers["authorization"].split()[1]) as other:
        assert follow(other, "b", 2) == whole[2:]
    assert client.get("/v1/events", params={"batch": "b", "last_event_id": 6}).status_code == 204
    ahead = client.get("/v1/events", params={"batch": "b"}, headers={"last-event-id": "7"})
    problem_of(ahead, 400, "last_event_id_ahead")


def test_what_has_ended_before_it_came_into_a_batch_is_told_there_too_and_once(client: Http) -> None:
    old, running = client.done(asked := ask()), ask(tokens=4, ttft_ms=1500)
    made = post(client, "late", asked, running)
    assert post(client, "late", asked, running)[1].id == made[1].id
    assert made[0].status == "succeeded"
    assert [frame.data.job for frame in follow(client, "late")] == [old.id, made[1].id]
    post(client, "again", running, asked)
    assert [frame.data.job for frame in follow(client, "again")] == [made[1].id, old.id]
    assert len(follow(client, "late")) == 2


def test_a_failed_job_is_told_with_its_error(client: Http) -> None:
    post(client, "b", ask(fault="400"))
    (frame,) = follow(client, "b")
    assert frame.name == "failed"
    assert frame.data.error is not None
    assert frame.data.error.code == "provider_bad_request"


def test_another_tenant_sees_no_batch(shared: Stack, tenant: str, client: Http) -> None:
    post(client, "mine", ask())
    follow(client, "mine")
    with http(shared, f"{tenant}-other") as other:
        _sees_none_of(client, other)


def _sees_none_of(client: Http, other: Http) -> None:
    problem_of(other.get("/v1/events", params={"batch": "mine"}), 404, "batch_not_found")
    problem_of(other.post("/v1/batches/mine/cancel"), 404, "batch_not_found")
    post(other, "mine", ask())
    assert len(follow(other, "mine")) == len(follow(client, "mine")) == 1


def test_a_batch_is_named_in_letters(client: Http) -> None:
    for name in ("", "a b", "a:b", "x" * 65, "ä"):
        problem_of(client.get("/v1/events", params={"batch": name}), 422, "invalid_request")
    body = msgspec.json.encode({"batch": "a b", "items": [{"job": ask()}]})
    problem_of(client.post(BATCH, content=body, headers=JSON), 422, "invalid_request")
    assert client.ids() == []


def test_a_cancel_ends_all_jobs_of_the_batch_that_have_not_ended(client: Http) -> None:
    done = client.done(asked := ask())
    post(client, "b", asked, *(ask(tokens=400, tps=20) for _ in range(8)))
    bystander = client.submit(ask(tokens=8, ttft_ms=500))["id"]
    told = client.post("/v1/batches/b/cancel")
    assert told.status_code == 200
    assert sum(told.json().values()) == 8
    seen = follow(client, "b")
    assert (seen[0].data.job, seen[0].name) == (done.id, "succeeded")
    assert [frame.name for frame in seen].count("cancelled") == 8
    wait_until(lambda: client.job(bystander).status == "succeeded", "the job that is in no batch")


def test_no_job_is_made_where_one_is_only_looked_for(client: Http) -> None:
    known, never = ask(), ask()
    (made,) = post(client, "b", known, idempotency_key="known")
    assert [job.id for job in post(client, "b", known, idempotency_key="known", create=False)] == [made.id]
    body = {"batch": "b", "items": [{"job": never, "idempotency_key": "never", "create": False}]}
    answer = client.post(BATCH, content=msgspec.json.encode(body), headers=JSON)
    (item,) = BatchAnswer.model_validate_json(answer.content).items
    assert item.problem is not None
    assert item.problem.code == "job_not_found"
    assert client.ids() == [made.id]


def test_following_needs_read_and_cancelling_needs_cancel(shared: Stack, tenant: str, client: Http) -> None:
    post(client, "b", ask())
    with http(shared, tenant, "submit") as submitter:
        problem_of(submitter.get("/v1/events", params={"batch": "b"}), 403, "forbidden")
        problem_of(submitter.post("/v1/batches/b/cancel"), 403, "forbidden")
