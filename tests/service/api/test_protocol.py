"""Requests that do not end, are no request behind one, or whose client sends no more: on a socket, byte by byte."""

from __future__ import annotations

import json
import time
from collections.abc import Generator

import pytest

from tests.service.api.kit import JOBS, Http, ask, connect, problem_of, raw, send_raw, start_api
from tests.stack import API, Stack, url_printed_by
from tests.waiting import wait_until

PATIENCE = "from onceq_service.api.server import protocol, serve; protocol.PATIENCE_S = serve.KEEP_ALIVE_S = 0.5; "


@pytest.fixture(scope="module")
def hasty(shared: Stack) -> Generator[str]:
    """The URL of an API that waits half a second for the rest of a request."""
    process = start_api(shared, PATIENCE + API, "hasty.log", keep_alive_s="0.2")
    yield url_printed_by(process)
    process.stop()


def post(client: Http, path: str = JOBS, key: str = "k") -> bytes:
    body = json.dumps(ask()).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: {client.headers['authorization']}\r\n"
    head += f"content-type: application/json\r\nidempotency-key: {key}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize("size", [100_000, 5_000_000])
def test_a_head_without_end_is_refused(shared: Stack, size: int) -> None:
    with connect(shared.url) as link:
        link.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\nx-long: ")
        got = b""
        try:
            for _ in range(size // 10_000):
                link.sendall(b"a" * 10_000)
                time.sleep(0)
        except ConnectionError:
            pass
        try:
            got = link.recv(65_536)
        except ConnectionError:
            assert size > 1_000_000, "a client that sends no more is answered"
    assert got == b"" or got.startswith(b"HTTP/1.1 431 ")


def test_long_headers_are_taken_up_to_the_limit(shared: Stack) -> None:
    sent = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-long: " + b"a" * 60_000 + b"\r\n\r\n"
    assert raw(shared.url, sent).status_code == 200


@pytest.mark.parametrize("path", [JOBS, f"{JOBS}?common"])
def test_a_request_that_stands_still_is_given_up(hasty: str, client: Http, path: str) -> None:
    whole = post(client, path)
    for sent in (whole[:30], whole[:-5]):
        problem = problem_of(raw(hasty, sent), 408, "request_timeout")
        assert "Nothing was stored" in problem.detail
    assert send_raw(hasty, b"") == b"", "one that does not begin is not answered"
    assert client.get(JOBS).json()["jobs"] == []


def test_a_body_that_comes_slowly_is_taken(hasty: str, client: Http) -> None:
    whole = post(client)
    with connect(hasty) as link:
        for n in range(0, len(whole), len(whole) // 5):
            link.sendall(whole[n : n + len(whole) // 5])
            time.sleep(0.2 if b"\r\n\r\n" in whole[:n] else 0.01)
        assert link.recv(65_536).startswith(b"HTTP/1.1 202 ")


def test_a_stream_outlives_half_a_request_behind_it(hasty: str, client: Http) -> None:
    job_id = client.submit(ask(tokens=30, tps=20))["id"]
    head = f"GET {JOBS}/{job_id}/events HTTP/1.1\r\nhost: x\r\nauthorization: {client.headers['authorization']}\r\n\r\n"
    got = send_raw(hasty, head.encode() + post(client)[:-5])
    stream, _, rest = got.partition(b"\r\n0\r\n\r\n")
    assert stream.startswith(b"HTTP/1.1 200 ")
    assert b"event: succeeded" in stream
    assert rest.startswith(b"HTTP/1.1 408 "), "its turn came, and it stood still"


@pytest.mark.parametrize("path", [JOBS, f"{JOBS}?common"])
def test_what_follows_a_post_does_not_take_the_place_of_its_answer(shared: Stack, client: Http, path: str) -> None:
    answer = raw(shared.url, post(client, path) + b"GARBAGE\r\n\r\n")
    assert answer.status_code == 202
    assert answer.headers["connection"] == "close"
    assert client.get(json.loads(answer.content)["urls"]["self"]).status_code == 200


@pytest.mark.parametrize("path", [JOBS, f"{JOBS}?common"])
def test_a_client_that_sends_no_more_still_hears_what_became_of_its_post(
    shared: Stack, client: Http, path: str
) -> None:
    got = send_raw(shared.url, post(client, path), leave=True)
    assert got.startswith(b"HTTP/1.1 202 ")
    assert b"connection: close" in got


def test_an_upgrade_is_answered_as_the_request_that_it_is_and_tells_the_log_nothing(shared: Stack) -> None:
    sent = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n"
    assert raw(shared.url, sent).status_code == 200
    assert "upgrade" not in shared.api.text().lower()


def test_a_log_in_a_file_has_no_colours(shared: Stack) -> None:
    raw(shared.url, b"sesame, open\r\n\r\n")
    wait_until(lambda: "Invalid HTTP request" in shared.api.text(), "the log to tell of it")
    assert "\x1b[" not in shared.api.text()


def test_requests_in_front_do_not_count_for_the_head_behind_them(shared: Stack, client: Http) -> None:
    many = b"".join(post(client, key=f"k{n}") for n in range(400))  # 90 KiB, in one write
    with connect(shared.url) as link:
        link.sendall(many + b"GET /livez HTTP/1.1\r\nhost: x\r\n")
        link.sendall(b"connection: close\r\n\r\n")
        got = b""
        while data := link.recv(65_536):
            got += data
    assert got.count(b"HTTP/1.1 202 ") == 400
    assert got.count(b"HTTP/1.1 200 ") == 1


def test_a_head_without_end_behind_a_stream_is_not_read(shared: Stack, client: Http) -> None:
    job_id = client.submit(ask(tokens=4000, tps=20))["id"]
    head = f"GET {JOBS}/{job_id}/events HTTP/1.1\r\nhost: x\r\nauthorization: {client.headers['authorization']}\r\n\r\n"
    taken = 0
    with connect(shared.url) as link:
        link.sendall(head.encode() + b"GET /livez HTTP/1.1\r\nx-long: ")
        link.setblocking(False)
        ends = time.monotonic() + 1.0
        while time.monotonic() < ends:
            try:
                taken += link.send(b"a" * 100_000)
            except BlockingIOError:
                time.sleep(0.01)
    assert taken < 20_000_000, "what the system's buffers take, and no more"
    client.post(f"{JOBS}/{job_id}/cancel")
