"""A simulator over real sockets, and the official SDKs pointed at it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING

import boto3
import pytest
from anthropic import AsyncAnthropic
from botocore.config import Config
from openai import AsyncOpenAI
from simulator_kit import TIMEOUT_S, Sim

from onceq_service.simulator import Knobs, SimulatorServer

if TYPE_CHECKING:
    from types_boto3_bedrock_runtime import BedrockRuntimeClient


@pytest.fixture(scope="session")
def server() -> Iterator[SimulatorServer]:
    with SimulatorServer(Knobs(tps=0, ttft_ms=0, tokens=20)) as running:
        yield running


@pytest.fixture
def sim(server: SimulatorServer) -> Iterator[Sim]:
    sim = Sim(server.url)
    sim.reset()
    yield sim
    sim.http.close()


@pytest.fixture
async def openai(sim: Sim) -> AsyncIterator[AsyncOpenAI]:
    url = f"{sim.url}/openai/v1"
    async with AsyncOpenAI(base_url=url, api_key="sk-test", max_retries=0, timeout=TIMEOUT_S) as client:
        yield client


@pytest.fixture
async def anthropic(sim: Sim) -> AsyncIterator[AsyncAnthropic]:
    url = f"{sim.url}/anthropic"
    async with AsyncAnthropic(base_url=url, api_key="sk-ant-test", max_retries=0, timeout=TIMEOUT_S) as client:
        yield client


@pytest.fixture(scope="session")
def make_bedrock(server: SimulatorServer) -> Callable[[float], BedrockRuntimeClient]:
    session = boto3.Session(aws_access_key_id="AKIATEST", aws_secret_access_key="secret-test", region_name="us-east-1")

    def make(read_timeout_s: float) -> BedrockRuntimeClient:
        config = Config(retries={"total_max_attempts": 1}, read_timeout=read_timeout_s)
        url = f"{server.url}/bedrock"
        return session.client("bedrock-runtime", endpoint_url=url, config=config)  # pyright: ignore[reportUnknownMemberType] - the stubs of the other services are not installed

    return make


@pytest.fixture
def bedrock(sim: Sim, make_bedrock: Callable[[float], BedrockRuntimeClient]) -> Iterator[BedrockRuntimeClient]:
    client = make_bedrock(TIMEOUT_S)
    yield client
    client.close()
