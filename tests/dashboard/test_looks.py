"""What a person sees: words that can be read, light and dark, and no button of Streamlit's that breaks a promise."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.dashboard import paint, worlds
from tests.dashboard.browser import chromium, opened, running_dashboard
from tests.dashboard.fake_api import KEY, FakeApi

pytestmark = pytest.mark.browser

JOB = worlds.job_id(9)
PATHS = ["", "jobs", f"jobs?job={JOB}", "failures", "latency", "cost", "budgets", "keys"]
TEXT, ICON = 4.5, 3.0
"""Contrast that text and parts of a picture need (WCAG 2.2, 1.4.3 and 1.4.11)."""
FAINT = """([text, icon]) => {
  const parts = c => { const [r, g, b, a = 1] = c.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3]));
  const light = c => c.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const up = e => e ? [...up(e.parentElement), e] : [];
  const found = [], words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (words.nextNode()) {
    const e = words.currentNode.parentElement, said = words.currentNode.textContent.trim(), above = up(e);
    if (!said || e.closest('script, style, noscript, canvas, [disabled]') || !e.checkVisibility()) continue;
    const ground = above.reduce((g, x) => over(parts(getComputedStyle(x).backgroundColor), g), [255, 255, 255]);
    const [r, g, b, a] = parts(getComputedStyle(e).color);
    const shown = above.reduce((o, x) => o * getComputedStyle(x).opacity, a);
    if (!shown) continue;
    const [dim, bright] = [light(over([r, g, b, shown], ground)), light(ground)].sort((x, y) => x - y);
    const contrast = (bright + 0.05) / (dim + 0.05);
    const least = getComputedStyle(e).fontFamily.includes('Material') ? icon : text;
    found.push([said, contrast, contrast < least]);
  }
  return {seen: found.length, faint: found.filter(f => f[2]).map(f => `${f[1].toFixed(2)} ${f[0]}`)};
}"""

DARK = """() => {
  const ground = getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor;
  return parseInt(ground.match(/\\d+/)) < 100;
}"""


@pytest.fixture(scope="module")
def home(failing: FakeApi, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with running_dashboard(failing.url, KEY, tmp_path_factory.mktemp("looks")) as running:
        yield running.url


@pytest.fixture(scope="module")
def browser(home: str) -> Generator[Browser]:
    assert home
    with chromium() as started:
        yield started


def faint(page: Page) -> list[str]:
    """Words that have too little contrast, each behind it."""
    found = page.evaluate(FAINT, [TEXT, ICON])
    assert found["seen"] > 20, "a checker that saw nothing proves nothing"
    return found["faint"]


@pytest.mark.parametrize("path", PATHS)
def test_every_word_stands_out_from_its_ground_light_and_dark(browser: Browser, home: str, path: str) -> None:
    with opened(browser, home) as (page, _):
        paint.watch(page)
        page.goto(f"{home}/{path}")
        paint.painted(page)
        assert not faint(page)
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(DARK)
        paint.at_rest(page)
        assert not faint(page), "dark"
        page.add_style_tag(content="#root h1, #root h2, #root h3, #root p {opacity: 0.4}")
        assert faint(page), "a checker that sees no faint word proves nothing"


@pytest.mark.parametrize("width", [1440, 390])
def test_a_table_is_taken_away_by_our_own_button_alone_and_none_lies_on_words(
    browser: Browser, home: str, width: int
) -> None:
    with opened(browser, home, width=width) as (page, _):
        paint.watch(page)
        page.goto(f"{home}/cost")
        paint.painted(page)
        table = page.get_by_test_id("stDataFrame").last
        table.scroll_into_view_if_needed()
        if width > 500:
            table.hover()
            expect(table.get_by_role("button", name="Fullscreen")).to_be_visible()
        else:
            expect(table.get_by_role("button", name="Fullscreen")).to_have_count(0)
        expect(page.get_by_role("button", name="Download as CSV")).to_have_count(0)
        expect(page.get_by_role("button", name="Download CSV")).to_have_count(1)


CUT = """() => [...document.querySelectorAll('[data-testid=stVegaLiteChart] svg.marks')].flatMap(chart => {
  const place = chart.getBoundingClientRect(), names = [...chart.querySelectorAll('.role-legend-label text')];
  return names.map(name => [name.textContent, name.getBoundingClientRect()])
    .map(([name, at]) => [name, (at.top + at.bottom) / 2 < place.top || at.right > place.right + 1]);
})"""
"""The names of all legends, and whether half of the letters or the end of a word is outside its chart's picture."""


def test_a_legend_keeps_all_its_names_whichever_way_one_came_to_its_chart(browser: Browser, home: str) -> None:
    with opened(browser, home, width=1024) as (page, seen):
        paint.watch(page)
        page.goto(f"{home}/cost")
        for by, row in (("Team", "support"), ("Model", worlds.MODELS[2])):
            page.get_by_role("radio", name=by, exact=True).click()
            assert not cut_off(page, row), by
        page.get_by_role("link", name="Overview").click()
        expect(page.get_by_text("Jobs that ended", exact=True)).to_be_visible()
        page.get_by_role("link", name="Cost").click()
        assert not cut_off(page, worlds.MODELS[2]), "the second visit"
        assert not seen.errors


def cut_off(page: Page, row: str) -> list[str]:
    """The names that are not whole in the legends of Cost, once a row of its second chart is called so."""
    charts = page.get_by_test_id("stVegaLiteChart").locator("svg.marks")
    expect(charts).to_have_count(6)
    expect(charts.nth(1)).to_contain_text(row)
    paint.painted(page)
    found = page.evaluate(CUT)
    assert len(found) > 10, "a checker that saw nothing proves nothing"
    return [name for name, cut in found if cut]
