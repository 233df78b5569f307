"""GET /v1/costs: the money of one tenant, as the simulator's meter has it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from onceq.wire import CostPoint, Costs
from tests.service.api.kit import JOBS, Http, ask, own_lane, switch
from tests.stack import Stack
from tests.waiting import wait_until


def costs(client: Http, **query: object) -> Costs:
    answer = client.get("/v1/costs", params=query)  # pyright: ignore[reportArgumentType] - lists of strings too
    assert answer.status_code == 200, answer.text
    return Costs.model_validate_json(answer.content)


def test_costs_equal_the_meter_by_team_and_in_all(client: Http, shared: Stack) -> None:
    jobs = [client.done(ask("paid") | {"team": team}) for team in ("red", "red", "blue")]
    metered = {job.id: sum(call["nano_usd"] for call in shared.meter(job.id)) for job in jobs}
    by_team = {p.team: p.totals.spent_nano_usd for p in costs(client, group_by=["team"], interval="total").points}
    assert by_team == {
        "red": sum(metered[job.id] for job in jobs if job.team == "red"),
        "blue": sum(metered[job.id] for job in jobs if job.team == "blue"),
    }
    days = costs(client, interval="day").points
    assert sum(day.totals.spent_nano_usd for day in days) == sum(metered.values())
    assert all(day.simulated for day in days)
    assert_one_point_each(days, timedelta(days=1))


def test_what_a_replay_avoids_is_what_its_answer_cost(client: Http) -> None:
    asked = ask("once") | {"dedupe_window_s": 600}
    job = client.done(asked)
    assert client.submit(asked)["disposition"] == "replayed"
    hours = costs(client, interval="hour").points
    assert sum(hour.totals.avoided_nano_usd for hour in hours) == job.cost.nano_usd
    assert sum(hour.totals.replayed for hour in hours) == 1
    assert_one_point_each(hours, timedelta(hours=1))


def assert_one_point_each(points: Sequence[CostPoint], span: timedelta) -> None:
    """What was done just now is in one hour or day, or in two when another has begun meanwhile."""
    assert [point.at - points[0].at for point in points] in ([timedelta()], [timedelta(), span])
    assert (points[0].at - datetime.min.replace(tzinfo=UTC)) % span == timedelta(), "where they begin in UTC"


def test_joined_posts_count_what_they_avoid_at_the_end(client: Http, tenant: str) -> None:
    asked = ask("joined", tokens=30) | own_lane(tenant) | {"dedupe_window_s": 600}
    switch(client, "pause", asked)
    first = client.submit(asked)
    assert client.submit(asked)["disposition"] == "joined"
    switch(client, "resume", asked)
    job = client.job(first["id"], wait=30)
    assert job.cost.nano_usd

    def counted() -> bool:
        [point] = costs(client, interval="total").points
        return point.totals.avoided_nano_usd == job.cost.nano_usd

    wait_until(counted, "the joined post to be counted")


CACHING = [
    ("anthropic/claude-haiku-4-5", 30, 40), ("bedrock/amazon.nova-lite-v1:0", 30, 0), ("openai/gpt-4o-mini", 9, 0),
]  # fmt: skip
"""A model, input tokens that it read from its cache, and those that it wrote to it."""


@pytest.mark.parametrize(("model", "cached", "written"), CACHING)
def test_a_row_has_every_kind_of_token_of_the_meter_and_comes_to_its_money_by_them(
    client: Http, shared: Stack, model: str, cached: int, written: int
) -> None:
    long = "a word and " * 40
    job = client.done(ask(long, tokens=7, cached=cached, cache_write=written) | {"model": model})
    (call,) = shared.meter(job.id)
    page = client.get("/v1/ledger", params={"restated_at": datetime.now(UTC).isoformat()}).json()
    (row,) = [entry for entry in page["entries"] if entry["job"] == job.id]
    kinds = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens")
    assert {kind: row[kind] for kind in kinds} == {kind: call[kind] for kind in kinds}
    assert (call["cached_tokens"], call["cache_write_tokens"]) == (cached, written)
    assert row["spent_nano_usd"] == row["restated_nano_usd"] == call["nano_usd"]


def test_restated_sums_are_what_was_booked_while_prices_hold_in_every_grouping(client: Http) -> None:
    models = ("anthropic/claude-haiku-4-5", "openai/gpt-4o-mini", "anthropic/claude-haiku-4-5")
    asked = [ask("more " * 30, tokens=n + 1, cached=5, cache_write=6 * n) for n in range(3)]
    jobs = [client.done(asked[n] | {"model": models[n], "team": f"t{n % 2}"}) for n in range(3)]
    booked, now = sum(job.cost.nano_usd or 0 for job in jobs), datetime.now(UTC).isoformat()
    for by in ([], ["team"], ["model"], ["provider", "key"], ["band"]):
        points = costs(client, group_by=by, interval="total", restated_at=now).points
        assert sum(point.restated_nano_usd or 0 for point in points) == booked
        plain = costs(client, group_by=by, interval="total").points
        assert [point.totals for point in points] == [point.totals for point in plain]
        assert {point.restated_nano_usd for point in plain} == {None}
    before = costs(client, interval="total", restated_at="2019-01-01T00:00:00Z").points
    assert [point.totals.spent_nano_usd for point in before] == [booked], "what was booked stays"


def test_a_group_with_a_model_that_has_no_price_is_not_restated(client: Http) -> None:
    client.done(ask() | {"model": "openai/nobody-knows-me"})
    job = client.done(ask())
    now = datetime.now(UTC).isoformat()
    [whole] = costs(client, interval="total", restated_at=now).points
    assert (whole.restated_nano_usd, whole.totals.unpriced_calls) == (None, 1)
    by_model = costs(client, interval="total", restated_at=now, group_by=["model"]).points
    assert {p.model: p.restated_nano_usd for p in by_model} == {
        "openai/nobody-knows-me": None,
        "openai/gpt-4o-mini": job.cost.nano_usd,
    }


def test_waste_by_reason_is_in_the_costs_and_in_the_metrics(client: Http, shared: Stack) -> None:
    job = client.done(ask(tokens=20, fault="cut", after=5, times=1))
    assert job.cost.wasted_nano_usd > 0
    [point] = costs(client, interval="total").points
    assert point.totals.wasted_by_reason == {"stream_broken": job.cost.wasted_nano_usd}
    with Http(shared.url, shared.key("default", "operator")) as operator:
        said = operator.get("/metrics").text
    lines = [line for line in said.splitlines() if line.startswith("onceq_wasted_by_reason_usd_total")]
    assert any('reason="stream_broken"' in line for line in lines)
    whole = [line for line in said.splitlines() if line.startswith("onceq_wasted_usd_total")]
    assert sum(float(line.split()[-1]) for line in lines) == pytest.approx(sum(float(w.split()[-1]) for w in whole))


def test_another_tenants_costs_are_not_there(client: Http, shared: Stack) -> None:
    client.done(ask("walled"))
    with Http(shared.url, shared.key("nobody-else")) as stranger:
        assert costs(stranger, interval="total").points == []


@pytest.mark.parametrize(
    "query",
    [{"interval": "week"}, {"group_by": "colour"}, {"since": "yesterday"}, {"since": "2026-01-01T00:00:00"}, {"x": 1}],
)
def test_a_question_that_makes_no_sense_is_refused_by_name(client: Http, query: dict[str, object]) -> None:
    answer = client.get("/v1/costs", params=query)  # pyright: ignore[reportArgumentType]
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert any(name in str(answer.json()["errors"]) for name in query)


def test_since_after_until_is_refused_and_a_far_past_is_cut_to_what_is_kept(client: Http) -> None:
    now = datetime.now(UTC)
    asked = {"since": now.isoformat(), "until": (now - timedelta(days=1)).isoformat()}
    for path in ("/v1/costs", "/v1/ledger"):
        refusal = client.get(path, params=asked)
        assert refusal.status_code == 422
        assert "is after until or after now, so the range is empty" in refusal.text
    found = costs(client, since="2000-01-01T00:00:00Z", interval="hour")
    assert found.since > now - timedelta(days=36)


EXTREMES = ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00"]


@pytest.mark.parametrize("at", EXTREMES)
def test_no_time_is_too_far_away_to_be_asked_for(client: Http, at: str) -> None:
    for path in ("/v1/costs", "/v1/ledger", "/v1/ledger.csv", JOBS):
        names = ["since", "until", *(["restated_at"] if path != JOBS else [])]
        for name in names:
            answer = client.get(path, params={name: at})
            assert answer.status_code in {200, 422}, (path, name, answer.text)
    assert (
        costs(client, until="2026-01-01T02:00:00+02:00", since="2025-12-31T00:00:00Z").until.utcoffset() == timedelta()
    )
