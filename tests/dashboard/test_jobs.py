"""The table of jobs and the page of one, on what an API may say."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from onceq.wire import CancelReceipt, Cost, Waiting
from onceq_dashboard.job_filters import complete_option
from tests.dashboard import worlds
from tests.dashboard.conftest import Open, Page
from tests.dashboard.fake_api import FakeApi
from tests.dashboard.pages import callouts, marks, tables, tiles

JOB = worlds.job_id(1)


def listed(page: AppTest) -> list[str]:
    return tables(page)[0]["age"].tolist()


def only(api: FakeApi, **update: Any) -> None:
    """The API knows one job."""
    job = worlds.make_job(1, **update)
    api.world = worlds.empty()
    api.world.jobs, api.world.ledger = [job], {job.id: [worlds.make_row(job)] if job.calls else []}


def shown(open_page: Open, job_id: str = JOB) -> AppTest:
    return open_page("jobs", query={"job": job_id})


def test_the_newest_jobs_come_first_a_page_at_a_time(open_page: Open) -> None:
    page = open_page("jobs")
    assert listed(page) == [f"{n} min ago" for n in range(1, 26)]
    assert "Page 1 · 25 jobs · live, every 5 s. Click a job to open it, or press Shift+Space in its row." in [
        c.value for c in page.caption
    ]


def test_older_pages_stay_as_they_were_and_newer_comes_back_to_what_is_live(open_page: Open) -> None:
    page = open_page("jobs")
    page.button[1].click().run()
    assert listed(page) == [f"{n} min ago" for n in range(26, 51)]
    page.button[1].click().run()
    assert len(listed(page)) == 10
    assert page.button[1].disabled
    page.button[0].click().run()
    page.button[0].click().run()
    assert page.button[0].disabled
    assert listed(page)[0] == "1 min ago"


def test_a_hundred_thousand_jobs_cost_no_more_than_the_pages_that_are_looked_at(api: FakeApi, open_page: Open) -> None:
    api.world = worlds.crowded()
    page = open_page("jobs")
    page.button[1].click().run()
    page.button[1].click().run()
    assert len(listed(page)) == 25
    asked = [target for target in api.seen if target.startswith("GET /v1/jobs?")]
    assert len(asked) <= 5
    assert all("limit=25" in target for target in asked)


def test_the_overview_of_a_hundred_thousand_jobs_is_short(api: FakeApi, open_page: Open) -> None:
    api.world = worlds.crowded()
    assert tiles(open_page("overview"))["Queued"] == "100k"


def test_filters_are_asked_of_the_api(api: FakeApi, open_page: Open) -> None:
    page = open_page("jobs")
    page.selectbox(key="jobs_status").select("failed").run()
    assert set(tables(page)[0]["status"]) == {"✕ failed"}
    page.selectbox(key="jobs_team").select("search").run()
    assert set(tables(page)[0]["team"]) == {"search"}
    assert any("status=failed" in target and "team=search" in target for target in api.seen)


def test_filters_that_nothing_fits_say_so(open_page: Open) -> None:
    page = open_page("jobs")
    page.selectbox(key="jobs_status").select("expired").run()
    assert callouts(page) == ["No job fits these filters."]


def test_a_walk_that_fails_says_why_and_begins_anew(api: FakeApi, open_page: Open) -> None:
    page = open_page("jobs")
    api.refused = "/v1/jobs"
    page.button[1].click().run()
    assert callouts(page) == [f"onceq's API at `{api.url}` can't answer now: Redis does not answer\\."]
    api.refused = ""
    api.forget()
    page.run()
    assert listed(page)[0] == "1 min ago"


def test_a_search_that_has_found_nothing_yet_says_how_far_it_has_looked_and_goes_on(
    api: FakeApi, open_page: Open
) -> None:
    api.barren = 6  # the first page looks once, a step back four times: two steps find the jobs behind
    page = open_page("jobs", query={"search": "step=summary"})
    day = api.world.stats.at - timedelta(days=1)
    for _ in range(2):
        assert callouts(page) == [
            f"Looked back to {day:%Y-%m-%d %H:%M}: nothing on this page fits. Older jobs may: go on looking."
        ]
        assert page.button(key="jobs_older").label == "Go on looking"
        page.button(key="jobs_older").click().run()
    assert len(listed(page)) == 25


def test_what_is_typed_is_a_user_or_a_label_and_stands_in_the_address(api: FakeApi, open_page: Open) -> None:
    page = open_page("jobs")
    page.text_input(key="jobs_search").input("ann").run()
    assert callouts(page) == ["No job fits these filters."]
    assert page.query_params["search"] == "ann"
    page.text_input(key="jobs_search").input("step=summary").run()
    assert len(listed(page)) == 25
    assert [target for target in api.seen if "label=step%3Dsummary" in target or "user=ann" in target]
    page.text_input(key="jobs_search").input("").run()
    assert "search" not in page.query_params


def test_the_address_filters_and_words_in_it_that_are_no_filter_do_nothing(api: FakeApi, open_page: Open) -> None:
    query = {"band": "batch", "verdict": "queue", "when": "last hour", "key": "key_1", "status": "<b>", "x": "y"}
    open_page("jobs", query=query)
    asked = next(target for target in api.seen if target.startswith("GET /v1/jobs?"))
    assert all(word in asked for word in ("band=batch", "verdict=queue", "key=key_1", "since="))
    assert "status" not in asked


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("search", "search"), ("SEAR", "search"), ("team's", "key_1"), ("nobody", "nobody"), ("e", "e")],
)
def test_a_part_of_a_name_is_completed_where_one_alone_has_it(typed: str, meant: str) -> None:
    assert complete_option(typed, {"search": "search", "research": "growth", "key_1": "the team's"}) == meant


def test_who_may_know_them_sees_the_names_of_api_keys_to_filter_by(api: FakeApi, open_page: Open) -> None:
    assert open_page("jobs").selectbox(key="jobs_key").options == ["key_1"]
    api.scopes.add("admin")
    api.forget()
    page = open_page("jobs")
    assert page.selectbox(key="jobs_key").options == ["this test's"]
    page.selectbox(key="jobs_key").select("key_1").run()
    assert page.query_params["key"] == "key_1"
    assert any("key=key_1" in target for target in api.seen)


def test_the_field_opens_the_job_that_is_typed(open_page: Open) -> None:
    page = open_page("jobs")
    page.text_input(key="jobs_search").input(f" {JOB} ").run()
    assert page.query_params["job"] == JOB
    assert f"`{JOB}`" in [m.value for m in page.markdown]


def test_a_job_shows_what_it_took_cost_and_said(api: FakeApi, open_page: Open) -> None:
    only(api)
    page = shown(open_page)
    assert tiles(page) == {
        "Waited": "400 ms", "ttft": "1.12 s", "Provider's ttft": "720 ms", "Generation": "7.28 s", "Total": "8.40 s",
        "Calls / tries": "1 / 1", "Cost": "$0.000304", "Wasted": "$0", "Tokens in": "812", "Cached": "128",
        "Tokens out": "304", "Reasoning": "0",
    }  # fmt: skip
    assert page.text[0].value == "The answer of job 1."
    assert tables(page)[-1]["spent_usd"].tolist() == [0.00030435]


def test_a_job_that_runs_shows_its_text_so_far_and_what_is_unknown_as_a_dash(api: FakeApi, open_page: Open) -> None:
    only(api, status="running", output=worlds.Output(text="So far"))
    page = shown(open_page)
    assert page.text[0].value == "So far"
    assert "Answer so far" in [s.value for s in page.subheader]
    assert tiles(page)["Total"] == tiles(page)["Tokens out"] == "—"
    assert "Cost so far" in tiles(page)


def test_estimated_tokens_and_unpriced_calls_are_marked(api: FakeApi, open_page: Open) -> None:
    usage = worlds.Usage(input_tokens=812, output_tokens=304, estimated=True)
    only(api, usage=usage, cost=Cost(nano_usd=None, usd=None, priced=False))
    shown_tiles = tiles(shown(open_page))
    assert (shown_tiles["Tokens in"], shown_tiles["Cost"]) == ("≈ 812", "unknown")


def test_a_simulated_job_is_marked_on_the_page_and_on_its_cost(api: FakeApi, open_page: Open) -> None:
    only(api, simulated=True)
    page = shown(open_page)
    assert page.warning[0].value.startswith("**SIMULATED.**")
    assert marks(page)["Cost"] == marks(page)["Wasted"] == "simulated"


def test_a_failed_job_says_why_and_whether_trying_again_may_help(api: FakeApi, open_page: Open) -> None:
    only(api, status="failed")
    page = shown(open_page)
    assert page.error[0].value == "This job ended as **failed** with `provider_overloaded`. Trying again may help."
    assert page.text[0].value == "The provider is overloaded (529)."


def test_a_job_that_waits_says_why_and_until_when(api: FakeApi, open_page: Open) -> None:
    only(api, status="queued", waiting=Waiting(reason="provider_rate_limited", until=worlds.now()))
    said = shown(open_page).info[0].value
    assert said.startswith("It waits because of `provider_rate_limited`, at least until ")


def test_a_cancelled_job_shows_its_receipt(api: FakeApi, open_page: Open) -> None:
    receipt = CancelReceipt(
        output_tokens=40, spent_nano_usd=24_000, estimated=True, may_still_bill=True, saved_nano_usd=None
    )
    only(api, status="cancelled", receipt=receipt)
    assert shown(open_page).info[0].value == (
        "Cancelled after about 40 tokens that cost \\$0.000024. The provider may bill more than that: it had begun."
    )


def test_cancelling_asks_first_and_then_shows_the_end(api: FakeApi, open_page: Open) -> None:
    only(api, status="running")
    api.scopes = {"read", "cancel"}
    page = shown(open_page)
    next(b for b in page.button if b.label == "Cancel this job").click().run()
    assert f"POST /v1/jobs/{JOB}/cancel" in api.seen
    assert "`cancelled`" in page.error[0].value
    assert "Cancel this job" not in [b.label for b in page.button]


def test_asking_again_opens_the_new_job(api: FakeApi, open_page: Open) -> None:
    only(api, status="failed")
    api.scopes = {"read", "submit"}
    page = shown(open_page)
    next(b for b in page.button if b.label == "Ask again now").click().run()
    again = api.world.jobs[0]
    assert page.query_params["job"] == again.id
    assert again.retry_of == JOB
    assert JOB in [t.value for t in page.text]


@pytest.mark.parametrize(("status", "button"), [("running", "Cancel this job"), ("failed", "Ask again now")])
def test_a_key_without_the_scope_is_told_and_not_asked_again(
    api: FakeApi, open_page: Open, status: str, button: str
) -> None:
    only(api, status=status)
    api.scopes = {"read"}
    page = shown(open_page)
    next(b for b in page.button if b.label == button).click().run()
    assert "lacks the scope" in page.toast[0].value
    assert api.world.jobs[0].status == status
    assert len(api.world.jobs) == 1


def test_a_job_that_is_not_there_is_said_in_one_sentence_also_for_a_foreign_one(open_page: Open) -> None:
    page = shown(open_page, "job_of_somebody_else")
    assert callouts(page) == ["There is no such job for the key of this test, or its time is over."]


def test_a_very_long_answer_is_cut_and_says_so(api: FakeApi, open_page: Open) -> None:
    only(api, output=worlds.Output(text="x" * 150_000))
    page = shown(open_page)
    assert len(page.text[0].value) == 100_000
    assert "The first 100,000 of 150,000 characters." in [c.value for c in page.caption]


def test_going_back_leaves_the_job(open_page: Open) -> None:
    page = shown(open_page)
    page.button[0].click().run()
    assert "job" not in page.query_params
    assert len(listed(page)) == 25


@pytest.mark.parametrize(("name", "job"), [("overview", ""), ("jobs", ""), ("jobs", worlds.job_id(2)), ("cost", "")])
def test_every_table_shows_what_is_missing_as_a_dash(open_page: Open, name: Page, job: str) -> None:
    page = open_page(name, query={"job": job} if job else {})
    assert page.dataframe
    assert {table.proto.placeholder for table in page.dataframe} == {"—"}


def test_a_job_s_page_says_until_when_it_is_kept(api: FakeApi, open_page: Open) -> None:
    api.world.jobs = [worlds.make_job(2, expires_at=worlds.now())]
    captions = [c.value for c in open_page("jobs", query={"job": worlds.job_id(2)}).caption]
    assert "kept until" in captions
    assert "expires" not in captions
