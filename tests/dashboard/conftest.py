"""The fake API and the pages for it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Literal

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from tests.dashboard import worlds
from tests.dashboard.fake_api import KEY, FakeApi, serving

Page = Literal["overview", "jobs", "failures", "latency", "cost", "budgets", "keys"]
Open = Callable[..., AppTest]


@pytest.fixture
def api() -> Generator[FakeApi]:
    """A busy API; change `.world` for another."""
    with serving(worlds.busy()) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    """Each test reads anew, and closes its connections."""
    yield
    st.cache_data.clear()
    st.cache_resource.clear()


def run_page(name: str, url: str, key: str) -> None:
    """What AppTest runs: one page, as a person who holds the key."""
    from importlib import import_module

    from onceq_dashboard.door import Door

    import_module(f"onceq_dashboard.views.{name}").show(Door(url, key, "the key of this test"))


@pytest.fixture
def open_page(api: FakeApi) -> Open:
    """Runs one page once, as a person who holds the key; `data` names the charts whose numbers are opened."""

    def run(
        name: Page,
        key: str = KEY,
        query: dict[str, str] | None = None,
        url: str | None = None,
        data: Sequence[str] = (),
    ) -> AppTest:
        page = AppTest.from_function(run_page, args=(name, url or api.url, key), default_timeout=20)
        page.query_params.update(query or {})
        for chart in data:
            page.session_state[f"data_{chart}_open"] = True
        return page.run()

    return run
