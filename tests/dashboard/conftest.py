"""The fake API and the pages for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Literal

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from onceq_dashboard.views import budgets, cost, failures, job, jobs, keys, latency, overview
from tests.dashboard import worlds
from tests.dashboard.fake_api import KEY, FakeApi, serving

Page = Literal["overview", "jobs", "failures", "latency", "cost", "budgets", "keys"]
Open = Callable[..., AppTest]


PAGES = (budgets, cost, failures, job, jobs, keys, latency, overview)


def stop_clocks(at: datetime, put: Callable[[dict[str, object], type[datetime]], None]) -> None:
    """Of the pages, which are all imported, and of what they are shown; `put` sets the name in a module."""

    class Still(datetime):
        """A clock that stands."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return at.astimezone(tz)

    assert all(page.__name__ in sys.modules for page in PAGES)
    told = [vars(module) for name, module in list(sys.modules.items())
            if name.startswith(("onceq_dashboard", "tests.dashboard"))]  # fmt: skip
    for names in [names for names in told if names.get("datetime") is datetime]:
        put(names, Still)


@pytest.fixture(autouse=True)
def _clocks_stand(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour that ends between the making of a world and its reading changes the sums. A browser's time goes on."""
    if request.node.get_closest_marker("browser") is None:
        stop_clocks(datetime.now(UTC), lambda names, still: monkeypatch.setitem(names, "datetime", still))


@pytest.fixture
def api() -> Generator[FakeApi]:
    """A busy API; change `.world` for another."""
    with serving(worlds.busy()) as running:
        yield running


@pytest.fixture(scope="module")
def fake() -> Generator[FakeApi]:
    """A busy API for all tests of a module."""
    with serving(worlds.busy()) as api:
        yield api


@pytest.fixture(scope="module")
def failing() -> Generator[FakeApi]:
    """One whose jobs fail, and whose key may do everything, for all tests of a module."""
    with serving(worlds.failing()) as api:
        api.scopes = {"read", "submit", "cancel", "admin", "operator"}
        yield api


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    """Each test reads anew, and closes its connections."""
    yield
    st.cache_data.clear()
    st.cache_resource.clear()


def run_page(name: str, url: str, key: str) -> None:
    """What AppTest runs: one page, as a person who holds the key."""
    from importlib import import_module

    from onceq_dashboard.access import ApiAccess

    import_module(f"onceq_dashboard.views.{name}").show(ApiAccess(url, key, "the key of this test"))


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
