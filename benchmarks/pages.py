"""`python -m benchmarks.pages URL`: how soon each page of a running dashboard is there, in a browser that is new to it.

Debian's chromium on the same machine; each visit in a context of its own, so with nothing cached. The dashboard has to
be one that is used without a sign-in (loopback): `make showroom SHOWROOM="--jobs 100000"` makes one with a month in it.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from collections.abc import Callable, Iterator

from playwright.sync_api import Browser, sync_playwright
from tests.dashboard import paint

PATHS = ("", "jobs", "failures", "latency", "cost", "budgets", "keys")
MEASURES: dict[str, Callable[[paint.Painted], float]] = {
    "first paint": lambda p: p.first_ms, "first numbers": lambda p: p.numbers_ms, "all drawn": lambda p: p.whole_ms,
}  # fmt: skip


def main() -> None:
    """Prints medians in seconds, and the largest sum of layout shifts, as a table in Markdown."""
    options = _parser().parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        print(f"| page | {' | '.join(f'{name}, s' for name in MEASURES)} | layout shift |\n|---|---|---|---|---|")
        for path in (*PATHS, *options.path):
            visits = list(_visits(browser, f"{options.url}/{path}", options.runs, options.width))
            medians = [statistics.median(read(p) for p in visits) / 1000 for read in MEASURES.values()]
            shift = max(p.shift for p in visits)
            print(f"| /{path[:12]} | {' | '.join(f'{s:.2f}' for s in medians)} | {shift:.3f} |", flush=True)
        browser.close()


def _visits(browser: Browser, url: str, runs: int, width: int) -> Iterator[paint.Painted]:
    for _ in range(runs):
        context = browser.new_context(viewport={"width": width, "height": 900})
        page = context.new_page()
        paint.watch(page)
        page.goto(url, wait_until="commit")
        yield paint.painted(page)
        context.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("url", help="of the dashboard")
    parser.add_argument("path", nargs="*", help="more paths, as jobs?job=job_...")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--width", type=int, default=1440)
    return parser


if __name__ == "__main__":
    main()
