"""Latency on what an API may say: by model and band over time, by phase, by verdict; and a job's own phases."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from onceq.wire import CostPoint, Timings
from onceq.wire.phases import PHASES, VERDICTS, Phases
from onceq_dashboard import frames, latency, latency_charts
from onceq_dashboard.format import count, duration
from onceq_dashboard.views.latency import NO_PHASES, NO_VERDICTS
from tests.dashboard import golden, worlds
from tests.dashboard.conftest import Open
from tests.dashboard.fake_api import FakeApi
from tests.dashboard.pages import callouts, markdown, tables, tiles

AT = datetime(2026, 11, 24, 14, 35, 12, tzinfo=UTC)
POINTS = worlds.make_hours(AT, 3)
HOURS = frames.hours(POINTS, AT, count=3)


def without_phases(points: list[CostPoint]) -> list[CostPoint]:
    bare = {"phases": dict[str, float](), "verdicts": dict[str, int]()}
    return [p.model_copy(update={"totals": p.totals.model_copy(update=bare)}) for p in points]


def test_the_frames_are_as_they_were_read() -> None:
    golden.check("quantiles_by_hour", latency.quantiles_by_hour(POINTS, HOURS, "model"))
    golden.check("latency_by_band", latency.by_group(POINTS, "band"))
    golden.check("phases_by_hour", latency.phases_by_hour(POINTS, HOURS))
    golden.check("verdicts_by_hour", latency.verdicts_by_hour(POINTS, HOURS))
    golden.check("waterfall", latency.waterfall(worlds.make_job(1)))


def test_every_phase_of_the_contract_is_in_one_part_and_every_verdict_has_words() -> None:
    assert sorted(latency.PART_OF) == sorted(PHASES)
    assert tuple(latency.VERDICT_WORDS) == VERDICTS


def test_the_parts_of_an_hour_add_up_to_its_jobs_seconds() -> None:
    frame = latency.phases_by_hour(POINTS, HOURS)
    for hour in HOURS:
        totals = [p.totals for p in POINTS if p.at == hour]
        ended = sum(t.succeeded + t.failed + t.cancelled + t.expired for t in totals)
        seconds = sum(sum(t.phases.values()) for t in totals)
        assert frame.loc[frame["hour"] == hour, "seconds"].sum() == pytest.approx(seconds / ended)


def test_the_bars_of_a_waterfall_follow_each_other_and_end_with_the_job() -> None:
    job = worlds.make_job(1)
    frame = latency.waterfall(job)
    assert frame["from_s"].tolist()[1:] == frame["to_s"].tolist()[:-1]
    assert frame["to_s"].iloc[-1] == pytest.approx(job.timings.total_s)


def test_a_phase_that_took_no_time_has_no_bar() -> None:
    job = worlds.make_job(1, timings=Timings(phases=Phases(queue_s=1.5, generation_s=2.0), total_s=3.5))
    assert latency.waterfall(job)["phase"].tolist() == ["queue", "generation"]


CHARTS = {
    "quantile": latency_charts.quantile(latency.quantiles_by_hour(POINTS, HOURS, "model"), "ttft_p95_s", "Model", 1),
    "phases": latency_charts.phases(latency.phases_by_hour(POINTS, HOURS), 7),
    "verdicts": latency_charts.verdicts(latency.verdicts_by_hour(POINTS, HOURS), 1),
    "waterfall": latency_charts.waterfall(latency.waterfall(worlds.make_job(1))),
}


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_fits_the_schema_and_holds_its_data(name: str) -> None:
    assert next(iter(CHARTS[name].to_dict()["datasets"].values()))


MANY = [p.model_copy(update={"model": f"p/m{n}", "totals": worlds.make_totals(n + 1)})
        for n in range(9) for p in POINTS[::3]]  # fmt: skip


def test_of_many_models_those_with_most_jobs_are_drawn_whatever_they_are_called() -> None:
    frame = latency.quantiles_by_hour(MANY, HOURS, "model")
    drawn = latency_charts.quantile(frame, "ttft_p95_s", "Model", 1).to_dict()["encoding"]["color"]["scale"]["domain"]
    assert drawn == [f"p/m{n}" for n in range(8, 1, -1)]


def test_a_chart_that_draws_some_of_the_models_says_which(api: FakeApi, open_page: Open) -> None:
    def said() -> bool:
        api.forget()
        return any("last 24 hours; the 7 models with most jobs" in text for text in markdown(open_page("latency")))

    assert not said()
    at = api.world.stats.at
    api.world.stats = worlds.make_stats([p.model_copy(update={"at": p.at + (at - AT)}) for p in MANY], at)
    assert said()


def test_an_axis_of_jobs_has_whole_numbers_of_them() -> None:
    axis = CHARTS["verdicts"].to_dict()["encoding"]["y"]["axis"]
    assert axis["tickMinStep"] == 1


@pytest.mark.parametrize("simulated", [True, False])
def test_times_of_the_simulator_are_called_so(api: FakeApi, open_page: Open, *, simulated: bool) -> None:
    api.world = worlds.simulated() if simulated else worlds.busy()
    said = [caption.value for caption in open_page("latency").caption]
    assert any("How long the built-in simulator took" in words for words in said) == simulated


def test_the_page_has_either_quantile_by_model_phases_and_verdicts(open_page: Open) -> None:
    page = open_page("latency")
    assert titles(page) == ["ttft p95", "Total p95", "Where the time goes", "Who is to blame"]
    page.button_group(key="latency_quantile").select("p50").run()
    assert titles(page)[:2] == ["ttft p50", "Total p50"]
    assert set(tables(page)[-1]["group"]) == set(worlds.MODELS)


def test_a_picked_model_is_alone_and_bands_are_told_apart(open_page: Open) -> None:
    page = open_page("latency")
    page.selectbox(key="latency_model").select(worlds.MODELS[1]).run()
    assert tables(page)[-1]["group"].tolist() == [worlds.MODELS[1]]
    page.button_group(key="latency_by").select("Band").run()
    assert tables(page)[-1]["group"].tolist() == ["standard"]


def test_the_numbers_at_the_top_are_those_of_what_is_picked(open_page: Open) -> None:
    page = open_page("latency")
    page.selectbox(key="latency_model").select(worlds.MODELS[1]).run()
    [row] = tables(page)[-1].to_dict("records")
    shown = tiles(page)
    assert [shown[name] for name in ("ttft p50", "ttft p95", "Total p50", "Total p95")] == [
        duration(row[name]) for name in ("ttft_p50_s", "ttft_p95_s", "total_p50_s", "total_p95_s")
    ]
    assert shown["Jobs"] == count(row["jobs"])
    assert shown["Slow or failed"].endswith(" %")


def titles(page: AppTest) -> list[str]:
    return [m.value.split("**")[1] for m in page.markdown if m.value.startswith("**")]


def test_what_is_picked_is_in_the_address_to_send_on(open_page: Open) -> None:
    page = open_page(
        "latency", query={"latency_model": worlds.MODELS[1], "latency_by": "Band", "latency_quantile": "p50"}
    )
    assert page.selectbox(key="latency_model").value == worlds.MODELS[1]
    assert tables(page)[-1]["group"].tolist() == ["standard"]
    assert page.button_group(key="latency_quantile").value == "p50"


def test_a_week_is_read_by_hour(api: FakeApi, open_page: Open) -> None:
    page = open_page("latency", data=["ttft_p95_s"])
    page.button_group(key="latency_period").select("7 days").run()
    frame: pd.DataFrame = tables(page)[0]
    assert frame["hour"].nunique() == 7 * 24
    assert all("interval=hour" in target for target in api.seen if "/v1/costs" in target)


def test_jobs_of_an_older_service_are_told_as_what_they_are(api: FakeApi, open_page: Open) -> None:
    api.world.stats = worlds.make_stats(without_phases(api.world.stats.hours), api.world.stats.at)
    said = markdown(open_page("latency"))
    assert NO_PHASES in said
    assert NO_VERDICTS in said


def test_a_job_s_page_shows_its_phases_and_who_is_to_blame(api: FakeApi, open_page: Open) -> None:
    api.world.jobs = [worlds.make_job(1), worlds.make_job(2, timings=Timings(total_s=8.4))]
    page = open_page("jobs", query={"job": worlds.job_id(1)}, data=["waterfall"])
    assert tables(page)[0]["seconds"].sum() == pytest.approx(8.4)
    assert any("**the provider was slow**" in text for text in markdown(page))
    older = open_page("jobs", query={"job": worlds.job_id(2)})
    assert "This job tells no phases: it ended under an older onceq." in markdown(older)


def test_without_jobs_the_page_says_how_to_begin(api: FakeApi, open_page: Open) -> None:
    api.world = worlds.empty()
    assert callouts(open_page("latency")) == ["No jobs in the last 24 hours. Submit one, and it appears here:"]
