"""Posts on the short way from the parser to the store: nobody can tell that they took it, but for the time."""

from __future__ import annotations

import asyncio
import errno
import json
import select
import signal
import socket
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis

from onceq_service.embedded.redis_server import EmbeddedRedis
from tests.service.api.kit import JSON, SECRET, Http, Raw, ask, connect, http, problem_of, start_api
from tests.stack import Stack, running_stack, url_printed_by
from tests.waiting import wait_until

COMMON = {"origin": "https://elsewhere.example"}
"""A header that the short way leaves to the common one, and that changes nothing."""


def post_bytes(key: str, body: object, *heads: str) -> bytes:
    """A post as bytes; the short way is open to it where there is no unusual header."""
    content = json.dumps(body).encode()
    lines = [
        "POST /v1/jobs HTTP/1.1", "host: x", f"authorization: Bearer {key}", "content-type: application/json",
        f"content-length: {len(content)}", *heads,
    ]  # fmt: skip
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def answers(url: str, parts: Sequence[bytes], count: int) -> list[Raw]:
    """Sends the parts one after the other over one connection and reads so many answers from it."""
    found: list[Raw] = []
    with connect(url) as link:
        for part in parts:
            link.sendall(part)
        left = b""
        while len(found) < count:
            head, there, rest = left.partition(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            pairs = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
            length = int(pairs.get("content-length", 0))
            if there and len(rest) >= length:
                found.append(Raw(int(lines[0].split(" ")[1]), pairs, rest[:length]))
                left = rest[length:]
                continue
            data = link.recv(65536)
            assert data, f"closed after {len(found)} answers"
            left += data
    return found


def told(answer: Any) -> dict[str, Any]:
    """What an answer says, without what differs from job to job."""
    body = json.loads(answer.content)
    for name in ("id", "created_at", "urls", "quote"):
        body.pop(name)
    heads = {k.lower(): v for k, v in answer.headers.items() if k.lower() not in ("date", "location", "content-length")}
    return {"status": answer.status_code, "heads": heads, **body}


LAME_API = """
from onceq_service.api import app
from onceq_service.api.server import serve
from onceq_service.settings import load_settings

async def common(service, key, heads, receive):
    raise ValueError("nobody comes this way")

app.HOT["POST", "/v1/jobs"] = common
serve.run(load_settings())
"""


def test_a_plain_post_is_answered_though_the_common_way_is_broken(shared: Stack) -> None:
    """Or all that follows would test the common way alone."""
    process = start_api(shared, LAME_API, "lame.log")
    try:
        with http(shared, url=url_printed_by(process)) as lame:

            def posted() -> bool:
                lame.post("/v1/jobs/batch", json={"items": [{"job": ask()}]})  # looks at the key and the lane
                return lame.post_json(ask()).status_code == 202

            wait_until(posted, "a post by the short way")
            problem_of(lame.post_json(ask(), **COMMON), 500, "internal_error")
    finally:
        process.stop()


NO_SHORT_WAY = """
from onceq_service.api.submission import admission_cache
from onceq_service.api.streams import events
from onceq_service.api.server import serve
from onceq_service.settings import load_settings

class Broken:
    def send(self, _):
        raise ValueError("sesame")

def broken(self, frame, write=events.Stream._write_now):
    send, self._send = self._send, lambda _: Broken()
    try:
        return write(self, frame)
    finally:
        self._send = send

admission_cache.AdmissionCache.ready = lambda *_: Broken().send(None)
events.Stream._write_now = broken
serve.run(load_settings())
"""


def test_a_fault_of_a_short_way_is_logged_once_and_the_common_way_serves(shared: Stack) -> None:
    process = start_api(shared, NO_SHORT_WAY, "no_short_way.log")
    try:
        with http(shared, url=url_printed_by(process)) as client:
            for _ in range(3):
                job_id = client.submit(ask(tokens=20, tps=20))["id"]
                assert "event: succeeded" in client.get(f"/v1/jobs/{job_id}/events").text
    finally:
        process.stop()
    assert process.text().count("a post is not taken on the short way") == 1
    assert process.text().count("a frame is not written at once") == 1
    assert process.text().count("ValueError") == 2
    assert "sesame" not in process.text()


def test_both_ways_give_the_same_202(client: Http) -> None:
    client.submit(ask())  # the lane has been looked at from here on
    body = ask() | {"user": "u", "team": "t", "labels": {"a": "b"}, "band": "batch", "fresh": True}
    assert told(client.post_json(body)) == told(client.post_json(body, **COMMON))


def test_one_question_is_one_job_on_either_way(client: Http) -> None:
    body = ask(ttft_ms=5_000)
    fast_path = client.submit(body, idempotency_key="k")
    common = client.post_json(body, idempotency_key="k", **COMMON)
    again = client.post_json(body, idempotency_key="k")
    assert fast_path["id"] == common.json()["id"] == again.json()["id"]
    assert common.headers["idempotent-replayed"] == again.headers["idempotent-replayed"] == "true"
    client.post(fast_path["urls"]["cancel"])


def test_both_ways_refuse_alike(client: Http) -> None:
    client.submit(ask(), idempotency_key="once")
    for body, heads, status, code in (
        (ask(), {"idempotency-key": "once"}, 422, "idempotency_key_reused"),
        (ask() | {"max_cost_usd": 0.000001, "max_tokens": 5}, {}, 402, "max_cost_exceeded"),
        (ask() | {"model": "nobody/m"}, {}, 422, "unknown_model"),
        (ask() | {"user": f"{SECRET}\n"}, {}, 422, "invalid_request"),
        (ask(), {"idempotency-key": "a b"}, 400, "malformed_idempotency_key"),
    ):
        problems = [
            problem_of(client.post("/v1/jobs", content=json.dumps(body), headers=JSON | heads | more), status, code)
            for more in ({}, COMMON)
        ]
        assert problems[0] == problems[1]


def test_pipelined_requests_are_answered_in_their_order(shared: Stack) -> None:
    key = shared.api_key
    look = f"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n".encode()
    posts = [post_bytes(key, ask() | {"user": f"u{n}"}) for n in range(4)]
    found = answers(shared.url, [b"".join([posts[0], posts[1], look, posts[2], posts[3]])], 5)
    assert [answer.status_code for answer in found] == [202, 202, 200, 202, 202]
    assert [json.loads(found[n].content)["user"] for n in (0, 1, 3, 4)] == ["u0", "u1", "u2", "u3"]


def test_a_post_may_come_in_pieces(shared: Stack) -> None:
    whole = post_bytes(shared.api_key, ask() | {"user": "piecemeal"})
    (answer,) = answers(shared.url, [whole[n : n + 7] for n in range(0, len(whole), 7)], 1)
    assert (answer.status_code, json.loads(answer.content)["user"]) == (202, "piecemeal")


def test_a_connection_is_closed_after_the_answer_where_the_client_asks_for_it(shared: Stack) -> None:
    with connect(shared.url) as link:
        link.sendall(post_bytes(shared.api_key, ask(), "connection: close"))
        got = b""
        while data := link.recv(65536):
            got += data
    assert got.startswith(b"HTTP/1.1 202")


PATIENT_API = """
from onceq_service.api import auth, service
from onceq_service.api.submission import fast_path
from onceq_service.api.server import serve
from onceq_service.settings import load_settings

take = fast_path.FastPath.take

def taken(*given):
    took = take(*given)
    print("a post went the short way" if took else "a post went the common way", flush=True)
    return took

fast_path.FastPath.take = taken
auth.CACHE_S = service.PACE_S = 600.0  # what a post has looked at is known to the next, however late it comes
serve.STOP_S = 60  # no test of how long a stop waits
serve.run(load_settings())
"""


@contextmanager
def writes_paused(redis: EmbeddedRedis) -> Generator[None]:
    """Nothing that writes is answered meanwhile."""
    asyncio.run(tell(redis, "CLIENT", "PAUSE", "600000", "WRITE"))
    try:
        yield
    finally:
        asyncio.run(tell(redis, "CLIENT", "UNPAUSE"))


async def tell(redis: EmbeddedRedis, *words: str) -> None:
    async with Redis.from_url(redis.url) as client:  # pyright: ignore[reportUnknownMemberType] - untyped arguments
        await client.execute_command(*words)  # pyright: ignore[reportUnknownMemberType]


def refuses(url: str) -> bool:
    """Whether nobody listens there any more."""
    where = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((where.hostname, where.port)) == errno.ECONNREFUSED


def test_a_stop_lets_a_post_end_and_says_that_the_connection_closes(own_redis: EmbeddedRedis) -> None:
    with running_stack(own_redis, workers=1) as stack:
        key = stack.api_key
        api = start_api(stack, PATIENT_API, "patient.log")
        try:
            url = url_printed_by(api)
            assert answers(url, [post_bytes(key, ask())], 1)[0].status_code == 202
            with connect(url) as link:
                with writes_paused(own_redis):
                    link.sendall(post_bytes(key, ask()))
                    wait_until(lambda: "went the short way" in api.text(), "the post to be under way")
                    api.popen.send_signal(signal.SIGTERM)
                    wait_until(lambda: refuses(url), "the stop to begin")
                    assert not select.select([link], [], [], 0)[0], "neither answered nor closed yet"
                got = b"".join(iter(lambda: link.recv(65536), b""))
            assert got.startswith(b"HTTP/1.1 202")
            assert b"\r\nconnection: close\r\n" in got
            assert api.popen.wait(20) == 0
        finally:
            api.stop()
