"""Reading by polling: ETag, long poll, lists, retention; and that it says the same as the stream (R06, R14)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from onceq_service.embedded.ping import ask_redis
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import open_store
from onceq_service.store.views import SHOWN, job_view
from tests.service.api.kit import JOBS, Http, ask, http, problem_of, send_raw, text_of
from tests.stack import Stack, running_stack
from tests.waiting import wait_until


def test_an_etag_stays_while_nothing_changes_and_saves_the_body(client: Http) -> None:
    job = client.done(ask())
    first = client.get(f"{JOBS}/{job.id}")
    tag = first.headers["etag"]
    assert "retry-after" not in first.headers, "it is over: no need to ask again"
    for sent in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = client.get(f"{JOBS}/{job.id}", headers={"if-none-match": sent})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get(f"{JOBS}/{job.id}", headers={"if-none-match": '"other"'}).status_code == 200


def test_an_etag_changes_with_whatever_can_be_seen_and_tells_when_to_come_again(client: Http) -> None:
    urls = client.submit(ask(ttft_ms=300, tps=20, tokens=10_000))["urls"]
    seen: dict[str, str] = {}

    def ended() -> bool:
        answer = client.get(urls["self"])
        job = answer.json()
        visible = answer.text
        assert seen.setdefault(answer.headers["etag"], visible) == visible, "one tag never names two bodies"
        if job["finished_at"] is None:
            assert answer.headers["retry-after"] == "1"
        return job["finished_at"] is not None

    wait_until(lambda: ended() or len(seen) > 3, "queued, running, text, more text")
    assert client.post(urls["cancel"]).status_code in (200, 202)
    wait_until(ended, "the job's end")
    assert len(seen) > 4, "and its end"


def test_a_long_poll_answers_at_the_end_and_no_later(client: Http) -> None:
    job = client.submit(ask(ttft_ms=700))
    answer = client.get(f"{JOBS}/{job['id']}", params={"wait": 60})
    assert answer.json()["status"] == "succeeded"


def test_a_long_poll_whose_time_is_up_answers_with_the_job_as_it_is(client: Http) -> None:
    job = client.submit(ask(ttft_ms=20_000))
    answer = client.get(f"{JOBS}/{job['id']}", params={"wait": 0.3})
    assert answer.json()["status"] in ("queued", "running")
    assert answer.headers["retry-after"] == "1"
    client.post(job["urls"]["cancel"])


def test_a_hundred_long_polls_of_one_job_all_end_with_it(shared: Stack, replica: str, client: Http) -> None:
    job_id = client.submit(ask(ttft_ms=1_000))["id"]
    key = client.headers["authorization"].removeprefix("Bearer ")

    def poll(n: int) -> str:
        with Http((shared.url, replica)[n % 2], key) as one:
            return one.get(f"{JOBS}/{job_id}", params={"wait": 60}).json()["status"]

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(poll, range(100))) == {"succeeded"}


def test_a_running_job_shows_the_text_so_far(client: Http) -> None:
    job_id = client.submit(ask(tokens=400, tps=40))["id"]
    part = wait_until(lambda: client.job(job_id).text, "the first of its text")
    running = client.job(job_id)
    assert running.output is not None
    assert running.output.finish_reason is None
    client.post(f"{JOBS}/{job_id}/cancel")
    assert client.job(job_id, wait=30).text.startswith(part)


@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "anthropic/claude-haiku-4-5", "bedrock/amazon.nova-lite-v1:0"])
def test_r06_the_text_is_the_same_byte_for_byte_polled_streamed_live_and_streamed_late(
    shared: Stack, client: Http, model: str
) -> None:
    words = "Zeichen: äöü 漢字 🙂 \\u0000 \\\\ %s"
    body = ask(text=f"'{words} data: x'", tps=200) | {"model": model}
    job_id = client.submit(body)["id"]
    live = text_of(client.read(job_id))
    polled = client.job(job_id, wait=30).text
    late = text_of(client.read(job_id))
    [call] = shared.meter(job_id)
    assert call["text"].encode() == polled.encode() == live.encode() == late.encode()


def test_lists_are_newest_first_in_pages_that_miss_and_repeat_nothing(client: Http) -> None:
    items = [{"job": ask() | {"team": "even" if n % 2 == 0 else "odd"}} for n in range(25)]
    made = [i["job"]["id"] for i in client.post("/v1/jobs/batch", json={"items": items}).json()["items"]]
    made.append(client.done(ask()).id)
    wait_until(lambda: len(client.ids(status="succeeded", limit="50")) == 26, "all to end")
    pages: list[list[str]] = []
    cursor: str | None = ""
    while cursor is not None:
        where = {"limit": "10"} | ({"cursor": cursor} if cursor else {})
        page = client.get(JOBS, params=where).json()
        pages.append([job["id"] for job in page["jobs"]])
        cursor = page["next_cursor"]
    assert [len(page) for page in pages] == [10, 10, 6]
    listed = [job_id for page in pages for job_id in page]
    assert sorted(listed) == sorted(made)
    assert listed[0] == made[-1], "newest first"
    at = {job["id"]: job["created_at"] for job in client.get(JOBS, params={"limit": "50"}).json()["jobs"]}
    assert [at[job_id] for job_id in listed] == sorted(at.values(), reverse=True)
    assert len(client.ids(team="even", limit="50")) == 13
    assert client.ids(team="nobody") == []
    assert client.ids(status="failed") == []
    assert len(client.ids(model="openai/gpt-4o-mini", limit="50")) == 26
    assert client.ids(since="2999-01-01T00:00:00Z") == []


def test_the_ledger_and_the_request_can_be_read_back(client: Http) -> None:
    body = ask(fault=429, times=1, retry_after=0)
    job = client.done(body)
    rows = client.get(f"{JOBS}/{job.id}/ledger").json()
    assert [(row["try_no"], row["outcome"], row["billed"]) for row in rows] == [
        (1, "provider_rate_limited", False), (2, "ok", True),
    ]  # fmt: skip
    assert rows[1]["spent_nano_usd"] == job.cost.nano_usd
    assert client.get(f"{JOBS}/{job.id}/request").json()["prompt"] == body["prompt"]


def test_a_poll_does_not_read_the_whole_request_from_redis(shared: Stack, client: Http) -> None:
    job = client.done(ask() | {"system": "a" * 4_000_000})
    sent = sent_by_redis(shared)
    for _ in range(10):
        assert client.job(job.id).status == "succeeded"
        assert client.get(JOBS).status_code == 200
    assert sent_by_redis(shared) - sent < 4_000_000


def sent_by_redis(stack: Stack) -> int:
    """Bytes that the Redis of the stack has sent so far."""
    info = ask_redis(stack.redis.socket, "INFO stats", timeout_s=20) or ""
    [line] = [line for line in info.splitlines() if line.startswith("total_net_output_bytes:")]
    return int(line.partition(":")[2])


def test_r14_results_and_logs_are_kept_as_long_as_is_said_and_then_a_404_says_why(redis_server: EmbeddedRedis) -> None:
    """A stack for each: what has to be seen between the end of a log and that of its result may take its time."""
    lapse = {"result_ttl_s": "4", "idempotency_ttl_s": "4", "dedupe_window_s": "4"}
    with (
        running_stack(redis_server, workers=1, **lapse) as own, http(own) as client,
        running_stack(redis_server, workers=1, events_ttl_s="1") as other, http(other) as reader,
    ):  # fmt: skip
        job = client.done(ask(tokens=20))
        assert job.expires_at is not None
        assert job.finished_at is not None
        assert (job.expires_at - job.finished_at).total_seconds() == 4
        assert_the_log_goes_before_the_result(reader)
        wait_until(lambda: client.get(f"{JOBS}/{job.id}").status_code == 404, "the result to be gone")
        problem = problem_of(client.get(f"{JOBS}/{job.id}"), 404, "job_not_found")
        assert "kept for 4 s" in problem.detail
        assert job.id not in client.ids()
        again = client.submit({"model": "openai/gpt-4o-mini", "prompt": "after it"})
        assert again["disposition"] == "created"


def assert_the_log_goes_before_the_result(client: Http) -> None:
    job = client.done(ask(tokens=20))
    assert text_of(client.read(job.id)) == job.text
    wait_until(lambda: client.read(job.id)[0].name == "snapshot", "the log to be gone")
    snapshot, end = client.read(job.id, after=3)
    assert (snapshot.id, text_of([snapshot])) == (None, job.text)
    assert (end.name, end.data.usage) == ("succeeded", job.usage)


def test_a_long_poll_whose_client_leaves_holds_nothing(shared: Stack, client: Http) -> None:
    body = ask(ttft_ms=60_000) | {"on_disconnect": "cancel", "disconnect_grace_s": 1}
    job_id = client.submit(body)["id"]
    path = f"GET {JOBS}/{job_id}?wait=60 HTTP/1.1\r\nhost: x\r\n"
    head = path + f"authorization: {client.headers['authorization']}\r\n\r\n"
    assert send_raw(shared.url, head.encode(), leave=True) == b""
    wait_until(lambda: client.ids(status="cancelled") == [job_id], "the job that nobody waits for to be cancelled")


async def test_a_job_is_shown_whole_though_only_its_small_fields_are_read(shared: Stack, client: Http) -> None:
    """What `Jobs.shown` leaves out, `job_view` must not look at: compared with the job as its whole hash shows it."""
    tenant = client.get("/v1/keys").json()["keys"][-1]["tenant"]
    soon = datetime.now(UTC) + timedelta(hours=1)
    bodies = [
        ask(), ask(fault=400), ask(fault=429, times=1, retry_after=0), ask(ttft_ms=60_000), ask(tokens=900, tps=5),
        ask() | {"not_before": soon.isoformat(), "labels": {"a": "b"}, "user": "u"},
        ask() | {"model": ["openai/gpt-4o-mini", "anthropic/claude-haiku-4-5"], "team": "t"},
        ask(fault="cut", after=2) | {"max_calls": 1},
    ]  # fmt: skip
    ids = [client.submit(body)["id"] for body in bodies]
    wait_until(lambda: client.get("/v1/stats").json()["depth"]["succeeded"] >= 3, "some of them to end")
    async with open_store(shared.redis.url, shared.queue) as store:
        for job_id in ids:
            whole = await store.jobs.fields(job_id, tenant)
            assert whole is not None
            seen = Reading(whole)
            job_view(job_id, seen, "strict")
            assert seen.names <= set(SHOWN)
    for job_id in ids:
        client.post(f"{JOBS}/{job_id}/cancel")


class Reading(Mapping[str, bytes]):
    """A job's hash that remembers what was looked at."""

    def __init__(self, fields: Mapping[str, bytes]) -> None:
        self._fields, self.names = fields, set[str]()

    def __getitem__(self, name: str) -> bytes:
        self.names.add(name)
        return self._fields[name]

    def __contains__(self, name: object) -> bool:
        self.names.add(str(name))
        return name in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)
