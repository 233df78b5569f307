"""A body in which everything is wrong costs no more than one in which much is: what pydantic may collect is bounded."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from onceq.wire import JobRequest
from onceq_service.api.http.body import parse
from onceq_service.api.http.problems import MAX_COLLECTED, Refused
from onceq_service.api.http.value_count import MOST_VALUES, are_more
from onceq_service.api.submission.batch import MOST_BESIDE, read_items
from tests.service.api.kit import JSON, MODEL, SECRET, Http, ask, problem_of

HEAD = b'{"model":"openai/m","prompt":"sesame",'
TOO_MANY = f"it has more than {MOST_VALUES:,} values"


def members(many: int) -> bytes:
    """Of an object, each of them wrong wherever text is asked for."""
    return b",".join(b'"%d":1' % n for n in range(many))


def message(part: bytes) -> bytes:
    return b'{"role":"user","content":[' + b",".join([part] * 100) + b"]}"


def messages(part: bytes) -> bytes:
    return b'{"model":"openai/m","messages":[' + b",".join([message(part)] * 1_900) + b"]}"


def batch(items: Iterable[bytes]) -> bytes:
    return b'{"items":[' + b",".join(items) + b"]}"


LABELS = HEAD + b'"labels":{' + members(700_000) + b"}}"
CROWDED = {
    "labels": LABELS,
    "unknown members": HEAD + members(700_000) + b"}",
    "parts": messages(b'{"type":"text"}'),
    "parts that are nothing": messages(b"{}"),
    "free JSON": HEAD + b'"params":{"a":[' + b"1," * 3_000_000 + b"1]}}",
}


@pytest.mark.parametrize("body", CROWDED.values(), ids=CROWDED)
def test_a_body_of_too_many_values_is_refused_before_one_error_is_collected(body: bytes) -> None:
    with pytest.raises(Refused, match="not valid") as told:
        parse(JobRequest, body)
    assert told.value.errors is not None
    assert TOO_MANY in told.value.errors[0].message
    assert told.value.__cause__ is None, "pydantic has not seen it"


def test_more_errors_than_are_looked_at_are_counted_only() -> None:
    with pytest.raises(Refused) as told:
        parse(JobRequest, HEAD + b'"labels":{' + members(20_000) + b"}}")
    cause = told.value.__cause__
    assert isinstance(cause, ValidationError)
    assert MAX_COLLECTED < cause.error_count() <= 3 * MOST_VALUES
    assert told.value.errors is not None
    assert [error.message for error in told.value.errors] == [
        f"it is wrong in {cause.error_count():,} places; up to {MAX_COLLECTED:,} of them would be looked at"
    ]


GOOD: dict[str, Any] = {"job": {"model": MODEL, "prompt": SECRET}}


def test_an_item_of_too_many_values_is_refused_alone() -> None:
    good = msgspec.json.encode(GOOD)
    _, items = read_items(batch([good, b'{"job":' + LABELS + b"}", good]))
    assert [isinstance(item, Refused) for item in items] == [False, True, False]
    assert isinstance(items[1], Refused)
    assert items[1].errors is not None
    assert TOO_MANY in items[1].errors[0].message


NUMBERS = HEAD + b'"params":{"a":[' + b"1," * 3_000 + b"1]}}"
WRONG = HEAD + b'"labels":{' + members(900) + b"}}"
BATCHES = {
    "much is wrong with each of many": (batch([b'{"job":' + WRONG + b"}"] * 1_000), "things are wrong"),
    "too many values in all": (batch([b'{"job":' + NUMBERS + b"}"] * 1_000), "more than 1,000,000 values"),
    "members that a batch does not have": (
        b'{"items":[{"job":' + HEAD[:-1] + b"}}]," + members(700_000) + b"}",
        f"more than {MOST_BESIDE:,} bytes",
    ),
    "no list of items": (b'{"items":{' + members(700_000) + b"}}", TOO_MANY),
}


@pytest.mark.parametrize(("body", "said"), BATCHES.values(), ids=BATCHES)
def test_a_batch_of_too_much_is_refused_whole(body: bytes, said: str) -> None:
    with pytest.raises(Refused) as told:
        read_items(body)
    assert told.value.errors is not None
    assert said in told.value.errors[0].message
    assert told.value.__cause__ is None


def test_a_body_that_is_not_json_is_said_to_be_none_however_much_is_in_it() -> None:
    for read in (partial(parse, JobRequest), read_items):
        with pytest.raises(Refused) as told:
            read(LABELS[:-2])
        assert told.value.code == "malformed_json"


WORDS = {
    "commas and brackets": ',[{"' * 50_000,
    "backslashes before the end": "\\" * 99_999 + '"' + ",[" * 50_000,
    "escapes of all kinds": '\\"\\\\,\n' * 50_000,
}


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_what_is_in_strings_is_no_value(words: str) -> None:
    body = msgspec.json.encode(GOOD["job"] | {"system": words})
    assert body.count(b",") > MOST_VALUES
    assert not are_more(body, 4)
    assert parse(JobRequest, body).system == words


def test_a_large_request_that_is_valid_stays_valid() -> None:
    tools = [
        {"name": f"tool_{n}", "parameters": {"properties": {f"p{m}": {"type": "string"} for m in range(100)}}}
        for n in range(128)
    ]
    turns = [{"role": "user", "content": [{"type": "text", "text": "x,y"}]} for _ in range(2_000)]
    job = {"model": MODEL, "messages": turns, "tools": tools}
    assert len(parse(JobRequest, msgspec.json.encode(job)).messages or []) == 2_000
    params = {"logit_bias": dict.fromkeys(map(str, range(300)), 1)}
    items = [{"job": GOOD["job"] | {"params": params}}] * 1_000
    _, read = read_items(msgspec.json.encode({"items": items}))
    assert not any(isinstance(item, Refused) for item in read)


def test_the_api_says_how_many_values_it_takes_and_goes_on(client: Http) -> None:
    problem = problem_of(client.post_json(LABELS), 422, "invalid_request")
    assert problem.errors is not None
    assert TOO_MANY in problem.errors[0].message
    answer = client.post("/v1/jobs/batch", content=batch([b'{"job":' + LABELS + b"}"]), headers=JSON)
    assert answer.status_code == 200
    assert TOO_MANY in answer.json()["items"][0]["problem"]["errors"][0]["message"]
    assert client.submit(ask())["disposition"] == "created"
