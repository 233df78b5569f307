"""The entry that Streamlit runs: who looks, then which page."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import streamlit as st
from streamlit.runtime.scriptrunner import StopException

from onceq_dashboard import signin
from onceq_dashboard.access import ApiAccess
from onceq_dashboard.options import STYLE
from onceq_dashboard.views import budgets, cost, failures, jobs, keys, latency, overview

HERE = Path(__file__).parent


def main() -> None:
    """Lay out the frame and run the chosen page."""
    icon = str(HERE / "icon.svg")
    # Before the pages are named: else the browser loads the icon of the one that is shown from another host.
    st.set_page_config(page_title="onceq", page_icon=icon, layout="wide")
    st.html(STYLE)
    st.logo(str(HERE / "logo.svg"), size="large")
    page = st.navigation(
        [
            st.Page(_overview, title="Overview", url_path="overview", icon=":material/monitoring:", default=True),
            st.Page(_jobs, title="Jobs", url_path="jobs", icon=":material/list_alt:"),
            st.Page(_failures, title="Failures", url_path="failures", icon=":material/report:"),
            st.Page(_latency, title="Latency", url_path="latency", icon=":material/speed:"),
            st.Page(_cost, title="Cost", url_path="cost", icon=":material/payments:"),
            st.Page(_budgets, title="Budgets", url_path="budgets", icon=":material/savings:"),
            st.Page(_keys, title="API keys", url_path="keys", icon=":material/key:"),
        ],
        position="top",
    )
    st.set_page_config(page_title=f"{page.title} · onceq", page_icon=icon, layout="wide")
    page.run()


def _overview() -> None:
    _guarded(overview.show)


def _jobs() -> None:
    _guarded(jobs.show)


def _failures() -> None:
    _guarded(failures.show)


def _latency() -> None:
    _guarded(latency.show)


def _cost() -> None:
    _guarded(cost.show)


def _budgets() -> None:
    _guarded(budgets.show)


def _keys() -> None:
    _guarded(keys.show)


def _guarded(show: Callable[[ApiAccess], None]) -> None:
    access = signin.access()
    if access is None:
        signin.show()
        return
    _warm()
    with suppress(StopException):  # a reading failed, and a callout says so: then the way to another key matters most
        show(access)
    signin.footer(access)


def _warm() -> None:
    """Have the browser load what draws a number while the page is still read.

    Streamlit loads the code of each kind of element when it has the first to draw, with a grey bar in its place until
    0.3 s after the last such bar appeared: numbers that come with tables and charts would wait for those.
    """
    with st.container(key="onceq_unseen"):
        st.metric("A number", "")


main()
