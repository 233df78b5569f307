"""Redis goes away, fills up, is not durable: what clients are told, and that everything heals without a restart."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from typing import Any

import httpx2
import pytest

from onceq_service.embedded.ping import ask_redis
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import Keys
from onceq_service.store.keys import shard
from tests.redis_user import as_user
from tests.service.api.kit import JOBS, Http, ask, frames, http, problem_of, text_of
from tests.stack import API, Stack, running_stack, start, url_printed_by
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def own(own_redis: EmbeddedRedis) -> Generator[Stack]:
    """A stack on a Redis of its own."""
    with running_stack(own_redis, workers=1, keep_alive_s="0.3", drain_s="5") as stack:
        yield stack


@pytest.fixture
def user(own: Stack) -> Generator[Http]:
    with http(own) as opened:
        yield opened


def kill(redis: EmbeddedRedis) -> None:
    """SIGKILL, and it is gone."""
    assert redis.pid is not None
    os.kill(redis.pid, signal.SIGKILL)
    wait_until(redis.gone, "Redis to be gone")


def test_while_redis_is_away_posts_and_reads_are_503s_and_it_heals_without_a_restart(
    own: Stack, own_redis: EmbeddedRedis, user: Http
) -> None:
    body, job_id = ask(), user.done(ask()).id
    kill(own_redis)
    try:
        answer = user.post_json(body, idempotency_key="through")
        assert "same Idempotency-Key" in problem_of(answer, 503, "store_unavailable").detail
        assert answer.headers["retry-after"] == "1"
        for path in (JOBS, f"{JOBS}/{job_id}", f"{JOBS}/{job_id}/events", "/v1/stats", "/v1/keys"):
            assert int(user.get(path).headers["retry-after"]) >= 1
            problem_of(user.get(path), 503, "store_unavailable")
        problem_of(user.post(f"{JOBS}/{job_id}/cancel"), 503, "store_unavailable")
        assert user.get("/livez").json()["status"] == "ok", "this process is well: nobody should restart it"
        ready = user.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
        assert ready.json()["problems"] == ["Redis can't be reached"]
    finally:
        own_redis.revive()
    wait_until(lambda: user.get("/readyz").status_code == 200, "the API to be ready again")
    taken = wait_until(lambda: taken_post(user, body), "a post to be taken")
    assert taken["disposition"] == "created", "what was refused had used up nothing"
    assert user.job(taken["id"], wait=30).status == "succeeded"
    assert user.job(job_id).status == "succeeded"
    assert len(own.meter(taken["id"])) == 1


def taken_post(user: Http, body: object) -> dict[str, str] | None:
    answer = user.post_json(body, idempotency_key="through")
    return answer.json() if answer.status_code == 202 else None


def test_a_key_that_nobody_can_look_up_is_a_503_and_not_a_401(own: Stack, own_redis: EmbeddedRedis) -> None:
    with http(own, "unseen") as unseen:
        kill(own_redis)
        try:
            problem_of(unseen.get(JOBS), 503, "store_unavailable")
        finally:
            own_redis.revive()
        wait_until(lambda: unseen.get(JOBS).status_code == 200, "the key to be known")


def test_a_reader_keeps_its_stream_while_redis_is_away_and_gets_the_rest_of_it(
    own: Stack, own_redis: EmbeddedRedis, user: Http
) -> None:
    job_id = user.submit(ask(tokens=300, tps=100))["id"]
    wait_until(lambda: user.job(job_id).text, "its first text")
    with user.stream("GET", f"{JOBS}/{job_id}/events") as answer:
        pieces = answer.iter_text()
        said = next(pieces)
        kill(own_redis)
        own_redis.revive()
        said += "".join(pieces)
    read = list(frames(said))
    assert [event.id for event in read] == list(range(1, len(read) + 1)), "one connection, no gap, nothing twice"
    assert read[-1].name == "succeeded"
    [call] = own.meter(job_id)
    assert text_of(read) == call["text"]


def test_an_api_that_starts_before_its_redis_serves_when_it_comes(own: Stack, own_redis: EmbeddedRedis) -> None:
    key = own.api_key
    kill(own_redis)
    early = start([sys.executable, "-c", API], own.env, own.folder / "early.log")
    try:
        url = url_printed_by(early)
        assert httpx2.get(f"{url}/readyz").status_code == 503
        own_redis.revive()
        wait_until(lambda: httpx2.get(f"{url}/readyz").status_code == 200, "the early API to be ready")
        with Http(url, key) as user:
            assert user.done(ask()).status == "succeeded"
    finally:
        if own_redis.gone():
            own_redis.revive()
        early.stop()


def test_readers_hear_of_events_at_once_again_when_redis_was_away(
    own: Stack, own_redis: EmbeddedRedis, user: Http
) -> None:
    """Silence sends a reader to the log each second, so a dead subscription would only make it slow: ask Redis."""
    user.done(ask())  # somebody has listened, and nobody does when Redis goes
    kill(own_redis)
    try:
        for _ in range(2):  # and somebody tries to while it is away
            problem_of(user.get(f"{JOBS}/job_{'0' * 32}"), 503, "store_unavailable")
    finally:
        own_redis.revive()
    wait_until(lambda: user.get("/readyz").status_code == 200, "the API to be ready again")
    for _ in range(2):
        job_id = user.submit(ask(ttft_ms=60_000))["id"]
        channel = Keys(own.queue)("channel", shard(job_id))
        with user.stream("GET", f"{JOBS}/{job_id}/events") as answer:
            pieces = answer.iter_text()
            assert next(pieces)
            wait_until(lambda name=channel: listeners(own_redis, name) == 1, "the API to listen")
            kill(own_redis)
            own_redis.revive()
            wait_until(lambda name=channel: listeners(own_redis, name) == 1, "the API to listen again")
        wait_until(lambda name=channel: listeners(own_redis, name) == 0, "the API to listen no more")
        user.post(f"{JOBS}/{job_id}/cancel")


def listeners(redis: EmbeddedRedis, channel: str) -> int | None:
    """Subscribers of a channel; None, which is no number of them, while Redis does not answer."""
    answer = ask_redis(redis.socket, f"PUBSUB NUMSUB {channel}", timeout_s=20)
    return int(answer.rstrip().rpartition(":")[2]) if answer else None


def tell(redis: EmbeddedRedis, command: str) -> None:
    assert (ask_redis(redis.socket, command, timeout_s=20) or "").startswith("+OK")


def memory_of(redis: EmbeddedRedis, name: str) -> int:
    """A figure of INFO, in bytes."""
    info = ask_redis(redis.socket, "INFO memory", timeout_s=20) or ""
    return next(int(line.partition(":")[2]) for line in info.splitlines() if line.startswith(f"{name}:"))


def test_above_85_percent_of_its_memory_new_work_is_shed_and_running_work_ends(
    own: Stack, own_redis: EmbeddedRedis, user: Http
) -> None:
    running = user.submit(ask(tokens=200, tps=50))["id"]
    wait_until(lambda: user.job(running).text, "a job to run")
    before = memory_of(own_redis, "maxmemory")
    tell(own_redis, f"CONFIG SET maxmemory {round(memory_of(own_redis, 'used_memory') * 0.9)}")
    late = start([sys.executable, "-c", API], own.env, own.folder / "late.log")
    try:
        body = ask()
        wait_until(lambda: user.post_json(ask()).status_code == 503, "posts to be shed")
        answer = user.post_json(body, idempotency_key="shed")
        problem_of(answer, 503, "store_full")
        assert answer.headers["retry-after"] == "5"
        wait_until(lambda: "above 85 %" in user.get("/readyz").text, "it to be seen before a post meets it")
        assert user.get("/readyz").json()["status"] == "degraded"
        problem_of(user.post_json(body, idempotency_key="shed"), 503, "store_full")
        items = user.post("/v1/jobs/batch", json={"items": [{"job": ask()}]}).json()["items"]
        assert items[0]["problem"]["code"] == "store_full"
        with Http(url_printed_by(late), own.api_key) as elsewhere:
            wait_until(lambda: elsewhere.get("/readyz").status_code == 200, "an API that starts now to serve readers")
            assert elsewhere.job(running, wait=60).status == "succeeded", "what runs may end"
    finally:
        late.stop()
        tell(own_redis, f"CONFIG SET maxmemory {before}")
    wait_until(lambda: user.get("/readyz").json()["status"] == "ok", "the memory to be seen as enough")
    assert user.submit(body, idempotency_key="shed")["disposition"] == "created"


WEAK = {
    "appendfsync everysec": "appendfsync always",
    "maxmemory-policy allkeys-lru": "maxmemory-policy noeviction",
}


@pytest.mark.parametrize(("weak", "strict"), WEAK.items())
def test_a_redis_that_may_lose_jobs_is_called_relaxed_wherever_it_matters(
    own_redis: EmbeddedRedis, user: Http, weak: str, strict: str
) -> None:
    assert user.submit(ask())["durability"] == "strict"
    tell(own_redis, f"CONFIG SET {weak}")
    try:
        wait_until(lambda: user.get("/readyz").json()["durability"] == "relaxed", "it to be noticed")
        ready = user.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert any(strict.split()[0] in problem for problem in ready.json()["problems"])
        body = ask()
        job = user.submit(body)
        assert job["durability"] == "relaxed"
        assert user.submit(body)["durability"] == "relaxed"
        assert user.job(job["id"]).durability == "relaxed"
        assert wait_until(lambda: user.get("/v1/stats").json()["durability"] == "relaxed", "the figures to say so")
        assert "onceq_durability_strict 0.0" in user.get("/metrics").text
    finally:
        tell(own_redis, f"CONFIG SET {strict}")
    wait_until(lambda: user.get("/readyz").json()["durability"] == "strict", "it to be strict again")
    assert user.submit(ask())["durability"] == "strict"


def test_a_replica_is_not_ready_until_it_is_the_primary(own: Stack, own_redis: EmbeddedRedis, user: Http) -> None:
    body, nobody = ask(), 1  # where no primary listens: a replica all the same
    tell(own_redis, f"REPLICAOF 127.0.0.1 {nobody}")
    late = start([sys.executable, "-c", API], own.env, own.folder / "of-a-replica.log")
    try:
        for url in (own.url, url_printed_by(late)):
            said = wait_until(lambda url=url: unready(url), "the replica to be seen")
            assert said["problems"] == ["this Redis is a replica and takes no jobs: connect to the primary"]
        problem_of(user.post_json(body, idempotency_key="at-a-replica"), 503, "store_unavailable")
    finally:
        late.stop()
        tell(own_redis, "REPLICAOF NO ONE")
    wait_until(lambda: user.get("/readyz").status_code == 200, "the primary to be seen")
    assert user.submit(body, idempotency_key="at-a-replica")["disposition"] == "created"


def unready(url: str) -> dict[str, Any] | None:
    answer = httpx2.get(f"{url}/readyz")
    return answer.json() if answer.status_code == 503 else None


def test_a_user_that_may_not_do_all_is_a_503_whose_reason_is_in_the_log_alone(
    own: Stack, own_redis: EmbeddedRedis
) -> None:
    env = own.env | {"ONCEQ_REDIS_URL": as_user(own_redis, "half", "+@all -info")}
    half = start([sys.executable, "-c", API], env, own.folder / "half.log")
    try:
        url = url_printed_by(half)
        said = wait_until(lambda: unready(url), "it to be unready")
        assert said["problems"] == ["Redis refuses the service's user; the log says why"]
        with Http(url, own.api_key) as user:
            answer = user.post_json(ask())
            problem_of(answer, 503, "store_unavailable")
            assert "NOPERM" not in answer.text
        assert "may not do what onceq needs (NOPERM" in half.text()
        assert "hidden" not in half.text()
    finally:
        half.stop()
