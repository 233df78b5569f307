"""Whatever is wrong with a post gets a problem with a stable code, uses up nothing, and leaves no word in a log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from onceq.wire import MAX_BODY_BYTES
from tests.service.api.kit import JOBS, JSON, MODEL, SECRET, Http, ask, problem_of, raw, send_raw
from tests.stack import Stack

MESSAGE = {"role": "user", "content": SECRET}


def with_(**fields: Any) -> dict[str, Any]:
    """A good request with these fields."""
    return {"model": MODEL, "prompt": SECRET} | fields


def deep(levels: int) -> bytes:
    return b'{"model":"openai/m","prompt":"x","params":{"a":' + b"[" * levels + b"]" * levels + b"}}"


NOT_JSON = {
    "nothing": b"",
    "not JSON": b"sesame",
    "cut off": b'{"model": "openai/m", "prompt": "sesame',
    "single quotes": b"{'model': 'openai/m'}",
    "two values": b'{"model":"openai/m","prompt":"sesame"} {}',
    "bytes that are not UTF-8": b'{"model":"openai/m","prompt":"sesame\xff\xfe"}',
    "a byte order mark": b'\xef\xbb\xbf{"model":"openai/m","prompt":"sesame"}',
    "UTF-16": '{"model":"openai/m","prompt":"sesame"}'.encode("utf-16"),
    "half a surrogate pair": b'{"model":"openai/m","prompt":"sesame\\ud800"}',
    "a raw NUL byte": b'{"model":"openai/m","prompt":"sesame\x00"}',
    "100,000 levels": deep(100_000),
    "a number of 5,000 digits": b'{"model":"openai/m","prompt":"sesame","params":{"a":1' + b"0" * 5_000 + b"}}",
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_a_body_that_is_not_json_is_a_400_and_uses_up_nothing(client: Http, body: bytes) -> None:
    problem_of(client.post_json(body, idempotency_key="k"), 400, "malformed_json")
    assert_nothing_was_used(client)


INVALID: dict[str, tuple[object, str]] = {
    "null": (None, ""),
    "a list": ([with_()], ""),
    "an empty object": ({}, "model"),
    "an unknown field": (with_(colour=SECRET), "colour"),
    "a base URL": (with_(base_url="http://sesame"), "base_url"),
    "a provider's key": (with_(api_key=SECRET), "api_key"),
    "neither prompt nor messages": ({"model": MODEL}, ""),
    "both prompt and messages": (with_(messages=[MESSAGE]), ""),
    "an empty prompt": (with_(prompt=""), "prompt"),
    "no messages": ({"model": MODEL, "messages": []}, "messages"),
    "an unknown role": ({"model": MODEL, "messages": [{"role": "sesame", "content": "x"}]}, "messages.0.role"),
    "a message without content": ({"model": MODEL, "messages": [{"role": "user"}]}, "messages.0"),
    "an unknown part": (
        {"model": MODEL, "messages": [{"role": "user", "content": [{"type": "sesame"}]}]},
        "messages.0.content",
    ),
    "an image of another scheme": (
        {"model": MODEL, "messages": [{"role": "user", "content": [{"type": "image", "url": "file:///sesame"}]}]},
        "messages.0.content",
    ),
    "a prompt that is a number": (with_(prompt=7), "prompt"),
    "a number that is text": (with_(max_tokens="7"), "max_tokens"),
    "a number that is true": (with_(max_tokens=True), "max_tokens"),
    "no tokens at all": (with_(max_tokens=0), "max_tokens"),
    "more tokens than there are": (with_(max_tokens=10**30), "max_tokens"),
    "too hot": (with_(temperature=2.1), "temperature"),
    "a deadline in the past": (with_(deadline_s=-1), "deadline_s"),
    "a deadline in a month": (with_(deadline_s=31 * 86_400), "deadline_s"),
    "a band that is none": (with_(band="sesame"), "band"),
    "labels with a control character": (with_(labels={"a": "sesame\n"}), "labels.a"),
    "17 labels": (with_(labels={f"l{n}": "x" for n in range(17)}), "labels"),
    "a NUL in the model": (with_(model="openai/a\0b"), "model"),
    "params that onceq decides": (with_(params={"stream": False}), ""),
    "params that name another server": (with_(params={"base_url": "http://sesame"}), ""),
    "NaN": (b'{"model":"openai/m","prompt":"sesame","temperature":NaN}', "temperature"),
    "NaN where any JSON may be": (b'{"model":"openai/m","prompt":"sesame","params":{"a":NaN}}', "params"),
    "a number beyond a double": (b'{"model":"openai/m","prompt":"sesame","params":{"a":1e400}}', "params"),
    "Infinity in a tool": (
        b'{"model":"openai/m","prompt":"sesame","tools":[{"name":"a","parameters":{"b":-Infinity}}]}', "tools",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "loc"), INVALID.values(), ids=INVALID)
def test_a_wrong_field_is_a_422_that_says_where_and_uses_up_nothing(client: Http, body: object, loc: str) -> None:
    problem = problem_of(client.post_json(body, idempotency_key="k"), 422, "invalid_request")
    assert problem.errors
    assert problem.errors[0].loc.startswith(loc)
    assert problem.errors[0].message
    assert_nothing_was_used(client)


PLACES: dict[str, tuple[dict[str, Any], str, str]] = {
    "an image of another scheme": (
        {"model": MODEL, "messages": [{"role": "user", "content": [{"type": "image", "url": "file:///sesame"}]}]},
        "messages.0.content.0.url", "begins with http",
    ),
    "an unknown part": (
        {"model": MODEL, "messages": [{"role": "user", "content": [{"type": "sesame"}]}]},
        "messages.0.content.0", "it is one of 'text', 'image'",
    ),
    "an empty model": (with_(model=""), "model", "at least 1 character"),
    "no models": (with_(model=[]), "model", "at least 1 item"),
    "a choice that is none": (with_(tool_choice="sesame"), "tool_choice", "'auto', 'none' or 'required'"),
    "OpenAI's tool": (
        with_(tools=[{"type": "function", "function": {"name": "sesame"}}]), "tools.0", "no 'function' around it",
    ),
    "an option of a provider": (with_(top_p=0.5), "top_p", "params={'top_p': ...}"),
    "a misspelt option": (with_(max_token=5), "max_token", "did you mean max_tokens?"),
    "a key in the body": (with_(idempotency_key="k"), "idempotency_key", "the header Idempotency-Key"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "loc", "says"), PLACES.values(), ids=PLACES)
def test_what_is_wrong_is_told_once_by_its_place_in_the_body(
    client: Http, body: dict[str, Any], loc: str, says: str
) -> None:
    for sent, before in ((body, ""), ({"items": [{"job": body}]}, "job.")):
        answer = client.post(JOBS + ("/batch" if before else ""), json=sent)
        errors = answer.json()["items"][0]["problem"]["errors"] if before else answer.json()["errors"]
        assert [error["loc"] for error in errors] == [before + loc]
        assert says in errors[0]["message"]
        assert SECRET not in answer.text


def test_of_thousands_of_unknown_fields_twenty_are_told(client: Http) -> None:
    body = with_(**{f"field_{n}" + "x" * 100: 1 for n in range(4_000)})
    assert "20 of 4000" in problem_of(client.post_json(body), 422, "invalid_request").detail


def assert_nothing_was_used(client: Http) -> None:
    """No job was stored, and the same key takes a good body."""
    assert client.ids() == []
    assert client.submit(ask(), idempotency_key="k")["disposition"] == "created"


def test_a_list_of_errors_is_cut_short_and_says_so(client: Http) -> None:
    problem = problem_of(client.post_json(with_(**{f"field_{n}": 1 for n in range(1_000)})), 422, "invalid_request")
    assert problem.errors is not None
    assert len(problem.errors) == 20
    assert "20 of 1000" in problem.detail


def test_an_unknown_provider_is_a_422_that_lists_the_known_ones(client: Http) -> None:
    for model in ("nobody/gpt", "gpt-4o-mini", "openai/", "/gpt"):
        problem = problem_of(client.post_json(with_(model=model), idempotency_key="k"), 422, "unknown_model")
        assert "anthropic, bedrock, openai" in problem.detail
    assert_nothing_was_used(client)


def test_five_megabytes_of_prompt_are_taken(client: Http) -> None:
    body = ask() | {"system": "a" * (5 * 1024**2)}
    job = client.submit(body)
    kept = client.get(f"{JOBS}/{job['id']}/request").json()
    assert kept["system"] == body["system"]


def chunked(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 65_536):
        yield body[start : start + 65_536]


@pytest.mark.parametrize("send", [bytes, chunked], ids=["with a length", "in chunks"])
def test_a_body_over_the_limit_is_a_413_however_it_is_sent(client: Http, send: Any) -> None:
    body = b'{"model":"openai/m","prompt":"' + SECRET.encode() * (MAX_BODY_BYTES // 5) + b'"}'
    answer = client.post(JOBS, content=send(body), headers=JSON | {"idempotency-key": "k"})
    problem = problem_of(answer, 413, "payload_too_large")
    assert str(MAX_BODY_BYTES) in problem.detail
    assert_nothing_was_used(client)


def test_a_chunked_body_is_as_good_as_another(client: Http) -> None:
    body = msgspec.json.encode(ask())
    answer = client.post(JOBS, content=chunked(body), headers=JSON)
    assert answer.status_code == 202
    assert client.ids() == [answer.json()["id"]]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "", "json"])
def test_another_content_type_is_a_415(client: Http, kind: str) -> None:
    problem = problem_of(client.post_json(ask(), content_type=kind, idempotency_key="k"), 415, "unsupported_media_type")
    assert "application/json" in problem.detail
    assert_nothing_was_used(client)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", "application/json;v=1"])
def test_json_may_be_called_so_with_parameters_and_in_any_case(client: Http, kind: str) -> None:
    assert client.post_json(ask(), content_type=kind).status_code == 202


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip"])
def test_a_compressed_body_is_a_415(client: Http, encoding: str) -> None:
    answer = client.post_json(ask(), content_encoding=encoding, idempotency_key="k")
    assert "Content-Encoding" in problem_of(answer, 415, "unsupported_media_type").detail
    assert_nothing_was_used(client)


@pytest.mark.parametrize("key", ["", "a b", "a\tb", "é", "x" * 256])
def test_a_malformed_idempotency_key_is_a_400(client: Http, key: str) -> None:
    answer = client.post(JOBS, json=ask(), headers=[(b"idempotency-key", key.encode())])
    problem_of(answer, 400, "malformed_idempotency_key")
    assert client.ids() == []


@pytest.mark.parametrize("key", ["!", "~", "x" * 255, '"quoted"', "a:b{c}*"])
def test_an_idempotency_key_is_up_to_255_visible_ascii_characters(client: Http, key: str) -> None:
    body = ask()
    first = client.submit(body, idempotency_key=key)
    assert client.submit(body, idempotency_key=key)["id"] == first["id"]


TWICE = {
    "Authorization: Bearer sesame": "bad_request",
    "Idempotency-Key: sesame": "malformed_idempotency_key",
    "Content-Type: text/plain": "bad_request",
    "Last-Event-ID: 1": "malformed_last_event_id",
}


@pytest.mark.parametrize(("header", "code"), TWICE.items(), ids=TWICE)
def test_a_header_that_decides_something_may_come_once(shared: Stack, client: Http, header: str, code: str) -> None:
    heads = {
        "Host": "x", "Authorization": client.headers["authorization"], "Idempotency-Key": "k", "Last-Event-ID": "0",
        "Content-Type": "application/json", "Content-Length": "2", "Connection": "close",
    }  # fmt: skip
    lines = [f"{name}: {value}" for name, value in heads.items()]
    sent = "\r\n".join(["POST /v1/jobs HTTP/1.1", *lines, header, "", "{}"])
    problem = problem_of(raw(shared.url, sent.encode()), 400, code)
    assert "more than once" in problem.detail
    assert_nothing_was_used(client)


NOT_HTTP = {
    "a method that HTTP does not have": b"BREW /v1/jobs HTTP/1.1\r\nhost: x\r\n\r\n",
    "words": b"sesame, open\r\n\r\n",
    "a path that is not ASCII": b"GET /v1/jobs/\xff HTTP/1.1\r\nhost: x\r\n\r\n",
    "two lengths": b"POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 2\r\n\r\n{}",
    "a negative length": b"POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n{}",
    "a length and chunks": (
        b"POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
}


@pytest.mark.parametrize("sent", NOT_HTTP.values(), ids=NOT_HTTP)
def test_bytes_that_are_not_http_are_a_problem_too(shared: Stack, sent: bytes) -> None:
    problem_of(raw(shared.url, sent), 400, "bad_request")


def test_a_post_whose_client_leaves_in_the_middle_of_it_stores_nothing(shared: Stack, client: Http) -> None:
    head = f"POST /v1/jobs HTTP/1.1\r\nhost: x\r\nauthorization: {client.headers['authorization']}\r\n"
    head += "content-type: application/json\r\nidempotency-key: k\r\ncontent-length: 1000\r\n\r\n{"
    assert send_raw(shared.url, head.encode(), leave=True) == b""
    assert_nothing_was_used(client)


METHODS = {
    "/v1/jobs": "GET, HEAD, POST",
    "/v1/jobs/batch": "GET, HEAD, POST",
    "/v1/jobs/x": "GET, HEAD",
    "/v1/jobs/x/events": "GET",
    "/v1/events": "GET",
    "/v1/jobs/x/cancel": "POST",
    "/v1/jobs/x/ledger": "GET, HEAD",
    "/v1/keys": "GET, HEAD, POST",
    "/v1/keys/x": "DELETE",
    "/v1/stats": "GET, HEAD",
    "/livez": "GET, HEAD",
}


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "HEAD", "TRACE"])
@pytest.mark.parametrize(("path", "allowed"), METHODS.items(), ids=METHODS)
def test_another_method_is_a_405_that_names_the_allowed_ones(
    client: Http, path: str, allowed: str, method: str
) -> None:
    answer = client.request(method, path)
    if method in allowed:
        assert answer.status_code != 405
        return
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert answer.headers["content-type"] == "application/problem+json"
    if method != "HEAD":
        assert allowed in problem_of(answer, 405, "method_not_allowed").detail


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/v1/models", "/openapi.json", "/v1/jobs/x", "/nothing"])
def test_a_head_is_answered_as_the_get_without_its_body(shared: Stack, client: Http, path: str) -> None:
    """What balancers and `curl -I` ask; on a connection of its own, since a body would be the next answer's head."""
    full, bare = client.get(path), client.head(path)
    kept = {"content-type", "content-length", "cache-control"}
    assert bare.status_code == full.status_code
    assert {n: v for n, v in bare.headers.items() if n in kept} == {n: v for n, v in full.headers.items() if n in kept}
    head = f"HEAD {path} HTTP/1.1\r\nhost: x\r\nauthorization: {client.headers['authorization']}\r\n"
    assert send_raw(shared.url, f"{head}connection: close\r\n\r\n".encode()).partition(b"\r\n\r\n")[2] == b""


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/jobs/", "/v2/jobs", "/v1/jobs/x/nothing", "/v1/jobs/a%2Fb", "//"])
def test_a_path_that_is_not_there_is_a_404_that_says_where_to_look(client: Http, path: str) -> None:
    assert "/openapi.json" in problem_of(client.get(path), 404, "not_found").detail


STRANGE_IDS = ["job_" + "0" * 32, "x", "%00", "%FF%FE", "..", "job_*", "{}", "x" * 4_000]


@pytest.mark.parametrize("job_id", STRANGE_IDS, ids=range(len(STRANGE_IDS)))
@pytest.mark.parametrize("what", ["", "/events", "/ledger", "/request"])
def test_a_job_that_is_not_there_is_a_404(shared: Stack, client: Http, job_id: str, what: str) -> None:
    key = client.headers["authorization"]
    sent = f"GET /v1/jobs/{job_id}{what} HTTP/1.1\r\nhost: x\r\nauthorization: {key}\r\nconnection: close\r\n\r\n"
    assert "post the request again" in problem_of(raw(shared.url, sent.encode()), 404, "job_not_found").detail


QUERIES = {
    "/v1/jobs?limit=0": "query.limit",
    "/v1/jobs?limit=201": "query.limit",
    "/v1/jobs?limit=many": "query.limit",
    "/v1/jobs?status=sesame": "query.status",
    "/v1/jobs?since=yesterday": "query.since",
    "/v1/jobs?since=2026-01-01T00:00:00": "query.since",
    "/v1/jobs?cursor=sesame": "query.cursor",
    "/v1/jobs?cursor=%C2%B2-x": "query.cursor",
    "/v1/jobs?cursor=" + "9" * 5_000 + "-x": "query.cursor",
    "/v1/jobs?colour=red": "query.colour",
    "/v1/jobs/x?wait=61": "query.wait",
    "/v1/jobs/x?wait=-1": "query.wait",
    "/v1/jobs/x?wait=nan": "query.wait",
    "/v1/jobs/x?wait=inf": "query.wait",
    "/v1/jobs/x?await=1": "query.await",
}


@pytest.mark.parametrize(("path", "loc"), QUERIES.items(), ids=range(len(QUERIES)))
def test_a_wrong_query_is_a_422_that_says_where(client: Http, path: str, loc: str) -> None:
    problem = problem_of(client.get(path), 422, "invalid_request")
    assert problem.errors is not None
    assert problem.errors[0].loc == loc


@pytest.mark.parametrize(
    "path",
    ["/v1/jobs?since=yesterday", "/v1/jobs?since=2026-01-01", "/v1/costs?until=x", "/v1/ledger?restated_at=2026-99-01"],
)
def test_a_time_that_is_none_is_told_with_one_that_is(client: Http, path: str) -> None:
    errors = problem_of(client.get(path), 422, "invalid_request").errors or []
    assert [one.message for one in errors] == ["give a time with its offset, like 2026-11-30T16:20:00Z"]


def test_a_parameter_that_there_is_none_of_is_told_in_plain_words(client: Http) -> None:
    errors = problem_of(client.get("/v1/jobs?colour=red"), 422, "invalid_request").errors or []
    assert "no such parameter" in errors[0].message


@pytest.mark.parametrize("number", ["", "-1", "1.5", "abc", "0x1", "１", "1" * 16, "1,2"])
def test_a_malformed_last_event_id_is_a_400(client: Http, number: str) -> None:
    job = client.submit(ask())
    path = f"{JOBS}/{job['id']}/events"
    by_header = client.get(path, headers=[(b"last-event-id", number.encode())])
    by_query = client.get(path, params={"last_event_id": number})
    for answer in (by_header, by_query):
        problem_of(answer, 400, "malformed_last_event_id")
