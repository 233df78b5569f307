"""GET /v1/costs: the money of one tenant, as the simulator's meter has it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from onceq.wire import Costs
from tests.service.api.kit import Http, ask
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
    [all_in_one] = costs(client, interval="day").points
    assert (all_in_one.totals.spent_nano_usd, all_in_one.simulated) == (sum(metered.values()), True)


def test_what_a_replay_avoids_is_what_its_answer_cost(client: Http) -> None:
    asked = ask("once") | {"dedupe_window_s": 600}
    job = client.done(asked)
    assert client.submit(asked)["disposition"] == "replayed"
    [point] = costs(client, interval="hour").points
    assert (point.totals.avoided_nano_usd, point.totals.replayed) == (job.cost.nano_usd, 1)


def test_joined_posts_count_what_they_avoid_at_the_end(client: Http) -> None:
    asked = ask("joined", tokens=30, tps=60) | {"dedupe_window_s": 600}
    first = client.submit(asked)
    assert client.submit(asked)["disposition"] == "joined"
    job = client.job(first["id"], wait=30)
    wait_until(
        lambda: costs(client).points[0].totals.avoided_nano_usd == job.cost.nano_usd, "the joined post to be counted"
    )


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


def test_since_behind_until_is_refused_and_a_far_past_is_cut_to_what_is_kept(client: Http) -> None:
    now = datetime.now(UTC)
    asked = {"since": now.isoformat(), "until": (now - timedelta(days=1)).isoformat()}
    assert client.get("/v1/costs", params=asked).status_code == 422
    found = costs(client, since="2000-01-01T00:00:00Z", interval="hour")
    assert found.since > now - timedelta(days=36)
