"""What a browser notes of a page from its first moment on: when it was painted, and how far things have moved in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Page

NOTE = """
const noted = window.noted = {shifts: [], painted: null, numbers: null, ran: false, whole: null};
const name = node => (node && (node.nodeType === 1 ? node : node.parentElement)?.closest('[data-testid]')?.innerText
  || '?').slice(0, 60);
new PerformanceObserver(list => {
  for (const e of list.getEntries()) if (!e.hadRecentInput) {
    noted.shifts.push({by: e.value, what: e.sources.map(s => name(s.node))});
  }
}).observe({type: 'layout-shift', buffered: true});
new PerformanceObserver(list => {
  for (const e of list.getEntries()) if (e.name === 'first-contentful-paint') noted.painted = e.startTime;
}).observe({type: 'paint', buffered: true});
const main = '[data-testid=stMain] ';
const numbers = ['[data-testid=stMetricValue]', '[data-testid=stDataFrame] canvas', '[data-testid=stProgress]',
                 '[data-testid=stMarkdown] code', '[data-testid=stAlert]'].map(one => main + one).join();
const look = () => {
  const there = [...document.querySelectorAll(numbers)].some(e => e.getBoundingClientRect().height > 0);
  if (there && noted.numbers === null) noted.numbers = performance.now();
  const run = document.querySelector('[data-testid=stApp]')?.dataset.testScriptState;
  noted.ran ||= there && run === 'notRunning';
  const whole = noted.ran && !document.querySelector('[data-testid=stSkeleton]')
    && [...document.querySelectorAll('[data-testid=stVegaLiteChart]')].every(e => e.querySelector('canvas, svg.marks'));
  noted.whole = whole ? noted.whole ?? performance.now() : null;
  requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""
"""Before anything of the page runs. `numbers`: the first that the page is about; `whole`: nothing more is drawn."""
QUIET = "() => noted.whole !== null && performance.now() - noted.whole > 700"


@dataclass(frozen=True, slots=True)
class Painted:
    """Milliseconds since the page was asked for, and the sum of layout shifts as Web Vitals count them."""

    first_ms: float
    numbers_ms: float
    whole_ms: float
    shift: float
    moved: list[Any] = field(default_factory=list[Any])


def watch(page: Page) -> None:
    """From its next visit on."""
    page.add_init_script(NOTE)


def at_rest(page: Page) -> None:
    """Waits until what was just done to it, as a change of its size or colours, is drawn."""
    page.evaluate("noted.whole = null")
    page.wait_for_function(QUIET, polling=100)


def painted(page: Page) -> Painted:
    """When it has come to rest; a page that broke was not painted."""
    page.wait_for_function(QUIET, polling=100)
    broken = page.get_by_test_id("stException")
    assert not broken.count(), broken.first.inner_text()
    noted = page.evaluate("noted")
    shift = sum(one["by"] for one in noted["shifts"])
    return Painted(noted["painted"], noted["numbers"], noted["whole"], shift, noted["shifts"])
