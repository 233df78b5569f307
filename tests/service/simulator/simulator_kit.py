"""The simulator as its tests see it. A module of its own, because "conftest" is many modules."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

import httpx2
import pytest

TIMEOUT_S = 10.0

Row = dict[str, object]


class Sim:
    """The simulator as a test sees it: its address, its meter and its control."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx2.Client(base_url=url, timeout=TIMEOUT_S)

    def report(self, query: str = "") -> dict[str, object]:
        return cast("dict[str, object]", self.http.get(f"/meter{query}").raise_for_status().json())

    def rows(self, *, refused: bool = False) -> list[Row]:
        return cast("list[Row]", self.report(f"?text=1&refused={int(refused)}")["calls"])

    def row(self) -> Row:
        """The only row, refused or not."""
        (row,) = self.rows(refused=True)
        return row

    def totals(self, query: str = "") -> dict[str, int]:
        return cast("dict[str, int]", self.report(query)["totals"])

    def control(self, **orders: object) -> None:
        self.http.put("/control", json=orders).raise_for_status()

    def reset(self) -> None:
        self.http.delete("/control").raise_for_status()
        self.http.delete("/meter").raise_for_status()

    def wait_for(self, status: str) -> Row:
        """The only row once it has this status."""
        wait_until(lambda: self.row()["status"] == status, f"a row that is {status}")
        return self.row()


def wait_until(holds: Callable[[], bool], description: str) -> None:
    """Ask until it holds; fails after ten seconds."""
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"waited in vain for {description}")
        time.sleep(0.005)
