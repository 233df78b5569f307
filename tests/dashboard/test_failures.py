"""Dead letters on what an API may say: by cause, asked again one by one or all that fit, with what it will cost."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from onceq_dashboard import frames
from onceq_dashboard.format import usd
from onceq_dashboard.views import parts
from tests.dashboard import golden, worlds
from tests.dashboard.conftest import Open
from tests.dashboard.fake_api import FakeApi
from tests.dashboard.pages import callouts, tables, tiles

AT = datetime(2026, 11, 24, 14, 35, 12, tzinfo=UTC)


@pytest.fixture
def letters(api: FakeApi) -> FakeApi:
    api.world = worlds.failing()
    api.scopes = {"read", "submit"}
    return api


def ask_again(page: AppTest) -> None:
    next(b for b in page.button if b.label.endswith("again now")).click().run()


def asked_again(api: FakeApi) -> list[str]:
    return [j.retry_of for j in api.world.jobs if j.retry_of]


def test_the_frame_of_dead_letters_is_as_it_was_read() -> None:
    made = [
        letter.model_copy(update={"finished_at": AT - timedelta(minutes=n)})
        for n, letter in enumerate(worlds.make_letters(9))
    ]
    price = {(worlds.MODELS[0], False): Fraction(1_000_001, 3)}
    golden.check("letter_table", frames.letter_table(made, price, AT))
    golden.check("letter_causes", frames.letter_causes(made))


def test_dead_letters_are_told_by_cause_in_a_chart_and_in_a_table(letters: FakeApi, open_page: Open) -> None:
    page = open_page("failures", data=["letters"])
    causes, table = tables(page)
    codes = Counter(j.error.code for j in worlds.make_letters() if j.error)
    assert dict(zip(causes["code"], causes["jobs"], strict=True)) == codes
    assert Counter(table["code"]) == codes
    assert tiles(page)["Dead letters"] == "23"


def test_asking_again_tells_before_what_such_answers_have_cost(letters: FakeApi, open_page: Open) -> None:
    page = open_page("failures")
    week = [p for p in letters.world.days if p.at > letters.world.stats.at - timedelta(days=7)]
    sums = {m: [p.totals for p in week if p.model == m] for m in worlds.MODELS}
    price = {m: sum(t.spent_nano_usd for t in ts) / sum(t.succeeded for t in ts) for m, ts in sums.items()}
    expected = usd(round(sum(price[j.model] for j in worlds.make_letters())))
    assert tiles(page)["Asking again"] == f"≈ {expected}"
    said = next(m.value for m in page.markdown if "new jobs" in m.value)
    assert said == f"23 new jobs with the same requests, and a new bill of about {expected}.".replace("$", "\\$")


def test_all_that_fit_a_filter_are_asked_again_and_no_other(letters: FakeApi, open_page: Open) -> None:
    page = open_page("failures")
    page.selectbox(key="failures_cause").select("provider_timeout").run()
    wanted = {j.id for j in worlds.make_letters() if j.error and j.error.code == "provider_timeout"}
    assert set(tables(page)[0]["code"]) == {"provider_timeout"}
    ask_again(page)
    assert set(asked_again(letters)) == wanted
    assert page.success[0].value.startswith(f"{len(wanted)} jobs asked again")
    assert letters.seen.count("POST /v1/jobs/replay") == 1


def test_no_more_are_asked_again_than_the_page_has_shown(letters: FakeApi, open_page: Open) -> None:
    letters.world = worlds.failing(140)
    page = open_page("failures")
    assert "the newest 100" in next(m.value for m in page.markdown if "Why they failed" in m.value)
    ask_again(page)
    assert len(asked_again(letters)) == 100


def test_a_key_without_the_scope_sees_why_it_may_not(letters: FakeApi, open_page: Open) -> None:
    letters.scopes = {"read"}
    page = open_page("failures")
    assert [c.value for c in page.caption if "lacks the scope `submit`" in c.value]
    assert len(tables(page)[0]) == 23, "it may look"


def test_one_letter_opens_and_tells_what_asking_it_again_costs(letters: FakeApi, open_page: Open) -> None:
    page = open_page("failures", query={"job": worlds.job_id(2)})
    assert page.button[0].label == "All failures"
    assert any("a new bill of about" in m.value for m in page.markdown)
    next(b for b in page.button if b.label == "Ask again now").click().run()
    assert asked_again(letters) == [worlds.job_id(2)]


def test_filters_are_in_the_address_and_come_from_it(letters: FakeApi, open_page: Open) -> None:
    page = open_page("failures", query={"failures_cause": "provider_timeout"})
    assert set(tables(page)[0]["code"]) == {"provider_timeout"}
    page.selectbox(key="failures_team").select("support").run()
    assert page.query_params["failures_team"] == "support"
    assert set(tables(page)[0]["team"]) == {"support"}


def test_a_filter_that_fits_nothing_says_so(letters: FakeApi, open_page: Open) -> None:
    page = open_page("failures")
    page.selectbox(key="failures_cause").select("provider_rate_limited").run()
    page.selectbox(key="failures_model").select(worlds.MODELS[1]).run()
    assert callouts(page) == ["No dead letter fits these filters."]
    assert len(page.get("vega_lite_chart")) == 1, "the causes stay"


def test_few_letters_leave_no_empty_rows_and_many_are_scrolled() -> None:
    def high(letters: int) -> int:
        return parts.at_most(420, pd.DataFrame({"job": ["job_1"] * letters}))

    assert [high(letters) for letters in (1, 2, 100)] == [72, 107, 420]


def test_without_a_dead_letter_the_page_says_that_this_is_good(api: FakeApi, open_page: Open) -> None:
    api.world = worlds.empty()
    assert callouts(open_page("failures")) == [
        "No dead letters: every job that failed was asked again, or none failed."
    ]


def test_an_api_that_is_away_is_one_sentence(open_page: Open) -> None:
    assert "does not answer" in callouts(open_page("failures", url="http://127.0.0.1:9"))[0]
