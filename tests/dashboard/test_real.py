"""The pages on the answers of a real stack, the simulator behind it: what they show is what was answered and billed."""

from __future__ import annotations

from collections.abc import Callable, Generator

import pytest
from streamlit.testing.v1 import AppTest

from onceq import Client, Job, JobFailed
from onceq_dashboard import frames
from onceq_dashboard.format import count, duration, usd
from tests.dashboard.conftest import Page, run_page
from tests.dashboard.pages import marks, tables, tiles
from tests.stack import Stack
from tests.waiting import wait_until

TENANT = "dashboard"
OpenReal = Callable[..., AppTest]


@pytest.fixture(scope="module")
def client(stack: Stack) -> Generator[Client]:
    with Client(base_url=stack.url, api_key=stack.key(TENANT)) as opened:
        yield opened


@pytest.fixture(scope="module")
def jobs(client: Client) -> list[Job]:
    """A day's work in small: three models, two teams, an answer that was asked for twice, and a failure."""
    asked = [
        ("openai/gpt-4o-mini", "search", "one [[sim tokens=20 tps=0 ttft_ms=5]]"),
        ("openai/gpt-4o-mini", "search", "one [[sim tokens=20 tps=0 ttft_ms=5]]"),
        ("anthropic/claude-haiku-4-5", "support", "two [[sim tokens=30 tps=0 ttft_ms=5]]"),
        ("bedrock/amazon.nova-lite-v1:0", None, "three [[sim tokens=40 tps=0 ttft_ms=5]]"),
    ]
    ended = [client.submit(prompt, model=model, team=team).wait() for model, team, prompt in asked]
    failing = client.submit("bad [[sim fault=400]]", model="openai/gpt-4o-mini")
    with pytest.raises(JobFailed):
        failing.result()
    return [*ended[:1], *ended[2:], client.get(failing.id)]


@pytest.fixture
def open_real(stack: Stack, jobs: list[Job]) -> OpenReal:
    """Runs one page once for the tenant."""

    def run(name: Page, query: dict[str, str] | None = None) -> AppTest:
        page = AppTest.from_function(run_page, args=(name, stack.url, stack.key(TENANT)), default_timeout=30)
        page.query_params.update(query or {})
        return page.run()

    return run


def test_the_overview_shows_the_numbers_of_stats_and_the_simulator_s_bill(
    open_real: OpenReal, client: Client, stack: Stack, jobs: list[Job]
) -> None:
    wait_until(lambda: client.stats().last_24h_simulated.failed, "the failure in the sums")
    totals, shown = client.stats().last_24h_simulated, tiles(open_real("overview"))
    billed = [row for job in jobs for row in stack.meter(job.id)]
    assert len(billed) == totals.calls == 3
    assert (shown["Jobs"], shown["Calls"], shown["Failed"]) == ("4", "3", "1")
    assert shown["Spent"] == usd(sum(job.cost.nano_usd or 0 for job in jobs)) == usd(totals.spent_nano_usd)
    assert shown["Avoided"] == usd(jobs[0].cost.nano_usd)
    assert (shown["ttft p50"], shown["ttft p95"]) == (duration(totals.ttft.p50), duration(totals.ttft.p95))
    assert (shown["Queued"], shown["Running"], shown["Dead letters"]) == ("0", "0", "1")


def test_every_amount_of_simulated_work_is_marked(open_real: OpenReal) -> None:
    page = open_real("overview")
    money = [label for label, value in tiles(page).items() if value.startswith("$")]
    assert money
    assert {marks(page)[label] for label in money} == {"simulated"}


def test_the_table_lists_the_tenant_s_jobs_newest_first_with_what_they_cost(
    open_real: OpenReal, jobs: list[Job]
) -> None:
    table = tables(open_real("jobs"))[0]
    newest = jobs[::-1]
    assert table["job"].tolist() == [frames.id_end(j.id) for j in newest]
    assert table["cost_usd"].fillna(0).tolist() == [(j.cost.nano_usd or 0) / 1e9 for j in newest]
    assert set(table["kind"]) == {"simulated"}


def test_costs_by_team_add_up_to_the_jobs(open_real: OpenReal, jobs: list[Job]) -> None:
    page = open_real("cost")
    page.button_group(key="cost_by").select("Team").run()
    table = tables(page)[-1]
    spent = dict(zip(table["group"], table["spent_usd"], strict=True))
    assert spent["search"] == (jobs[0].cost.nano_usd or 0) / 1e9
    assert spent["support"] == (jobs[1].cost.nano_usd or 0) / 1e9
    assert tiles(page)["Spent"] == usd(sum(job.cost.nano_usd or 0 for job in jobs))


def test_a_month_s_costs_hold_today_s(open_real: OpenReal) -> None:
    page = open_real("cost")
    today = tiles(page)
    page.button_group(key="cost_period").select("30 days").run()
    assert tiles(page)["Spent"] == today["Spent"]
    assert page.subheader[0].value.startswith("Last 30 days, simulated")


def test_a_job_s_page_is_the_job_and_its_ledger(
    open_real: OpenReal, client: Client, stack: Stack, jobs: list[Job]
) -> None:
    job, page = jobs[0], open_real("jobs", {"job": jobs[0].id})
    shown = tiles(page)
    assert page.text[0].value == job.text == stack.meter(job.id)[0]["text"]
    assert shown["Cost"] == usd(job.cost.nano_usd)
    assert job.usage is not None
    assert shown["Tokens out"] == count(job.usage.output_tokens)
    assert shown["ttft"] == duration(job.timings.ttft_s)
    ledger = tables(page)[-1]
    assert ledger["spent_usd"].tolist() == [(row.spent_nano_usd or 0) / 1e9 for row in client.ledger(job.id)]


def test_a_failed_job_s_page_says_why(open_real: OpenReal, jobs: list[Job]) -> None:
    page = open_real("jobs", {"job": jobs[-1].id})
    assert "`provider_bad_request`" in page.error[0].value
    assert tiles(page)["Calls / tries"] == "0 / 1"


def test_another_tenant_sees_none_of_it(stack: Stack, jobs: list[Job]) -> None:
    def run(name: Page, query: dict[str, str]) -> AppTest:
        page = AppTest.from_function(run_page, args=(name, stack.url, stack.key("other")), default_timeout=30)
        page.query_params.update(query)
        return page.run()

    assert run("jobs", {"job": jobs[0].id}).info[0].value.startswith("There is no such job")
    assert not tables(run("jobs", {}))
    assert "Spent" not in tiles(run("overview", {}))
