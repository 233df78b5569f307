"""A judge that we did not write: llmock emulates two providers, misbehaves, and grades the client, here the product."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from llmock.pytest_plugin import LLMock

from onceq import Client
from onceq.wire import SCOPES
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import open_store
from tests.stack import API, WORKER, start, url_printed_by

MODELS = {"openai": "openai/gpt-4o-mini", "anthropic": "anthropic/claude-haiku-4-5"}
WORD = "not-a-real-key"
STALL = "a stall in mid-stream"
PATIENCE = {"between_bytes_s": 5.0}
"""Of the job that meets the stall, and of no other: the mock lives in this process, whose pauses are stalls too."""

FAULTS: dict[str, Callable[[LLMock], object]] = {
    "a 429 with Retry-After, twice": lambda mock: mock.rate_limit(times=2, retry_after=0.5),
    "a 500": lambda mock: mock.fail(500),
    "a 503 with Retry-After": lambda mock: mock.fail(503, retry_after=0.5),
    "a dropped connection": lambda mock: mock.disconnect(after_chunks=3),
    "a stream that ends early and cleanly": lambda mock: mock.truncate(after_chunks=3),
    "a chunk that is no JSON": lambda mock: mock.corrupt(after_chunks=3),
    STALL: lambda mock: mock.stall(after_chunks=3, seconds=20),
}


@dataclass(frozen=True)
class Product:
    """The API and a worker before llmock."""

    client: Client
    llmock: LLMock
    model: str

    def answer(self, prompt: str, timeouts: Mapping[str, float] | None = None) -> str:
        """Posts a job and waits for its end; its status."""
        return self.client.submit(f"{prompt} {uuid4()}", model=self.model, timeouts=timeouts).wait(60).status


def new_key(redis: EmbeddedRedis, queue: str) -> str:
    async def create() -> str:
        async with open_store(redis.url, queue) as store:
            return (await store.api_keys.create(tenant="t", name="test", scopes=SCOPES))[1]

    return asyncio.run(create())


def config(llmock: LLMock) -> str:
    return "".join(
        f'[providers.{name}]\nkind = "{name}"\nbase_url = "{llmock.base_url(name)}"\nkey_env = "WORD"\n'
        for name in MODELS
    )


@pytest.fixture(params=["openai", "anthropic"])
def product(
    redis_server: EmbeddedRedis, queue: str, llmock: LLMock, tmp_path: Path, request: pytest.FixtureRequest
) -> Generator[Product]:
    (tmp_path / "onceq.toml").write_text(config(llmock), "utf-8")
    env = {
        "ONCEQ_REDIS_URL": redis_server.url, "ONCEQ_QUEUE": queue, "ONCEQ_PORT": "0", "WORD": WORD,
        "ONCEQ_CONFIG": str(tmp_path / "onceq.toml"), "ONCEQ_WORKER_PROCESSES": "1", "PYTHONWARNINGS": "error",
    }  # fmt: skip
    api = start([sys.executable, "-c", API], env, tmp_path / "api.log")
    worker = start([sys.executable, "-c", WORKER], env, tmp_path / "worker.log")
    try:
        with Client(base_url=url_printed_by(api), api_key=new_key(redis_server, queue)) as client:
            yield Product(client, llmock, MODELS[request.param])
    finally:
        api.stop()
        worker.stop()
    assert WORD not in api.text() + worker.text()


def test_every_fault_is_handled_as_the_judge_wants_it(product: Product) -> None:
    product.llmock.pace(30)  # so that a reader who leaves is seen to leave
    for name, fault in FAULTS.items():
        fault(product.llmock)
        assert (name, product.answer(name, PATIENCE if name == STALL else None)) == (name, "succeeded")
    verdict = product.llmock.verdict()
    verdict.assert_ok(strict=True)
    assert len(verdict.calls) == len(FAULTS), "one call a job, and its retries"
    assert verdict.attempts == 2 * len(FAULTS) + 1, "no fault is met twice, but for the 429 that came twice"


def test_without_a_fault_a_job_is_one_request(product: Product) -> None:
    handles = [product.client.submit(f"calm {n}", model=product.model) for n in range(20)]
    assert all(handle.wait(60).status == "succeeded" for handle in handles)
    assert len(product.llmock.requests) == 20


def test_a_request_that_is_wrong_is_sent_once(product: Product) -> None:
    product.llmock.context_overflow(times=None)
    assert product.answer("too long") == "failed"
    assert len(product.llmock.requests) == 1
    product.llmock.verdict().assert_ok(strict=True)
