"""No page of another site shows the dashboard in a frame: a click there could cancel a job, or make a key."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import httpx2
import pytest

from tests.dashboard.browser import Dashboard, running_dashboard


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Generator[Dashboard]:
    """In front of no API: none is asked for what is looked at here."""
    folder: Path = tmp_path_factory.mktemp("dashboard")
    with running_dashboard("http://127.0.0.1:9", "oq_x", folder) as running:
        yield running


@pytest.mark.parametrize("path", ["/", "/jobs", "/overview", "/_stcore/health", "/static/nothing.js", "/jobs/nothing"])
def test_every_answer_may_be_framed_by_the_dashboard_alone(dashboard: Dashboard, path: str) -> None:
    answer = httpx2.get(dashboard.url + path)
    assert answer.headers["content-security-policy"] == "frame-ancestors 'self'"
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"


def test_so_is_a_script_of_streamlit_s_own(dashboard: Dashboard) -> None:
    page = httpx2.get(dashboard.url + "/jobs").text
    script = page.split('src="./static/js/', 1)[1].split('"', 1)[0]
    answer = httpx2.get(f"{dashboard.url}/static/js/{script}")
    assert answer.status_code == 200
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"
