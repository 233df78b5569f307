"""Model text is never markup: tags and scripts in it stay text. The judge is a browser that runs scripts."""

from __future__ import annotations

import warnings
from typing import Any

import nbformat
import pytest
from playwright.sync_api import sync_playwright

from onceq import MapQuote
from onceq._display import answer_html, job_markdown
from onceq._markdown import fenced, safe_html
from onceq.wire import Job, JobError, Output, Urls

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the exporter's own packages, at import
    from nbconvert.exporters import HTMLExporter

HOSTILE = r"""
# A heading

<script>window.pwned = 1</script>
<img src=x onerror="window.pwned = 2"> ![beacon](http://127.0.0.1:9/secret.png)
[click](javascript:window.pwned=3) [data](data:text/html,<script>window.pwned=4</script>) [file](file:///etc/passwd)
<iframe srcdoc="<script>parent.pwned = 5</script>"></iframe> <style>body { display: none }</style>
[ok](https://example.com "a\"onmouseover=window.pwned=6")

```"><script>window.pwned = 7</script>
</code></pre><script>window.pwned = 8</script>
```

| a | b |
|---|---|
| <svg onload="window.pwned = 9"> | `<script>window.pwned = 10</script>` |

$\href{javascript:window.pwned=11}{formula}$ ````
</div><script>window.pwned = 12</script>
"""
CREATED = "2026-11-24T00:00:00Z"


def job(text: str) -> Job:
    urls = Urls(self="/j", events="/e", cancel="/c")
    error = JobError(code="stream_broken", message="<script>window.pwned = 13</script>")
    values: dict[str, Any] = {"id": "job_1", "status": "failed", "model": "a/b", "created_at": CREATED, "urls": urls}
    return Job.model_validate({**values, "output": Output(text=text), "error": error})


def notebook(data: dict[str, str]) -> Any:
    made: Any = nbformat.v4
    output = made.new_output("display_data", data=data)
    return made.new_notebook(cells=[made.new_code_cell("answer", outputs=[output])])


def page_of(data: dict[str, str]) -> str:
    exporter: Any = HTMLExporter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return str(exporter.from_notebook_node(notebook(data))[0])


@pytest.mark.browser
@pytest.mark.parametrize("kind", ["text/html", "text/markdown"])
def test_nothing_of_a_hostile_answer_comes_to_life_in_an_exported_page(kind: str) -> None:
    by_kind = {
        "text/html": answer_html(HOSTILE, "foot", "<script>window.pwned = 14</script>"),
        "text/markdown": job_markdown(job(HOSTILE)),
    }
    page_html = page_of({kind: by_kind[kind]})
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        asked: list[str] = []
        page.route("**/*", lambda route: (asked.append(route.request.url), route.abort()))
        page.set_content(page_html, wait_until="load")
        output = page.locator(".jp-OutputArea-output")
        assert output.count() == 1
        assert "window.pwned = 1" in output.inner_text(), "the text is there, as text"
        assert page.evaluate("window.pwned") is None
        assert output.locator("script, img, iframe, style, svg, object, [onerror], [onmouseover]").count() == 0
        links = output.locator("a").evaluate_all("links => links.map(link => link.protocol)")
        assert set(links) <= {"https:", "http:"}
        assert not [url for url in asked if "127.0.0.1:9" in url]
        browser.close()


def test_markdown_is_rendered_and_links_open_elsewhere() -> None:
    shown = safe_html("# Title\n\n- one\n- **two**\n\n| a |\n|---|\n| 1 |\n\n[link](https://example.com)")
    for part in ("<h1>Title</h1>", "<li>one</li>", "<strong>two</strong>", "<td>1</td>", 'rel="noopener noreferrer"'):
        assert part in shown, part
    assert "mathjax_ignore" in shown


def test_prices_are_not_typeset_as_formulas() -> None:
    quote = MapQuote(9, 0, 9, 2_200_000, 200_000, 0)
    for shown in (answer_html("From $1 to $2", "$1 or $2", "$1 of $2"), quote._repr_html_()):  # pyright: ignore[reportPrivateUsage]
        assert shown.startswith('<div class="tex2jax_ignore mathjax_ignore">')
        assert shown.count("<div") == shown.count("</div>")


def test_a_fence_is_longer_than_any_in_the_text() -> None:
    assert fenced("a ```` b").startswith("`````text\n")
    assert fenced("plain") == "```text\nplain\n```"
