"""Whose job starts next: each tenant has its share of a band, whatever it asks for and however it asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from onceq_service.settings import LaneLimits
from onceq_service.store import Store
from onceq_service.store.engine import Claim, End
from tests.service.store.driver import admission


async def admit(store: Store, **changes: Any) -> str:
    return (await store.jobs.admit(admission(**changes))).id


async def started_by(store: Store, want: int) -> Counter[str]:
    """How many jobs of each tenant are among the next."""
    return Counter([claim.text("tenant") for claim in (await store.engine.claim("w1", want, ["openai"]))[0]])


async def test_tenants_start_jobs_in_proportion_to_their_weights(store: Store) -> None:
    await store.lanes.set_weights({"heavy": 3})
    for tenant in ("heavy", "light"):
        for n in range(20):
            await admit(store, tenant=tenant, prompt=f"{tenant}{n}")
    assert await started_by(store, want=12) == {"heavy": 9, "light": 3}
    await store.lanes.set_weights({})
    assert (await started_by(store, want=12))["heavy"] == 6


async def test_many_models_are_no_larger_share(store: Store) -> None:
    for n in range(40):
        await admit(store, tenant="many", model=f"openai/m{n}", lane=f"openai/m{n}")
    for n in range(40):
        await admit(store, tenant="one", prompt=str(n))
    assert await started_by(store, want=20) == {"many": 10, "one": 10}


async def test_to_keep_one_job_waiting_is_no_larger_share(store: Store) -> None:
    for n in range(20):
        await admit(store, tenant="patient", prompt=str(n))
    came = Counter[str]()
    waits = False
    for n in range(20):
        if not waits:
            await admit(store, tenant="eager", prompt=str(n))
        next_one = await started_by(store, want=1)
        came += next_one
        waits = not next_one["eager"]
    assert came == {"eager": 10, "patient": 10}


async def test_a_lane_that_was_closed_gives_its_tenant_no_turns_back_but_the_first(store: Store) -> None:
    await store.lanes.switch_lane("openai/m", "pause")
    for n in range(20):
        await admit(store, tenant="closed", prompt=str(n))
        await admit(store, tenant="open", model="openai/n", lane="openai/n", prompt=str(n))
    assert await started_by(store, want=10) == {"open": 10}
    await store.lanes.switch_lane("openai/m", "resume")
    assert await started_by(store, want=10) == {"closed": 6, "open": 4}


async def test_weights_hold_in_a_lane_that_is_slower_than_its_band(store: Store) -> None:
    """One job at a time: whoever is busy in another lane meanwhile changes nothing between those who wait here."""
    await store.lanes.set_weights({"heavy": 3})
    slow = {"model": "openai/slow", "lane": "openai/slow", "limits": LaneLimits(concurrency=1).packed()}
    for n in range(24):
        await admit(store, tenant="heavy", prompt=str(n), **slow)
        await admit(store, tenant="light", prompt=str(n), **slow)
    came = Counter[str]()
    for n in range(20):
        for k in range(5):
            await admit(store, tenant="busy", prompt=f"{n} {k}")
        found, _ = await store.engine.claim("w1", 6, ["openai"])
        for claim in found:
            came[claim.text("tenant")] += 1
            await store.engine.finish(claim, End("failed", b"", b"", None, kept=False, first_seq=0))
    await store.lanes.set_weights({})
    assert came == {"heavy": 15, "light": 5, "busy": 100}


async def test_a_tenant_that_comes_into_the_lane_of_another_does_not_wait_for_that_ones_turn(store: Store) -> None:
    for n in range(40):
        await admit(store, tenant="many", model=f"openai/m{n}", lane=f"openai/m{n}")
    for n in range(10):
        await admit(store, tenant="one", prompt=str(n), model="openai/m39", lane="openai/m39")
    assert await started_by(store, want=20) == {"many": 10, "one": 10}


async def test_jobs_that_never_started_cost_their_tenant_no_turn(store: Store) -> None:
    given_up = [await admit(store, tenant="undecided", model=f"openai/m{n}", lane=f"openai/m{n}") for n in range(20)]
    for job_id in given_up:
        await store.jobs.cancel(job_id, "undecided")
    for n in range(10):
        await admit(store, tenant="other", prompt=str(n))
        await admit(store, tenant="undecided", prompt=str(n))
    assert await started_by(store, want=10) == {"other": 5, "undecided": 5}


async def test_nor_do_they_in_a_lane_in_which_others_wait(store: Store) -> None:
    for n in range(10):
        await admit(store, tenant="other", prompt=str(n))
    for n in range(10):
        await store.jobs.cancel(await admit(store, tenant="undecided", prompt=f"{n} and not"), "undecided")
    for n in range(10):
        await admit(store, tenant="undecided", prompt=str(n))
    assert await started_by(store, want=10) == {"other": 5, "undecided": 5}


async def test_who_leaves_a_slow_lane_gives_its_turn_in_it_back(store: Store) -> None:
    await store.lanes.set_weights({"undecided": 0.1})
    slow = {"model": "openai/slow", "lane": "openai/slow", "limits": LaneLimits(concurrency=1).packed()}

    async def next_of_the_lane() -> str:
        found, _ = await store.engine.claim("w1", 11, ["openai"])
        for claim in found:
            await store.engine.finish(claim, End("failed", b"", b"", None, kept=False, first_seq=0))
        [came] = [claim.text("tenant") for claim in found if claim.text("lane") == "openai/slow"]
        return came

    await admit(store, tenant="undecided", **slow)
    for n in range(24):
        await admit(store, tenant="other", prompt=str(n), **slow)
    await fill(store, "busy", LANES[:1], 240)
    assert {await next_of_the_lane(), await next_of_the_lane()} == {"other", "undecided"}
    for n in range(5):
        given_up = await admit(store, tenant="undecided", prompt=f"{n} and not", **slow)
        assert await next_of_the_lane() == "other"
        await store.jobs.cancel(given_up, "undecided")
    await admit(store, tenant="undecided", prompt="after all", **slow)
    came = Counter([await next_of_the_lane() for _ in range(10)])
    await store.lanes.set_weights({})
    assert came == {"other": 9, "undecided": 1}


async def test_who_leaves_a_lane_leaves_its_place_in_the_band_to_nobody(store: Store) -> None:
    """The next one there has its own, which is later."""
    await fill(store, "many", LANES, 2)
    for lane in LANES[1:]:
        given_up = await admit(store, tenant="undecided", model=lane, lane=lane, prompt=lane)
        await store.jobs.cancel(given_up, "undecided")
    await fill(store, "one", ["openai/other"], 20)
    assert await started_by(store, want=20) == {"many": 10, "one": 10}


async def test_a_queue_from_before_there_were_turns_starts_all_that_waits(store: Store) -> None:
    """Its lanes stood at how many claims had been made, its tenants at how often they had come in a lane."""
    old = await admit(store, tenant="t", model="openai/old", lane="openai/old")
    turns, ready, shares = (
        store.redis_keys("turns"),
        store.redis_keys("ready", "standard"),
        store.redis_keys("shares", "standard"),
    )
    for command in (("DEL", shares, turns), ("HSET", turns, "n", 50), ("ZADD", ready, 50, "openai/old")):
        await store._pipe.command(*command)  # pyright: ignore[reportPrivateUsage]
    for n in range(20):
        await admit(store, tenant=f"new{n % 2}", prompt=str(n))
    found, _ = await store.engine.claim("w1", 4, ["openai"])
    assert old in [claim.id for claim in found]


async def test_to_wait_for_a_full_lane_costs_no_turn(store: Store) -> None:
    """Its turn comes while a job of it runs, so it is held back after each start, and has to be given one again."""
    full = {"model": "openai/full", "lane": "openai/full", "limits": LaneLimits(concurrency=1).packed()}
    for n in range(60):
        await admit(store, tenant="mixed", prompt=f"f{n}", **full)
        await admit(store, tenant="mixed", prompt=f"o{n}")
        await admit(store, tenant="other", prompt=str(n), model="openai/other", lane="openai/other")
    came, running = Counter[str](), list[Claim]()
    for _ in range(20):
        found, _ = await store.engine.claim("w1", 4, ["openai"])
        came.update(claim.text("tenant") for claim in found)
        for claim in running:
            await store.engine.finish(claim, End("failed", b"", b"", None, kept=False, first_seq=0))
        running = found
    assert came == {"mixed": 40, "other": 40}


async def fill(store: Store, tenant: str, lanes: Sequence[str], each: int) -> None:
    """A backlog: so many jobs of a tenant in each of the lanes."""
    for lane in lanes:
        for n in range(each):
            await admit(store, tenant=tenant, model=lane, lane=lane, prompt=f"{lane} {n}")


LANES = [f"openai/m{n}" for n in range(20)]


@pytest.mark.parametrize("first", ["many", "one"])
async def test_a_neighbour_that_asks_many_models_takes_nothing_from_those_who_ask_one(store: Store, first: str) -> None:
    """Nor does it wait itself where it shares a lane."""
    backlogs = {"many": (LANES, 10), "one": (LANES[:1], 80)}
    for tenant in (first, *(backlogs.keys() - {first})):
        await fill(store, tenant, *backlogs[tenant])
    came = await started_by(store, want=120)
    assert abs(came["many"] - came["one"]) <= 2, came


async def test_weights_hold_between_tenants_that_share_some_of_their_lanes(store: Store) -> None:
    await store.lanes.set_weights({"many": 2, "two": 3})
    await fill(store, "many", LANES, 10)
    await fill(store, "two", LANES[4:6], 60)
    await fill(store, "one", LANES[5:6], 60)
    came = await started_by(store, want=120)
    await store.lanes.set_weights({})
    assert abs(came["many"] - 40) <= 3, came
    assert abs(came["two"] - 60) <= 3, came
    assert abs(came["one"] - 20) <= 3, came


async def test_a_tenant_of_little_weight_holds_up_nobody_in_its_lane(store: Store) -> None:
    await store.lanes.set_weights({"little": 0.001})
    await fill(store, "little", LANES[:2], 5)
    await fill(store, "common", LANES[:1], 60)
    await fill(store, "elsewhere", LANES[2:3], 60)
    came = await started_by(store, want=100)
    await store.lanes.set_weights({})
    assert came["little"] >= 1
    assert abs(came["common"] - came["elsewhere"]) <= 2, came


async def test_who_is_busy_elsewhere_has_its_share_of_a_slow_lane_too(store: Store) -> None:
    """Its turn in the band comes later than that of whoever waits for the slow lane alone, but it comes."""
    slow = {"model": "openai/slow", "lane": "openai/slow", "limits": LaneLimits(concurrency=1).packed()}
    for n in range(24):
        await admit(store, tenant="busy", prompt=f"s{n}", **slow)
        await admit(store, tenant="patient", prompt=str(n), **slow)
    await fill(store, "busy", LANES[:2], 60)
    came = Counter[str]()
    for _ in range(20):
        found, _ = await store.engine.claim("w1", 6, ["openai"])
        for claim in found:
            came[f"{claim.text('tenant')} {claim.text('lane')}"] += 1
            await store.engine.finish(claim, End("failed", b"", b"", None, kept=False, first_seq=0))
    assert came["busy openai/slow"] == came["patient openai/slow"] == 10, came
