"""What people can say about their jobs and lanes: rows R13, W4, W5, W9, W13, W20, N7, on real processes."""

from __future__ import annotations

import json
import signal
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from onceq import (
    Client,
    ConflictError,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobHandle,
    NotFoundError,
    OnceqError,
    PermissionDeniedError,
    StreamEvent,
)
from onceq.wire import Job
from onceq_service.embedded.redis_server import EmbeddedRedis
from tests.stack import Stack, running_stack
from tests.waiting import wait_until

OPENAI, ANTHROPIC, BEDROCK = "openai/gpt-4o-mini", "anthropic/claude-haiku-4-5", "bedrock/amazon.nova-lite-v1:0"
LIMITED = "openai/limited"
MOST_ESTIMATED = 2.5
"""How many times what is billed an estimate of plain text may be (docs/costs.md); never less than once."""


@pytest.fixture(scope="module")
def own(redis_server: EmbeddedRedis) -> Generator[Stack]:
    """A stack with a lane of two requests a minute."""
    lanes = json.dumps({LIMITED: {"requests_per_minute": 2}})
    with running_stack(redis_server, lanes=lanes) as stack:
        yield stack


@pytest.fixture
def client(own: Stack) -> Generator[Client]:
    """A client with every scope."""
    with Client(base_url=own.url, api_key=own.api_key, model=OPENAI) as client:
        yield client


def names(events: list[StreamEvent]) -> list[str]:
    return [event.name for event in events if event.name != "delta"]


def wait_for(client: Client, job_id: str, status: str) -> Job:
    def find() -> Job | None:
        job = client.get(job_id)
        return job if job.status == status else None

    return wait_until(find, f"{job_id} to be {status}")


def aborted(own: Stack, job_id: str) -> dict[str, Any]:
    """The meter's row of a job's one call, once the simulator has noticed that nobody listens to it any more."""

    def find() -> dict[str, Any] | None:
        [call] = own.meter(job_id)
        return call if call["status"] == "aborted" else None

    return wait_until(find, f"the call of {job_id} to be aborted")


@pytest.mark.parametrize("fault", ["429 retry_after=30", "503", "401", "404"])
def test_w20_when_a_provider_turns_a_job_away_another_model_answers(client: Client, own: Stack, fault: str) -> None:
    prompt = f"Somebody answer {fault}. [[sim fault={fault} times=1 tokens=5 tps=0]]"
    handle = client.submit(prompt, model=["openai/away-" + fault[:3], ANTHROPIC])
    job = handle.result(30)
    assert (job.model, job.calls, job.tries) == (ANTHROPIC, 1, 2)
    told = [event.data for event in handle.events() if event.name == "retrying"]
    assert told[0].model == ANTHROPIC
    assert [call["billed"] for call in own.meter(job.id) if call["billed"]] == [True]


def test_w20_a_request_that_is_wrong_goes_to_no_other_provider(client: Client, own: Stack) -> None:
    handle = client.submit("Wrong. [[sim fault=400]]", model=[OPENAI, ANTHROPIC])
    with pytest.raises(JobFailed) as failed:
        handle.result(30)
    assert failed.value.job.tries == 1


@pytest.mark.parametrize("fault", ["refusal", "filter after=2"])
def test_w20_what_a_model_would_not_answer_is_asked_of_no_other(client: Client, own: Stack, fault: str) -> None:
    job = client.submit(f"No, {fault}. [[sim fault={fault} tokens=5 tps=0]]", model=[OPENAI, ANTHROPIC]).result(30)
    assert (job.status, job.model, job.tries, len(own.meter(job.id))) == ("succeeded", OPENAI, 1, 1)


def test_an_unknown_model_in_a_chain_is_refused_by_name(client: Client) -> None:
    with pytest.raises(OnceqError, match="nobody/x"):
        client.submit("Never stored.", model=[OPENAI, "nobody/x"])


def test_w13_a_call_that_takes_longer_than_its_own_clock_is_called_again_and_counted_as_waste(
    client: Client, own: Stack
) -> None:
    prompt = "Slow first. [[sim fault=stall after=2 times=1 tokens=5 tps=0]]"
    handle = client.submit(prompt, timeouts={"call_s": 3.5})  # the second call has as long, on a busy machine too
    job = handle.result(30)
    assert (job.calls, len(own.meter(job.id))) == (2, 2)
    assert [row.outcome for row in client.ledger(job.id)] == ["provider_timeout", "ok"]
    assert job.cost.wasted_nano_usd > 0


def test_w13_a_job_that_is_not_started_in_time_expires_without_a_call(client: Client, own: Stack) -> None:
    client.pause(lane="openai/paused-queue")
    handle = client.submit("Too late.", model="openai/paused-queue", timeouts={"queue_s": 0.3})
    with pytest.raises(JobExpired) as expired:
        handle.result(30)
    assert expired.value.job.error is not None
    assert expired.value.job.error.code == "queue_timeout"
    assert own.meter(handle.id) == []


def test_a_job_with_not_before_waits_for_its_time(client: Client) -> None:
    much_later = client.submit("Much later.", not_before=datetime.now(UTC) + timedelta(hours=1))
    waiting = client.get(much_later.id).waiting
    assert much_later.job.waiting == waiting, "the 202 says so too"
    assert waiting is not None
    assert waiting.reason == "not_before"
    much_later.cancel()
    at = datetime.now(UTC) + timedelta(seconds=1)
    job = client.submit("Later. [[sim tokens=3 tps=0]]", not_before=at).result(30)
    assert job.started_at is not None
    assert job.started_at >= at - timedelta(milliseconds=2)


def test_not_before_after_the_deadline_is_refused(client: Client) -> None:
    with pytest.raises(
        OnceqError, match="is after the job's deadline: give a later deadline_s, or an earlier not_before"
    ):
        client.submit("Never.", not_before=datetime.now(UTC) + timedelta(hours=2), deadline_s=60)


def test_a_paused_lane_starts_nothing_says_so_and_goes_on_when_resumed(client: Client) -> None:
    lanes = client.pause(lane="openai/paused")
    assert [lane.lane for lane in lanes.lanes if lane.paused and lane.lane == "openai/paused"] == ["openai/paused"]
    handle = client.submit("Paused. [[sim tokens=3 tps=0]]", model="openai/paused")
    # workers claim in turn: once one has taken a later job of another lane, each has passed this one by
    assert client.submit("Passes. [[sim tokens=3 tps=0]]", model=OPENAI).result(30).status == "succeeded"
    waiting = client.get(handle.id).waiting
    assert waiting is not None
    assert waiting.reason == "lane_paused"
    client.resume(lane="openai/paused")
    assert handle.result(30).status == "succeeded"


def test_a_paused_band_leaves_the_others_alone(client: Client) -> None:
    assert client.pause(band="batch").paused_bands == ["batch"]
    held = client.submit("Held. [[sim tokens=3 tps=0]]", band="batch")
    assert client.submit("Not held. [[sim tokens=3 tps=0]]").result(30).status == "succeeded"
    waiting = client.get(held.id).waiting
    assert waiting is not None
    assert waiting.reason == "band_paused"
    assert client.resume(band="batch").paused_bands == []
    assert held.result(30).status == "succeeded"


def test_lanes_belong_to_all_tenants_so_only_an_operator_pauses_or_counts_them(own: Stack, client: Client) -> None:
    client.submit("Counted. [[sim tokens=3 tps=0]]", model="openai/counted").result(30)
    with Client(base_url=own.url, api_key=own.key("guest", "read", "submit")) as guest:
        with pytest.raises(PermissionDeniedError):
            guest.pause(lane=OPENAI)
        assert "openai/counted" not in {lane.lane for lane in guest.lanes().lanes}, "a name of another tenant's"
        guest.submit("Mine. [[sim tokens=3 tps=0]]", model="openai/counted").result(30)
        [lane] = [lane for lane in guest.lanes().lanes if lane.lane == "openai/counted"]
        assert (lane.requests_last_minute, lane.running) == (None, None)


def test_w5_a_lane_at_its_limit_makes_jobs_wait_and_says_until_when(client: Client) -> None:
    handles = [client.submit(f"Limited {n}. [[sim tokens=3 tps=0]]", model=LIMITED) for n in range(3)]
    done = [handle for handle in handles[:2] if handle.result(30).status == "succeeded"]
    assert len(done) == 2
    # an end opens the lane to whoever waits; the next look at it tells that there is still no room
    waiting = wait_until(lambda: client.get(handles[2].id).waiting, "the lane to be found full")
    assert waiting.reason == "lane_full"
    assert waiting.until is not None
    assert waiting.until > datetime.now(UTC) + timedelta(seconds=30)
    [lane] = [lane for lane in client.lanes().lanes if lane.lane == LIMITED]
    assert (lane.limits, lane.requests_last_minute) == ({"requests_per_minute": 2}, 2)
    handles[2].cancel()


def test_w4_a_429_holds_its_lane_back_for_every_job_and_uses_up_no_call(client: Client, own: Stack) -> None:
    model = "openai/braked"
    first = client.submit("First. [[sim fault=429 times=1 retry_after=6 tokens=3 tps=0]]", model=model)
    wait_until(lambda: (job := client.get(first.id)).tries == 1 and job.status == "queued", "the 429 after its try")
    second = client.submit("Second. [[sim tokens=3 tps=0]]", model=model)
    waiting = client.get(second.id).waiting
    assert waiting is not None
    assert waiting.reason == "provider_rate_limited"
    jobs = [first.result(30), second.result(30)]
    assert [job.calls for job in jobs] == [1, 1]
    assert own.meter(second.id)[0]["status"] == "completed"


@pytest.mark.parametrize("model", [OPENAI, ANTHROPIC, BEDROCK])
def test_a_call_that_runs_at_the_deadline_is_closed_booked_once_and_its_text_is_kept(
    client: Client, own: Stack, model: str
) -> None:
    handle = client.submit("Slow. [[sim tokens=2000 tps=40 ttft_ms=10]]", model=model, deadline_s=3)
    with pytest.raises(JobExpired) as expired:
        handle.result(30)  # its call would take fifty
    job = expired.value.job
    assert job.error is not None
    assert (job.status, job.error.code, job.calls, job.tries) == ("expired", "deadline_exceeded", 1, 1)
    met = aborted(own, job.id)
    assert len(job.text) > 0
    assert met["text"].startswith(job.text)
    assert "".join(event.data.text for event in handle.events() if event.name == "delta") == job.text
    [row] = client.ledger(job.id)
    assert (row.billed, row.estimated, row.outcome, row.waste_reason) == (True, True, *("deadline_exceeded",) * 2)
    assert row.spent_nano_usd
    assert row.spent_nano_usd == row.wasted_nano_usd == job.cost.nano_usd


@pytest.mark.parametrize("model", [OPENAI, ANTHROPIC, BEDROCK])
def test_n7_what_a_provider_reports_is_booked_as_its_meter_has_it(client: Client, own: Stack, model: str) -> None:
    job = client.submit("Whole. [[sim tokens=30 tps=0]]", model=model).result(30)
    [row], [met] = client.ledger(job.id), own.meter(job.id)
    assert not row.estimated
    for name in ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens"):
        assert getattr(row, name) == met[name], name
    assert row.spent_nano_usd == met["nano_usd"] == job.cost.nano_usd


@pytest.mark.parametrize("model", [OPENAI, ANTHROPIC, BEDROCK])
def test_w9_n7_a_cancel_closes_the_call_and_its_receipt_says_what_it_cost(
    client: Client, own: Stack, model: str
) -> None:
    handle = client.submit("Long. [[sim tokens=400 tps=40 ttft_ms=10]]", model=model, max_tokens=400)
    for read, _ in enumerate(handle.stream()):
        if read == 60:  # so that a late look at the closed connection stays within the bound
            break
    handle.cancel()
    with pytest.raises(JobCancelled) as cancelled:
        handle.result(30)
    receipt = cancelled.value.job.receipt
    assert receipt is not None
    met = aborted(own, handle.id)
    assert met["output_tokens"] < 400
    assert receipt.estimated
    assert 1 <= receipt.output_tokens / met["output_tokens"] < MOST_ESTIMATED
    assert receipt.spent_nano_usd is not None
    assert 1 <= receipt.spent_nano_usd / met["nano_usd"] < MOST_ESTIMATED
    assert receipt.spent_nano_usd == cancelled.value.job.cost.nano_usd
    assert receipt.may_still_bill
    assert receipt.saved_nano_usd is not None
    assert receipt.saved_nano_usd > 0
    assert list(handle.events())[-1].data.receipt == receipt


def test_w9_a_job_that_nobody_follows_any_more_is_cancelled_if_it_wants_to_be(client: Client, own: Stack) -> None:
    kept = client.submit("Kept. [[sim tokens=280 tps=40 ttft_ms=10]]", on_disconnect="cancel", disconnect_grace_s=5)
    left = client.submit("Left. [[sim tokens=900 tps=40 ttft_ms=10]]", on_disconnect="cancel", disconnect_grace_s=1)
    assert len("".join(kept.stream())) > 0, "it ran for seven seconds, and was followed"
    job = wait_for(client, left.id, "cancelled")
    assert job.error is not None
    assert job.error.code == "disconnected"
    assert client.get(kept.id).status == "succeeded"
    assert aborted(own, left.id)["output_tokens"] < 900


def test_r13_a_failed_job_keeps_its_cause_and_text_and_can_be_asked_again(client: Client, own: Stack) -> None:
    handle = client.submit("Broken. [[sim fault=cut after=4 times=1 tokens=9 tps=0]]", on_break="fail", team="letters")
    failed = wait_for(client, handle.id, "failed")
    assert failed.error is not None
    assert (failed.error.code, failed.calls) == ("stream_broken", 1)
    assert failed.text
    assert [job.id for job in client.list(status="failed", team="letters", replayed=False)] == [handle.id]
    again = client.replay(handle.id)
    job = again.result(30)
    assert (job.retry_of, job.team, job.status) == (handle.id, "letters", "succeeded")
    assert client.get(handle.id).replayed_by == again.id
    assert list(client.list(status="failed", team="letters", replayed=False)) == []
    assert len(own.meter(again.id)) == 1


def test_r13_dead_letters_of_one_cause_are_replayed_at_once_and_only_once(client: Client) -> None:
    letters = [
        client.submit(f"Letter {n}. [[sim fault=cut after=2 times=1 tokens=4 tps=0]]", on_break="fail", team="post")
        for n in range(5)
    ]
    other = client.submit("Another cause. [[sim fault=400]]", team="post")
    for handle in [*letters, other]:
        wait_for(client, handle.id, "failed")
    first = client.replay_all(error="stream_broken", team="post", limit=3)
    rest = client.replay_all(error="stream_broken", team="post")
    made = [one for one in [*first, *rest] if isinstance(one, JobHandle)]
    assert (len(first), len(rest)) == (3, 2)
    assert {one.job.retry_of for one in made} == {handle.id for handle in letters}
    assert {one.result(30).status for one in made} == {"succeeded"}
    assert client.replay_all(error="stream_broken", team="post") == []


def test_a_job_that_still_runs_is_not_replayed_and_another_tenants_is_not_there(client: Client, own: Stack) -> None:
    handle = client.submit("Running. [[sim tokens=1000 tps=40]]")
    with pytest.raises(ConflictError, match="cancel it"):
        client.replay(handle.id)
    handle.cancel()
    with Client(base_url=own.url, api_key=own.key("stranger")) as stranger, pytest.raises(NotFoundError):
        stranger.replay(handle.id)


def test_the_reader_of_a_job_that_moves_to_another_model_gets_one_whole_text(client: Client, own: Stack) -> None:
    prompt = "Move. [[sim fault=cut after=4 times=1 tokens=9 tps=0]]"
    handle = client.submit(prompt, model=[OPENAI, BEDROCK])
    events = list(handle.events())
    job = client.get(handle.id)
    assert names(events) == ["queued", "started", "retrying", "reset", "succeeded"]
    assert (job.model, job.calls) == (BEDROCK, 2)
    assert job.text == own.meter(job.id)[-1]["text"]


def test_a_worker_that_is_killed_is_not_taken_for_a_reader_that_left(own: Stack) -> None:
    """The grace goes on counting for the reader, over the death of the API process that it read from."""
    with Client(base_url=own.url, api_key=own.api_key, model=OPENAI) as client:
        prompt = "Hop. [[sim tokens=120 tps=40 ttft_ms=10]]"
        stream = client.stream(prompt, on_disconnect="cancel", disconnect_grace_s=6)
        pieces = iter(stream)
        next(pieces)
    own.restart_api(signal.SIGKILL)
    with Client(base_url=own.url, api_key=own.api_key) as client:
        assert stream.job_id is not None
        assert client.wait(stream.job_id, 30).status == "succeeded"


def test_w12_failures_are_counted_by_cause_and_dead_letters_until_somebody_replays_them(own: Stack) -> None:
    with Client(base_url=own.url, api_key=own.key("counted"), model=OPENAI) as client:
        broken = client.submit("Broken. [[sim fault=cut after=2 times=1 tokens=4 tps=0]]", on_break="fail")
        wrong = client.submit("Wrong. [[sim fault=400]]")
        for handle in (broken, wrong):
            wait_for(client, handle.id, "failed")
        stats = wait_until(lambda: s if (s := client.stats()).dead_letters == 2 else None, "two dead letters")
        assert stats.last_24h_simulated.causes == {"provider_bad_request": 1, "stream_broken": 1}
        assert stats.oldest_dead_letter_s is not None
        client.replay(broken.id).result(30)
        wait_until(lambda: client.stats().dead_letters == 1, "one to be left")


@pytest.mark.parametrize("model", [OPENAI, ANTHROPIC, BEDROCK])
def test_w17_the_providers_time_to_first_token_is_told_beside_the_one_from_the_post(client: Client, model: str) -> None:
    lane = f"{model}-w17"
    client.pause(lane=lane)
    handle = client.submit("Later. [[sim ttft_ms=700 tokens=5 tps=0]]", model=lane)
    wait_until(lambda: (why := client.get(handle.id).waiting) and why.reason == "lane_paused", "the lane to hold it")
    client.resume(lane=lane)
    job = handle.wait()
    took = job.timings
    assert job.started_at is not None
    held_s = (job.started_at - job.created_at).total_seconds()
    assert took.provider_ttft_s is not None
    assert took.ttft_s is not None
    assert took.provider_ttft_s >= 0.7
    assert took.ttft_s >= held_s + took.provider_ttft_s
