"""`python -m benchmarks.map_rows rate|memory [--rows N] [--runs N]`: what `client.map` costs beside the work itself.

rate: rows/s of a map, and of the same jobs posted by a bare script that only waits for their number, in turns on the
same processes; the ratio is the figure, beside the CPU of each process, which a busy machine moves less. The map is a
process of its own, whose largest memory above its frame is told.
memory: the same with a stand-in on a real socket that answers as the service does, so that no worker is waited for.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx2
import pandas as pd
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from benchmarks.cpu import Meter
from benchmarks.deployment import Deployment, running
from benchmarks.supervisor import supervised
from onceq import Client

PACK: Final = 1_000
DIRECTIVE: Final = "[[sim tokens=5 tps=0 ttft_ms=0]]"
WORDS: Final = "It was fine, and the staff were friendly. " * 12
"""Half a kilobyte a row, as reviews have."""


def main() -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.map_rows")
    parser.add_argument("what", choices=["rate", "memory", "child"])
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--url", default="")
    parser.add_argument("--key", default="oq_bench")
    options = parser.parse_args()
    work = partial(measure, options)
    return work() if options.what == "child" else supervised(work)


def measure(options: argparse.Namespace) -> int:
    """Runs one of them."""
    match options.what:
        case "rate":
            rate(options.rows, options.runs)
        case "memory":
            memory(options.rows)
        case _:
            child(options.url, options.key, options.rows)
    return 0


@dataclass(frozen=True, slots=True)
class Half:
    """One side of a pair."""

    per_s: float
    cpu_us: Mapping[str, float]
    """CPU a row by role; `client` is the script's or the map's own process."""
    foreign_cores: float

    def __str__(self) -> str:
        shares = ", ".join(f"{role} {us:.0f}" for role, us in self.cpu_us.items())
        return f"{self.per_s:.0f} rows/s; us of CPU a row: {shares}; foreign cores {self.foreign_cores:.1f}"


def rate(rows: int, runs: int) -> None:
    """Both in turns, and the ratio of each pair; which of them is first changes from pair to pair."""
    pairs: list[dict[str, Half]] = []
    with running(workers=1, redis_gib=6) as deployment:
        sides = {"bare": bare_s, "map": map_s}
        for name in sides:  # what starts cold starts before it is measured
            half(deployment, sides[name], 500)
        for run in range(runs):
            order = list(sides) if run % 2 else list(reversed(sides))
            pairs.append({name: half(deployment, sides[name], rows) for name in order})
            for name in order:
                print(f"{rows} rows, {name}: {pairs[-1][name]}", flush=True)
            print(f"map / bare {pairs[-1]['map'].per_s / pairs[-1]['bare'].per_s:.2f}", flush=True)
    speeds = [pair["map"].per_s / pair["bare"].per_s for pair in pairs]
    work = [sum(pair["map"].cpu_us.values()) / sum(pair["bare"].cpu_us.values()) for pair in pairs]
    print(
        f"median of {runs}: rows/s {statistics.median(speeds):.2f}, CPU of all processes {statistics.median(work):.2f}"
    )


def half(deployment: Deployment, side: Callable[[Deployment, int], tuple[float, float]], rows: int) -> Half:
    """Runs it, and reads the CPU of all processes meanwhile."""
    meter = Meter({**deployment.roles, "simulator": deployment.simulator_pid})
    took_s, client_s = side(deployment, rows)
    spent = meter.spent()
    cpu_s = {role: used for role, used in spent.cpu_s.items() if role != "ours"} | {"client": client_s}
    return Half(rows / took_s, {role: used / rows * 1e6 for role, used in cpu_s.items()}, spent.foreign_cores)


def texts(rows: int, told: str = "") -> list[str]:
    """Rows of half a kilobyte that were never asked before."""
    mark = uuid4().hex
    return [f"{mark} {n} {WORDS}{told}" for n in range(rows)]


def bare_s(deployment: Deployment, count: int) -> tuple[float, float]:
    """Posts all, then asks for the number of ended jobs until it is there; seconds, and CPU seconds of its own."""
    rows, before, began, cpu = texts(count, DIRECTIVE), ended(deployment), time.monotonic(), time.process_time()
    headers = {"authorization": f"Bearer {deployment.api_key}", "content-type": "application/json"}
    with httpx2.Client(base_url=deployment.url, headers=headers, timeout=60) as http:
        for start in range(0, len(rows), PACK):
            items = [{"job": {"model": "openai/gpt-4o-mini", "prompt": row}} for row in rows[start : start + PACK]]
            http.post("/v1/jobs/batch", content=json.dumps({"items": items})).raise_for_status()
    while ended(deployment) - before < len(rows):
        time.sleep(0.25)
    return time.monotonic() - began, time.process_time() - cpu


def map_s(deployment: Deployment, count: int) -> tuple[float, float]:
    """The whole of `client.map` in a process of its own, with its cache and its frame; seconds, and its CPU seconds."""
    command = [sys.executable, "-m", "benchmarks.map_rows", "child", "--rows", str(count), "--url", deployment.url]
    made = subprocess.run([*command, "--key", deployment.api_key], check=True, capture_output=True, text=True)
    told, _, figures = made.stdout.rpartition("; ")
    print(told, flush=True)
    took_s, cpu_s = figures.split(" s, ")
    return float(took_s), float(cpu_s.split()[0])


def ended(deployment: Deployment) -> int:
    """Jobs that have ended in all."""
    return int(deployment.stats()["last_24h_simulated"]["succeeded"])


def memory(rows: int) -> None:
    """A process of its own maps rows that the stand-in answers at once."""
    server = uvicorn.Server(uvicorn.Config(stand_in(), port=0, log_level="error"))
    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(server.run)
        while not server.started:
            time.sleep(0.05)
        port = server.servers[0].sockets[0].getsockname()[1]
        command = [sys.executable, "-m", "benchmarks.map_rows", "child", "--rows", str(rows)]
        subprocess.run([*command, "--url", f"http://127.0.0.1:{port}"], check=True)
        server.should_exit = True
        serving.result()


def child(url: str, key: str, rows: int) -> None:
    """Maps, and says how fast that was, and how much memory it took above the frame."""
    frame = pd.DataFrame({"text": texts(rows)})
    before, began, cpu = peak_mb(), time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as folder, Client(url, key, model="openai/gpt-4o-mini") as client:
        made = client.map(frame, f"{{text}}{DIRECTIVE}", cache=Path(folder) / "map.sqlite", progress=False)
    took_s, cpu_s = time.monotonic() - began, time.process_time() - cpu
    assert made["status"].eq("succeeded").all()
    assert len(made) == rows
    answers_mb = made.memory_usage(deep=True).sum() / 1e6
    print(
        f"{rows} rows: {peak_mb() - before:.0f} MB above the frame at most, {answers_mb:.0f} MB of them the answers; "
        f"{rows / took_s:.1f} rows/s, {cpu_s / rows * 1e6:.0f} us of CPU a row; {took_s:.3f} s, {cpu_s:.3f} s of CPU"
    )


def peak_mb() -> float:
    """The largest memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def stand_in() -> Starlette:
    """Accepts batches, and ends their jobs in the order of the posts."""
    posted: list[str] = []

    async def submit(request: Request) -> JSONResponse:
        items = json.loads(await request.body())["items"]
        jobs = [f"job_{len(posted) + n:032x}" for n in range(len(items))]
        posted.extend(jobs)
        return JSONResponse({"items": [{"job": queued(job), "problem": None} for job in jobs]})

    async def events(request: Request) -> StreamingResponse:
        after = int(request.headers.get("last-event-id", "0"))

        async def told() -> AsyncGenerator[bytes]:
            for at in range(after, len(posted)):
                yield frame_of(at + 1, posted[at])

        if after >= len(posted):
            return StreamingResponse(iter(()), 204)
        return StreamingResponse(told(), media_type="text/event-stream")

    async def key(_: Request) -> JSONResponse:
        made = "2026-01-01T00:00:00Z"
        return JSONResponse({"id": "k", "tenant": "bench", "name": "k", "scopes": [], "created_at": made})

    async def models(_: Request) -> JSONResponse:
        return JSONResponse({"providers": [], "aliases": [], "simulated": True})

    return Starlette(routes=[
        Route("/v1/jobs/batch", submit, methods=["POST"]), Route("/v1/events", events),
        Route("/v1/keys/self", key), Route("/v1/models", models),
    ])  # fmt: skip


def queued(job: str) -> dict[str, Any]:
    """A 202's body."""
    base = f"/v1/jobs/{job}"
    return {
        "id": job, "status": "queued", "model": "openai/gpt-4o-mini", "created_at": "2026-01-01T00:00:00Z",
        "disposition": "created", "urls": {"self": base, "events": f"{base}/events", "cancel": f"{base}/cancel"},
        "quote": {"cost": {"upper_nano_usd": 30_000_000, "upper_usd": "0.03"}},
    }  # fmt: skip


def frame_of(number: int, job: str) -> bytes:
    """A job's end with its answer."""
    text = re.sub(r"\s+", " ", WORDS)[:160]
    data: dict[str, Any] = {
        "job": job, "seq": 9, "call": 1, "status": "succeeded", "calls": 1, "finish_reason": "stop",
        "usage": {"input_tokens": 120, "output_tokens": 40}, "cost": {"nano_usd": 42_000, "usd": "0.000042"},
        "timings": {"queue_s": 0.1, "ttft_s": 0.4, "total_s": 0.9},
        "output": {"text": text, "reasoning": "", "tool_calls": [], "finish_reason": "stop"},
    }  # fmt: skip
    return f"id: {number}\nevent: succeeded\ndata: {json.dumps(data)}\n\n".encode()


if __name__ == "__main__":
    sys.exit(main())
