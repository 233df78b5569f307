"""Who starts next: delays, time to wait, ageing, jobs that run alone, models that answer instead."""

from __future__ import annotations

import asyncio
import json
from itertools import product
from typing import Any

import pytest

from onceq_service.settings import LaneLimits
from onceq_service.store import Store, open_store
from onceq_service.store.engine import Claim, Receipt
from onceq_service.store.views import fields_of
from tests.service.store.driver import PAID, admission, claim_one, dispatch, names, read_log, success
from tests.service.store.timed import later, lived_long
from tests.stack import running_redis
from tests.waiting import until

REFUSED = Receipt("provider_overloaded", billed=False)


async def admit(store: Store, **changes: Any) -> str:
    return (await store.jobs.admit(admission(**changes))).id


async def claims(store: Store, want: int = 16, worker: str = "w1", running: int = 0) -> list[Claim]:
    found, _ = await store.engine.claim(worker, want, ["openai", "anthropic"], running=running)
    return found


async def state(store: Store, job_id: str) -> dict[str, str]:
    fields = await store.jobs.fields(job_id, "t")
    assert fields is not None
    return {name: value.decode() for name, value in fields.items()}


async def age(store: Store, job_id: str, by_ms: int, band: str = "standard") -> None:
    """Makes a waiting job older than it is."""
    waiting = store.redis_keys("wait", band, "openai/m", "t")
    await store._pipe.command("ZINCRBY", waiting, -by_ms, job_id)  # pyright: ignore[reportPrivateUsage]


async def test_a_delayed_job_starts_when_its_time_has_come_and_not_before(timed: Store) -> None:
    not_before_ms = await timed.stats.now_ms() + 400
    job_id = await admit(timed, not_before_ms=not_before_ms)
    await later(timed, 0.399)
    assert await claims(timed) == []
    job = await timed.jobs.get(job_id, "t")
    assert job is not None
    assert job.waiting is not None
    assert job.waiting.reason == "not_before"
    await later(timed, 0.001)
    assert [claim.id for claim in await claims(timed)] == [job_id]
    assert int((await state(timed, job_id))["claimed_ms"]) == not_before_ms


async def test_lanes_that_can_not_start_here_or_now_stand_in_no_others_way(store: Store) -> None:
    for n in range(3):
        await admit(store, prompt=f"else {n}", provider="bedrock", model=f"bedrock/{n}", lane=f"bedrock/{n}")
    full = LaneLimits(concurrency=1).packed()
    for n in range(6):
        lane = f"openai/full{n % 3}"
        await admit(store, prompt=f"full {n}", model=lane, lane=lane, limits=full)
    last = await admit(store, model="openai/last", lane="openai/last")
    started = await claims(store)
    assert [claim.text("lane") for claim in started] == [f"openai/full{n}" for n in range(3)] + ["openai/last"]
    assert started[-1].id == last
    assert await claims(store) == []


async def admit_each(store: Store, lanes: list[str], jobs: int = 1) -> None:
    for n, lane in product(range(jobs), lanes):
        await admit(store, prompt=f"{lane} {n}", provider=lane.split("/")[0], model=lane, lane=lane)


def of_lanes(found: tuple[list[Claim], float]) -> list[str]:
    return [claim.text("lane") for claim in found[0]]


async def test_lanes_that_nobody_here_serves_hide_none_and_keep_their_turns(store: Store) -> None:
    """Lanes of one tenant have their turns as they came: 70 of others stand before each of ours."""
    before, between = [f"gone/{n:02}" for n in range(70)], [f"others/{n:02}" for n in range(70)]
    await admit_each(store, [*before, "openai/a", *between, "xai/b"])
    await admit_each(store, ["openai/a", "xai/b"])
    ours = of_lanes(await store.engine.claim("w1", 3, ["openai", "xai"]))
    assert ours == ["openai/a", "xai/b", "openai/a"]
    assert of_lanes(await store.engine.claim("w1", 3, ["openai", "xai"])) == ["xai/b"]
    assert of_lanes(await store.engine.claim("w2", 200, ["gone", "others"])) == before + between


async def test_no_lane_is_out_of_sight_however_many_of_others_stand_before_it(store: Store) -> None:
    """Of thousands a claim reads a part that is left to chance: one of two here, so sixty claims find what is there."""
    lanes = [word for n in range(2_100) for word in (0, f"gone/{n}")]
    await store._pipe.command("ZADD", store.redis_keys("ready", "standard"), *lanes)  # pyright: ignore[reportPrivateUsage]
    for n in range(2):
        await admit(store, prompt=f"{n}")
    found = [claim for _ in range(60) for claim in await claims(store, want=1)]
    assert len(found) == 2


async def test_lanes_start_jobs_in_turn(store: Store) -> None:
    lanes = ["openai/a", "openai/b", "openai/c"]
    for lane in lanes:
        for n in range(3):
            await admit(store, prompt=f"{lane} {n}", model=lane, lane=lane)
    started = [(await claim_one(store)).text("lane") for _ in range(9)]
    assert started == lanes * 3


async def test_of_the_lanes_that_ever_started_a_job_the_thousand_of_late_are_listed(store: Store) -> None:
    lanes = store.redis_keys("lanes")
    before = {f"openai/{n}": n + 1 for n in range(1_000)}
    await store._pipe.command("ZADD", lanes, *[v for pair in before.items() for v in pair[::-1]])  # pyright: ignore[reportPrivateUsage]
    await admit(store)
    await claim_one(store)
    listed = await store._pipe.command("ZRANGE", lanes, 0, -1)  # pyright: ignore[reportPrivateUsage]
    assert [name.decode() for name in listed] == [*list(before)[1:], "openai/m"]


async def test_a_time_that_has_passed_delays_nothing(store: Store) -> None:
    job_id = await admit(store, not_before_ms=1)
    assert (await claim_one(store)).id == job_id


async def test_one_look_promotes_all_that_is_due_and_a_retry_behind_it_waits_for_no_other(timed: Store) -> None:
    """Thousands of jobs may be wanted at the same hour; a claim looks at 32 of them."""
    job_id = await admit(timed, band="interactive")
    claim = await claim_one(timed)
    await dispatch(timed, claim)
    at_ms = await later(timed, 0) + 1_000
    await asyncio.gather(*(admit(timed, prompt=str(n), band="batch", not_before_ms=at_ms) for n in range(200)))
    await timed.engine.requeue(claim, REFUSED, delay_s=1.5, reason="provider_overloaded")
    await later(timed, 2)
    await timed.engine.tend()
    due = timed.redis_keys("due")
    assert await timed._pipe.command("ZCARD", due) == 0  # pyright: ignore[reportPrivateUsage]
    assert (await claim_one(timed)).id == job_id


async def test_one_look_opens_all_lanes_whose_time_has_come(timed: Store) -> None:
    lanes = [f"openai/m{n}" for n in range(70)]
    for lane in lanes:
        await timed.lanes.learn(lane, "100,0,0,0", brake_s=1)
        await admit(timed, prompt=lane, model=lane, lane=lane)
    while len(await blocked(timed)) < len(lanes):
        assert await claims(timed) == []
    await later(timed, 2)
    await timed.engine.tend()
    assert await blocked(timed) == []
    started = {claim.id for _ in lanes for claim in await claims(timed)}
    assert len(started) == len(lanes), "each goes on"


async def blocked(timed: Store) -> list[bytes]:
    return await timed._pipe.command("ZRANGE", timed.redis_keys("blocked"), 0, -1)  # pyright: ignore[reportPrivateUsage]


async def test_a_job_that_waits_too_long_for_its_first_start_expires_and_says_so(timed: Store) -> None:
    job_id = await admit(timed, queue_s=0.2)
    await later(timed, 0.199)
    await timed.engine.tend()
    assert (await state(timed, job_id))["state"] == "queued"
    await later(timed, 0.001)
    await timed.engine.tend()
    job = await timed.jobs.get(job_id, "t")
    assert job is not None
    assert job.error is not None
    assert (job.status, job.error.code) == ("expired", "queue_timeout")


async def test_after_its_first_start_only_the_deadline_counts(timed: Store) -> None:
    job_id = await admit(timed, queue_s=0.2)
    claim = await claim_one(timed)
    await dispatch(timed, claim)
    await timed.engine.requeue(claim, REFUSED, delay_s=0.3, reason="provider_overloaded")
    await later(timed, 0.6)
    await timed.engine.tend()
    assert (await claim_one(timed)).id == job_id


async def test_what_has_grown_old_in_a_lower_band_gets_a_turn_of_its_own(store: Store) -> None:
    old = await admit(store, band="batch")
    await age(store, old, 700_000, "batch")
    for n in range(40):
        await admit(store, band="interactive", prompt=str(n))
    young = [claim.id for claim in await claims(store, want=10)]
    assert old in young


async def test_batch_work_is_not_starved_by_interactive_work(store: Store) -> None:
    waiting = await admit(store, band="batch")
    for n in range(40):
        await admit(store, band="interactive", prompt=str(n))
    started = [claim.id for claim in await claims(store, want=16)]
    assert waiting in started
    assert len(started) == 16


async def crash(timed: Store, claim: Claim) -> None:
    """The worker is lost: its lease is taken to have run out long ago, in a Redis that has lived long enough."""
    await lived_long(timed)
    await timed._pipe.command("ZADD", timed.redis_keys("leases"), await later(timed, 0) - 1, claim.id)  # pyright: ignore[reportPrivateUsage]
    await timed.engine.tend()


async def test_a_job_whose_workers_died_twice_runs_alone(timed: Store) -> None:
    suspect = await admit(timed, prompt="poison")
    for _ in range(2):
        await crash(timed, await claim_one(timed))
    neighbour = await admit(timed, prompt="neighbour")
    assert [c.id for c in await claims(timed, worker="busy", running=3)] == [], "a busy worker empties itself first"
    assert [c.id for c in await claims(timed, worker="other", running=3)] == [neighbour], "the others go on"
    alone = await claims(timed, worker="busy")
    assert [c.id for c in alone] == [suspect]
    assert alone[0].alone
    assert (await state(timed, suspect))["crashes"] == "2"


async def test_a_waiting_suspect_can_be_cancelled_and_leaves_nothing_behind(timed: Store) -> None:
    suspect = await admit(timed)
    for _ in range(2):
        await crash(timed, await claim_one(timed))
    assert await timed.jobs.cancel(suspect, "t") == "cancelled"
    assert await claims(timed) == []


async def test_of_those_that_run_alone_one_that_is_only_stopped_is_the_first(timed: Store) -> None:
    older = await admit(timed)
    await later(timed, 0.001)
    to_stop = await admit(timed, prompt="goes on", on_crash="resume")
    for lost in (0, 1):
        for claim in await claims(timed):
            if claim.id == to_stop and not lost:
                await dispatch(timed, claim)
                await timed.engine.attach(claim, "resp_1")
            await crash(timed, claim)
    assert await timed.jobs.cancel(to_stop, "t") == "requested"
    assert [claim.id for claim in await claims(timed)] == [to_stop]
    assert [claim.id for claim in await claims(timed)] == [older]


async def test_an_id_without_a_job_hides_no_other_one_that_is_to_be_stopped(store: Store) -> None:
    """An older version ends jobs without taking them out of a key that it does not know."""
    pipe = store._pipe  # pyright: ignore[reportPrivateUsage]
    for n in range(70):
        await pipe.command("ZADD", store.redis_keys("stops"), 0, f"job_{n:032x}")
    await claims(store)
    await claims(store)
    assert await pipe.command("EXISTS", store.redis_keys("stops")) == 0


async def test_what_nobody_here_can_stop_hides_nothing_that_can_be_stopped(store: Store) -> None:
    """A worker that served one provider is gone, and more of its calls go on than one claim looks at."""
    for n in range(64):
        await admit(store, prompt=f"{n}", provider="gone", lane="gone/m", model="gone/m", on_crash="resume")
    here = await admit(store, prompt="here", on_crash="resume")
    going_on, _ = await store.engine.claim("w0", 65, ["gone", "openai"])
    assert len(going_on) == 65
    for claim in going_on:
        await dispatch(store, claim)
        await store.engine.attach(claim, "resp_1")
        assert await store.engine.hand_over(claim, delay_s=0, reason="worker_lost")
        assert await store.jobs.cancel(claim.id, "t") == "requested"
    assert [claim.id for _ in range(2) for claim in await claims(store)] == [here]
    assert len((await store.engine.claim("w0", 65, ["gone"]))[0]) == 64, "all others are still there to be stopped"


LANES_OF_SUSPECTS = (("other/x", "batch"), ("openai/p", "batch"), ("openai/q", "interactive"), ("openai/m", "batch"))


async def test_a_suspect_that_may_not_start_holds_up_none_behind_it(timed: Store) -> None:
    """Nobody serves the first one's provider, the second one's lane is paused, the third one's band."""
    made: list[str] = []
    for model, band in LANES_OF_SUSPECTS:
        provider = model.partition("/")[0]
        await later(timed, 0.001)  # younger than those before it
        made.append(await admit(timed, model=model, lane=model, provider=provider, band=band))
        for _ in range(2):
            [claim] = (await timed.engine.claim("w1", 1, [provider]))[0]
            assert claim.id == made[-1]
            await crash(timed, claim)
        if model == "openai/p":
            await timed.lanes.switch_lane(model, "pause")
        elif band == "interactive":
            await timed.lanes.switch_band("interactive", "pause")
    assert [claim.id for claim in await claims(timed, worker="w2")] == [made[3]]
    await timed.lanes.switch_band("interactive", "resume")
    assert [claim.id for claim in await claims(timed, worker="w2")] == [made[2]]


async def test_suspects_that_nobody_here_serves_hold_up_none_however_many_they_are(timed: Store) -> None:
    for n in range(16):
        await admit(timed, prompt=f"{n}", provider="gone", lane="gone/m", model="gone/m")
    await later(timed, 0.001)  # younger than all of them
    last = await admit(timed)
    for _ in range(2):
        going_on, _ = await timed.engine.claim("w0", 17, ["gone", "openai"])
        assert len(going_on) == 17
        for claim in going_on:
            await crash(timed, claim)
    await later(timed, 0.001)  # what is put behind it now is younger
    assert [claim.id for _ in range(2) for claim in await claims(timed)] == [last]
    for _ in range(16):
        assert len((await timed.engine.claim("w0", 1, ["gone"]))[0]) == 1


async def test_an_id_without_a_job_stops_no_worker_from_claiming(store: Store) -> None:
    suspects = store.redis_keys("suspects")
    await store._pipe.command("ZADD", suspects, 1, "job_of_nobody")  # pyright: ignore[reportPrivateUsage]
    job_id = await admit(store)
    assert [claim.id for claim in await claims(store)] == [job_id]
    assert await store._pipe.command("EXISTS", suspects) == 0  # pyright: ignore[reportPrivateUsage]


async def test_a_suspect_leaves_a_lane_that_is_held_back(timed: Store) -> None:
    suspect = await admit(timed, chain=[("anthropic/c", "")])
    for _ in range(2):
        await crash(timed, await claim_one(timed))
    await timed.lanes.switch_lane("openai/m", "pause")
    assert [(claim.id, claim.text("model")) for claim in await claims(timed)] == [(suspect, "anthropic/c")]


async def test_a_job_goes_on_with_its_next_model_and_its_reader_is_told(store: Store) -> None:
    job_id = await admit(store, chain=[("anthropic/c", ""), ("openai/z", "")])
    claim = await claim_one(store)
    await dispatch(store, claim)
    await store.engine.requeue(claim, REFUSED, delay_s=0, reason="provider_overloaded", fallback="next")
    [again] = await claims(store)
    assert (again.text("model"), again.text("provider"), again.text("chain")) == (
        "anthropic/c", "anthropic", "openai/z openai/m",
    )  # fmt: skip
    await dispatch(store, again, 2)
    await store.engine.finish(again, success(5))
    frames = await read_log(store, job_id)
    assert names(frames) == ["queued", "started", "retrying", "started", "succeeded"]
    assert json.loads(frames[2].split(b"data: ")[1])["model"] == "anthropic/c"
    job = await store.jobs.get(job_id, "t")
    assert job is not None
    assert (job.model, job.calls, job.fallbacks) == ("anthropic/c", 1, ["openai/z", "openai/m"])


async def test_a_model_that_is_dropped_never_comes_back(store: Store) -> None:
    await admit(store, chain=[("anthropic/c", "")])
    claim = await claim_one(store)
    await dispatch(store, claim)
    await store.engine.requeue(claim, REFUSED, delay_s=0, reason="model_not_found", fallback="drop")
    [again] = await claims(store)
    assert (again.text("model"), again.text("chain")) == ("anthropic/c", "")


async def test_waiting_jobs_leave_a_lane_that_is_held_back_when_another_model_may_answer(store: Store) -> None:
    stays = await admit(store, prompt="one model")
    goes = await admit(store, prompt="two models", chain=[("anthropic/c", "")])
    await store.lanes.switch_lane("openai/m", "pause")
    assert await claims(store) == []
    assert [(c.id, c.text("model")) for c in await claims(store)] == [(goes, "anthropic/c")]
    late = await admit(store, prompt="posted while it is paused", chain=[("anthropic/c", "")])
    assert [c.id for c in await claims(store)] == [late]
    job = await store.jobs.get(stays, "t")
    assert job is not None
    assert job.waiting is not None
    assert job.waiting.reason == "lane_paused"
    await store.lanes.switch_lane("openai/m", "resume")
    assert [c.id for c in await claims(store)] == [stays]


async def test_however_many_jobs_another_model_may_answer_all_leave_a_lane_that_is_held_back(store: Store) -> None:
    """A claim moves a bounded number of them; those that can't move stand in nobody's way."""
    stay = {await admit(store, prompt=f"stays {n}", tenant=f"t{n % 7}") for n in range(100)}
    go = {await admit(store, prompt=f"goes {n}", tenant=f"t{n % 7}", chain=[("anthropic/c", "")]) for n in range(150)}
    await store.lanes.switch_lane("openai/m", "pause")
    given = [claim for _ in range(20) for claim in await claims(store)]
    assert {claim.id for claim in given} == go
    assert len(given) == len(go)
    assert {claim.text("model") for claim in given} == {"anthropic/c"}
    await store.lanes.switch_lane("openai/m", "resume")
    assert {claim.id for _ in range(10) for claim in await claims(store)} == stay


@pytest.mark.parametrize("how", ["pause", "brake"])
async def test_waiting_jobs_leave_a_lane_that_was_full_before_it_was_held_back(store: Store, how: str) -> None:
    """They don't wait until a job that runs there makes room."""
    one = LaneLimits(concurrency=1).packed()
    await admit(store, limits=one)
    goes = await admit(store, limits=one, chain=[("anthropic/c", "")])
    assert len(await claims(store)) == 1
    if how == "pause":
        await store.lanes.switch_lane("openai/m", "pause")
    else:
        await store.lanes.learn("openai/m", one, brake_s=60)
    moved = [*await claims(store), *await claims(store)]
    assert [(claim.id, claim.text("model")) for claim in moved] == [(goes, "anthropic/c")]


async def test_a_waiting_job_moves_when_another_of_its_models_becomes_free(store: Store) -> None:
    """Whether it waited before both were held back, or came later."""
    for model in ("openai/m", "anthropic/c"):
        await store.lanes.switch_lane(model, "pause")
    made = {await admit(store, chain=[("anthropic/c", "")])}
    assert await claims(store) == []
    made.add(await admit(store, chain=[("anthropic/c", "")]))
    assert await claims(store) == []
    await store.lanes.switch_lane("anthropic/c", "resume")
    moved: list[Claim] = []

    async def look() -> bool:
        moved.extend(await claims(store))
        return len(moved) == 2

    await until(look, "both to move")
    assert {claim.id for claim in moved} == made
    assert {claim.text("model") for claim in moved} == {"anthropic/c"}


async def test_a_models_name_may_have_the_signs_that_our_keys_are_made_with(store: Store) -> None:
    odd = "openai/a=b|c:1=5,%s"
    job_id = await admit(store, model=odd, lane=odd, limits="1,0,0,2", chain=[("anthropic/=9", "7,0,0,0")])
    assert (await store.lanes.get(odd)).limits == {"requests_per_minute": 1, "concurrency": 2}
    assert (await store.lanes.get("anthropic/=9")).limits == {"requests_per_minute": 7}
    await store.lanes.switch_lane(odd, "pause")
    assert await claims(store) == []
    assert [(c.id, c.text("model"), c.text("chain")) for c in await claims(store)] == [(job_id, "anthropic/=9", odd)]


async def test_the_lanes_of_all_models_have_their_limits(store: Store) -> None:
    await admit(store, limits=LaneLimits(concurrency=2).packed(), chain=[("anthropic/c", "5,0,0,0"), ("openai/z", "")])
    assert (await store.lanes.get("openai/m")).limits == {"concurrency": 2}
    assert (await store.lanes.get("anthropic/c")).limits == {"requests_per_minute": 5}
    await admit(store, prompt="limits taken out of the configuration")
    assert (await store.lanes.get("openai/m")).limits == {}


async def tend_for(timed: Store, seconds: float) -> None:
    for _ in range(round(seconds * 10)):
        await timed.engine.tend()
        await later(timed, 0.1)


async def test_a_job_that_nobody_follows_is_cancelled_after_its_grace_and_says_why(timed: Store) -> None:
    followed = await admit(timed, grace_s=1.0)
    assert (await claim_one(timed)).id == followed
    left = await admit(timed, prompt="left", grace_s=1.0)
    for half in range(4):
        await timed.jobs.watch(followed)
        await tend_for(timed, 0.5)
        assert ((await state(timed, left))["state"] == "queued") == (half < 2)
    gone = await timed.jobs.get(left, "t")
    assert gone is not None
    assert gone.error is not None
    assert (gone.status, gone.error.code) == ("cancelled", "disconnected")
    assert "cancel" not in await state(timed, followed)
    await tend_for(timed, 1.5)
    assert (await state(timed, followed))["cancel"] == "disconnected", "its worker is told to stop"


async def test_readers_that_could_not_be_heard_are_not_taken_for_gone(timed: Store) -> None:
    """Nobody tended for longer than the grace: no API process was there for a reader to be at."""
    job_id = await admit(timed, grace_s=1.0)
    await later(timed, 1.2)
    await timed.engine.tend()
    assert (await state(timed, job_id))["state"] == "queued"


async def test_a_cancel_of_a_waiting_job_has_a_receipt_of_nothing(store: Store) -> None:
    job_id = await admit(store)
    await store.jobs.cancel(job_id, "t")
    job = await store.jobs.get(job_id, "t")
    assert job is not None
    assert job.receipt is not None
    assert (job.receipt.spent_nano_usd, job.receipt.may_still_bill) == (0, False)


async def test_a_replay_is_known_to_the_job_that_it_replays(store: Store) -> None:
    first = await admit(store)
    second = await admit(store, retry_of=first)
    assert (await state(store, first))["replayed_by"] == second
    job = await store.jobs.get(second, "t")
    assert job is not None
    assert job.retry_of == first


async def test_a_replay_writes_nothing_into_what_is_not_its_tenants_or_has_lapsed(store: Store) -> None:
    others = (await store.jobs.admit(admission(tenant="u"))).id
    for gone in (others, f"job_{0:032x}"):
        await admit(store, retry_of=gone)
    theirs = await store.jobs.get(others, "u")
    assert theirs is not None
    assert theirs.replayed_by is None
    assert await store.keys_without_lifetime() == []


async def test_scheduling_leaves_no_key_behind(store: Store) -> None:
    job_id = await admit(store, chain=[("anthropic/c", "")], grace_s=60.0, queue_s=60.0)
    claim = await claim_one(store)
    await dispatch(store, claim)
    await store.engine.finish(claim, success(3, receipt=PAID))
    pipe = store._pipe  # pyright: ignore[reportPrivateUsage]
    for name in ("watched", "suspects", "stops", "due", "deadlines", "leases", "blocked", "unfolded"):
        assert await pipe.command("EXISTS", store.redis_keys(name)) == 0, name
    assert await pipe.command("EXISTS", store.redis_keys("movable", "openai/m")) == 0
    assert fields_of(await pipe.command("HGETALL", store.redis_keys("job", job_id)))["state"] == b"succeeded"


async def test_a_delayed_job_has_its_time_to_wait_from_when_it_may_start(timed: Store) -> None:
    now_ms = await timed.stats.now_ms()
    job_id = await admit(timed, not_before_ms=now_ms + 600, queue_s=0.5)
    await later(timed, 0.6)
    await timed.engine.tend()
    await later(timed, 0.499)
    claim = await claim_one(timed)
    assert claim.id == job_id
    await timed.engine.release(claim)
    await timed.jobs.cancel(job_id, "t")


async def test_a_delayed_job_that_can_not_be_queued_is_put_off_and_holds_up_no_other(timed: Store) -> None:
    odd = await admit(timed, not_before_ms=await timed.stats.now_ms() + 400)
    pipe, place = timed._pipe, timed.redis_keys("wait", "standard", "openai/m", "t")  # pyright: ignore[reportPrivateUsage]
    await pipe.command("SET", place, "not what the scripts expect")
    await later(timed, 0.4)
    other = await admit(timed, model="openai/other", lane="openai/other")
    assert [claim.id for claim in await claims(timed)] == [other]
    await pipe.command("DEL", place)
    await later(timed, 60)
    assert [claim.id for claim in await claims(timed)] == [odd]


async def test_a_job_that_nobody_follows_and_that_can_not_be_cancelled_is_put_off(timed: Store) -> None:
    odd, other = [await admit(timed, grace_s=1.0, model=m, lane=m) for m in ("openai/odd", "openai/other")]
    pipe, events = timed._pipe, timed.redis_keys("events", odd)  # pyright: ignore[reportPrivateUsage]
    await pipe.command("DEL", events)
    await pipe.command("SET", events, "not what the scripts expect")
    await timed.engine.tend()
    for _ in range(2):  # somebody has to have been able to listen all the time
        await later(timed, 1.5)
        await timed.engine.tend()
    assert [(await state(timed, job_id))["state"] for job_id in (odd, other)] == ["queued", "cancelled"]
    await pipe.command("DEL", events)
    for _ in range(41):
        await later(timed, 1.5)
        await timed.engine.tend()
    assert (await state(timed, odd))["state"] == "cancelled"


async def test_waiting_for_work_ends_in_time_also_where_redis_looks_at_its_clock_once_a_second(queue: str) -> None:
    """As it does with `hz 1`; left alone, these waits would take a minute and a half."""
    with running_redis() as server:
        async with open_store(server.url, queue) as store, asyncio.timeout(20):
            await store._pipe.command("CONFIG", "SET", "hz", "1")  # pyright: ignore[reportPrivateUsage]
            for _ in range(90):
                await store.engine.wait_for_work(["openai"], 0.01)


async def goes_on(store: Store) -> Claim:
    """A claimed job whose call is a background response that goes on by itself."""
    job_id = await admit(store, prompt="goes on", on_crash="resume")
    [claim] = await claims(store)
    assert claim.id == job_id
    await dispatch(store, claim)
    await store.engine.attach(claim, "resp_1")
    return claim


async def test_a_worker_that_was_just_given_something_to_stop_runs_no_suspect_beside_it(timed: Store) -> None:
    going_on = await goes_on(timed)
    suspect = await admit(timed)
    for _ in range(2):
        await crash(timed, await claim_one(timed))
    assert await timed.engine.hand_over(going_on, delay_s=0, reason="worker_lost")
    assert await timed.jobs.cancel(going_on.id, "t") == "requested"
    assert [claim.id for claim in await claims(timed)] == [going_on.id]
    assert [claim.id for claim in await claims(timed)] == [suspect]


async def test_a_suspect_that_is_to_be_stopped_waits_while_its_provider_is_down(timed: Store) -> None:
    """It would not hear of it."""
    going_on = await goes_on(timed)
    await crash(timed, going_on)
    await crash(timed, await claim_one(timed))
    await timed._pipe.command(  # pyright: ignore[reportPrivateUsage]
        "HSET", timed.redis_keys("lane", "openai/m"), "brake_ms", 2**52, "reason", "provider_error"
    )
    assert await timed.jobs.cancel(going_on.id, "t") == "requested"
    assert await claims(timed) == []
    await timed._pipe.command("HDEL", timed.redis_keys("lane", "openai/m"), "brake_ms", "reason")  # pyright: ignore[reportPrivateUsage]
    assert [claim.id for claim in await claims(timed)] == [going_on.id]
