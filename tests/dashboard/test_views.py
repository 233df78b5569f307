"""Every view is as it was when a person last read it: its words, numbers and tables, on a fixed world and time."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.dashboard import golden
from tests.dashboard.view_dump import VIEWS
from tests.stack import clean_environment


@pytest.fixture(scope="module")
def told() -> dict[str, str]:
    """All views, told by a process whose clocks stand still."""
    command = [sys.executable, "-m", "tests.dashboard.view_dump"]
    ended = subprocess.run(command, env=clean_environment() | {"TZ": "UTC"}, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
    return json.loads(ended.stdout)


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_says_what_it_said(told: dict[str, str], name: str) -> None:
    golden.check_text(f"view_{name}.txt", told[name])
