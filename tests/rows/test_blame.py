"""Row N5: who made a job slow or failed. Faults are mixed at random over a running stack; prints the confusion matrix.

The classifier sees phases and error codes; what was injected is known to this file alone. ONCEQ_BLAME_SEED repeats a
run, ONCEQ_BLAME_JOBS is how many jobs each kind gets.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest

from onceq.wire import PHASES, VERDICTS, Job, WorkerInfo
from onceq_service.embedded.redis_server import EmbeddedRedis
from tests.service.api.kit import Http, http, stuck_reader
from tests.stack import Stack, running_stack, start, url_printed_by
from tests.waiting import wait_until

pytestmark = pytest.mark.alone

SEED = int(os.environ.get("ONCEQ_BLAME_SEED") or random.SystemRandom().randrange(10**6))
EACH = int(os.environ.get("ONCEQ_BLAME_JOBS") or 6)
RIGHT = 0.99
NOBODY = "-"
OWN_LANES = {f"openai/own{n}": {"concurrency": 1} for n in range(EACH)}


class Injector:
    """Posts jobs with a fault each, and remembers whose it is."""

    def __init__(self, client: Http, rng: random.Random) -> None:
        self.client, self.rng = client, rng
        self.truth: dict[str, tuple[str, str]] = {}
        """Job id -> (what was done to it, who is to blame)."""

    def post(
        self, what: str, who: str, model: str = "", knobs: Mapping[str, object] | None = None, **says: object
    ) -> str:
        """One job on a lane of its own, unless a model is given."""
        told = {"tokens": self.rng.randint(10, 60), "tps": self.rng.randint(20, 60), "ttft_ms": 150} | dict(knobs or {})
        words = " ".join(f"{name}={value}" for name, value in told.items())
        body = {"model": model or f"openai/{uuid4().hex}", "prompt": f"{uuid4().hex} [[sim {words}]]"} | says
        job_id: str = self.client.submit(body)["id"]
        self.truth[job_id] = (what, who)
        return job_id

    def fine(self) -> None:
        self.post("nothing", NOBODY, knobs={"ttft_ms": self.rng.randint(20, 1500)})

    def slow_first_token(self) -> None:
        self.post(
            "slow first token", "provider_slow", knobs={"fault": "slow", "slow_ms": self.rng.randint(7500, 12_000)}
        )

    def slow_tokens(self) -> None:
        self.post("slow tokens", "provider_slow", knobs={"tps": self.rng.uniform(1.5, 3.5), "tokens": 30})

    def stall(self) -> None:
        knobs = {"fault": "stall", "times": 1, "after": self.rng.randint(1, 8)}
        self.post("stall", "provider_slow", knobs=knobs, timeouts={"between_bytes_s": 3 + self.rng.random() * 3})

    def hang(self) -> None:
        self.post("hang", "provider_slow", knobs={"fault": "hang", "times": 1},
                  timeouts={"first_byte_s": 7.5 + self.rng.random() * 3})  # fmt: skip

    def server_error(self) -> None:
        self.post("500", "provider_slow", knobs={"fault": self.rng.choice(["500", "503"])}, deadline_s=8)

    def cut(self) -> None:
        self.post("cut", "provider_slow", knobs={"fault": "cut", "after": self.rng.randint(1, 8)}, on_break="fail")

    def rate_limit(self) -> None:
        knobs = {"fault": "429", "times": self.rng.randint(1, 2), "retry_after": self.rng.randint(3, 5)}
        self.post("429", "provider_throttled", knobs=knobs)

    def rate_limit_for_good(self) -> None:
        knobs = {"fault": "429", "retry_after": self.rng.randint(3, 5)}
        self.post("429 to the end", "provider_throttled", knobs=knobs, deadline_s=9)

    def own_limit(self, n: int) -> None:
        """A lane of ours with room for one job; the one that has it takes six seconds, as its tokens need."""
        lane = f"openai/own{n}"
        self.post("nothing", NOBODY, lane, knobs={"tokens": 120, "tps": 20})
        time.sleep(0.1)
        self.post("our lane's limit", "queue", lane)

    def no_budget(self) -> None:
        """A budget with room for two calls' bounds, and for a third when the first job, of six seconds, has ended."""
        priced: dict[str, Any] = {"model": "openai/gpt-4o-mini", "max_tokens": 200, "team": uuid4().hex}
        quote = self.client.post("/v1/quote", json=priced | {"prompt": f"{'x' * 100} [[sim tokens=120 tps=20]]"}).json()
        limit = {"limit_usd": quote["cost"]["call_upper_nano_usd"] * 2.7 / 1e9, "team": priced["team"], "mode": "hard"}
        assert self.client.post("/v1/budgets", json={"name": priced["team"]} | limit).status_code == 201
        self.post("nothing", NOBODY, knobs={"tokens": 120, "tps": 20}, **priced)
        self.post("no room in a budget", "budget", knobs={"fault": "cut", "times": 1, "after": 1}, **priced)

    def wrong_request(self) -> None:
        self.post("wrong request", NOBODY, knobs={"fault": "400"})

    def wrong_key(self) -> None:
        self.post("key not valid", "our_code", knobs={"fault": "401"})

    def everything(self) -> None:
        """All kinds, in any order."""
        kinds = [self.fine, self.slow_first_token, self.slow_tokens, self.stall, self.hang, self.server_error, self.cut,
                 self.rate_limit, self.rate_limit_for_good, self.no_budget, self.wrong_request,
                 self.wrong_key] * EACH  # fmt: skip
        todo = [*kinds, *(lambda n=n: self.own_limit(n) for n in range(EACH))]
        self.rng.shuffle(todo)
        for inject in todo:
            inject()
            time.sleep(self.rng.random() / 20)

    def ended(self) -> dict[str, Job]:
        """All jobs, at their ends."""
        found = {job_id: self.client.job(job_id, wait=60) for job_id in self.truth}
        while waiting := [job_id for job_id, job in found.items() if job.finished_at is None]:
            found |= {job_id: self.client.job(job_id, wait=60) for job_id in waiting}
        return found


SMALL_BUFFERS = """
import socket
from onceq_service.api.server import serve
bind = serve.bind
def small(host, port):
    listener = bind(host, port)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)  # its connections inherit it
    return listener
serve.bind = small
from onceq_service.settings import load_settings
serve.run(load_settings())
"""
"""A replica whose system takes little for a reader that does not read, so that a job need not say megabytes."""


def freeze(stack: Stack, injector: Injector, seconds: float) -> None:
    """Stops the worker process while its jobs stream."""
    ids = [injector.post("worker frozen", "our_code", knobs={"tokens": 60, "tps": 15}) for _ in range(EACH)]
    wait_until(lambda: all(injector.client.job(i).first_token_at for i in ids), "all to stream", timeout_s=60)
    os.killpg(stack.worker.popen.pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.killpg(stack.worker.popen.pid, signal.SIGCONT)


def stuck_readers(stack: Stack, url: str, injector: Injector) -> None:
    """Readers that take nothing while their jobs say much; two at a time, since much is much work."""
    key = stack.key()
    for _ in range(0, EACH, 2):
        with ExitStack() as links:
            for _ in range(2):
                job_id = injector.post("stuck reader", "client_slow", knobs={"tokens": 60_000, "tps": 9000})
                links.enter_context(stuck_reader(url, key, job_id))
            injector.ended()


def too_few_slots(injector: Injector) -> None:
    """Two slots and as many jobs as make the last ones wait; who waits for under 4 s is left out."""
    for n in range(4 + EACH):
        early = n < 6
        job_id = injector.post("too few workers", "queue", knobs={"tokens": 40, "tps": 20, "ttft_ms": 100})
        if early:
            del injector.truth[job_id]


def matrix(rows: list[tuple[str, str, str]]) -> str:
    """The table: one row for each truth, one column for each verdict; then what went wrong."""
    names = (*VERDICTS, NOBODY)
    count = Counter((who, said) for _, who, said in rows)
    lines = [f"blame, seed {SEED}, {len(rows)} jobs", f"{'truth / verdict':<20}" + "".join(f"{n:>20}" for n in names)]
    lines += [f"{who:<20}" + "".join(f"{count[who, said]:>20}" for said in names) for who in names]
    kinds = Counter(what for what, _, _ in rows)
    lines.append("injected: " + ", ".join(f"{what} {n}" for what, n in sorted(kinds.items())))
    return "\n".join(lines)


@pytest.fixture
def deployment(redis_server: EmbeddedRedis) -> Generator[Stack]:
    """One worker process with many slots, so that what is stopped is known."""
    with running_stack(redis_server, workers=1, worker_concurrency="200", lanes=json.dumps(OWN_LANES)) as stack:
        yield stack


@pytest.fixture
def frugal(deployment: Stack) -> Generator[str]:
    """Another replica of the deployment, with small buffers."""
    process = start([sys.executable, "-c", SMALL_BUFFERS], deployment.env, deployment.folder / "frugal.log")
    yield url_printed_by(process)
    process.stop()


@pytest.fixture
def small_deployment(redis_server: EmbeddedRedis) -> Generator[Stack]:
    """Two slots."""
    with running_stack(redis_server, workers=1, worker_concurrency="2") as stack:
        yield stack


def known(client: Http) -> list[WorkerInfo]:
    """Live workers."""
    return [WorkerInfo.model_validate(w) for w in client.get("/v1/stats").json()["workers"]]


@pytest.fixture
def clients(deployment: Stack, small_deployment: Stack) -> Generator[tuple[Http, Http]]:
    """A client of each, when their workers are there."""
    with http(deployment) as one, http(small_deployment) as two:
        for client in (one, two):
            wait_until(lambda c=client: known(c), "a worker", timeout_s=60)
        yield one, two


def test_the_one_who_is_to_blame_is_blamed(
    deployment: Stack, frugal: str, clients: tuple[Http, Http], capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(SEED)
    mixed, slots = (Injector(client, rng) for client in clients)
    too_few_slots(slots)
    mixed.everything()
    mixed.ended()
    freeze(deployment, mixed, rng.uniform(3, 5))
    mixed.ended()
    stuck_readers(deployment, frugal, mixed)
    rows: list[tuple[str, str, str]] = []
    wrong: list[str] = []
    for injector in (mixed, slots):
        for job_id, job in injector.ended().items():
            what, who = injector.truth[job_id]
            said = job.timings.verdict or NOBODY
            rows.append((what, who, said))
            assert job.timings.phases is not None
            took = {name: s for name in PHASES if (s := getattr(job.timings.phases, f"{name}_s"))}
            if said != who:
                wrong.append(f"{what}: {said} instead of {who}; {job.status} {job.error and job.error.code} {took}")
            assert sum(round(s * 1000) for s in took.values()) == round((job.timings.total_s or 0) * 1000)
    with capsys.disabled():
        print("\n" + "\n".join([matrix(rows), *wrong]))
    assert {who for _, who, _ in rows} == {*VERDICTS, NOBODY}
    assert len(wrong) <= (1 - RIGHT) * len(rows), "\n".join(wrong)
