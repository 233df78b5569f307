"""What asking again will cost: the mean of an answer of the same model, never a guess where nothing is known."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from onceq.wire import CostPoint, Totals
from onceq_dashboard.estimate import Estimate, bill, of_replay, prices
from tests.dashboard import worlds


def point(model: str, spent: int, answers: int, *, simulated: bool = False, unpriced: int = 0) -> CostPoint:
    totals = Totals(spent_nano_usd=spent, succeeded=answers, unpriced_calls=unpriced)
    return CostPoint(at=worlds.now(), model=model, simulated=simulated, totals=totals)


def test_an_answer_costs_what_its_model_cost_over_all_days_wasted_calls_included() -> None:
    points = [point("p/a", 900, 2), point("p/a", 101, 1), point("p/a", 60, 6, simulated=True), point("p/b", 5, 5)]
    assert prices(points) == {("p/a", False): Fraction(1001, 3), ("p/a", True): 10, ("p/b", False): 1}


def test_a_model_without_an_answer_or_with_unpriced_calls_has_no_price() -> None:
    assert not prices([point("p/a", 900, 0), point("p/b", 900, 9, unpriced=1)])


def test_real_and_simulated_bills_are_apart_and_unknown_models_are_counted() -> None:
    jobs = [
        worlds.make_job(1, model="p/a"), worlds.make_job(2, model="p/a", simulated=True), worlds.make_job(3, model="?"),
    ]  # fmt: skip
    price = {("p/a", False): Fraction(1001, 3), ("p/a", True): Fraction(10)}
    assert of_replay(jobs, price) == Estimate(334, 10, 2, 1)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10**12), st.integers(0, 99)), max_size=30))
def test_asking_every_answered_job_again_costs_what_they_cost(rows: list[tuple[str, int, int]]) -> None:
    points = [point(model, spent, answers) for model, spent, answers in rows]
    price = prices(points)
    answered = {p.model: 0 for p in points if (p.model, False) in price}
    for p in points:
        if p.model in answered:
            answered[p.model] += p.totals.succeeded
    jobs = [worlds.make_job(1, model=model) for model, number in answered.items() for _ in range(min(number, 400))]
    if all(number <= 400 for number in answered.values()):
        spent = sum(p.totals.spent_nano_usd for p in points if p.model in answered)
        assert of_replay(jobs, price).real_nano_usd == spent


def test_a_bill_says_what_is_real_what_is_simulated_and_what_is_not_known() -> None:
    assert bill(1, Estimate(250_000_000, 0, 1, 0)) == (
        "A new job with the same request, and a new bill of about \\$0.25."
    )
    assert bill(4, Estimate(0, 10_000_000, 3, 1)) == (
        "4 new jobs with the same requests, and a new bill of about \\$0.01 simulated, that nobody is billed for. "
        "Not in it: 1 job of models without an answer of known price."
    )
    assert bill(2, Estimate(0, 0, 0, 2)).endswith("and a new bill that can't be estimated.")
