"""`max_cost_usd` in the scripts: no call is dispatched that could make a job cost more than it may."""

from __future__ import annotations

from typing import Any

import pytest

from onceq_service.store import Admission, CostTooHigh, Store
from onceq_service.store.engine import Claim, Receipt
from tests.service.store.driver import PRICES, admission, claim_one, dispatch

BOUND = 1_000


def limited(max_cost: int, call_bound: int | None = BOUND, **changes: Any) -> Admission:
    return admission(max_cost=max_cost, call_bound=call_bound, **changes)


def billed(spent: int | None, *, estimated: bool = False) -> Receipt:
    return Receipt("stream_broken", billed=True, estimated=estimated, spent_nano_usd=spent)


async def again(store: Store, receipt: Receipt, try_no: int = 1) -> Claim:
    """A job that was dispatched and whose call has broken, claimed anew."""
    claim = await claim_one(store)
    await dispatch(store, claim, try_no)
    await store.engine.requeue(claim, receipt, delay_s=0, reason="stream_broken")
    return await claim_one(store)


async def word(store: Store, claim: Claim, try_no: int = 2) -> str:
    return (await store.engine.dispatch(claim, try_no, 100, PRICES)).word


@pytest.mark.parametrize(("max_cost", "bound"), [(BOUND - 1, BOUND), (10**9, None)])
async def test_a_job_whose_first_call_may_cost_more_is_not_stored(
    store: Store, max_cost: int, bound: int | None
) -> None:
    refused = limited(max_cost, bound, idem="i", fp="f")
    with pytest.raises(CostTooHigh):
        await store.jobs.admit(refused)
    assert await store.jobs.get(refused.id, "t") is None
    assert (await store.stats.depth("t")).queued == 0
    made = await store.jobs.admit(limited(BOUND, idem="i", fp="f"))
    assert made.disposition == "created", "a refused post uses up neither its key nor its question"


async def test_a_post_that_costs_nothing_is_not_refused(store: Store) -> None:
    made = await store.jobs.admit(admission(idem="i", fp="f"))
    by_key = await store.jobs.admit(limited(1, idem="i"))
    by_question = await store.jobs.admit(limited(1, fp="f"))
    assert {by_key.id, by_question.id} == {made.id}


@pytest.mark.parametrize(("max_cost", "expected"), [(BOUND + 300, "ok"), (BOUND + 299, "max_cost")])
async def test_a_second_call_starts_only_while_what_was_booked_leaves_room_for_it(
    store: Store, max_cost: int, expected: str
) -> None:
    await store.jobs.admit(limited(max_cost))
    assert await word(store, await again(store, billed(300))) == expected


@pytest.mark.parametrize(("max_cost", "expected"), [(2 * BOUND, "ok"), (2 * BOUND - 1, "max_cost")])
async def test_a_call_that_nobody_reported_counts_with_all_that_it_may_have_cost(
    store: Store, max_cost: int, expected: str
) -> None:
    await store.jobs.admit(limited(max_cost))
    assert await word(store, await again(store, billed(1, estimated=True))) == expected


async def test_a_call_whose_price_nobody_knew_leaves_no_room(store: Store) -> None:
    await store.jobs.admit(limited(10**9))
    assert await word(store, await again(store, billed(None))) == "max_cost"


async def test_a_refused_try_takes_no_room(store: Store) -> None:
    await store.jobs.admit(limited(BOUND))
    assert await word(store, await again(store, Receipt("provider_rate_limited", billed=False))) == "ok"


async def test_a_call_that_is_on_record_is_not_asked_about_again(store: Store) -> None:
    """The reply of its dispatch was lost: the same try goes on."""
    await store.jobs.admit(limited(BOUND))
    claim = await claim_one(store)
    await dispatch(store, claim)
    assert await word(store, claim, 1) == "ok"


async def test_a_job_without_a_limit_asks_for_no_bound(store: Store) -> None:
    await store.jobs.admit(admission(call_bound=None))
    assert await word(store, await again(store, billed(None))) == "ok"
