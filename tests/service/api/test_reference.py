"""GET /docs in a real browser: it is drawn, nothing comes from elsewhere, and what it sends is answered."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, Route, expect

from tests.dashboard.browser import chromium, opened
from tests.service.api.kit import Http
from tests.stack import Stack


@pytest.mark.browser
def test_the_reference_is_drawn_by_files_of_this_machine_and_asks_what_it_is_told_to(shared: Stack) -> None:
    key = shared.key("t", "read")
    with chromium() as browser, opened(browser, shared.url) as (page, seen):
        page.goto(f"{shared.url}/docs")
        expect(page.locator(".opblock-summary-path", has_text="/v1/models")).to_be_visible()
        authorize(page, key)
        ask(page, "/v1/models")
        expect(page.locator(".live-responses-table tbody .response-col_status")).to_contain_text("200")
        assert (seen.errors, seen.foreign) == ([], [])


def authorize(page: Page, key: str) -> None:
    """Types the key in."""
    page.get_by_role("button", name="Authorize").first.click()
    page.locator(".auth-container input").first.fill(key)
    page.locator(".auth-btn-wrapper").get_by_role("button", name="Apply credentials").first.click()
    page.locator(".auth-btn-wrapper").get_by_role("button", name="Close").first.click()


def ask(page: Page, path: str) -> None:
    """Sends the GET of a path."""
    block = page.locator(".opblock-get", has=page.locator(f'[data-path="{path}"]'))
    block.locator(".opblock-summary").click()
    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()


@pytest.mark.browser
def test_the_reference_works_below_a_path_of_a_proxy(shared: Stack) -> None:
    key, asked = shared.key("t", "read"), list[str]()

    def below(route: Route) -> None:
        asked.append(route.request.url)
        answer = route.fetch(url=route.request.url.replace("/below/", "/"))
        route.fulfill(response=answer)

    with chromium() as browser, opened(browser, shared.url) as (page, seen):
        page.route("**/below/**", below)
        page.goto(f"{shared.url}/below/docs")
        expect(page.locator(".opblock-summary-path", has_text="/v1/models")).to_be_visible()
        authorize(page, key)
        ask(page, "/v1/models")
        expect(page.locator(".live-responses-table tbody .response-col_status")).to_contain_text("200")
        assert asked[-1] == f"{shared.url}/below/v1/models"
        assert (seen.errors, seen.foreign) == ([], [])


def test_the_reference_needs_no_key_and_gives_only_its_own_files(client: Http) -> None:
    del client.headers["authorization"]
    page = client.get("/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert client.get("/docs/swagger-ui.css").headers["content-type"].startswith("text/css")
    for name in ("redoc.standalone.js", "..%2Fcore.py", "../core.py", "", "x"):
        assert client.get(f"/docs/{name}").status_code == 404
