"""Money in sums: what was spent, wasted and avoided, by hour and day and group, equals the ledger rows."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from onceq_service.store import Store
from onceq_service.store.engine import Receipt
from onceq_service.store.stats import Dimension, Rollup, totals
from tests.service.store.driver import PAID, admission, claim_one, dispatch, success

BROKEN = Receipt("stream_broken", billed=True, estimated=True, input_tokens=3, output_tokens=1, spent_nano_usd=4_000)


@pytest.fixture
def store(timed: Store) -> Store:
    """The hour in which its work is done lasts until that is summed up."""
    return timed


async def answer(store: Store, **changes: Any) -> str:
    """A job that broke once and then got its answer: 4,000 wasted, 11,000 spent."""
    job_id = (await store.jobs.admit(admission(**changes))).id
    claim = await claim_one(store)
    await dispatch(store, claim)
    await store.engine.requeue(claim, BROKEN, delay_s=0, reason="stream_broken")
    again = await claim_one(store)
    sent = await dispatch(store, again, 2)
    await store.engine.finish(again, success(sent.seq + 1))
    return job_id


async def sums(store: Store, *by: Dimension, span: Any = "h") -> list[Rollup]:
    now = await store.stats.now_ms()
    return await store.stats.spans("t", span, now - 3_600_000, now, by)


async def test_spent_and_wasted_are_the_sums_of_the_ledger_rows(store: Store) -> None:
    for n in range(3):
        await answer(store, prompt=str(n))
    for span in ("h", "d"):
        spent = [totals(one.fields) for one in await sums(store, span=span)]
        assert sum(t.spent_nano_usd for t in spent) == 3 * (4_000 + 7_000)
        assert sum(t.wasted_nano_usd for t in spent) == 3 * 4_000
        assert sum(t.calls for t in spent) == 6


async def test_who_replays_an_answer_avoids_what_it_cost_without_its_waste(store: Store) -> None:
    await answer(store, fp="same")
    assert (await store.jobs.admit(admission(fp="same"))).disposition == "replayed"
    [one] = await sums(store)
    assert (totals(one.fields).replayed, totals(one.fields).avoided_nano_usd) == (1, 7_000)


async def test_who_joins_a_job_avoids_what_it_comes_to_cost(store: Store) -> None:
    await store.jobs.admit(admission(fp="same"))
    for _ in range(2):
        assert (await store.jobs.admit(admission(fp="same"))).disposition == "joined"
    claim = await claim_one(store)
    await dispatch(store, claim)
    [before] = await sums(store)
    assert totals(before.fields).avoided_nano_usd == 0
    await store.engine.finish(claim, success(3, receipt=PAID))
    [after] = await sums(store)
    assert totals(after.fields).avoided_nano_usd == 2 * 7_000


async def test_who_joins_a_job_that_fails_has_avoided_nothing(store: Store) -> None:
    await store.jobs.admit(admission(fp="same"))
    await store.jobs.admit(admission(fp="same"))
    claim = await claim_one(store)
    await dispatch(store, claim)
    await store.engine.finish(claim, replace(success(3, receipt=BROKEN), state="failed", kept=False))
    [one] = await sums(store)
    assert totals(one.fields).avoided_nano_usd == 0


async def test_sums_are_grouped_by_what_was_asked_for(store: Store) -> None:
    work: list[dict[str, Any]] = [
        {"team": "red", "key_id": "k1", "group": b'{"project":"p"}'},
        {"team": "red", "key_id": "k2", "simulated": True},
        {"team": "blue", "key_id": "k1", "band": "batch"},
        {"team": 'odd "name" \\', "key_id": "k1", "user": "somebody"},
    ]
    for n, changes in enumerate(work):
        await answer(store, prompt=str(n), **changes)
    by_team = {(p.team, p.simulated): p.totals.jobs for p in (one.point() for one in await sums(store, "team"))}
    assert by_team == {("red", False): 1, ("red", True): 1, ("blue", False): 1, ('odd "name" \\', False): 1}
    by_key = {(p.key, p.simulated): p.totals.spent_nano_usd for p in (one.point() for one in await sums(store, "key"))}
    assert by_key == {("k1", False): 33_000, ("k2", True): 11_000}
    labels = [p.labels for p in (one.point() for one in await sums(store, "labels", "provider")) if p.labels]
    assert labels == [{"project": "p"}]
    assert len(await sums(store)) == 2, "real and simulated work are never in one sum"


async def test_a_ledger_row_names_the_key_and_the_labels(store: Store) -> None:
    job_id = await answer(store, key_id="k9", labels=b'{"project":"p"}')
    fields = await store.jobs.fields(job_id, "t")
    assert fields is not None
    row = json.loads(fields["row:2"])
    assert (row["key_id"], row["labels"]) == ("k9", '{"project":"p"}')


DIMENSIONS: tuple[Dimension, ...] = ("team", "model", "provider", "band", "key", "labels")


async def mixed_work(store: Store) -> None:
    """Jobs that differ in every dimension; each has wasted one call and kept one."""
    for n, (team, model, band, key, group) in enumerate((
        ("red", "openai/m", "batch", "k1", b'{"project":"p"}'), ("red", "openai/n", "standard", "k2", b""),
        ("", "openai/m", "interactive", "k1", b'{"project":"q"}'), ("blue", "openai/n", "standard", "k1", b""),
    )):  # fmt: skip
        changes = {"team": team, "model": model, "lane": model, "band": band, "key_id": key, "group": group}
        await answer(store, prompt=str(n), **changes)


@pytest.mark.parametrize("by", [*((one,) for one in DIMENSIONS), DIMENSIONS])
async def test_every_grouping_sums_to_the_same_total(store: Store, by: tuple[Dimension, ...]) -> None:
    await mixed_work(store)
    [whole] = await sums(store)
    groups = await sums(store, *by)
    assert len(groups) > 1 or by == ("provider",)
    assert totals([fields for one in groups for fields in one.fields]) == totals(whole.fields)
    assert sum(totals(one.fields).spent_nano_usd for one in groups) == 4 * 11_000


async def test_waste_is_told_by_its_reason_and_its_parts_sum_to_it(store: Store) -> None:
    await answer(store)
    await store.jobs.admit(admission(prompt="cancelled"))
    claim = await claim_one(store)
    await dispatch(store, claim)
    gone = Receipt("cancelled", billed=True, estimated=True, output_tokens=1, spent_nano_usd=900)
    await store.engine.finish(claim, replace(success(3, receipt=gone), state="cancelled", kept=False))
    [one] = await sums(store)
    found = totals(one.fields)
    assert found.wasted_by_reason == {"cancelled": 900, "stream_broken": 4_000}
    assert sum(found.wasted_by_reason.values()) == found.wasted_nano_usd


async def test_what_was_written_to_a_cache_is_in_the_row_and_in_the_sums(store: Store) -> None:
    broken = replace(BROKEN, cache_write_tokens=2)
    await store.jobs.admit(admission())
    claim = await claim_one(store)
    await dispatch(store, claim)
    await store.engine.requeue(claim, broken, delay_s=0, reason="stream_broken")
    again = await claim_one(store)
    sent = await dispatch(store, again, 2)
    await store.engine.finish(again, success(sent.seq + 1, receipt=replace(PAID, cache_write_tokens=3)))
    rows = (await store.ledger.page("t", 0, await store.stats.now_ms() + 1, None, 10)).entries
    assert [row.cache_write_tokens for row in rows] == [2, 3]
    [one] = await sums(store)
    assert totals(one.fields).cache_write_tokens == 5


async def test_what_each_job_cost_is_a_histogram_without_those_of_unknown_price(store: Store) -> None:
    for n in range(3):
        await answer(store, prompt=str(n))
    await store.jobs.admit(admission(prompt="unpriced"))
    claim = await claim_one(store)
    await dispatch(store, claim)
    await store.engine.finish(claim, success(3, receipt=replace(PAID, spent_nano_usd=None)))
    [one] = await sums(store)
    [(at_most, jobs)] = totals(one.fields).job_costs.items()
    assert jobs == 3
    assert 11_000 <= at_most <= 11_000 * 1.2 + 200


async def test_groups_without_an_end_are_summed_up_in_one_more_and_nothing_is_lost(store: Store) -> None:
    """A team, a label and a model's name are of a client's choosing; who reads the sums must be able to."""
    ids = [(await store.jobs.admit(admission(team=f"team {n}", band="batch"))).id for n in range(1_010)]
    await store.jobs.admit(admission(team="team 3", band="batch"))
    await store.jobs.admit(admission(team="team 1011", band="standard"))
    now_ms = await store.stats.now_ms()
    found = await store.stats.spans("t", "d", now_ms, now_ms, ("team", "band"))
    counts = {point.group.names: totals(point.fields).jobs for point in found}
    assert (len(counts), sum(counts.values())) == (1_002, 1_012)
    other = {dict(names)["band"]: n for names, n in counts.items() if dict(names)["team"] == "(other)"}
    assert other == {"batch": 10, "standard": 1}
    assert counts[("team", "team 3"), ("band", "batch")] == 2
    for job_id in ids[-3:]:
        await store.jobs.cancel(job_id, "t")
    found = await store.stats.spans("t", "d", now_ms, await store.stats.now_ms(), ("team", "band"))
    ended = {dict(p.group.names)["team"]: totals(p.fields).cancelled for p in found if totals(p.fields).cancelled}
    assert ended == {"(other)": 3}
