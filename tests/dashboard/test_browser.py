"""The dashboard as a person sees it: a real browser, `onceq dashboard`, the real stack; hard cases from a fake API."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from onceq import Client
from onceq.wire import Quantiles
from onceq_dashboard.format import count, duration, usd
from onceq_dashboard.views.parts import ROW_PX
from tests.dashboard import worlds
from tests.dashboard.browser import Dashboard, Scheme, chromium, opened, running_dashboard, tile
from tests.dashboard.fake_api import KEY, FakeApi
from tests.dashboard.fake_idp import Provider, providing
from tests.stack import Stack
from tests.waiting import wait_until

pytestmark = pytest.mark.browser

TENANT = "browser"
FAST = "[[sim tokens=20 tps=0 ttft_ms=5]]"
SLOW = "[[sim tokens=4000 tps=40 ttft_ms=50]]"
EVIL = "evil.example"


@pytest.fixture(scope="module")
def client(stack: Stack) -> Generator[Client]:
    with Client(base_url=stack.url, api_key=stack.key(TENANT), model="openai/gpt-4o-mini") as opened_client:
        yield opened_client


@pytest.fixture(scope="module")
def dashboard(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Generator[Dashboard]:
    """In front of the real stack, with the key of a tenant of its own."""
    with running_dashboard(stack.url, stack.key(TENANT), tmp_path_factory.mktemp("dashboard")) as running:
        yield running
        assert not running.complaints()


@pytest.fixture(scope="module")
def browser(client: Client, dashboard: Dashboard) -> Generator[Browser]:
    """Starts last: Playwright keeps an event loop running, and the stack makes its keys in one of its own."""
    assert client.base_url
    assert dashboard.url
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def provider() -> Generator[Provider]:
    with providing() as running:
        yield running


@pytest.fixture(scope="module")
def beside(fake: FakeApi, provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Generator[Dashboard]:
    """In front of the fake API, on an address that is not this machine's own: who comes signs in, or brings a key."""

    def secrets(home: str) -> str:
        return provider.secrets(home, f'"ann@example.com" = "{KEY}"\n"*@example.com" = ""')

    with running_dashboard(fake.url, KEY, tmp_path_factory.mktemp("beside"), "127.0.0.2", secrets) as running:
        yield running
        assert not running.complaints()


def sign_in(page: Page, url: str, key: str = KEY) -> None:
    page.goto(url)
    page.get_by_label("API key").fill(key)
    page.get_by_test_id("stFormSubmitButton").get_by_role("button").click()


def drawn(page: Page, charts: int) -> Locator:
    """The charts, once all of them are there."""
    found = page.get_by_test_id("stVegaLiteChart").locator("canvas, svg.marks")
    expect(found).to_have_count(charts)
    return found


def test_the_numbers_on_the_page_are_those_of_stats_and_of_the_simulator_s_meter(
    browser: Browser, dashboard: Dashboard, client: Client, stack: Stack
) -> None:
    jobs = [client.submit(f"number {n} {FAST}", team="search") for n in range(5)]
    ended = [job.wait() for job in jobs]
    billed = [row for job in ended for row in stack.meter(job.id)]
    wait_until(lambda: client.stats().last_24h_simulated.succeeded >= 5, "five jobs in the sums")
    with opened(browser, dashboard.url) as (page, seen):
        page.goto(dashboard.url)
        drawn(page, 3)
        totals = client.stats().last_24h_simulated
        assert tile(page, "Jobs") == count(totals.jobs)
        assert tile(page, "Calls") == count(len(billed)) == count(totals.calls)
        assert tile(page, "Spent") == usd(sum(row["nano_usd"] for row in billed)) == usd(totals.spent_nano_usd)
        assert tile(page, "ttft p50") == duration(totals.ttft.p50)
        assert tile(page, "ttft p95") == duration(totals.ttft.p95)
        assert tile(page, "Bill amplification") == "1.00×"
        expect(page.get_by_text("SIMULATED.")).to_be_visible()
        assert not seen.errors
        assert not seen.foreign, "a dashboard inside a closed network loads nothing from outside"


def test_live_numbers_change_without_touching_the_rest_of_the_page(
    browser: Browser, dashboard: Dashboard, client: Client
) -> None:
    client.submit(f"An answer, so that there are times. {FAST}").wait()
    client.submit(f"Cancelled before. {SLOW}").cancel()
    wait_until(lambda: client.stats().last_24h_simulated.cancelled, "a cause: then the page has all of its charts")
    with opened(browser, dashboard.url) as (page, seen):
        page.goto(dashboard.url)
        drawn(page, 4)
        assert tile(page, "Running") == "0"
        page.evaluate(MARK)
        before = page.evaluate(STATE)
        job = client.submit(f"Watch me. {SLOW}")
        running = page.get_by_test_id("stMetric").filter(has=page.get_by_text("Running", exact=True))
        expect(running.get_by_test_id("stMetricValue")).to_have_text("1")
        job.cancel()
        expect(running.get_by_test_id("stMetricValue")).to_have_text("0")
        assert page.evaluate(STATE) == before, "same document, same elements, same scroll, nothing moved"
        assert not seen.errors


MARK = """() => {
  window.marked = true;
  for (const e of document.querySelectorAll('h1, h3, [data-testid=stMetric], [data-testid=stVegaLiteChart]')) {
    e.marked = true;
  }
  document.querySelector('[data-testid=stMain]').scrollTo(0, 300);
}"""
STATE = """() => ({
  document: window.marked,
  elements: [...document.querySelectorAll('h1, h3, [data-testid=stMetric], [data-testid=stVegaLiteChart]')]
    .map(e => [e.tagName, !!e.marked, Math.round(e.getBoundingClientRect().top)]),
  scroll: document.querySelector('[data-testid=stMain]').scrollTop,
})"""


@pytest.mark.parametrize("width", [1920, 1280, 1040, 390])
def test_a_live_answer_that_grows_by_lines_moves_nothing_below_it(
    browser: Browser, beside: Dashboard, fake: FakeApi, width: int
) -> None:
    fake.world = worlds.busy()
    busy = fake.world.stats
    long = busy.last_24h.model_copy(update={
        "phases": {"queue": 1}, "total": Quantiles(p50=400, p95=750, count=100), "verdicts": {"queue": 100},
        "wasted_by_reason": {"provider_rate_limited": 1}, "joined": 1_230_000,
    })  # fmt: skip
    short = long.model_copy(update={
        "phases": {"generation": 1}, "total": Quantiles(), "verdicts": {}, "wasted_nano_usd": 0, "joined": 0,
        "replayed": 0,
    })  # fmt: skip
    fake.world.stats = busy.model_copy(update={"last_24h": short})
    with opened(browser, beside.url, width=width) as (page, seen):
        sign_in(page, beside.url)
        drawn(page, 4)
        page.evaluate(MARK)
        before = page.evaluate(STATE)
        fake.world.stats = busy.model_copy(update={"last_24h": long})
        expect(page.get_by_text("waiting for a free worker, or for limits of our own")).to_be_visible()
        assert page.evaluate(STATE) == before
        assert not seen.errors


def test_a_running_job_s_page_shows_its_text_as_it_grows_and_then_its_end(
    browser: Browser, dashboard: Dashboard, client: Client
) -> None:
    job = client.submit("Grow. [[sim tokens=9000 tps=40 ttft_ms=50]]")
    with opened(browser, dashboard.url) as (page, seen):
        page.goto(f"{dashboard.url}/jobs?job={job.id}")
        lengths: set[int] = set()

        def grown() -> bool:
            text = page.locator(".st-key-job_answer").all_inner_texts()
            lengths.update(len(part) for part in text)
            return len(lengths) >= 3

        expect(page.get_by_text("Answer so far")).to_be_visible()
        wait_until(grown, "the text to grow twice", timeout_s=60)
        job.cancel()
        ended = job.wait()
        expect(page.locator(".stMarkdownBadge").first).to_contain_text("cancelled")
        expect(page.locator(".st-key-job_answer")).to_contain_text(ended.text[-40:].strip())
        assert tile(page, "Cost") == usd(ended.cost.nano_usd)
        assert not seen.errors


def test_clicks_lead_from_a_row_to_its_job_to_its_replay_and_back(browser: Browser, dashboard: Dashboard) -> None:
    with opened(browser, dashboard.url) as (page, seen):
        page.goto(f"{dashboard.url}/jobs")
        table = page.get_by_test_id("stDataFrame")
        expect(table.locator("canvas").first).to_be_visible()
        page.wait_for_timeout(700)  # clicks just after rows have moved are not meant for them (SETTLE_S)
        pick_row(page, 0, touch=False)
        page.wait_for_url("**/jobs?job=job_*")
        expect(page.get_by_text("Cost lines")).to_be_visible()
        first = page.url
        page.get_by_role("button", name="Ask again").click()
        page.get_by_role("button", name="Ask again now").click()
        page.wait_for_url(lambda url: "job=job_" in url and url != first)
        expect(page.get_by_text("replays", exact=True)).to_be_visible()
        page.get_by_role("button", name="Cancel job").click()
        page.get_by_role("button", name="Cancel this job").click()
        expect(page.locator(".stMarkdownBadge").first).to_contain_text("cancelled")
        page.get_by_role("button", name="All jobs").click()
        expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
        assert not seen.errors


def test_failures_of_one_cause_are_asked_again_after_the_bill_was_shown(
    browser: Browser, dashboard: Dashboard, client: Client
) -> None:
    for n in range(2):
        client.submit(f"Refused {n}. [[sim fault=400]]", team="refused").wait()
    client.submit(f"An answer, so that there is a price. {FAST}").wait()
    with opened(browser, dashboard.url) as (page, seen):
        page.goto(f"{dashboard.url}/failures")
        drawn(page, 1)
        page.get_by_label("Team").fill("REFUS")
        page.get_by_label("Team").press("Enter")
        page.wait_for_url("**/failures?failures_team=refused")
        page.get_by_role("button", name="Ask these 2 again").click()
        expect(page.get_by_text("2 new jobs with the same requests, and a new bill of about $0.0")).to_be_visible()
        page.get_by_role("button", name="Ask these 2 again now").click()
        expect(page.get_by_text("2 jobs asked again")).to_be_visible()
        again = [job for job in client.list(team="refused") if job.retry_of]
        assert len(again) == 2
        page.goto(f"{dashboard.url}/jobs?team=refused")
        expect(page.get_by_text("Page 1 · 4 jobs")).to_be_visible()
        page.get_by_role("button", name="More filters").click()
        page.get_by_label("Made", exact=False).last.click()
        page.get_by_role("option", name="before the last hour").click()
        expect(page.get_by_text("No job fits these filters.")).to_be_visible()
        page.wait_for_url("**/jobs?*when=before*")
        page.goto(f"{dashboard.url}/failures")
        drawn(page, 1)  # a click on what is about to be drawn again is lost
        page.get_by_text("As data").first.click()
        with page.expect_download() as downloading:
            page.get_by_role("button", name="Download CSV").first.click()
        lines = Path(downloading.value.path()).read_text(encoding="utf-8-sig").splitlines()
        assert re.fullmatch(r"onceq-[a-z-]+-\d{4}-\d\d-\d\d\.csv", downloading.value.suggested_filename)
        assert "provider_bad_request" in "".join(lines), lines
        assert not seen.errors


def test_older_pages_stand_still_and_the_first_is_live_again(
    browser: Browser, beside: Dashboard, fake: FakeApi
) -> None:
    fake.world = worlds.busy()
    with opened(browser, beside.url) as (page, seen):
        sign_in(page, f"{beside.url}/jobs")
        expect(page.get_by_text("Page 1 · 25 jobs · live, every 5 s.")).to_be_visible()
        page.get_by_role("button", name="Older").click()
        expect(page.get_by_text("Page 2 · 25 jobs · as it was when you turned to it.")).to_be_visible()
        page.get_by_role("button", name="Newer").click()
        expect(page.get_by_text("Page 1 · 25 jobs · live, every 5 s.")).to_be_visible()
        asked = len(fake.seen)
        wait_until(lambda: len(fake.seen) > asked + 1, "the first page to be read again by itself")
        assert not seen.errors


@pytest.mark.parametrize("width", [1280, 390])
def test_a_row_of_an_older_page_opens_its_job_at_the_first_click_or_tap(
    browser: Browser, beside: Dashboard, fake: FakeApi, width: int
) -> None:
    fake.world = worlds.busy()
    with opened(browser, beside.url, width=width) as (page, seen):
        sign_in(page, f"{beside.url}/jobs")
        for number in (2, 3):
            page.get_by_role("button", name="Older").click()
            expect(page.get_by_text(f"Page {number} · ")).to_be_visible()
        page.wait_for_timeout(700)  # clicks just after rows have moved are not meant for them (SETTLE_S)
        pick_row(page, 4, touch=width < 500)
        page.wait_for_url(f"**/jobs?job={fake.world.jobs[50 + 4].id}")
        expect(page.get_by_text("Cost lines")).to_be_visible()
        assert not seen.errors


def test_a_table_of_jobs_is_walked_by_keyboard_and_opens_the_row_that_is_picked(
    browser: Browser, beside: Dashboard, fake: FakeApi
) -> None:
    fake.world = worlds.busy()
    with opened(browser, beside.url) as (page, seen):
        sign_in(page, f"{beside.url}/jobs")
        page.get_by_role("button", name="Older").click()
        expect(page.get_by_text("Page 2 · ")).to_be_visible()
        page.wait_for_timeout(1_500)  # as with a click (SETTLE_S)
        page.get_by_test_id("stDataFrame").locator("canvas").first.focus()
        for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
            page.keyboard.press(key)
            page.wait_for_timeout(300)  # an arrow key that opened a row would have done so by then
        assert "job=" not in page.url
        page.keyboard.press("Shift+Space")
        page.wait_for_url(f"**/jobs?job={fake.world.jobs[25 + 2].id}")
        assert not seen.errors


def pick_row(page: Page, number: int, *, touch: bool) -> None:
    """As a hand does. The grid overlooks a click of a mouse that has not moved over it, which no hand can do."""
    table = page.get_by_test_id("stDataFrame")
    table.locator("canvas").first.scroll_into_view_if_needed()
    page.get_by_role("heading", name="Jobs", exact=True).scroll_into_view_if_needed()
    box = table.bounding_box()
    assert box is not None
    x, y = box["x"] + 95, box["y"] + ROW_PX * (number + 1.5)
    if touch:
        page.touchscreen.tap(x, y)
    else:
        page.mouse.move(x, y - ROW_PX)
        page.mouse.move(x, y, steps=5)
        page.mouse.click(x, y)


def test_what_is_picked_stands_in_the_address_and_comes_back_with_it(
    browser: Browser, dashboard: Dashboard, client: Client
) -> None:
    client.submit(f"It costs something. {FAST}").wait()
    with opened(browser, dashboard.url) as (page, seen):
        page.goto(f"{dashboard.url}/cost")
        page.get_by_role("radio", name="7 days").click()
        page.wait_for_url(re.compile(r"/cost\?cost_period=7"))
        sent_on = page.url
        assert not seen.errors
    with opened(browser, dashboard.url) as (page, seen):
        page.goto(sent_on)
        expect(page.get_by_role("heading", name=re.compile("^Last 7 days"))).to_be_visible()
        assert not seen.errors


def test_signing_in_refuses_a_wrong_key_and_takes_a_right_one(browser: Browser, beside: Dashboard) -> None:
    with opened(browser, beside.url) as (page, seen):
        sign_in(page, beside.url, "oq_wrong_secret")
        expect(page.get_by_text("does not know the key that was typed")).to_be_visible()
        assert "oq_wrong_secret" not in page.inner_text("body")
        assert page.get_by_test_id("stMetric").count() == 0
        sign_in(page, beside.url)
        expect(page.get_by_text("All is well.")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("API key")).to_be_visible()
        assert page.get_by_test_id("stMetric").count() == 0
        assert not seen.errors


def test_who_signs_in_by_a_name_on_the_list_is_let_in_and_out_and_nobody_else(
    browser: Browser, beside: Dashboard, provider: Provider, fake: FakeApi
) -> None:
    fake.world = worlds.busy()
    with opened(browser, beside.url) as (page, seen):
        for email, said in (("eve@evil.example", "may not look here"), ("ann@example.com", "All is well.")):
            provider.email = email
            page.goto(beside.url)
            page.get_by_role("button", name="Sign in by name").click()
            expect(page.get_by_text(said)).to_be_visible()
            expect(page.get_by_text(email).first).to_be_visible()
            page.get_by_role("button", name="Sign out").click()
            expect(page.get_by_label("API key")).to_be_visible()
            expect(page.get_by_text(said)).to_have_count(0)
        assert page.get_by_test_id("stMetric").count() == 0
        assert not seen.errors
        assert all(url.startswith(provider.url) for url in seen.foreign), (
            "the sign-in asks its provider, and nobody else"
        )


def test_hostile_words_are_shown_as_they_are_and_do_nothing(browser: Browser, beside: Dashboard, fake: FakeApi) -> None:
    fake.world = worlds.hostile()
    with opened(browser, beside.url) as (page, seen):
        sign_in(page, beside.url)
        expect(page.get_by_role("alert").first).to_contain_text("Degraded.")
        drawn(page, 3)
        said = page.get_by_role("alert").first.inner_text().replace("\u2060", "")
        assert said.endswith(f"Degraded. {worlds.HOSTILE}")
        harmless(page)
        page.get_by_role("link", name="Cost").click()
        drawn(page, 6)
        harmless(page)
        page.get_by_role("link", name="Jobs").click()
        page.get_by_role("textbox", name="Find").fill(worlds.job_id(1))
        page.get_by_role("textbox", name="Find").press("Enter")
        expect(page.get_by_text("Cost lines")).to_be_visible()
        expect(page.locator(".st-key-job_answer")).to_have_text(worlds.HOSTILE)
        harmless(page)
        assert not seen.errors
        assert not seen.foreign


def harmless(page: Page) -> None:
    """No element was made of foreign words, and no script of theirs ran."""
    assert page.title() in {"Overview · onceq", "Jobs · onceq", "Cost · onceq"}
    made = f"script:not([src]), img[src*='{EVIL}'], a[href*='{EVIL}'], .katex, b, del, .footnotes"
    assert page.locator("[data-testid=stMain]").locator(made).count() == 0


LOOKS: list[tuple[int, Scheme]] = [(1920, "light"), (1280, "dark"), (390, "light")]


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_every_page_fits_wide_laptop_and_phone_light_and_dark(
    browser: Browser, beside: Dashboard, fake: FakeApi, tmp_path: Path, width: int, scheme: Scheme
) -> None:
    fake.world = worlds.failing()
    with opened(browser, beside.url, width=width, scheme=scheme) as (page, seen):
        sign_in(page, beside.url)
        drawn(page, 4)
        looks_right(page, tmp_path / f"overview-{width}-{scheme}.png", scheme)
        go_to(page, "Cost", width)
        drawn(page, 6)
        looks_right(page, tmp_path / f"cost-{width}-{scheme}.png", scheme)
        go_to(page, "Latency", width)
        drawn(page, 4)
        looks_right(page, tmp_path / f"latency-{width}-{scheme}.png", scheme)
        go_to(page, "Failures", width)
        drawn(page, 1)
        expect(page.get_by_test_id("stDataFrame").locator("canvas").first).to_be_visible()
        looks_right(page, tmp_path / f"failures-{width}-{scheme}.png", scheme)
        go_to(page, "Jobs", width)
        expect(page.get_by_test_id("stDataFrame").locator("canvas").first).to_be_visible()
        looks_right(page, tmp_path / f"jobs-{width}-{scheme}.png", scheme)
        page.get_by_role("textbox", name="Find").fill(worlds.job_id(30))
        page.get_by_role("textbox", name="Find").press("Enter")
        expect(page.get_by_text("Cost lines")).to_be_visible()
        looks_right(page, tmp_path / f"job-{width}-{scheme}.png", scheme)
        go_to(page, "Budgets", width)
        expect(page.get_by_text("$66.50 left")).to_be_visible()
        looks_right(page, tmp_path / f"budgets-{width}-{scheme}.png", scheme)
        assert not seen.errors


def go_to(page: Page, name: str, width: int) -> None:
    """By the top of the page, or on a phone by the menu that it becomes there."""
    if width < 500:
        page.get_by_test_id("stExpandSidebarButton").click()
    page.get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()


def looks_right(page: Page, picture: Path, scheme: Scheme) -> None:
    """Nothing is wider than the screen or cut off, no chart is empty, the ground is the scheme's."""
    page.screenshot(path=picture)
    found = page.evaluate(FAULTS)
    assert found["wide"] <= 0, f"the page can be moved sideways: {picture}"
    assert not found["cut"], f"cut off: {found['cut']}: {picture}"
    assert not found["empty"], f"empty charts: {picture}"
    assert found["dark"] == (scheme == "dark")
    assert not found["words"], f"raw values: {found['words']}: {picture}"


FAULTS = """() => {
  const texts = [...document.querySelectorAll('[data-testid=stMetricValue], [data-testid=stMetricLabel] p')];
  const cut = texts.filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.innerText);
  const charts = [...document.querySelectorAll('[data-testid=stVegaLiteChart] canvas')];
  const empty = charts.filter(c => {
    const pixels = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    const colours = new Set();
    for (let n = 0; n < pixels.length; n += 4) {
      const [r, g, b, a] = pixels.slice(n, n + 4);
      if (a === 255 && Math.max(r, g, b) - Math.min(r, g, b) > 60) colours.add(`${r},${g},${b}`);
    }
    return colours.size === 0;
  }).length;
  const ground = getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor;
  const cells = [...document.querySelectorAll('[data-testid=stDataFrame] td')].map(e => e.textContent);
  const text = [document.querySelector('[data-testid=stMain]').innerText, ...cells];
  const words = text.join('\\n').match(/\\b(NaN|nan|None|NaT|null|undefined)\\b/g);
  return {
    wide: document.documentElement.scrollWidth - window.innerWidth, cut, empty, words,
    dark: parseInt(ground.match(/\\d+/)[0]) < 100,
  };
}"""
