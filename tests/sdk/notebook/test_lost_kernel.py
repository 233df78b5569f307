"""A notebook of 500 rows whose kernel is killed at 40 %, and run again: 500 calls are paid, and no row is missing."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from onceq import Client
from tests.sdk.notebook.kernel import executing, notebook_of, reader_folder, running_kernel
from tests.stack import Stack
from tests.waiting import wait_until

ROWS = 500
COLUMNS = f"""{{
    "text": [f"Review {{n}}: it was fine." for n in range({ROWS})],
    "how": ["ttft_ms=8000", *["ttft_ms=250"] * {ROWS - 1}],
}}"""
"""The first row takes so long that the cell is never done when it is killed, however busy the machine is."""
CELL = f"""
import onceq
import pandas as pd

reviews = pd.DataFrame({COLUMNS})
prompts = ("Summarise: " + reviews["text"] + " [[sim tokens=8 tps=0 " + reviews["how"] + "]]").tolist()
with onceq.Client(model="openai/gpt-4o-mini") as client:
    jobs = client.submit_batch(prompts)
    done = [job.result() for job in jobs]
reviews["summary"] = [job.text for job in done]
reviews["cost_nano_usd"] = [job.cost.nano_usd for job in done]
reviews.to_json("summaries.json")
"""
MAP = f"""
import onceq
import pandas as pd

reviews = pd.DataFrame({COLUMNS}, index=range(7, 7 + {ROWS}))
with onceq.Client(model="openai/gpt-4o-mini") as client:
    answers = client.map(reviews, "Summarise: {{text}} [[sim tokens=8 tps=0 {{how}}]]")
reviews["summary"] = answers["text"]
reviews["cost_nano_usd"] = (answers["cost_usd"] * 1e9).round().astype(int)
reviews.to_json("summaries.json")
"""


@pytest.mark.parametrize("cell", [CELL, MAP], ids=["batch", "map"])
def test_a_kernel_that_is_killed_at_two_fifths_costs_no_call_more(
    cell: str, home: Path, stack: Stack, tmp_path: Path
) -> None:
    with Client(stack.url, (home / ".onceq" / "api-key").read_text()) as client:
        with running_kernel(home) as kernel:
            kernel.start(cell)
            wait_until(lambda: answered(client) >= 0.4 * ROWS, "two fifths of the rows", timeout_s=120)
            kernel.manager.shutdown_kernel(now=True)
        assert not (home / "summaries.json").exists(), "the kernel was lost before the frame was complete"
        asyncio.run(again_and_elsewhere(cell, home, another_reader(stack, tmp_path)))
        jobs = {job.id for job in client.list(page_size=200)}
    assert len(jobs) == ROWS
    assert billed(stack, jobs) == dict.fromkeys(jobs, 1), "the simulator's meter: one call a row"
    assert frame(home) == frame(tmp_path / "other"), "that of a run that nothing interrupted"


async def again_and_elsewhere(cell: str, home: Path, other: Path) -> None:
    """Runs the cell in both folders. At the same time, as most of it is waiting."""
    await asyncio.gather(executing(notebook_of(cell), home), executing(notebook_of(cell), other))


def answered(client: Client) -> int:
    return client.stats().last_24h_simulated.succeeded


def billed(stack: Stack, jobs: set[str]) -> dict[str, int]:
    """How many calls the simulator would have billed for each of the jobs."""
    calls = httpx2.get(f"{stack.simulator}/meter").json()["calls"]
    return dict(Counter(call["job"] for call in calls if call["job"] in jobs))


def another_reader(stack: Stack, tmp_path: Path) -> Path:
    """The folder of another tenant."""
    other = tmp_path / "other"
    other.mkdir()
    return reader_folder(stack, other, f"reader-{uuid4().hex[:8]}")


def frame(folder: Path) -> dict[str, dict[str, object]]:
    """The frame that the notebook kept."""
    kept: dict[str, dict[str, object]] = json.loads((folder / "summaries.json").read_text())
    assert len(kept["summary"]) == ROWS
    return kept
