"""Every page has its path, and its parts keep their places while they are drawn: a real browser before a fake API."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from playwright.sync_api import Browser, expect

from tests.dashboard import paint, worlds
from tests.dashboard.browser import chromium, opened, running_dashboard
from tests.dashboard.fake_api import KEY, FakeApi

pytestmark = pytest.mark.browser

JOB = worlds.job_id(30)
PATHS = {
    "": "Overview", "jobs": "Jobs", "failures": "Failures", "latency": "Latency", "cost": "Cost", "budgets": "Budgets",
    "keys": "API keys",
}  # fmt: skip
MOST = 0.05
"""Of the sum of layout shifts; a field whose height is not kept makes more. Web Vitals call up to 0.1 good."""
ALL_PX = 3_200
"""As high as the longest page at 1440: what moves below the fold of a screen counts too."""
MOST_OF_ALL = 0.0005
"""Of the shifts then: one chart of Cost whose height is not kept makes 0.001 and more; a page as it is 0.0001."""


@pytest.fixture(scope="module")
def home(failing: FakeApi, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with running_dashboard(failing.url, KEY, tmp_path_factory.mktemp("places")) as running:
        yield running.url
        assert not running.complaints()


@pytest.fixture(scope="module")
def browser(home: str) -> Generator[Browser]:
    assert home
    with chromium() as started:
        yield started


def visited(browser: Browser, home: str, path: str, width: int, height: int | None = None) -> paint.Painted:
    """The page, opened by its path in a browser that was never here."""
    with opened(browser, home, width=width) as (page, seen):
        if height:
            page.set_viewport_size({"width": width, "height": height})
        paint.watch(page)
        page.goto(f"{home}/{path}")
        found = paint.painted(page)
        if path in PATHS:
            expect(page.get_by_role("heading", name=PATHS[path], exact=True)).to_be_visible()
        else:
            expect(page.get_by_text(JOB, exact=True)).to_be_visible()
        assert page.get_by_role("dialog").count() == 0
        assert page.url == f"{home}/{path}"
        assert not seen.errors
        assert not seen.foreign
        return found


@pytest.mark.parametrize(("width", "height", "most"), [(1440, ALL_PX, MOST_OF_ALL), (390, None, MOST)])
@pytest.mark.parametrize("path", [*PATHS, f"jobs?job={JOB}", f"failures?job={JOB}"])
def test_a_page_is_found_by_its_path_and_nothing_in_it_moves_while_it_is_drawn(
    browser: Browser, home: str, path: str, width: int, height: int | None, most: float
) -> None:
    found = visited(browser, home, path, width, height)
    assert found.whole_ms > found.numbers_ms > 0, "a checker that saw nothing proves nothing"
    assert found.shift < most, found.moved


def test_the_first_page_is_found_by_its_name_too_and_a_path_of_no_page_says_so(browser: Browser, home: str) -> None:
    with opened(browser, home) as (page, _):
        page.goto(f"{home}/overview?overview_kind=Real")
        expect(page.get_by_role("heading", name="Overview", exact=True)).to_be_visible()
        assert page.url.startswith(f"{home}/?")
        assert page.get_by_role("dialog").count() == 0
        page.goto(f"{home}/nowhere")
        expect(page.get_by_role("dialog")).to_contain_text("Page not found")
