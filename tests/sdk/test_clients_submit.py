"""What both clients send, and send again, against a real socket; and what is refused before that."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy
import pandas
import polars
import pytest
from pydantic import BaseModel, JsonValue
from starlette.responses import Response

import onceq
from onceq import Client, JobRequest
from onceq.map.output import output_of
from tests.sdk.fake import JOB_ID, FakeService, accept_all, accepted, answer, job, lost, problem

Kind = TypeVar("Kind")
SUBMIT, GET = "POST /v1/jobs", "GET /v1/jobs/{id}"


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


class Review(BaseModel, Generic[Kind]):
    """An answer that is asked for."""

    stars: int
    mood: Kind | None = None


def test_a_pydantic_model_is_asked_for_by_its_schema_as_a_map_does(fake: FakeService, client: Any) -> None:
    fake.on(SUBMIT, accepted())
    fake.on("POST /v1/quote", answer({"cost": {}}))
    fake.on("POST /v1/jobs/batch", accept_all)
    wanted = Review[str]
    client.submit("Hi", response_format=wanted)
    client.quote("Hi", response_format=wanted)
    client.submit_batch(["Hi", {"prompt": "Hi", "response_format": wanted}], response_format=wanted)
    posted = [seen.json for seen in fake.seen[:2]] + [item["job"] for item in fake.seen[2].json["items"]]
    assert [job["response_format"] for job in posted] == [output_of(wanted).fields["response_format"]] * 4
    assert posted[0]["response_format"]["name"] == "Review_str_"
    assert posted[0]["response_format"]["strict"] is True
    assert list(posted[0]["response_format"]["schema"]["properties"]) == ["stars", "mood"]


class Uncallable(BaseModel):
    """What JSON has no form for."""

    call: Callable[[], int]


def test_a_model_without_a_json_schema_is_refused(fake: FakeService, client: Any) -> None:
    with pytest.raises(onceq.BadRequestError, match=r"no JSON Schema of Uncallable.*Nothing was sent"):
        client.submit("Hi", response_format=Uncallable)
    with pytest.raises(onceq.BadRequestError, match="no JSON Schema of Uncallable"):
        client.map(["Hi"], output=Uncallable, progress=False)
    assert fake.seen == []


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


def _user(*content: Any) -> list[Any]:
    return [{"role": "user", "content": list(content)}]


@pytest.mark.parametrize(
    ("prompt", "options", "told"),
    [
        (_user({"type": "image", "url": "ftp://x"}), {}, "messages.0.content.0.url: an image's url begins with http"),
        (_user({"type": "image", "data": "a b!"}), {}, "messages.0.content.0.data: an image's data is base64 text"),
        (_user({"type": "image"}), {}, "messages.0.content.0: an image part needs either url or data"),
        (_user({"type": "text", "text": 5}), {}, "messages.0.content.0.text: Input should be a valid string"),
        (_user({"type": "text"}), {}, "messages.0.content.0.text: Field required"),
        (_user({"type": "text", "text": "a", "colour": 1}), {}, "messages.0.content.0.colour: no option colour here"),
        (_user({"type": "text", "text": ""}, "b"), {}, "messages.0.content.1: Input should be an object"),
        (_user({"text": "a"}), {}, "messages.0.content.0: a part of a message needs a type: 'text' or 'image'"),
        (_user({"type": "sound"}), {}, "messages.0.content.0: the type of this part is not known"),
        (_user({"type": "image_url"}), {}, "messages.0.content.0: an image is {'type': 'image', 'url': 'https://"),
        (_user(), {}, "messages.0.content: List should have at least 1 item"),
        ("Hi", {"model": [""]}, "model.0: String should have at least 1 character"),
        ("Hi", {"tool_choice": "some"}, "tool_choice: Input should be 'auto', 'none' or 'required'"),
        ("Hi", {"tool_choice": {}}, "tool_choice.name: Field required"),
        ("Hi", {"labels": {"bad key": "x"}}, "labels.bad key: String should match"),
        ("Hi", {"temperature": float("nan")}, "temperature: must be a number from 0 to 2, not NaN"),
        ("Hi", {"deadline_s": float("nan")}, "deadline_s: must be a number above 0, at most 604800, not NaN"),
        ("Hi", {"timeouts": {"call": 3}}, "timeouts.call: no option call: did you mean call_s?"),
        ("Hi", {"top_p": 0.3}, "top_p: no option top_p: what the provider takes beside these goes into params={'top_p"),
        ("Hi", {"max_token": 3}, "max_token: no option max_token: did you mean max_tokens?"),
        ("Hi", {"max_completion_tokens": 3}, "max_completion_tokens: no option .*: did you mean max_tokens?"),
        ("Hi", {"timeout": 3}, "timeout: no option timeout: did you mean timeouts?"),
        ("Hi", {"stream": True}, "stream: no option stream: onceq itself decides it"),
        ("Hi", {"tools": [{"type": "function", "function": {"name": "a"}}]}, "tools.0: a tool is {'name': ..., 'desc"),
        ("Hi", {"tool_choice": {"type": "function", "function": {"name": "a"}}}, "tool_choice: .* is {'name': ...}"),
        ("Hi", {"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format: a JSON Schema goes"),
    ],
)
def test_what_is_wrong_is_told_once_by_its_place_in_what_was_given(
    fake: FakeService, client: Any, prompt: Any, options: dict[str, Any], told: str
) -> None:
    pattern = ".*".join(map(re.escape, told.split(".*")))
    with pytest.raises(onceq.BadRequestError) as caught:
        client.submit(prompt, **options)
    (line,) = str(caught.value).splitlines()[1:]
    assert re.match(f"  {pattern}", line)
    with pytest.raises(onceq.BadRequestError) as caught:
        client.submit_batch(["a", {"messages": prompt} if isinstance(prompt, list) else "b"], **options)
    assert re.search(rf"\n  items\.\d\.{pattern}", str(caught.value))
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


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"max_tokens": numpy.int64(5)}, {"max_tokens": 5}),
        ({"temperature": numpy.float32(0.5)}, {"temperature": 0.5}),
        ({"fresh": numpy.bool_(True)}, {"fresh": True}),
        ({"deadline_s": numpy.int32(60)}, {"deadline_s": 60}),
        ({"params": {"seed": numpy.int64(3)}}, {"params": {"seed": 3}}),
        ({"max_tokens": pandas.Series([5])[0]}, {"max_tokens": 5}),
        ({"labels": {"row": numpy.str_("a")}}, {"labels": {"row": "a"}}),
    ],
    ids=str,
)
def test_scalars_of_numpy_and_pandas_are_as_good_as_pythons(
    fake: FakeService, client: Any, options: dict[str, Any], sent: dict[str, Any]
) -> None:
    fake.on(SUBMIT, accepted())
    fake.on("POST /v1/jobs/batch", accept_all)
    client.submit("Hi", **options)
    client.submit_batch([{"prompt": "Hi", **options}])
    one, batch = fake.seen
    assert one.json | sent == one.json
    assert batch.json["items"][0]["job"] | sent == batch.json["items"][0]["job"]


@pytest.mark.parametrize(
    ("options", "place", "says"),
    [
        ({"params": {"a": [1, numpy.array([1, 2])]}}, "params.a.1", r"no form for ndarray .*: pass its \.tolist\(\)"),
        ({"stop": {object()}}, "stop", "no form for set"),
        ({"max_tokens": pandas.NA}, "max_tokens", "no form for NAType"),
        ({"deadline_s": numpy.timedelta64(60, "s")}, "deadline_s", "no form for timedelta64"),
        ({"max_tokens": numpy.array([5])}, "max_tokens", r"\.tolist\(\)"),
        ({"system": "a\ud800"}, "system", "surrogate"),
        ({"tools": [onceq.Tool(name="a", parameters={"b": "\ud800"})]}, "tools.0.parameters.b", "surrogate"),
        ({"params": {"a": {object(): 1}}}, "", "has no form in JSON"),
    ],
)
def test_what_has_no_form_in_json_is_named_with_its_field_and_item(
    fake: FakeService, client: Any, options: dict[str, Any], place: str, says: str
) -> None:
    with pytest.raises(onceq.BadRequestError, match=f"{place}.*({says})"):
        client.submit("Hi", **options)
    with pytest.raises(onceq.BadRequestError, match=rf"items\.1.*{place}.*({says})"):
        client.submit_batch(["a", {"prompt": "Hi", **options}])
    assert fake.seen == []


def test_what_holds_itself_is_refused(fake: FakeService, client: Any) -> None:
    params: dict[str, Any] = {}
    params["a"] = [params, params]
    with pytest.raises(onceq.BadRequestError, match="Circular"):
        client.submit("Hi", params=params)
    assert fake.seen == []


def test_an_image_given_as_bytes_is_told_that_it_wants_base64_text(fake: FakeService, client: Any) -> None:
    image = {"type": "image", "data": b"\x89PNG\r\n\x1a\n", "media_type": "image/png"}
    with pytest.raises(onceq.BadRequestError, match=r"messages\.0\.content\.0\.data: .*base64\.b64encode\(data\)"):
        client.submit([{"role": "user", "content": [image]}])
    assert fake.seen == []


def test_without_a_model_the_error_says_how_to_name_one(fake: FakeService) -> None:
    with Client(fake.url, "oq_test") as bare, pytest.raises(onceq.ConfigurationError, match="model="):
        bare.submit("Hi")


def test_what_is_wrong_with_the_whole_is_said_without_a_field(client: Any) -> None:
    with pytest.raises(onceq.BadRequestError) as caught:
        client.pause()
    assert str(caught.value).splitlines()[1:] == ["  give either lane or band"]


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


DELETIONS = [("delete_budget", "DELETE /v1/budgets/{id}"), ("revoke_key", "DELETE /v1/keys/{id}")]


@pytest.mark.parametrize(("method", "route"), DELETIONS)
def test_what_a_deletion_with_a_lost_answer_has_taken_away_is_no_error(
    fake: FakeService, client: Any, method: str, route: str
) -> None:
    fake.on(route, lost, problem(404, "not_found"))
    assert getattr(client, method)("some_id") is None
    assert len(fake.seen) == 2


@pytest.mark.parametrize(("method", "route"), DELETIONS)
def test_a_deletion_of_what_was_never_there_is_an_error(
    fake: FakeService, client: Any, method: str, route: str
) -> None:
    fake.on(route, problem(404, "not_found"))
    with pytest.raises(onceq.NotFoundError):
        getattr(client, method)("some_id")
    assert len(fake.seen) == 1


def test_a_balancer_that_finds_no_service_has_deleted_nothing(fake: FakeService, client: Any) -> None:
    nobody = Response("<html>Nobody</html>", status_code=404, media_type="text/html")
    fake.on("DELETE /v1/keys/{id}", problem(503, "store_unavailable", "0"), nobody)
    with pytest.raises(onceq.NotFoundError):
        client.revoke_key("key_1")


def test_a_replay_of_many_whose_answer_is_lost_is_not_sent_again_and_says_what_to_look_for(
    fake: FakeService, client: Any
) -> None:
    fake.on("POST /v1/jobs/replay", lost, answer({"items": []}))
    with pytest.raises(onceq.ConnectionFailed, match=r"Some jobs may have been replayed: .*`retry_of`.*client\.list"):
        client.replay_all(limit=3)
    assert len(fake.seen) == 1


@pytest.mark.parametrize(
    "away",
    [problem(503, "store_unavailable", "0"), Response("<html>Bad</html>", status_code=502, media_type="text/html")],
)
def test_a_replay_of_many_that_broke_off_keeps_the_kind_of_its_error(
    fake: FakeService, client: Any, away: Response
) -> None:
    fake.on("POST /v1/jobs/replay", away, answer({"items": []}))
    with pytest.raises(onceq.ServiceUnavailableError, match="Some jobs may have been replayed") as caught:
        client.replay_all()
    assert caught.value.status == away.status_code
    assert len(fake.seen) == 1


def test_a_replay_of_many_that_never_left_has_replayed_nothing() -> None:
    with Client("http://127.0.0.1:9", "oq_test") as away, pytest.raises(onceq.ConnectionFailed) as caught:
        away.replay_all()
    assert "replayed" not in str(caught.value)


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
    fake.on("POST /v1/jobs/batch", accept_all)
    request = JobRequest(model="x/y", prompt="a", max_tokens=5)
    client.submit_batch([request, onceq.BatchItem(idempotency_key="k", job=request)])
    plain, keyed = fake.seen[0].json["items"]
    assert plain["job"] == {"model": "x/y", "prompt": "a", "max_tokens": 5, "dedupe_window_s": 600}
    assert keyed == {"idempotency_key": "k", "job": {"model": "x/y", "prompt": "a", "max_tokens": 5}}


def test_a_large_batch_travels_in_posts_that_the_service_takes(fake: FakeService, client: Any) -> None:
    fake.on("POST /v1/jobs/batch", accept_all)
    assert len(client.submit_batch(["a"] * 1_001)) == 1_001
    assert [len(seen.json["items"]) for seen in fake.seen] == [1_000, 1]
    fake.seen.clear()
    assert len(client.submit_batch(["a" * 3_000_000] * 5)) == 5
    assert [len(seen.json["items"]) for seen in fake.seen] == [2, 2, 1]
    assert client.submit_batch([]) == []


def test_what_was_accepted_is_handed_back_when_a_later_post_fails(fake: FakeService, client: Any) -> None:
    fake.on("POST /v1/jobs/batch", accept_all, problem(403, "forbidden"))
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
    fake.on("POST /v1/jobs/batch", accept_all)
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


@pytest.mark.parametrize("empty", ["", [], ()])
def test_an_empty_model_is_refused_and_not_taken_for_the_clients_own(
    fake: FakeService, client: Any, empty: Any
) -> None:
    asks = [
        lambda: client.submit("Hi", model=empty),
        lambda: client.quote("Hi", model=empty),
        lambda: client.stream("Hi", model=empty),
        lambda: client.submit_batch(["Hi"], model=empty),
        lambda: client.map(["Hi"], model=empty, progress=False),
        lambda: client.compare(["Hi"], {"a": "{text}", "b": "{text}!"}, model=empty, progress=False),
    ]
    for ask in asks:
        with pytest.raises(onceq.BadRequestError, match=r"model.* at least 1 ") as caught:
            ask()
        assert "Nothing was sent" in str(caught.value)
    assert fake.seen == []
