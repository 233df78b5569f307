"""What the tests of maps share: rows that no other test asks, and what the provider would have billed."""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import uuid4

import httpx2
import pandas as pd

from tests.stack import Stack


def texts(count: int, **knobs: object) -> list[str]:
    """Rows that no other test makes, answered at once, or as the simulator is told."""
    told = " ".join(f"{name}={value}" for name, value in ({"tokens": 6, "tps": 0, "ttft_ms": 0} | knobs).items())
    mark = uuid4().hex[:8]
    return [f"Review {mark} {n}: fine. [[sim {told}]]" for n in range(count)]


def billed(stack: Stack, client: Any) -> Counter[str]:
    """Calls that the simulator would have billed, by job, of this client's tenant."""
    jobs = {job.id for job in client.list(page_size=200)}
    calls = httpx2.get(f"{stack.simulator}/meter").json()["calls"]
    return Counter(call["job"] for call in calls if call["job"] in jobs)


def mapped(client: Any, rows: Any, prompt: Any = None, **options: Any) -> pd.DataFrame:
    """The frame of a map that shows no bar."""
    frame: pd.DataFrame = client.map(rows, prompt, **({"progress": False} | options))
    return frame


def asked(stack: Stack, key: str, job_id: str) -> str:
    """The prompt of a job."""
    answer = httpx2.get(f"{stack.url}/v1/jobs/{job_id}/request", headers={"authorization": f"Bearer {key}"})
    return str(answer.json()["prompt"])
