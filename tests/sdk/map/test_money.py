"""What a map may cost: quoted, sampled, limited; and every figure is the simulator's own."""

from __future__ import annotations

import re
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceq import Client, PaymentRequiredError
from onceq.map.money import MapBudget, dollars
from tests.sdk.map.kit import billed, mapped, texts
from tests.stack import Stack


def test_a_dry_run_posts_nothing_and_its_bound_holds(stack: Stack, client: Client) -> None:
    rows = [*texts(30), *texts(1) * 2, *texts(3, tokens=40), *(f"{'word ' * 4000}{text}" for text in texts(12))]
    told = client.map(rows, "Summarise: {text}", max_tokens=50, dry_run=True)
    assert (told.rows, told.done, told.asks) == (47, 0, 46)
    assert list(client.list()) == []
    frame = mapped(client, rows, "Summarise: {text}", max_tokens=50)
    assert told.upper_usd is not None
    assert 0 < frame["cost_usd"].sum() <= told.upper_usd
    bounds = [client.quote(f"Summarise: {row}", max_tokens=50).cost.upper_nano_usd or 0 for row in dict.fromkeys(rows)]
    assert told.upper_usd * 1e9 >= sum(bounds), "every row's own"
    again = client.map(rows, "Summarise: {text}", max_tokens=50, dry_run=True)
    assert (again.done, again.asks, again.upper_usd) == (47, 0, 0)
    assert again.paid_usd == pytest.approx(frame["cost_usd"].sum())
    assert "47 of 47 rows are answered already" in str(again)


def test_a_dry_run_says_why_nothing_bounds_a_model_without_a_price(client: Client) -> None:
    told = client.map(texts(2), model="openai/gpt-unheard-of", dry_run=True)
    assert told.upper_usd is None
    assert told.unbounded
    with pytest.raises(PaymentRequiredError, match="max_cost_usd needs to know"):
        mapped(client, texts(2), model="openai/gpt-unheard-of", max_cost_usd=1)
    assert list(client.list()) == []


def test_a_sample_runs_first_and_tells_the_bill_of_all(
    stack: Stack, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [text for tokens in (5, 9, 7, 6, 8, 5, 7, 9) for text in texts(10, tokens=tokens)]
    sample = mapped(client, rows, sample=20)
    assert sample["status"].value_counts().to_dict() == {"not_posted": 60, "succeeded": 20}
    asked = sample.index[sample["status"] == "succeeded"]
    assert [asked.min(), asked.max(), asked.to_series().diff().max()] == [0, 79, 5], "spread over all"
    assert sum(billed(stack, client).values()) == 20
    told = re.search(
        r"20 of 80 rows.*All 80: about \$([\d.]+) \(95 %: \$([\d.]+) to \$([\d.]+)\)", capsys.readouterr().out
    )
    assert told is not None
    low, high = float(told[2]), float(told[3])
    assert low < float(told[1]) < high
    whole = mapped(client, rows)
    assert low * 0.98 <= whole["cost_usd"].sum() <= high * 1.02, "rounded to two digits"
    assert sum(billed(stack, client).values()) == 80


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_a_limit_is_never_passed_and_the_next_run_goes_on(stack: Stack, client: Client, share: float) -> None:
    rows = texts(25)
    upper = client.map(rows, max_tokens=20, dry_run=True).upper_usd
    assert upper is not None
    each = mapped(client, rows[:1], max_tokens=20)["cost_usd"].sum()
    limit = upper / 25 + share * 25 * each  # room for one bound beside the share
    frame = mapped(client, rows, max_tokens=20, max_cost_usd=limit)
    assert frame["cost_usd"].sum() <= limit
    left = frame[frame["status"] == "not_posted"]
    assert 0 < len(left) < 25
    assert left["error"].str.contains("max_cost_usd").all()
    more = mapped(client, rows, max_tokens=20, max_cost_usd=upper)
    assert (more["status"] == "succeeded").all()
    assert max(billed(stack, client).values()) == 1


def test_what_is_paid_already_counts_against_the_limit(stack: Stack, client: Client) -> None:
    rows = texts(10)
    paid = mapped(client, rows[5:], max_tokens=20)["cost_usd"].sum()
    frame = mapped(client, rows, max_tokens=20, max_cost_usd=paid)
    assert frame["status"].tolist() == ["not_posted"] * 5 + ["succeeded"] * 5
    elsewhere = mapped(client, rows, max_tokens=20, max_cost_usd=paid, cache=False)
    assert elsewhere["cost_usd"].sum() <= paid
    assert sum(billed(stack, client).values()) == 5


def test_the_costs_of_a_frame_are_the_meters_bill(stack: Stack, client: Client, tmp_path: Path) -> None:
    rows = [*texts(20), *texts(1) * 3, *texts(2, fault="cut")]
    frame = mapped(client, rows, n=2)
    jobs = set(frame["job_id"].dropna())
    calls = [call for call in httpx2.get(f"{stack.simulator}/meter").json()["calls"] if call["job"] in jobs]
    spent = sum(job.cost.nano_usd or 0 for job in map(client.get, jobs))
    assert round(frame["cost_usd"].sum() * 1e9) == spent
    assert len(calls) == sum(billed(stack, client).values())


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=60), st.integers(0, 1000))
def test_a_forecast_holds_what_is_spent_and_widens_with_what_is_left(costs: list[int], left: int) -> None:
    budget = MapBudget()
    for cost in costs:
        budget.settle(0, cost)
    told, done = budget.forecast(left), budget.forecast(0)
    assert told is not None
    assert done is not None
    assert done.low_nano_usd == done.nano_usd == done.high_nano_usd == budget.spent == sum(costs)
    assert budget.spent <= told.low_nano_usd <= told.nano_usd + 1
    assert told.nano_usd - 1 <= told.high_nano_usd


@given(st.floats(0.000001, 100), st.lists(st.tuples(st.integers(1, 10**8), st.floats(0, 1)), max_size=40))
def test_rows_that_fit_can_never_pass_the_limit_together(limit: float, rows: list[tuple[int, float]]) -> None:
    budget = MapBudget(limit)
    posted: list[tuple[int, int]] = []
    for bound, share in rows:
        if bound <= budget.free:
            budget.reserve(bound)
            posted.append((bound, int(bound * share)))
        elif posted:
            budget.settle(*posted.pop())
    for bound, cost in posted:
        budget.settle(bound, cost)
    assert budget.spent <= limit * 1e9
    assert budget.reserved == 0


def test_money_is_written_for_people() -> None:
    assert [dollars(nano) for nano in (0, 1, 71_400, 330_000, 12_000_000, 996_000_000, 1_234_567_890_123)] == [
        "$0", "$0.000000001", "$0.000071", "$0.00033", "$0.012", "$1.00", "$1,234.57",
    ]  # fmt: skip
    assert [dollars(nano, 3) for nano in (71_400, 330_000, 500_000_000)] == ["$0.0000714", "$0.000330", "$0.500"]
