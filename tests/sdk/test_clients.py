"""Both clients against a real socket: what they send, what they hand back, what they raise."""

from __future__ import annotations

import inspect
import json
import time
import traceback
from datetime import UTC, date, datetime
from typing import Any

import jedi
import pandas
import polars
import pytest
from pydantic import JsonValue
from starlette.responses import Response

import onceq
from onceq import AsyncClient, AsyncJobHandle, AsyncJobStream, Client, JobHandle, JobOptions, JobRequest, JobStream
from tests.sdk.fake import JOB_ID, FakeService, Log, Seen, accepted, answer, deltas, job, problem, whole_log

SUBMIT, GET, EVENTS = "POST /v1/jobs", "GET /v1/jobs/{id}", "GET /v1/jobs/{id}/events"


# -- submit -----------------------------------------------------------------------------------------------------


def test_submit_sends_the_request_with_a_key_of_its_own_and_the_dedupe_window(fake: FakeService, client: Any) -> None:
    fake.on(SUBMIT, accepted())
    handle = client.submit("Hi", system="Be brief", team="blue", temperature=0)
    sent = fake.to(SUBMIT)[0]
    assert sent.headers["authorization"] == "Bearer oq_test"
    assert sent.headers["user-agent"] == f"onceq-python/{onceq.__version__}"
    assert len(sent.headers["idempotency-key"]) == 32
    assert sent.json == {
        "model": "openai/gpt-4o-mini", "prompt": "Hi", "system": "Be brief", "team": "blue", "temperature": 0,
        "dedupe_window_s": 600,
    }  # fmt: skip
    assert (handle.id, handle.disposition, handle.job.status) == (JOB_ID, "created", "queued")


def test_a_quote_asks_with_the_same_body_and_makes_nothing(fake: FakeService, client: Any) -> None:
    fake.on("POST /v1/quote", answer({"cost": {"upper_nano_usd": 7, "upper_usd": "0.000000007"}, "jobs_ahead": 2}))
    told = client.quote("Hi", max_tokens=3, max_cost_usd=0.5)
    assert (told.cost.upper_nano_usd, told.jobs_ahead, told.expected_start_at) == (7, 2, None)
    (sent,) = fake.seen
    assert (sent.json["prompt"], sent.json["max_tokens"], sent.json["max_cost_usd"]) == ("Hi", 3, 0.5)
    assert "idempotency-key" not in sent.headers


def test_two_submits_carry_two_keys(fake: FakeService, client: Any) -> None:
    fake.on(SUBMIT, accepted())
    client.submit("Hi")
    client.submit("Hi")
    assert len({seen.headers["idempotency-key"] for seen in fake.seen}) == 2


def test_a_key_of_the_callers_is_sent_alone(fake: FakeService, client: Any) -> None:
    fake.on(SUBMIT, accepted("replayed"))
    assert client.submit("Hi", idempotency_key="row-7").disposition == "replayed"
    assert fake.seen[0].headers["idempotency-key"] == "row-7"
    assert "dedupe_window_s" not in fake.seen[0].json


def test_messages_may_be_dicts_or_models(fake: FakeService, client: Any) -> None:
    fake.on(SUBMIT, accepted())
    client.submit([onceq.Message(role="user", content="a"), {"role": "assistant", "content": "b"}], fresh=True)
    body = fake.seen[0].json
    assert body["messages"] == [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert body["fresh"] is True


def test_a_schema_goes_out_under_its_wire_name(fake: FakeService, client: Any) -> None:
    fake.on(SUBMIT, accepted())
    schema: dict[str, JsonValue] = {"type": "object", "properties": {"nothing": {"type": "null", "default": None}}}
    client.submit("Hi", response_format=onceq.ResponseFormat(type="json_schema", schema=schema))
    client.submit("Hi", response_format={"type": "json_schema", "schema": schema})
    assert [seen.json["response_format"]["schema"] for seen in fake.seen] == [schema, schema]


@pytest.mark.parametrize(
    ("options", "where"),
    [({"max_token": 5}, "max_token"), ({"max_tokens": "5"}, "max_tokens"), ({"params": {"stream": True}}, "")],
)
def test_a_wrong_request_is_refused_before_it_is_sent(
    fake: FakeService, client: Any, options: dict[str, Any], where: str
) -> None:
    with pytest.raises(onceq.BadRequestError, match="Nothing was sent") as caught:
        client.submit("Hi", **options)
    assert caught.value.code == "invalid_request"
    assert caught.value.problem.errors is not None
    assert [e.loc for e in caught.value.problem.errors] == [where]
    assert fake.seen == []


@pytest.mark.parametrize("wrong", [{"max_tokens": "5"}, {"params": {"x": object()}}])
def test_a_refusal_is_one_error_and_not_the_last_of_two(client: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(onceq.BadRequestError) as caught:
        client.submit("Hi", **wrong)
    shown = "".join(traceback.format_exception(caught.value))
    assert "During handling" not in shown
    assert "direct cause" not in shown


@pytest.mark.parametrize("wrong", [{"params": {"x": object()}}, {"idempotency_key": "two words"}])
def test_what_cannot_be_put_into_a_request_is_refused(fake: FakeService, client: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(onceq.BadRequestError, match="Nothing was sent"):
        client.submit("Hi", **wrong)
    assert fake.seen == []


def test_without_a_model_the_error_says_how_to_name_one(fake: FakeService) -> None:
    with Client(fake.url, "oq_test") as bare, pytest.raises(onceq.ConfigurationError, match="model="):
        bare.submit("Hi")


def test_what_is_wrong_with_the_whole_is_said_without_a_field(client: Any) -> None:
    with pytest.raises(onceq.BadRequestError) as caught:
        client.pause()
    assert str(caught.value).splitlines()[1:] == ["  give either lane or band"]


# -- retries ----------------------------------------------------------------------------------------------------


def test_a_retry_carries_the_same_key_and_body(fake: FakeService, client: Any) -> None:
    fake.on(SUBMIT, problem(503, "store_unavailable", "0"), problem(429, "rate_limited", "0"), accepted())
    client.submit("Hi")
    assert len({(seen.headers["idempotency-key"], seen.body) for seen in fake.seen}) == 1
    assert len(fake.seen) == 3


def test_retry_after_is_waited_for(fake: FakeService, client: Any) -> None:
    fake.on(SUBMIT, problem(503, "store_unavailable", "1"), accepted())
    began = time.monotonic()
    client.submit("Hi")
    assert time.monotonic() - began >= 1


def test_a_retry_after_of_minutes_is_handed_to_the_caller(fake: FakeService, client: Any) -> None:
    fake.on(SUBMIT, problem(429, "rate_limited", "3600"))
    with pytest.raises(onceq.RateLimitError) as caught:
        client.submit("Hi")
    assert caught.value.retry_after_s == 3600
    assert len(fake.seen) == 1


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "malformed_idempotency_key", onceq.BadRequestError),
        (401, "unauthorized", onceq.AuthenticationError),
        (403, "forbidden", onceq.PermissionDeniedError),
        (404, "not_found", onceq.NotFoundError),
        (409, "conflict", onceq.ConflictError),
        (413, "payload_too_large", onceq.BadRequestError),
        (422, "unknown_model", onceq.BadRequestError),
        (422, "idempotency_key_reused", onceq.IdempotencyKeyReused),
        (418, "teapot", onceq.APIError),
    ],
)
def test_a_problem_becomes_its_error_at_once(
    fake: FakeService, client: Any, status: int, code: str, error: type[onceq.APIError]
) -> None:
    fake.on(SUBMIT, problem(status, code))
    with pytest.raises(onceq.APIError) as caught:
        client.submit("Hi")
    assert type(caught.value) is error
    assert (caught.value.status, caught.value.code) == (status, code)
    assert f"This was {code}." in str(caught.value)
    assert len(fake.seen) == 1


def test_an_answer_that_is_not_onceqs_says_so(fake: FakeService, client: Any) -> None:
    fake.on(GET, Response("<html>Welcome</html>", media_type="text/html"))
    with pytest.raises(onceq.APIError, match="check the base URL") as caught:
        client.get(JOB_ID)
    assert caught.value.code == "unexpected_answer"


def test_a_proxys_error_page_keeps_its_status(fake: FakeService, client: Any) -> None:
    fake.on(GET, Response("<html>Nope</html>", status_code=404, media_type="text/html"))
    with pytest.raises(onceq.NotFoundError, match="404 Not Found"):
        client.get(JOB_ID)


def test_a_service_that_is_not_there_is_named_and_the_key_is_not(client: Any) -> None:
    with (
        Client("http://127.0.0.1:9", "oq_secret", max_retries=1) as away,
        pytest.raises(onceq.ConnectionFailed) as caught,
    ):
        away.get(JOB_ID)
    assert "http://127.0.0.1:9/v1/jobs/" in str(caught.value)
    assert "onceq up" in str(caught.value)
    assert "oq_secret" not in f"{caught.value} {away!r}"
    assert "oq_test" not in repr(client)


def test_a_service_that_goes_away_while_its_job_is_waited_for_says_that_the_job_goes_on() -> None:
    with Client("http://127.0.0.1:9", "oq_secret") as away, pytest.raises(ConnectionError) as caught:
        away.result(JOB_ID, timeout_s=0.1)
    assert isinstance(caught.value, onceq.ConnectionFailed)
    assert f"Job {JOB_ID} goes on" in str(caught.value)


# -- jobs -------------------------------------------------------------------------------------------------------


def test_get_and_cancel(fake: FakeService, client: Any) -> None:
    fake.on(GET, answer(job("running", "Hel")))
    fake.on("POST /v1/jobs/{id}/cancel", answer(job("cancelled", cancel_requested=True)))
    assert client.get(JOB_ID).text == "Hel"
    assert client.cancel(JOB_ID).status == "cancelled"


def test_an_id_from_elsewhere_stays_inside_its_path(fake: FakeService, client: Any) -> None:
    fake.on(GET, problem(404, "job_not_found"))
    fake.on("GET /v1/stats", answer({}))
    with pytest.raises(onceq.NotFoundError):
        client.get("../stats")
    assert not fake.to("GET /v1/stats")


def test_wait_polls_until_the_job_has_ended(fake: FakeService, client: Any) -> None:
    fake.on(GET, answer(job("queued")), problem(503, "store_unavailable", "0"), answer(job("succeeded", "Hello")))
    assert client.wait(JOB_ID).text == "Hello"
    assert {seen.query["wait"] for seen in fake.seen} == {"30"}


def test_wait_gives_up_after_its_timeout(fake: FakeService, client: Any) -> None:
    fake.on(GET, answer(job("running")))
    began = time.monotonic()
    with pytest.raises(onceq.WaitTimeout, match=rf"{JOB_ID} is still running after 0\.3 s"):
        client.wait(JOB_ID, timeout_s=0.3)
    assert time.monotonic() - began < 3
    assert len(fake.seen) <= 3, "an instant answer to a long poll must not become a busy loop"


def test_wait_does_not_retry_past_its_timeout(fake: FakeService, client: Any) -> None:
    fake.on(GET, problem(503, "store_unavailable", "5"))
    with pytest.raises(onceq.ServiceUnavailableError):
        client.wait(JOB_ID, timeout_s=1)
    assert len(fake.seen) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [("failed", onceq.JobFailed), ("cancelled", onceq.JobCancelled), ("expired", onceq.JobExpired)],
)
def test_result_raises_what_became_of_the_job(
    fake: FakeService, client: Any, status: str, error: type[onceq.JobError]
) -> None:
    why = {"code": "provider_auth", "message": "The provider refused the key."}
    fake.on(GET, answer(job(status, "part", error=why)))
    with pytest.raises(error, match="refused the key") as caught:
        client.result(JOB_ID)
    assert (caught.value.code, caught.value.job.text) == ("provider_auth", "part")


def test_a_handle_gets_at_its_job(fake: FakeService, client: Any) -> None:
    fake.on(SUBMIT, accepted())
    fake.on(GET, answer(job("running", "He")), answer(job("succeeded", "Hello")))
    fake.on("POST /v1/jobs/{id}/cancel", answer(job("succeeded", "Hello")))
    handle = client.submit("Hi")
    assert handle.refresh().text == "He"
    assert handle.job.status == "running"
    assert handle.result().text == handle.wait().text == handle.cancel().text == "Hello"
    assert "Hello" in handle._repr_html_()
    assert JOB_ID in repr(handle)


def test_list_fetches_pages_as_they_are_needed(fake: FakeService, client: Any) -> None:
    first = {"jobs": [job(job_id="job_a"), job(job_id="job_b")], "next_cursor": "c2"}
    fake.on("GET /v1/jobs", answer(first), answer({"jobs": [job(job_id="job_c")], "next_cursor": None}))
    jobs = client.list(status="queued", team="blue", since=datetime(2026, 11, 1, tzinfo=UTC), page_size=2)
    assert next(iter(jobs)).id == "job_a"
    assert len(fake.seen) == 1
    assert [j.id for j in jobs] == ["job_b", "job_c"]
    wanted = {"status": "queued", "team": "blue", "limit": "2"}
    assert [seen.query.get("cursor") for seen in fake.seen] == [None, "c2"]
    assert all(wanted.items() <= seen.query.items() for seen in fake.seen)
    assert datetime.fromisoformat(fake.seen[0].query["since"]) == datetime(2026, 11, 1, tzinfo=UTC)


def test_a_page_is_one_request_and_tells_how_far_it_has_looked(fake: FakeService, client: Any) -> None:
    told: dict[str, Any] = {"jobs": [], "next_cursor": "c2", "looked_at": 5000}
    told["looked_back_to"] = "2026-11-01T12:00:00Z"
    fake.on("GET /v1/jobs", answer(told))
    page = client.list_page(
        cursor="c1", user="ada", key="key_1", band="batch", verdict="queue", replayed=False, label={"version": "v=2"},
        until=datetime(2026, 11, 2, tzinfo=UTC), team=None,
    )  # fmt: skip
    assert (page.jobs, page.next_cursor, page.looked_at) == ([], "c2", 5000)
    assert page.looked_back_to == datetime(2026, 11, 1, 12, tzinfo=UTC)
    (seen,) = fake.seen
    until = seen.query.pop("until")
    assert datetime.fromisoformat(until) == datetime(2026, 11, 2, tzinfo=UTC)
    assert seen.query == {
        "cursor": "c1", "user": "ada", "key": "key_1", "band": "batch", "verdict": "queue", "replayed": "false",
        "label": "version=v=2",
    }  # fmt: skip


def test_a_filter_that_does_not_exist_is_an_error(client: Any) -> None:
    with pytest.raises(TypeError, match=r"colour: there are band, error, .*label, model"):
        list(client.list(colour="blue"))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"page_size": 0}, "page_size is a number from 1 on"),
        ({"page_size": -1}, "page_size is a number from 1 on"),
        ({"since": date(2026, 11, 1)}, r"a time is a datetime, like .*, not datetime\.date\(2026, 11, 1\)"),
        ({"until": "2026-11-01"}, "a time is a datetime, like .*, not '2026-11-01'"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(fake: FakeService, client: Any, wrong: Any, says: str) -> None:
    for ask in (client.list, client.ledger_pages):
        with pytest.raises(onceq.BadRequestError, match=says):
            list(ask(**wrong))
    assert fake.seen == []


def test_stats_ledger_and_health_are_typed(fake: FakeService, client: Any) -> None:
    totals: dict[str, Any] = {}
    fake.on("GET /v1/stats", answer({
        "at": "2026-11-23T12:00:00Z", "durability": "strict", "depth": {"queued": 3}, "last_hour": totals,
        "last_24h": {"bill_amplification": 1.0}, "last_24h_simulated": totals, "hours": [], "workers": [],
    }))  # fmt: skip
    fake.on("GET /v1/jobs/{id}/ledger", answer([{
        "at": "2026-11-23T12:00:00Z", "job": JOB_ID, "try_no": 1, "call": 1, "model": "m", "outcome": "ok",
        "billed": True, "estimated": False, "input_tokens": 3, "output_tokens": 4, "cached_tokens": 0,
        "reasoning_tokens": 0, "spent_nano_usd": 17, "wasted_nano_usd": 0, "waste_reason": None,
        "price_version": "v", "simulated": True,
    }]))  # fmt: skip
    fake.on("GET /readyz", answer({"status": "unavailable", "problems": ["Redis is away"]}, 503))
    stats = client.stats()
    assert (stats.depth.queued, stats.last_24h.bill_amplification) == (3, 1.0)
    assert client.ledger(JOB_ID)[0].spent_nano_usd == 17
    assert client.health().problems == ["Redis is away"]
    assert len(fake.to("GET /readyz")) == 1


def test_health_of_something_else_is_an_error(fake: FakeService, client: Any) -> None:
    fake.on("GET /readyz", problem(500, "internal_error"))
    with pytest.raises(onceq.ServiceUnavailableError):
        client.health()


# -- batch ------------------------------------------------------------------------------------------------------


def _accept_all(seen: Seen) -> Response:
    items = [{"job": {**job(job_id=f"job_{i}"), "disposition": "created"}} for i, _ in enumerate(seen.json["items"])]
    return answer({"items": items})


def test_a_batch_answers_per_item(fake: FakeService, client: Any) -> None:
    wrong = {"title": "No", "status": 422, "code": "unknown_model", "detail": "No such model."}
    fake.on(
        "POST /v1/jobs/batch",
        answer({"items": [{"job": {**job(), "disposition": "joined"}}, {"problem": wrong}, {}]}),
    )
    handle, refusal, nothing = client.submit_batch(["a", {"prompt": "b", "model": "x/y"}, "c"], team="blue")
    assert (handle.id, handle.disposition) == (JOB_ID, "joined")
    assert isinstance(refusal, onceq.BadRequestError)
    assert isinstance(nothing, onceq.ServiceUnavailableError)
    sent = fake.seen[0].json["items"]
    assert [item["job"]["model"] for item in sent] == ["openai/gpt-4o-mini", "x/y", "openai/gpt-4o-mini"]
    assert all(item["job"]["dedupe_window_s"] == 600 and item["job"]["team"] == "blue" for item in sent)
    assert len({item["idempotency_key"] for item in sent}) == 3


def test_batch_items_may_be_models_with_keys_of_their_own(fake: FakeService, client: Any) -> None:
    fake.on("POST /v1/jobs/batch", _accept_all)
    request = JobRequest(model="x/y", prompt="a", max_tokens=5)
    client.submit_batch([request, onceq.BatchItem(idempotency_key="k", job=request)])
    plain, keyed = fake.seen[0].json["items"]
    assert plain["job"] == {"model": "x/y", "prompt": "a", "max_tokens": 5, "dedupe_window_s": 600}
    assert keyed == {"idempotency_key": "k", "job": {"model": "x/y", "prompt": "a", "max_tokens": 5}}


def test_a_large_batch_travels_in_posts_that_the_service_takes(fake: FakeService, client: Any) -> None:
    fake.on("POST /v1/jobs/batch", _accept_all)
    assert len(client.submit_batch(["a"] * 1_001)) == 1_001
    assert [len(seen.json["items"]) for seen in fake.seen] == [1_000, 1]
    fake.seen.clear()
    assert len(client.submit_batch(["a" * 3_000_000] * 5)) == 5
    assert [len(seen.json["items"]) for seen in fake.seen] == [2, 2, 1]
    assert client.submit_batch([]) == []


def test_what_was_accepted_is_handed_back_when_a_later_post_fails(fake: FakeService, client: Any) -> None:
    fake.on("POST /v1/jobs/batch", _accept_all, problem(403, "forbidden"))
    answers = client.submit_batch(["a"] * 1_002)
    assert all(a.id.startswith("job_") for a in answers[:1_000])
    assert [type(a) for a in answers[1_000:]] == [onceq.PermissionDeniedError] * 2


def test_one_wrong_item_stops_the_batch_before_it_is_sent(fake: FakeService, client: Any) -> None:
    with pytest.raises(onceq.BadRequestError, match=r"items\.1\.promt"):
        client.submit_batch(["a", {"promt": "b"}])
    assert fake.seen == []


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ("hello", "For one prompt there is submit"),
        (b"hello", "For one prompt there is submit"),
        ({"prompt": "hello"}, "For one prompt there is submit"),
        (JobRequest(model="x/y", prompt="a"), "For one prompt there is submit"),
        (pandas.DataFrame({"text": ["a"]}), r"one column of a frame.*client\.map"),
        (polars.DataFrame({"text": ["a"]}), r"one column of a frame.*client\.map"),
        (3, "not int"),
        (None, "not NoneType"),
    ],
)
def test_a_batch_is_not_made_of_letters_fields_or_column_names(
    fake: FakeService, client: Any, items: Any, says: str
) -> None:
    with pytest.raises(onceq.BadRequestError, match=says):
        client.submit_batch(items)
    assert fake.seen == []


def test_a_batch_may_be_a_column_and_its_items_conversations(fake: FakeService, client: Any) -> None:
    fake.on("POST /v1/jobs/batch", _accept_all)
    client.submit_batch(pandas.Series(["a", "b"]))
    client.submit_batch(polars.Series(["a", "b"]))
    client.submit_batch([[{"role": "user", "content": "a"}]])
    first, second, third = ([item["job"] for item in seen.json["items"]] for seen in fake.seen)
    assert [job["prompt"] for job in first] == [job["prompt"] for job in second] == ["a", "b"]
    assert third[0]["messages"] == [{"role": "user", "content": "a"}]


@pytest.mark.parametrize("wrong", [None, 3, float("nan"), pandas.NA, pandas.NaT, b"text"])
def test_what_is_no_prompt_is_named_with_its_place(fake: FakeService, client: Any, wrong: Any) -> None:
    with pytest.raises(onceq.BadRequestError, match=r"  prompt: a prompt is a text or a list of messages, not "):
        client.submit(wrong)
    with pytest.raises(
        onceq.BadRequestError, match=r"  items\.7\.prompt: a prompt is a text or a list of messages, not "
    ):
        client.submit_batch(pandas.Series(["a"] * 7 + [wrong], dtype=object))
    assert fake.seen == []


def test_one_message_is_to_be_wrapped_in_a_list(fake: FakeService, client: Any) -> None:
    with pytest.raises(onceq.BadRequestError, match=r"  prompt: .*wrap it in a list"):
        client.submit({"role": "user", "content": "Hi"})
    assert fake.seen == []


# -- streams ----------------------------------------------------------------------------------------------------


def test_a_stream_submits_and_yields_text(fake: FakeService, client: Any) -> None:
    fake.on(SUBMIT, accepted())
    fake.on(GET, answer(job("succeeded", "Hello world")))
    fake.log(whole_log("Hello", " ", "world"))
    stream = client.stream("Hi")
    assert (stream.job_id, stream.job, stream.text, fake.seen) == (None, None, "", [])
    assert list(stream) == ["Hello", " ", "world"]
    assert (stream.text, stream.job_id, stream.disposition) == ("Hello world", JOB_ID, "created")
    assert (stream.job.status, stream.position, stream.resets) == ("succeeded", 6, 0)
    assert stream.output.finish_reason == "stop"
    assert list(stream) == [], "what has been read is not read again"
    assert "Hello world" in stream._repr_html_()
    assert JOB_ID in repr(stream)


def test_the_result_of_a_stream_is_its_job_however_far_it_was_read(fake: FakeService, client: Any) -> None:
    fake.on(SUBMIT, accepted())
    fake.on(GET, answer(job("succeeded", "Hello world")))
    fake.log(whole_log("Hello", " ", "world"))
    stream = client.stream("Hi")
    assert next(iter(stream)) == "Hello"
    assert stream.result().text == stream.result().text == stream.text == "Hello world"
    assert client.stream("Hi").result().status == "succeeded"
    fake.on(GET, answer(job("failed")))
    with pytest.raises(onceq.JobFailed):
        client.stream("Hi").result()


def test_a_cut_stream_is_taken_up_where_it_stopped(fake: FakeService, client: Any) -> None:
    fake.on(GET, answer(job("succeeded", "Hello world")))
    fake.log(whole_log("Hello", " ", "world"), cuts=[0, 150, 300, 100])
    stream = client.follow(JOB_ID)
    assert "".join(stream) == stream.text == "Hello world"
    positions = [int(seen.headers.get("last-event-id", 0)) for seen in fake.to(EVENTS)]
    assert positions == sorted(positions)
    assert len(positions) == 5


def test_a_service_that_restarts_is_waited_for(fake: FakeService, client: Any) -> None:
    fake.log(whole_log("Hello"))
    (events,) = fake.lines[EVENTS]
    fake.on(EVENTS, problem(503, "store_unavailable", "0"), Response("Bad gateway", 502), events)
    fake.on(GET, answer(job("succeeded", "Hello")))
    assert list(client.follow(JOB_ID)) == ["Hello"]


def test_leaving_a_loop_and_coming_back_carries_on(fake: FakeService, client: Any) -> None:
    fake.on(GET, answer(job("succeeded", "abcd")))
    fake.log(whole_log(*"abcd"))
    stream = client.follow(JOB_ID)
    seen: list[str] = []
    for piece in stream:
        seen.append(piece)
        if piece == "b":
            break
    assert stream.position == 4
    assert [*seen, *stream] == [*"abcd"]
    assert "".join(client.follow(JOB_ID, after=4)) == "cd"


def test_behind_the_end_there_is_nothing_and_the_job_is_known(fake: FakeService, client: Any) -> None:
    fake.on(GET, answer(job("succeeded", "Hello")))
    fake.log(whole_log("Hello"))
    stream = client.follow(JOB_ID, after=4)
    assert list(stream) == []
    assert stream.job.text == "Hello"


def test_a_reset_is_a_piece_of_its_own_and_the_text_is_right(fake: FakeService, client: Any) -> None:
    log: list[tuple[str, dict[str, Any]]] = [
        ("queued", {}),
        *deltas("Hal", "lo"),
        ("reset", {"reason": "stream_broken"}),
        *deltas("Hello", call=2),
    ]
    fake.log([*log, ("succeeded", {"status": "succeeded"})])
    fake.on(GET, answer(job("succeeded", "Hello")))
    stream = client.follow(JOB_ID)
    pieces = list(stream)
    assert [type(p) for p in pieces] == [str, str, onceq.Reset, str]
    assert pieces[2].reason == "stream_broken"
    assert "starts again" in pieces[2]
    assert (stream.text, stream.resets) == ("Hello", 1)
    assert "".join(pieces) != stream.text


@pytest.mark.parametrize(("log_gone_after", "pieces"), [(0, ["Hello"]), (2, ["He", "llo"])])
def test_a_snapshot_stands_for_the_log_that_is_gone(
    fake: FakeService, client: Any, log_gone_after: int, pieces: list[str]
) -> None:
    full: Log = [("started", {}), *deltas("He")]
    begin = full[:log_gone_after]
    fake.log([*begin, ("snapshot", {"output": {"text": "Hello"}}), ("succeeded", {"status": "succeeded"})])
    fake.on(GET, answer(job("succeeded", "Hello")))
    stream = client.follow(JOB_ID)
    assert list(stream) == pieces
    assert stream.text == "Hello"


def test_events_come_with_name_number_and_data(fake: FakeService, client: Any) -> None:
    fake.on(SUBMIT, accepted())
    fake.on(GET, answer(job("succeeded", "ab")))
    fake.log(whole_log("a", "b"))
    events = list(client.submit("Hi").events(after=1))
    assert [(e.name, e.seq) for e in events] == [("started", 2), ("delta", 3), ("delta", 4), ("succeeded", 5)]
    assert events[-1].data.usage.output_tokens == 2


def test_a_job_that_fails_raises_from_its_text_and_tells_its_events(fake: FakeService, client: Any) -> None:
    why = {"code": "provider_auth", "message": "The provider refused the key."}
    fake.log([("queued", {}), *deltas("He"), ("failed", {"status": "failed", "error": why})])
    fake.on(GET, answer(job("failed", "He", error=why)))
    stream = client.follow(JOB_ID)
    with pytest.raises(onceq.JobFailed, match="refused the key"):
        list(stream)
    assert stream.text == "He"
    last = list(client.follow(JOB_ID).events())[-1]
    assert (last.name, last.data.error.code) == ("failed", "provider_auth")


def test_what_no_retry_can_mend_is_raised_at_once(fake: FakeService, client: Any) -> None:
    fake.on(EVENTS, problem(400, "last_event_id_ahead"))
    with pytest.raises(onceq.BadRequestError):
        list(client.follow(JOB_ID, after=99))
    fake.on(EVENTS, Response("<html>", media_type="text/html"))
    with pytest.raises(onceq.APIError, match="check the base URL"):
        list(client.follow(JOB_ID))
    assert len(fake.seen) == 2


# -- the twins --------------------------------------------------------------------------------------------------


RENAMED = {"amap": "imap"}
"""Methods whose names say how they are iterated."""


@pytest.mark.parametrize(
    ("one", "other"), [(Client, AsyncClient), (JobHandle, AsyncJobHandle), (JobStream, AsyncJobStream)]
)
def test_the_twins_have_the_same_methods_and_parameters(one: type, other: type) -> None:
    def surface(kind: type) -> dict[str, list[str]]:
        members = inspect.getmembers(kind, callable)
        named = ((RENAMED.get(n, n), m) for n, m in members if not n.startswith("_"))
        return {n: list(inspect.signature(m).parameters) for n, m in named}

    assert surface(one)
    assert surface(one) == surface(other)


@pytest.mark.parametrize("told", [Client.stream, AsyncClient.stream, JobStream, AsyncJobStream])
def test_what_streams_says_where_its_whole_answer_is(told: Any) -> None:
    assert "`stream.text`" in str(told.__doc__)


def test_the_keyword_arguments_are_the_fields_of_the_request() -> None:
    assert set(JobOptions.__annotations__) | {"model", "prompt", "messages"} == set(JobRequest.model_fields)


@pytest.mark.parametrize("options", [JobOptions, onceq.MapOptions])
def test_help_says_what_each_keyword_is(options: Any) -> None:
    for name in options.__annotations__:
        said = JobRequest.model_fields[name].description
        assert said
        assert f"{name}: {said}" in options.__doc__


def test_the_public_surface_is_what_is_listed() -> None:
    missing = [name for name in onceq.__all__ if not hasattr(onceq, name)]
    assert missing == []
    assert sorted(onceq.__all__) == sorted(set(onceq.__all__))
    assert json.dumps(onceq.__version__)


def test_a_notebook_completes_what_the_clients_hand_out(fake: FakeService, client: Any) -> None:
    fake.on(SUBMIT, accepted())
    made = (client, client.stream("Hi"), client.submit("Hi"))
    completer: Any = jedi
    for value in [getattr(one, "_inner", one) for one in made]:
        offered = [found.name for found in completer.Interpreter("value.", [{"value": value}]).complete()]
        missing = [name for name in dir(value) if not name.startswith("_") and name not in offered]
        assert missing == []
