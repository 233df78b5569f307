"""The overview on what an API may say, the hard cases included."""

from __future__ import annotations

from datetime import timedelta

import pytest
from streamlit.runtime.caching import cache_utils
from streamlit.testing.v1 import AppTest

from onceq.wire import Health, Quantiles, Totals
from onceq_dashboard.format import duration
from tests.dashboard import worlds
from tests.dashboard.conftest import Open
from tests.dashboard.fake_api import FakeApi
from tests.dashboard.pages import callouts, marks, tables, tiles

NEAR_NONSENSE = ("nan", "None", "NaT", "inf", "null")


def titles(page: AppTest) -> list[str]:
    return [m.value for m in page.markdown if m.value.startswith("**")]


def test_the_numbers_are_those_of_the_api(api: FakeApi, open_page: Open) -> None:
    page, stats = open_page("overview"), api.world.stats
    shown = tiles(page)
    assert {k: shown[k] for k in ("Queued", "Running", "Dead letters")} == {
        "Queued": "17", "Running": "12", "Dead letters": "4",
    }  # fmt: skip
    assert marks(page)["Queued"] == "2 delayed"
    assert (shown["Oldest waiting"], shown["Slots in use"]) == ("4.20 s", "12 of 64")
    assert shown["Jobs"] == f"{stats.last_24h.jobs:,}"
    assert shown["Retries"] == str(stats.last_24h.retries)
    assert shown["Spent"] == f"${stats.last_24h.spent_nano_usd / 1e9:.2f}"
    ttft = stats.last_24h.ttft
    assert (shown["ttft p50"], shown["ttft p95"]) == (duration(ttft.p50), duration(ttft.p95))
    assert shown["Bill amplification"] == "1.00×"


def test_one_look_takes_one_reading_of_each_kind(
    api: FakeApi, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_utils, "TTLCACHE_TIMER", lambda: 0.0)  # a look that takes long is one look all the same
    open_page("overview")
    assert sorted(target.partition("?")[0] for target in api.seen) == [
        "GET /readyz", "GET /v1/budgets", "GET /v1/costs", "GET /v1/keys/self", "GET /v1/lanes", "GET /v1/stats",
    ]  # fmt: skip


def test_all_is_well_says_no_more_than_was_looked_at(open_page: Open) -> None:
    page = open_page("overview")
    assert [s.value for s in page.success] == [
        "**All is well.** Accepted jobs are safe, workers are alive, no job has waited 5 min, and fewer than 5 % of "
        "the jobs that ended in the last hour or two failed."
    ]


def test_trouble_comes_before_the_numbers_and_the_numbers_stay(api: FakeApi, open_page: Open) -> None:
    api.world = worlds.degraded()
    page = open_page("overview")
    said = page.warning[0].value
    for words in ("Durability is relaxed", "held back by the provider", "Paused by hand", "has waited 31 min 40 s"):
        assert words in said
    assert tiles(page)["Queued"] == "17"


def test_every_chart_says_what_it_counts_and_over_which_time(open_page: Open) -> None:
    about = [t for t in titles(open_page("overview")) if t.split(" :gray")[0] not in {"**Models**", "**Workers**"}]
    assert [t.split(" :gray")[0] for t in about] == [
        "**Jobs that ended**", "**Time to first token**", "**Spent by model**", "**Why jobs had no answer**",
    ]  # fmt: skip
    assert all("last 24 h" in t for t in about)


def test_where_no_job_had_a_token_no_empty_chart_is_drawn(api: FakeApi, open_page: Open) -> None:
    points = [p.model_copy(update={"totals": p.totals.model_copy(update={"ttft": Quantiles()})})
              for p in worlds.make_hours(worlds.now(), 1)]  # fmt: skip
    api.world.stats = worlds.make_stats(points)
    page = open_page("overview")
    assert "No job had a token in this time." in [c.value for c in page.caption]
    assert [t.split("**")[1] for t in titles(page)][-3:-1] == ["Time to first token", "Spent by model"]
    assert len(page.get("vega_lite_chart")) == 2, "jobs and money"


def test_an_empty_queue_says_how_to_make_the_first_job_and_draws_nothing(api: FakeApi, open_page: Open) -> None:
    api.world = worlds.empty()
    page = open_page("overview")
    assert page.info[0].value.startswith("No jobs in the last 24 hours.")
    assert "onceq ask" in page.code[0].value
    assert api.url in page.code[1].value
    assert not page.get("vega_lite_chart")
    assert "Spent" not in tiles(page)


def test_simulated_work_is_marked_on_every_amount(api: FakeApi, open_page: Open) -> None:
    api.world = worlds.simulated()
    page = open_page("overview")
    assert page.warning[0].value.startswith("**SIMULATED.**")
    money = {label: mark for label, mark in marks(page).items() if tiles(page)[label].startswith("$")}
    assert money == dict.fromkeys(("Spent today", "Spent", "Cost per job", "Wasted", "Avoided"), "simulated")
    assert "Last 24 hours, simulated" in [s.value for s in page.subheader]


def test_what_was_spent_today_stands_against_the_budget_for_a_day(api: FakeApi, open_page: Open) -> None:
    api.world.budgets = [worlds.make_budget(), worlds.make_budget("all", 10, 6.5, period="day")]
    page = open_page("overview")
    assert marks(page)["Spent today"] == "85.0 % of $10.00"
    assert "Of the budget `all`: \\$8.50 of \\$10.00 a day" in about(page, "Spent today")


def test_without_a_day_s_budget_a_month_s_is_taken_by_the_day_and_one_for_a_part_of_the_work_never_is(
    api: FakeApi, open_page: Open
) -> None:
    at = api.world.stats.at.replace(month=4, day=3)
    api.world.stats = worlds.make_stats(worlds.make_hours(at), at)
    api.world.budgets = [worlds.make_budget("part", 9, 1, period="day", team="search"), worlds.make_budget("m", 90)]
    page = open_page("overview")
    spent = float(tiles(page)["Spent today"].removeprefix("$"))
    share, rest = marks(page)["Spent today"].split(" % ")
    assert rest == "of $3.00"
    assert "a day's part of its \\$90.00 a month is \\$3.00" in about(page, "Spent today")
    assert abs(float(share) - 100 * spent / 3) < 1
    api.world.budgets = []
    api.forget()
    assert marks(open_page("overview"))["Spent today"] == ""


def about(page: AppTest, label: str) -> str:
    """What a tile says when somebody asks."""
    return next(str(metric.help) for metric in page.metric if metric.label == label)


def test_real_and_simulated_work_are_never_in_one_sum(api: FakeApi, open_page: Open) -> None:
    real, simulated = worlds.busy(), worlds.simulated()
    api.world = real
    real.stats = worlds.make_stats([*real.stats.hours, *simulated.stats.hours], real.stats.at)
    page = open_page("overview")
    spent = {"Real": tiles(page)["Spent"]}
    assert marks(page)["Spent"] == ""
    page.button_group(key="overview_kind").select("Simulated").run()
    spent["Simulated"] = tiles(page)["Spent"]
    assert marks(page)["Spent"] == "simulated"
    assert spent["Real"] == f"${real.stats.last_24h.spent_nano_usd / 1e9:.2f}"
    assert spent["Simulated"] == f"${real.stats.last_24h_simulated.spent_nano_usd / 1e9:.3f}"


def test_unpriced_calls_are_told_and_are_no_zero(api: FakeApi, open_page: Open) -> None:
    stats = api.world.stats
    api.world.stats = stats.model_copy(update={"last_24h": worlds.make_totals(5, unpriced_calls=3)})
    page = open_page("overview")
    assert any(c.value.startswith("3 calls of unknown price: in no sum of money here.") for c in page.caption)
    assert tiles(page)["Spent"].startswith("≥ $")


def test_nothing_that_is_missing_shows_as_a_word_of_python(api: FakeApi, open_page: Open) -> None:
    at = worlds.now()
    bare = worlds.CostPoint(at=at.replace(minute=0, second=0, microsecond=0), model="p/m", totals=Totals(jobs=1))
    api.world.stats = worlds.make_stats([bare], at)
    page = open_page("overview")
    assert tiles(page)["ttft p95"] == tiles(page)["Oldest waiting"] == "—"
    assert not [v for v in tiles(page).values() if any(word in v for word in NEAR_NONSENSE)]


def test_jobs_without_failures_have_words_instead_of_an_empty_chart(api: FakeApi, open_page: Open) -> None:
    totals = worlds.make_totals(9, causes={}, cancelled=0, failed=0)
    api.world.stats = api.world.stats.model_copy(update={"last_24h": totals})
    assert "Every job that ended has an answer." in [c.value for c in open_page("overview").caption]


def test_an_api_that_is_away_from_the_start_is_one_sentence(open_page: Open) -> None:
    page = open_page("overview", url="http://127.0.0.1:9")
    assert callouts(page) == ["onceq's API at `http://127.0.0.1:9` does not answer: is `onceq up` running?"]
    assert not page.metric


def test_an_api_that_goes_away_leaves_the_last_numbers_and_says_how_old_they_are(api: FakeApi, open_page: Open) -> None:
    page = open_page("overview")
    with api.away():
        page.run()
        assert page.error[0].value.startswith("**Down.**")
        assert "The numbers below are those of" in page.error[0].value
        assert tiles(page)["Queued"] == "17"
    page.run()
    assert not page.error


def test_a_key_that_is_not_known_shows_no_numbers_and_never_itself(api: FakeApi, open_page: Open) -> None:
    page = open_page("overview", key="oq_wrong_secret")
    assert callouts(page) == [f"onceq's API at `{api.url}` does not know the key of this test."]
    assert "oq_wrong_secret" not in str(page.main)


def test_a_key_that_may_not_read_is_told_so(api: FakeApi, open_page: Open) -> None:
    api.scopes = set()
    assert callouts(open_page("overview")) == ["The key of this test may not do that: This key lacks the scope read\\."]


def test_a_service_that_is_not_ready_is_down_whatever_its_numbers(api: FakeApi, open_page: Open) -> None:
    api.world.health = Health(status="unavailable", problems=["Redis does not answer"])
    assert open_page("overview").error[0].value == "**Down.** The service is not ready: Redis does not answer."


@pytest.mark.parametrize("workers", [0, 2])
def test_without_workers_the_page_is_down_and_shows_no_list(api: FakeApi, open_page: Open, workers: int) -> None:
    some = [worlds.make_worker(n) for n in range(workers)]
    api.world.stats = api.world.stats.model_copy(update={"workers": some, "fleet": worlds.make_fleet(workers)})
    page = open_page("overview")
    assert bool(page.error) == (workers == 0)
    assert any("capacity" in table.columns for table in tables(page)) == (workers > 0)


def test_who_may_not_see_the_workers_sees_how_many_they_are(api: FakeApi, open_page: Open) -> None:
    api.world.stats = api.world.stats.model_copy(update={"workers": []})
    page = open_page("overview")
    assert not page.error
    assert "12 of 64" in [m.value for m in page.metric]
    assert not any("capacity" in table.columns for table in tables(page))
    assert any("only an operator sees" in c.value for c in page.caption)


def test_where_nothing_is_held_back_no_column_is_left_empty_for_its_reasons(open_page: Open) -> None:
    lanes = tables(open_page("overview"))[0]
    assert list(lanes.columns) == ["lane", "state", "running", "limits"]
    assert lanes["limits"].tolist() == ["500 requests/min"] * 3


def test_lanes_and_workers_are_shown_with_what_holds_them_back(api: FakeApi, open_page: Open) -> None:
    api.world.lanes = worlds.degraded().lanes
    lanes, workers = tables(open_page("overview"))[:2]
    assert lanes["lane"].tolist() == sorted(worlds.MODELS[:2])
    assert [state[:10] for state in lanes["state"]] == ["paused", "braked for"]
    assert lanes["why"].tolist() == ["", "provider_rate_limited"]
    assert workers["capacity"].tolist() == [32, 32]


def test_who_may_pauses_a_model_and_a_band_and_resumes_them(api: FakeApi, open_page: Open) -> None:
    assert any("scope `operator`" in c.value for c in open_page("overview").caption)
    api.scopes.add("operator")
    api.forget()
    page = open_page("overview")
    page.selectbox(key="lanes_lane").select(worlds.MODELS[1]).run()
    page.selectbox(key="lanes_band").select("batch").run()
    page.button(key="lanes_pause").click().run()
    assert [x.lane for x in api.world.lanes.lanes if x.paused] == [worlds.MODELS[1]]
    assert api.world.lanes.paused_bands == ["batch"]
    assert tables(page)[0]["state"].tolist() == ["paused", "open", "open"]
    assert page.selectbox(key="lanes_lane").options == tables(page)[0]["lane"].tolist()
    page.button(key="lanes_resume").click().run()
    assert not any(x.paused for x in api.world.lanes.lanes)
    assert not api.world.lanes.paused_bands


def test_tokens_a_second_are_those_that_were_booked_while_the_page_was_open(api: FakeApi, open_page: Open) -> None:
    at = api.world.stats.at.replace(minute=30)  # the hour's last moments are too few
    api.world.stats = worlds.make_stats(worlds.make_hours(at), at)
    page = open_page("overview")
    then = api.world.stats
    newest = then.hours[-1]
    more = newest.totals.model_copy(update={"output_tokens": newest.totals.output_tokens + 500})
    hours = [*then.hours[:-1], newest.model_copy(update={"totals": more})]
    api.world.stats = then.model_copy(update={"at": then.at + timedelta(seconds=20), "hours": hours})
    api.forget()
    page.run()
    assert tiles(page)["Tokens out"] == "25 /s"


def test_the_six_questions_of_a_manager_are_answered(open_page: Open) -> None:
    asked = [c.value.removeprefix(":orange[:material/flag:] ") for c in open_page("overview").caption]
    assert [q for q in asked if q.endswith("?")] == [
        "Where does the money go?", "What was wasted, and why?", "What did the queue save?", "Will we stay in budget?",
        "Why is it slow?", "Who is to blame?",
    ]  # fmt: skip


def test_a_growing_queue_is_seen_by_a_page_that_stays_open(api: FakeApi, open_page: Open) -> None:
    page = open_page("overview")
    then = api.world.stats
    later = then.depth.model_copy(update={"queued": 90})
    api.world.stats = then.model_copy(update={"at": then.at + timedelta(seconds=45), "depth": later})
    api.forget()
    page.run()
    assert "The queue is growing: 73 more jobs than 45 s ago." in page.warning[0].value
