"""Words from outside are shown as they are: no page reads one of them as markup.

What a browser makes of them is shown in test_browser.py; here every place is looked at, in Markdown.
"""

from __future__ import annotations

import pytest

from tests.dashboard import worlds
from tests.dashboard.conftest import Open, Page
from tests.dashboard.fake_api import FakeApi
from tests.dashboard.pages import markdown, rendered, tables

SIGNS = ("<script", "<img", "](", "$\\frac", ":red[", ":tada:", ":material/bolt:", "**bold", "`code", "-> b", "~~")


@pytest.mark.parametrize(
    ("name", "job"), [("overview", ""), ("jobs", ""), ("jobs", worlds.job_id(1)), ("failures", ""), ("cost", "")]
)
def test_no_text_of_a_page_holds_foreign_markup(api: FakeApi, open_page: Open, name: Page, job: str) -> None:
    api.world = worlds.hostile()
    page = open_page(name, query={"job": job} if job else {})
    assert not page.exception
    for text in markdown(page):
        assert not [sign for sign in SIGNS if sign in rendered(text)], text


def test_what_a_model_wrote_is_whole_and_literal(api: FakeApi, open_page: Open) -> None:
    api.world = worlds.hostile()
    page = open_page("jobs", query={"job": worlds.job_id(1)})
    written = [text.value for text in page.text if len(text.value) > 90]
    assert written == [worlds.HOSTILE] * 3, "the error, the reasoning and the answer"
    assert not page.code, "its script is larger than the rest of the page"


def test_names_in_tables_are_whole_and_literal(api: FakeApi, open_page: Open) -> None:
    api.world = worlds.hostile()
    assert tables(open_page("jobs"))[0]["team"].tolist() == [worlds.HOSTILE[:90]]


def test_the_checker_sees_markup_that_is_not_escaped() -> None:
    assert "<img" in rendered("a <img src=x>")
    assert ":red[" in rendered("x :red[y]")
    assert not rendered("`<img src=x>`")
    assert rendered(r"\<img\>") == "img"
