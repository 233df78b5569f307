"""`python -m tests.dashboard.view_dump`: every view at a fixed time, a line an element, as JSON by name.

What a person reads is in it, and each table with its rows: a chart's are those of the table below it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from streamlit.testing.v1 import AppTest
from streamlit.testing.v1 import element_tree as tree

from onceq.wire import SCOPES
from tests.dashboard import worlds
from tests.dashboard.conftest import run_page, stop_clocks
from tests.dashboard.fake_api import KEY, World, serving
from tests.dashboard.golden import as_text

AT = datetime(2026, 11, 24, 14, 35, 12, tzinfo=UTC)


VIEWS: dict[str, tuple[str, Callable[[], World], dict[str, str]]] = {
    "overview": ("overview", worlds.busy, {}),
    "overview_in_trouble": ("overview", worlds.degraded, {}),
    "overview_simulated": ("overview", worlds.simulated, {}),
    "overview_empty": ("overview", worlds.empty, {}),
    "jobs": ("jobs", worlds.busy, {}),
    "jobs_none_fits": ("jobs", worlds.busy, {"team": "nobody"}),
    "job": ("jobs", worlds.busy, {"job": worlds.job_id(2)}),
    "job_failed": ("jobs", worlds.failing, {"job": worlds.job_id(3)}),
    "job_running": ("jobs", worlds.busy, {"job": worlds.job_id(7)}),
    "failures": ("failures", worlds.failing, {}),
    "failures_empty": ("failures", worlds.empty, {}),
    "latency": ("latency", worlds.busy, {}),
    "cost": ("cost", worlds.busy, {}),
    "budgets": ("budgets", worlds.busy, {}),
    "budgets_empty": ("budgets", worlds.empty, {}),
    "keys": ("keys", worlds.busy, {}),
    "signin": ("signin", worlds.busy, {}),
    "signin_by_name": ("signin", worlds.busy, {}),
}
"""The page, what the API knows, and what is in the address."""


CHARTS = ("outcomes", "ttft", "spend", "causes", "letters", "ttft_p95_s", "total_p95_s", "phases", "verdicts",
          "spent_over_time", "spent_by_model", "paid_wasted_avoided", "wasted_by_reason", "job_costs", "forecast",
          "waterfall")  # fmt: skip
"""Whose numbers are opened where a page is told for the first time."""


def told(page: AppTest) -> str:
    """The page from top to bottom."""
    return "\n".join(line for node in page.main for line in _lines(node)) + "\n"


def _lines(node: Any) -> Iterator[str]:
    match node:
        case tree.Metric():
            yield f"metric: {node.label} = {node.value}" + (f" [{node.delta}]" if node.delta else "")
        case tree.Dataframe():
            yield f"table: {as_text(node.value)}".rstrip()
        case tree.Widget():
            yield f"{node.type}: {node.label} = {node.value!r}{_choices(node)}{' (off)' if node.disabled else ''}"
        case tree.Progress():
            yield f"progress: {node.value} % {node.text}"
        case tree.UnknownElement():
            yield node.type
        case tree.Block():
            if label := getattr(node.proto, "label", ""):
                yield f"{node.type}: {label}"
        case _:
            yield f"{node.type}: {node.value}"


def _choices(node: Any) -> str:
    options = list(getattr(node, "options", []))
    return f" of {options}" if options else ""


def signing_in() -> None:
    """What AppTest runs: the page of somebody who is nobody yet."""
    from onceq_dashboard import signin

    signin.show()


def view(name: str) -> str:
    """One of `VIEWS`, by somebody who may do everything."""
    page, world, query = VIEWS[name]
    with serving(world()) as api:
        api.scopes = set(SCOPES)
        script, args = (signing_in, ()) if page == "signin" else (run_page, (page, api.url, KEY))
        test = AppTest.from_function(script, args=args, default_timeout=60)
        if name == "signin_by_name":
            test.secrets["auth"] = {"client_id": "dashboard", "google": {"client_id": "x"}}
        test.query_params.update(query)
        for chart in CHARTS if name == page or name == "job" else ():
            test.session_state[f"data_{chart}_open"] = True
        test.run()
        assert not test.exception, test.exception
        return told(test).replace(api.url, "http://127.0.0.1:8420")


if __name__ == "__main__":
    stop_clocks(AT, lambda names, still: names.update(datetime=still))
    json.dump({name: view(name) for name in VIEWS}, sys.stdout)
