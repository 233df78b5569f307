"""The empty page that a visit begins with: Streamlit's own, with what ours will need named early."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from onceq_dashboard import index_page
from onceq_dashboard.options import STYLE

INDEX = '<html><head><script src="./static/js/index.abc.js"></script></head><body></body></html>'


@pytest.fixture
def static(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The static files of a Streamlit that was made up: its `static/js`."""
    scripts = tmp_path / "static" / "js"
    scripts.mkdir(parents=True)
    (tmp_path / "index.html").write_text(INDEX)
    monkeypatch.setattr(index_page, "STATIC", tmp_path)
    index_page.page.cache_clear()
    yield scripts
    index_page.page.cache_clear()


def early(html: str) -> list[str]:
    """The scripts that the page names for later, in its order."""
    return re.findall(r'<link rel="modulepreload" crossorigin href="\./static/js/([^"]+)">', html)


def test_what_our_parts_are_made_of_is_named_once_with_what_it_imports(static: Path) -> None:
    (static / "Metric.a1.js").write_text('import{a}from"./shared.b2.js";import"./index.abc.js";import"./gone.z9.js";')
    (static / "shared.b2.js").write_text('import{m}from"./Metric.a1.js";export{a}')
    (static / "Button.c3.js").write_text("import{a}from'./shared.b2.js';")
    (static / "Map.d4.js").write_text("export{}")
    html = index_page.page()
    assert early(html) == ["Metric.a1.js", "shared.b2.js", "Button.c3.js"]
    assert html.index(STYLE) < html.index("</head>")


@pytest.mark.parametrize("names", [[], ["a1b2c3.js", "vendor.d4.js"]])
def test_where_the_parts_have_other_names_it_is_streamlit_s_page_with_our_style(static: Path, names: list[str]) -> None:
    for name in names:
        (static / name).write_text("export{}")
    html = index_page.page()
    assert not early(html)
    before, after = INDEX.split("</head>")
    assert html.startswith(before)
    assert html.endswith(f"</head>{after}")
    assert STYLE in html


def test_a_page_without_a_head_is_passed_on_as_it_is(static: Path) -> None:
    (static.parent.parent / "index.html").write_text("<body>another Streamlit</body>")
    assert index_page.page() == "<body>another Streamlit</body>"


def test_the_streamlit_that_is_installed_has_the_parts() -> None:
    index_page.page.cache_clear()
    found = early(index_page.page())
    assert {name.partition(".")[0] for name in found} >= set(index_page.PARTS)
    assert all((index_page.STATIC / "static" / "js" / name).is_file() for name in found)
