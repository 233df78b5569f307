"""Calls that go on at the provider while nobody holds their job: cursor, takeover, and what ends them."""

from __future__ import annotations

from typing import Any

import pytest

from onceq_service.store import LeaseLost, Store
from onceq_service.store.engine import Claim, Receipt
from tests.service.store.driver import PRICES, admission, claim_one, dispatch, names, read_log, success, text_frame
from tests.service.store.test_recovery import ended, reclaimed
from tests.service.store.timed import later

LOST = Receipt("stream_broken", billed=True, estimated=True, spent_nano_usd=5)


async def under_way(store: Store, *texts: str, **changes: Any) -> Claim:
    """A call that has a name, and so many frames in its log: the n-th ends with the provider's event 10 n."""
    await store.jobs.admit(admission(on_crash="resume", **changes))
    claim = await claim_one(store)
    sent = await dispatch(store, claim)
    await store.engine.attach(claim, "resp_1")
    for n, text in enumerate(texts, 1):
        await store.engine.append([text_frame(claim, sent.seq + n, text)._replace(cursor=10 * n)])
    return claim


async def test_a_lost_workers_call_is_taken_up_with_its_number_its_cursor_and_its_text(brief: Store) -> None:
    first = await under_way(brief, "one ", "two ")
    again = await reclaimed(brief)
    assert (again.text("resp"), again.number("cursor"), again.number("tries")) == ("resp_1", 20, 1)
    sent = await brief.engine.dispatch(again, 1, 100, PRICES)
    assert (sent.word, sent.call) == ("resume", 1)
    assert (await brief.engine.saved_output(again)).text == "one two "
    assert await brief.engine.append([text_frame(first, sent.seq + 1, "zombie")]) == [("lost", sent.seq)]
    await brief.engine.append([text_frame(again, sent.seq + 1, "three")._replace(cursor=30)])
    await brief.engine.finish(again, success(sent.seq + 2, text="one two three"))
    job = await ended(brief, first.id)
    assert (job.status, job.calls, job.tries, job.cost.nano_usd, job.cost.wasted_nano_usd) == (
        "succeeded", 1, 1, 7_000, 0,
    )  # fmt: skip
    assert names(await read_log(brief, first.id)) == [
        "queued", "started", "delta", "delta", "retrying", "delta", "succeeded",
    ]  # fmt: skip


async def test_a_frame_that_the_log_does_not_take_moves_no_cursor(brief: Store) -> None:
    claim = await under_way(brief, "one ")
    last = claim.number("seq") + 2
    gap = text_frame(claim, last + 2, "late")._replace(cursor=99)
    repeat = text_frame(claim, last, "one ")._replace(cursor=98)
    assert await brief.engine.append([gap, repeat]) == [("gap", last), ("ok", last)]
    assert (await reclaimed(brief)).number("cursor") == 10


async def test_a_worker_lost_before_the_first_text_leaves_the_name_behind(brief: Store) -> None:
    await under_way(brief)
    again = await reclaimed(brief)
    assert again.text("resp") == "resp_1"
    assert "cursor" not in again.fields


async def test_a_call_without_a_name_can_not_be_taken_up_and_is_not_made_again(brief: Store) -> None:
    made = await brief.jobs.admit(admission(on_crash="resume"))
    await dispatch(brief, await claim_one(brief))
    job = await ended(brief, made.id)
    assert job.error is not None
    assert (job.status, job.error.code, job.calls) == ("failed", "worker_lost", 1)
    assert job.cost.wasted_nano_usd == job.cost.nano_usd == 34 * 1_000


async def test_a_worker_that_hands_over_may_say_so_twice_and_loses_the_job(brief: Store) -> None:
    claim = await under_way(brief, "one ")
    for _ in range(2):
        await brief.engine.hand_over(claim, delay_s=0, reason="worker_lost")
    again = await claim_one(brief, "w2")
    assert (again.number("takeovers"), again.text("resp")) == (1, "resp_1")
    with pytest.raises(LeaseLost):
        await brief.engine.attach(claim, "resp_2")


async def test_a_call_that_was_cancelled_is_not_handed_over(brief: Store) -> None:
    claim = await under_way(brief, "one ")
    assert await brief.jobs.cancel(claim.id, "t") == "requested"
    assert not await brief.engine.hand_over(claim, delay_s=60, reason="worker_lost")


async def test_a_cancel_does_not_wait_until_the_call_would_be_taken_up_again(brief: Store) -> None:
    """A worker has to stop the provider: it gets the job at once, not after the delay."""
    claim = await under_way(brief, "one ")
    assert await brief.engine.hand_over(claim, delay_s=60, reason="provider_unreachable")
    assert (await brief.engine.claim("w2", 1, ["openai"]))[0] == []
    assert await brief.jobs.cancel(claim.id, "t") == "requested"
    again = await claim_one(brief, "w2")
    assert (again.text("cancel"), again.text("resp")) == ("requested", "resp_1")


async def test_a_new_call_forgets_the_one_before(brief: Store) -> None:
    """What was given up and booked must not be taken up once more, when the next worker is lost before its call."""
    claim = await under_way(brief, "one ")
    await brief.engine.requeue(claim, LOST, delay_s=0, reason="stream_broken")
    again = await claim_one(brief)
    assert not {"resp", "cursor", "resuming"} & again.fields.keys()
    sent = await dispatch(brief, again, 2)
    assert (sent.word, sent.call) == ("ok", 2)


async def test_a_deadline_that_passes_between_two_workers_books_the_call(timed: Store) -> None:
    claim = await under_way(timed, "one ", deadline_s=1.5)
    await timed.engine.hand_over(claim, delay_s=60, reason="provider_unreachable")
    await later(timed, 1.5)
    job = await ended(timed, claim.id)
    assert (job.status, job.calls) == ("expired", 1)
    assert job.cost.wasted_nano_usd == job.cost.nano_usd == 34 * 1_000 + 2 * 2_000


async def test_a_call_that_kills_its_workers_is_given_up_at_the_sixth(brief: Store) -> None:
    claim = await under_way(brief, "one ")
    for _ in range(5):
        again = await reclaimed(brief)
        assert (await brief.engine.dispatch(again, 1, 100, PRICES)).word == "resume"
    job = await ended(brief, claim.id)
    assert job.error is not None
    assert (job.status, job.error.code, job.calls) == ("failed", "poison", 1)
    assert job.output is not None
    assert job.output.text == "one "
