"""Both clients against a real socket: what they hand out of jobs, lists and figures."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from threading import Event
from typing import Any

import numpy
import pytest
from starlette.responses import Response

import onceq
from onceq import AsyncClient, Client
from tests.sdk.fake import JOB_ID, FakeService, Seen, accepted, answer, job, problem, whole_log

SUBMIT, GET = "POST /v1/jobs", "GET /v1/jobs/{id}"


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


def test_wait_asks_for_the_fraction_of_a_second_that_is_left(fake: FakeService, client: Any) -> None:
    fake.on(GET, answer(job("succeeded", "Hello")))
    client.wait(JOB_ID, timeout_s=0.9)
    assert 0 < float(fake.seen[0].query["wait"]) <= 0.9


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


def test_a_wait_ends_at_its_timeout_though_the_service_hangs(fake: FakeService, client: Any) -> None:
    ended = Event()

    def hang(_: Seen) -> Response:
        ended.wait(30)
        return answer(job("running"))

    fake.on(GET, hang)
    try:
        with pytest.raises(onceq.WaitTimeout, match=rf"{JOB_ID} within 0\.1 s; it goes on"):
            client.wait(JOB_ID, timeout_s=0.1)
    finally:
        ended.set()


@pytest.mark.parametrize("timeout_s", ["1", timedelta(seconds=1), float("nan"), [1]], ids=repr)
def test_what_is_no_time_to_wait_is_refused_before_anything_is_sent(
    fake: FakeService, client: Any, timeout_s: Any
) -> None:
    fake.on(SUBMIT, accepted())
    handle = client.submit("Hi")
    fake.seen.clear()
    asks = (
        lambda: client.wait(JOB_ID, timeout_s), lambda: client.result(JOB_ID, timeout_s=timeout_s),
        lambda: handle.wait(timeout_s), lambda: handle.result(timeout_s=timeout_s),
    )  # fmt: skip
    for ask in asks:
        with pytest.raises(onceq.BadRequestError, match=r"timeout_s is a number of seconds, or None .*, not .*Nothing"):
            ask()
    assert fake.seen == []


@pytest.mark.parametrize("timeout_s", [5, 5.0, numpy.int64(5), numpy.float32(5), float("inf"), -1, None], ids=repr)
def test_a_time_to_wait_is_any_number(fake: FakeService, client: Any, timeout_s: Any) -> None:
    fake.on(GET, answer(job("succeeded", "Hello")))
    assert client.result(JOB_ID, timeout_s).text == "Hello"


@pytest.mark.parametrize("after", [None, "3", -1, 2.0], ids=repr)
def test_what_is_no_number_of_an_event_is_refused_at_once(fake: FakeService, client: Any, after: Any) -> None:
    fake.on(SUBMIT, accepted())
    handle = client.submit("Hi")
    fake.seen.clear()
    for ask in (
        lambda: client.follow(JOB_ID, after=after),
        lambda: client.follow_batch("b", after=after),
        lambda: handle.stream(after=after),
        lambda: handle.events(after=after),
    ):
        with pytest.raises(onceq.BadRequestError, match=rf"after is the number of an event, .*, not {after!r}\. Noth"):
            ask()
    assert fake.seen == []


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
        ({"page_size": "5"}, "page_size is a number from 1 on, .*, not '5'"),
        ({"page_size": 5.5}, "page_size is a number from 1 on"),
        ({"since": date(2026, 11, 1)}, r"a time is a datetime, like .*, not datetime\.date\(2026, 11, 1\)"),
        ({"until": "2026-11-01"}, "a time is a datetime, like .*, not '2026-11-01'"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(fake: FakeService, client: Any, wrong: Any, says: str) -> None:
    for ask in (client.list, client.ledger_pages):
        with pytest.raises(onceq.BadRequestError, match=says):
            list(ask(**wrong))
    assert fake.seen == []


@pytest.mark.parametrize("label", ["a=b", ["a=b"], 5], ids=str)
def test_a_label_to_filter_by_is_a_dict(fake: FakeService, client: Any, label: Any) -> None:
    for ask in (client.list, client.list_page, client.jobs_frame):
        with pytest.raises(onceq.BadRequestError, match=r"label is a dict of names and values, .*, not .*Nothing was"):
            list(ask(label=label))
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


def test_a_job_is_named_by_its_id_by_itself_or_by_its_handle(fake: FakeService, client: Any) -> None:
    ended = job("succeeded", "Hello")
    fake.on(SUBMIT, accepted())
    fake.on(GET, answer(ended))
    fake.on("POST /v1/jobs/{id}/cancel", answer(ended))
    fake.on("GET /v1/jobs/{id}/ledger", answer([]))
    fake.log(whole_log("Hello"))
    handle = client.submit("Hi")
    for named in (handle, handle.job, JOB_ID):
        assert client.get(named) == client.wait(named) == client.result(named) == client.cancel(named)
        assert client.ledger(named) == []
        assert "".join(client.follow(named)) == "Hello"
    assert {seen.path.split("/")[3] for seen in fake.seen[1:]} == {JOB_ID}


@pytest.mark.parametrize("named", [None, "", 5, ["job_1"], {"id": "job_1"}], ids=repr)
def test_what_names_no_job_is_refused_before_anything_is_sent(fake: FakeService, client: Any, named: Any) -> None:
    asks = (
        client.get, client.wait, client.result, client.cancel, client.request, client.ledger, client.follow,
        client.replay,
    )  # fmt: skip
    for ask in asks:
        with pytest.raises(onceq.BadRequestError, match=r"job_id is a job's id, .* not .*\. Nothing was sent"):
            ask(named)
    assert fake.seen == []


@pytest.mark.parametrize("key", [5, b"row-7", "", "two words"], ids=repr)
def test_an_idempotency_key_that_is_none_is_named_with_its_item(fake: FakeService, client: Any, key: Any) -> None:
    for ask in (client.submit, client.stream):
        with pytest.raises(onceq.BadRequestError, match=r"idempotency_key is a text of 1 to 255 .*, not ") as caught:
            ask("Hi", idempotency_key=key)
        assert caught.value.code == "malformed_idempotency_key"
    with pytest.raises(onceq.BadRequestError, match=r"idempotency_key is a text"):
        client.replay(JOB_ID, idempotency_key=key)
    with pytest.raises(onceq.BadRequestError, match=r"idempotency_key of items\.1 is a text"):
        client.submit_batch(["a", {"prompt": "b", "idempotency_key": key}])
    assert fake.seen == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"timeout_s": 0}, r"timeout_s is a number of seconds above 0, not 0\."),
        ({"timeout_s": "3"}, "timeout_s is .* not '3'"),
        ({"timeout_s": None}, "timeout_s is .* not None"),
        ({"timeout_s": float("inf")}, "timeout_s is .* not inf"),
        ({"max_retries": -1}, r"max_retries is a number from 0 on, not -1\."),
        ({"max_retries": "3"}, "max_retries is .* not '3'"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_clients_own_numbers_are_checked_when_it_is_made(kind: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(onceq.ConfigurationError, match=says):
        kind("http://127.0.0.1:9", "oq_test", **options)
