"""Budgets in the scripts (G7): held at admission, topped up at a further call, settled by what a call did cost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from onceq.wire import TERMINAL, BudgetChange, BudgetRequest, BudgetStatus, BudgetUse
from onceq_service.store import BudgetRefused, Store
from onceq_service.store.admission import Admitted
from onceq_service.store.budgets import Budget, budget_of
from onceq_service.store.engine import CallPrices, Claim, End, Receipt
from onceq_service.store.stats import totals
from onceq_service.store.views import fields_of
from tests.service.store.driver import admission, budget_line, claim_one, dispatch, success
from tests.service.store.timed import later, lived_long

LOST = Receipt("stream_broken", billed=True, estimated=True, spent_nano_usd=300)
REFUSED = Receipt("provider_rate_limited", billed=False)


@pytest.fixture
def store(timed: Store) -> Store:
    """No budget renews, and no job gets older, but where its test says so."""
    return timed


def paid(nano: int) -> Receipt:
    return Receipt("ok", billed=True, input_tokens=1, output_tokens=1, spent_nano_usd=nano)


def ended(nano: int) -> End:
    return success(receipt=paid(nano))


def budget(limit: int = 10_000, **fields: Any) -> Budget:
    """A budget of the file of so many nano-USD."""
    wanted = BudgetRequest.model_validate({"name": "b", "limit_usd": limit / 1e9, "alerts": []} | fields)
    return budget_of(wanted, "t", "file")


async def now_ms(store: Store) -> int:
    return await store.stats.now_ms()


async def admit(store: Store, *budgets: Budget, amount: int | None = 1_000, **fields: Any) -> Admitted:
    at = await now_ms(store)
    return await store.jobs.admit(admission(budgets="\n".join(budget_line(b, amount, at) for b in budgets), **fields))


async def status(store: Store, of: Budget) -> BudgetStatus:
    return (await store.budgets.status([of], await now_ms(store)))[0]


async def use(store: Store, of: Budget) -> BudgetUse:
    """What it has come to, its sum checked."""
    found = (await status(store, of)).use
    gone = found.spent_nano_usd + found.reserved_nano_usd + found.unsure_nano_usd
    assert found.left_nano_usd == of.limit - gone
    assert min(found.spent_nano_usd, found.reserved_nano_usd, found.unsure_nano_usd) >= 0
    return found


async def running(store: Store, try_no: int = 1) -> Claim:
    claim = await claim_one(store)
    await dispatch(store, claim, try_no)
    return claim


async def test_a_job_holds_its_bound_until_it_is_settled_by_its_cost(store: Store) -> None:
    b = budget()
    made = await admit(store, b)
    assert (await use(store, b)).reserved_nano_usd == 1_000
    shown = await store.jobs.get(made.id, "t")
    assert shown is not None
    assert shown.cost.reserved_nano_usd == 1_000
    await store.engine.finish(await running(store), ended(400))
    found = await use(store, b)
    assert (found.spent_nano_usd, found.reserved_nano_usd, found.unsure_nano_usd) == (400, 0, 0)
    after = await store.jobs.get(made.id, "t")
    assert after is not None
    assert (after.cost.nano_usd, after.cost.reserved_nano_usd) == (400, 0)


async def test_a_post_that_does_not_fit_is_refused_and_stores_nothing(store: Store) -> None:
    b = budget(2_500)
    for _ in range(2):
        await admit(store, b)
    with pytest.raises(BudgetRefused) as refused:
        await admit(store, b, id="job_" + "a" * 32, idem="i", fp="f")
    facts = {name: int(value) for name, value in refused.value.facts.items() if name != "account"}
    assert refused.value.word == "over_budget"
    assert (facts["left"], facts["needed"], facts["limit"]) == (500, 1_000, 2_500)
    renews = (await status(store, b)).renews_at
    assert renews is not None
    assert facts["renews"] == round(renews.timestamp() * 1000)
    assert await store.jobs.get("job_" + "a" * 32, "t") is None
    assert (await use(store, b)).reserved_nano_usd == 2_000
    other = await admit(store, budget(name="other"), idem="i", fp="f")
    assert other.disposition == "created", "the refused post used up neither its key nor its fingerprint"


async def test_a_budget_tells_how_many_posts_it_refused_and_when_somebody_was_told_what(store: Store) -> None:
    b = budget(2_500, alerts=[0.5, 0.16, 0.9])
    for _ in range(2):
        await admit(store, b)
    for _ in range(3):
        with pytest.raises(BudgetRefused):
            await admit(store, b)
    await store.engine.finish(await running(store), ended(400))
    found = await use(store, b)
    assert found.refused_posts == 3
    assert [alert.share for alert in found.alerts] == [None, 0.16], "oldest first; nothing of what was not reached"
    at = await now_ms(store)
    assert all(abs(alert.at.timestamp() * 1000 - at) < 60_000 for alert in found.alerts)
    simulated = (await status(store, b)).simulated_use
    assert (simulated.refused_posts, simulated.alerts) == (0, [])


async def test_of_two_hundred_posts_at_once_a_budget_for_ten_admits_ten(store: Store) -> None:
    b = budget(10_999)
    outcomes = await asyncio.gather(*(admit(store, b) for _ in range(200)), return_exceptions=True)
    assert sum(isinstance(one, Admitted) for one in outcomes) == 10
    assert sum(isinstance(one, BudgetRefused) for one in outcomes) == 190
    assert (await use(store, b)).left_nano_usd == 999


async def test_a_job_falls_under_all_of_its_budgets_or_is_not_admitted(store: Store) -> None:
    wide, narrow = budget(10_000), budget(1_500, name="narrow")
    await admit(store, wide, narrow)
    with pytest.raises(BudgetRefused):
        await admit(store, wide, narrow)
    assert (await use(store, wide)).reserved_nano_usd == 1_000
    assert (await use(store, narrow)).reserved_nano_usd == 1_000


async def test_joined_and_replayed_posts_hold_nothing_and_are_not_refused(store: Store) -> None:
    b = budget(1_500)
    first = await admit(store, b, fp="f")
    joined = await admit(store, b, fp="f")
    assert (joined.id, joined.disposition) == (first.id, "joined")
    await store.engine.finish(await running(store), ended(900))
    again = await admit(store, b, fp="f")
    assert again.disposition == "replayed"
    assert (await use(store, b)).spent_nano_usd == 900


async def test_a_hard_budget_needs_a_bound_and_a_soft_one_refuses_nothing(store: Store) -> None:
    with pytest.raises(BudgetRefused) as refused:
        await admit(store, budget(), amount=None)
    assert refused.value.word == "unbounded"
    soft = budget(1_500, mode="soft")
    for amount in (1_000, 1_000, None):
        await admit(store, soft, amount=amount)
    found = await use(store, soft)
    assert (found.reserved_nano_usd, found.left_nano_usd) == (2_000, -500)


@pytest.mark.parametrize(("mode", "amount"), [("soft", None), ("soft", 0), ("hard", 0)])
@pytest.mark.parametrize("end", ["finish", "cancel", "requeue", "expire", "lose"])
async def test_a_job_that_holds_nothing_ends_as_others_do(
    store: Store, mode: str, amount: int | None, end: str
) -> None:
    """Its model has no price, or costs nothing; and nobody waits behind it."""
    b = budget(1_000, mode=mode)
    made = await admit(store, b, amount=amount, deadline_s=3_600.0)
    match end:
        case "finish":
            await store.engine.finish(await running(store), ended(0))
        case "cancel":
            await store.jobs.cancel(made.id, "t")
        case "requeue":
            await store.engine.requeue(await running(store), REFUSED, delay_s=0, reason="provider_rate_limited")
            await store.engine.finish(await running(store, 2), ended(0))
        case "expire":
            await later(store, 3_601)
            await store.engine.tend()
        case _:
            await running(store)
            await later(store, 3_601)
            await lived_long(store)
            await store.engine.tend()
    job = await store.jobs.get(made.id, "t")
    assert job is not None
    assert job.status in TERMINAL
    assert (await use(store, b)).reserved_nano_usd == 0


@pytest.mark.parametrize("due", ["lease", "deadline", "start"])
async def test_a_job_that_can_not_be_ended_is_put_off_and_holds_up_no_other(store: Store, due: str) -> None:
    """However a job may come to it: a queue that one of them can stop is lost for all."""
    b = budget(10_000, period="total")
    odd = await admit(store, b, deadline_s=60.0, queue_s=10.0 if due == "start" else None)
    if due == "lease":
        await running(store)
    pipe, account = store._pipe, store.redis_keys("spend_total", b.account, "0")  # pyright: ignore[reportPrivateUsage]
    await pipe.command("SET", account, "not what the scripts expect")
    await later(store, 11 if due == "start" else 61)
    await lived_long(store)
    other = await store.jobs.admit(admission("another"))
    if due != "start":
        await store.engine.tend()
    assert (await claim_one(store, "w2")).id == other.id
    assert (await store.engine.claim("w2", 1, ["openai"]))[0] == []
    await pipe.command("DEL", account)
    await later(store, 61)
    await lived_long(store)
    await store.engine.tend()
    job = await store.jobs.get(odd.id, "t")
    assert job is not None
    assert job.status == "expired"
    assert len(await pipe.command("XRANGE", store.redis_keys("ledger", "t"), "-", "+")) == (due == "lease")


async def test_the_call_of_a_job_that_can_not_be_ended_is_booked_once(store: Store) -> None:
    b = budget(10_000, period="total")
    made = await admit(store, b, amount=1_000, call_bound=1_000, on_crash="fail")
    await running(store)
    pipe, events = store._pipe, store.redis_keys("events", made.id)  # pyright: ignore[reportPrivateUsage]
    await pipe.command("SET", events, "not what the scripts expect")
    for _ in range(3):
        await later(store, 61)
        await lived_long(store)
        await store.engine.tend()
    found = await store.jobs.get(made.id, "t")
    assert found is not None
    assert found.status == "running"
    await pipe.command("DEL", events)
    await later(store, 61)
    await lived_long(store)
    await store.engine.tend()
    job = await store.jobs.get(made.id, "t")
    assert job is not None
    assert job.status == "failed"
    [row] = await pipe.command("XRANGE", store.redis_keys("ledger", "t"), "-", "+")
    assert fields_of(row[1])["spent"] == b"%d" % (job.cost.nano_usd or 0)
    assert (await use(store, b)).spent_nano_usd == job.cost.nano_usd
    now_ms = await store.stats.now_ms()
    [day] = await store.stats.spans("t", "d", now_ms, now_ms, ())
    assert (totals(day.fields).calls, totals(day.fields).spent_nano_usd) == (1, job.cost.nano_usd)


async def test_an_estimate_is_never_above_what_its_call_may_cost(store: Store) -> None:
    b = budget(1_000)
    made = await admit(store, b, amount=1_000, call_bound=1_000, max_calls=1)
    claim = await running(store)
    await store.engine.finish(claim, success(receipt=Receipt("ok", billed=True, estimated=True, spent_nano_usd=1_300)))
    found = await use(store, b)
    assert (found.spent_nano_usd, found.unsure_nano_usd, found.left_nano_usd) == (1_000, 0, 0)
    job = await store.jobs.get(made.id, "t")
    assert job is not None
    assert job.cost.nano_usd == 1_000


async def test_a_refused_try_keeps_what_is_held_for_the_next(store: Store) -> None:
    b = budget(1_000)
    await admit(store, b)
    await store.engine.requeue(await running(store), REFUSED, delay_s=0, reason="provider_rate_limited")
    assert (await use(store, b)).reserved_nano_usd == 1_000
    await store.engine.finish(await running(store, 2), ended(10))
    assert (await use(store, b)).left_nano_usd == 990


async def test_a_call_whose_usage_nobody_reported_counts_with_all_that_it_may_have_cost(store: Store) -> None:
    b = budget(2_500)
    await admit(store, b)
    await store.engine.requeue(await running(store), LOST, delay_s=0, reason="stream_broken")
    found = await use(store, b)
    assert (found.spent_nano_usd, found.reserved_nano_usd, found.unsure_nano_usd) == (300, 0, 700)
    await store.engine.finish(await running(store, 2), ended(50))
    found = await use(store, b)
    assert (found.spent_nano_usd, found.reserved_nano_usd, found.unsure_nano_usd) == (350, 0, 700)


@pytest.mark.parametrize(("estimated", "unsure"), [(False, 0), (True, 600)])
async def test_what_turns_out_later_of_a_lost_call_is_spent_in_the_budget_that_had_held_it(
    store: Store, *, estimated: bool, unsure: int
) -> None:
    b, other = budget(5_000), budget(5_000, name="other", model="openai/another")
    await admit(store, b, other)
    lost = await running(store)
    await store.engine.requeue(lost, LOST, delay_s=0, reason="worker_lost")
    await store.engine.finish(await running(store, 2), ended(50))
    assert await store.engine.amend(lost, 1, replace(LOST, estimated=estimated, spent_nano_usd=400)) == "ok"
    found = await use(store, b)
    assert (found.spent_nano_usd, found.reserved_nano_usd, found.unsure_nano_usd) == (450, 0, unsure)
    assert (await use(store, other)).spent_nano_usd == 0


async def test_a_further_call_is_topped_up_and_two_calls_never_have_one_hold(store: Store) -> None:
    b = budget(5_000)
    await admit(store, b)
    await store.engine.requeue(await running(store), paid(200), delay_s=0, reason="stream_broken")
    claim = await running(store, 2)
    assert (await use(store, b)).reserved_nano_usd == 1_000
    await store.engine.dispatch(claim, 2, 100, CallPrices())  # its reply was lost
    assert (await use(store, b)).reserved_nano_usd == 1_000
    await store.engine.finish(claim, ended(200))
    found = await use(store, b)
    assert (found.spent_nano_usd, found.reserved_nano_usd) == (400, 0)


async def lost_call(store: Store, b: Budget, receipt: Receipt = LOST, **fields: Any) -> Claim:
    """A job whose first call has been booked and that has been claimed again."""
    await admit(store, b, **fields)
    await store.engine.requeue(await running(store), receipt, delay_s=0, reason="stream_broken")
    return await claim_one(store)


async def test_a_further_call_waits_while_others_hold_what_it_needs(store: Store) -> None:
    b = budget(2_000)
    claim = await lost_call(store, b, paid(100), lane="openai/a", model="openai/a")
    held = await admit(store, b, lane="openai/b", model="openai/b")
    sent = await store.engine.dispatch(claim, 2, 100, CallPrices())
    assert sent.word == "budget_wait"
    at = int(sent.why["at"])
    assert at - sent.now_ms == 2_000
    await store.engine.defer(claim, at)
    await store.engine.defer(claim, at)  # its reply was lost
    waiting = await store.jobs.get(claim.id, "t")
    assert waiting is not None
    assert waiting.waiting is not None
    assert waiting.waiting.reason == "budget_exceeded"
    assert (await use(store, b)).reserved_nano_usd == 1_000
    await store.jobs.cancel(held.id, "t")
    await later(store, 2)
    await store.engine.finish(await running(store, 2), ended(1))
    done = await store.jobs.get(claim.id, "t")
    assert done is not None
    assert done.timings.phases is not None
    assert done.timings.phases.budget_s == 2
    assert done.timings.verdict == "budget"
    assert (await use(store, b)).spent_nano_usd == 101


async def test_a_further_call_waits_for_the_renewal_where_that_comes_before_the_deadline(store: Store) -> None:
    b = budget(1_000, period="hour")
    sent = await store.engine.dispatch(await lost_call(store, b), 2, 100, CallPrices())
    assert sent.word == "budget_wait"
    renews = (await status(store, b)).renews_at
    assert renews is not None
    assert int(sent.why["at"]) == round(renews.timestamp() * 1000)


@pytest.mark.parametrize("fields", [{"period": "total"}, {"period": "month", "time_zone": "Asia/Kathmandu"}])
async def test_where_neither_others_nor_a_renewal_can_help_the_job_fails(store: Store, fields: dict[str, Any]) -> None:
    b = budget(1_000, **fields)
    sent = await store.engine.dispatch(await lost_call(store, b, deadline_s=60.0), 2, 100, CallPrices())
    assert sent.word == "budget"
    assert (int(sent.why["left"]), int(sent.why["needed"])) == (0, 1_000)


@pytest.mark.parametrize("how", ["cancel", "fail", "expire"])
async def test_every_end_gives_back_what_is_held(store: Store, how: str) -> None:
    b = budget(1_000)
    made = await admit(store, b, deadline_s=0.2 if how == "expire" else 60.0)
    if how == "cancel":
        await store.jobs.cancel(made.id, "t")
    elif how == "fail":
        claim = await claim_one(store)
        await store.engine.finish(claim, End("failed", b"", b"", None, kept=False, first_seq=0))
    else:
        await later(store, 0.2)
        await store.engine.tend()
    job = await store.jobs.get(made.id, "t")
    assert job is not None
    assert job.finished_at is not None
    assert (await use(store, b)).left_nano_usd == 1_000


async def test_real_and_simulated_money_have_a_limit_each(store: Store) -> None:
    b = budget(1_000)
    await admit(store, b)
    await admit(store, b, simulated=True)
    with pytest.raises(BudgetRefused):
        await admit(store, b, simulated=True)
    found = await status(store, b)
    assert found.use.reserved_nano_usd == found.simulated_use.reserved_nano_usd == 1_000


async def test_a_budget_of_a_model_counts_only_the_calls_of_that_model(store: Store) -> None:
    mine, other, both = (budget(name=m, model=m) for m in ("openai/m", "openai/other", "openai/*"))
    await admit(store, mine, other, both, chain=[("openai/other", "")])
    await store.engine.finish(await running(store), ended(400))
    spent = [(await use(store, b)).spent_nano_usd for b in (mine, other, both)]
    assert spent == [400, 0, 400]
    assert [(await use(store, b)).reserved_nano_usd for b in (mine, other, both)] == [0, 0, 0]


async def test_a_call_without_a_price_is_counted_and_takes_its_whole_bound(store: Store) -> None:
    b = budget(2_000)
    await admit(store, b)
    receipt = Receipt("ok", billed=True, input_tokens=1, output_tokens=1, spent_nano_usd=None)
    await store.engine.finish(await running(store), success(receipt=receipt))
    found = await use(store, b)
    assert (found.unpriced_calls, found.spent_nano_usd, found.unsure_nano_usd) == (1, 0, 1_000)


async def made(store: Store, limit: int = 1_500, **fields: Any) -> Budget:
    """A budget made through the API."""
    wanted = BudgetRequest.model_validate({"name": "m", "limit_usd": limit / 1e9, "alerts": []} | fields)
    b = budget_of(wanted, "t", "api", await now_ms(store))
    assert await store.budgets.put(b, None)
    return b


async def test_a_post_that_was_told_of_an_older_budget_is_told_so(store: Store) -> None:
    b = await made(store)
    changed = b.changed(BudgetChange(limit_usd=5e-6))
    assert await store.budgets.put(changed, b)
    assert not await store.budgets.put(b.changed(BudgetChange(limit_usd=1.0)), b), "somebody else was first"
    with pytest.raises(BudgetRefused) as refused:
        await admit(store, b)
    assert refused.value.word == "stale"
    assert (await admit(store, changed)).disposition == "created"
    assert await store.budgets.remove(changed)
    with pytest.raises(BudgetRefused, match="stale"):
        await admit(store, changed)


async def test_a_raised_limit_holds_for_the_further_calls_of_jobs_that_were_there(store: Store) -> None:
    b = await made(store, 1_000, period="total")
    claim = await lost_call(store, b)
    assert (await store.engine.dispatch(claim, 2, 100, CallPrices())).word == "budget"
    assert await store.budgets.put(b.changed(BudgetChange(limit_usd=5e-6)), b)
    assert (await store.engine.dispatch(claim, 2, 100, CallPrices())).word == "ok"


async def test_a_budget_that_was_taken_away_holds_nobody_and_is_not_made_again_by_its_jobs(store: Store) -> None:
    b = await made(store, 1_000, period="total")
    claim = await lost_call(store, b)
    await store.budgets.remove(b)
    assert (await store.engine.dispatch(claim, 2, 100, CallPrices())).word == "ok"
    await store.engine.finish(claim, ended(5))
    anew = await made(store, 1_000, period="total")
    assert (await use(store, anew)) == BudgetUse(left_nano_usd=1_000)


async def test_the_files_budgets_are_told_to_all_and_forgotten_with_the_file(store: Store) -> None:
    b, kept = budget(), await made(store)
    await store.budgets.tell({b.id: b}, await store.budgets.made())
    known = await store.budgets.made()
    assert set(known) == {b.id, kept.id}
    await store.budgets.tell({}, known)
    assert set(await store.budgets.made()) == {kept.id}


async def test_a_job_without_a_budget_makes_no_key_of_budgets(store: Store) -> None:
    made = await store.jobs.admit(admission())
    await store.engine.finish(await running(store), ended(400))
    names = await store._pipe.command("KEYS", store.redis_keys.root + "*")  # pyright: ignore[reportPrivateUsage]
    assert any(made.id.encode() in name for name in names)
    assert not [name for name in names if b":spen" in name or b":budget" in name]
