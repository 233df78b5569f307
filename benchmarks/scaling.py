"""What more processes give: jobs a minute of 1, 2 and 4 workers, posts a second of 1 and 2 API processes.

Short answers show what a core can do: a worker is then as fast as its CPU. Slow ones show slots: the provider sleeps,
so twice the workers end twice the jobs, and a job costs the CPU that it did before.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any, Final

import httpx2

from benchmarks import deployment as deployments
from benchmarks.cpu import Meter
from benchmarks.deployment import MODEL, Deployment
from benchmarks.figures import Figures, cpu_per, machine
from benchmarks.ratios import Part, Ratio

SLOTS: Final = 32
"""Of each worker process; the default."""
BATCH: Final = 500
WORKERS: Final = (1, 2, 4)
TIMEOUT_S: Final = 600.0
LOOK_S: Final = 0.2
"""Between two looks at what has ended, each of which costs the API some milliseconds."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What the provider says to each job, and how many jobs each worker process gets."""

    name: str
    directive: str
    jobs: int

    def case(self, workers: int) -> str:
        """As it is called in a report."""
        return f"{self.name}, {workers} worker{'s' * (workers > 1)}"


def short(jobs: int) -> Answers:
    """Five tokens at once."""
    return Answers("short answers", "[[sim tokens=5 tps=0 ttft_ms=0]]", jobs)


def slow(rounds: int) -> Answers:
    """Two tokens after two seconds, so that slots decide: `rounds` times as many jobs as a process has slots."""
    return Answers("slow answers", "[[sim tokens=2 tps=0 ttft_ms=2000]]", rounds * SLOTS)


def worked_off(answers: Answers, workers: int) -> Figures:
    """Posts all jobs in batches and waits for their ends; warm, and with nobody who reads."""
    with deployments.running(workers=workers, worker_concurrency=SLOTS) as deployment:
        _work(deployment, workers * SLOTS, "[[sim tokens=1 tps=0 ttft_ms=0]]")
        meter, began = Meter(deployment.roles), time.monotonic()
        _work(deployment, jobs := answers.jobs * workers, answers.directive)
        wall_s, spent = time.monotonic() - began, meter.spent()
    return {"jobs_per_min": jobs / wall_s * 60, **cpu_per(spent, jobs, 1e3, "ms_per_job"), **machine(spent)}


def _work(deployment: Deployment, jobs: int, directive: str) -> None:
    before = deployment.ended()
    with httpx2.Client(
        base_url=deployment.url, headers={"Authorization": f"Bearer {deployment.api_key}"}, timeout=60
    ) as client:
        for at in range(0, jobs, BATCH):
            items = [_item(directive) for _ in range(min(BATCH, jobs - at))]
            answer = client.post("/v1/jobs/batch", json={"items": items}).raise_for_status().json()
            assert not any(item.get("problem") for item in answer["items"]), answer["items"][0]
    end = time.monotonic() + TIMEOUT_S
    while deployment.ended() - before < jobs:
        assert time.monotonic() < end, f"{jobs} jobs did not end within {TIMEOUT_S:g} s"
        time.sleep(LOOK_S)


def _item(directive: str) -> dict[str, Any]:
    return {"job": {"model": f"openai/{MODEL}", "prompt": f"Tell me of harbour {os.urandom(8).hex()}. {directive}"}}


def ratios(*every: Answers) -> list[Ratio]:
    """What more workers give, and what each job costs with them, against one worker."""
    return [
        ratio
        for answers in every
        for workers in WORKERS[1:]
        for ratio in (
            _against_one(answers, workers, "jobs a minute", "jobs_per_min"),
            _against_one(answers, workers, "CPU a job", *(f"{r}_cpu_ms_per_job" for r in ("api", "redis", "worker"))),
        )
    ]


def _against_one(answers: Answers, workers: int, what: str, *figures: str) -> Ratio:
    one, more = answers.case(1), answers.case(workers)
    return Ratio(f"{what}: {more} / 1", Part(more, figures), Part(one, figures))
