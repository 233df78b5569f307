"""The meter counts what was really sent, prices it, and is what the streams report."""

from __future__ import annotations

import hashlib
import socket
from typing import TYPE_CHECKING

import httpx2
import pytest
from anthropic import AsyncAnthropic
from genai_prices import extract_usage
from openai import AsyncOpenAI, RateLimitError
from simulator_kit import Sim, wait_until

if TYPE_CHECKING:
    from types_boto3_bedrock_runtime import BedrockRuntimeClient

ENDLESS = "[[sim tokens=100000 tps=100]]"
CLOSED_BY_CLIENT = 499
RICH = "hello there, friend [[sim tokens=30 reasoning=7 cached=5 cache_write=2]]"


async def openai_usage(client: AsyncOpenAI, prompt: str, model: str = "gpt-4o-mini") -> dict[str, object]:
    stream = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": prompt}],
        stream=True,
        stream_options={"include_usage": True},
        extra_headers={"X-Client-Request-Id": "job-7/2"},
    )
    chunks = [chunk async for chunk in stream]
    return {"model": model, "usage": chunks[-1].to_dict()["usage"]}


def assert_same(sim: Sim, reported: object, provider: str, flavor: str = "default") -> None:
    """The usage a client reads out of the answer, and its price, are those of the meter's only row."""
    row = sim.row()
    usage = extract_usage(reported, provider_id=provider, api_flavor=flavor)
    assert usage.usage.input_tokens == row["input_tokens"]
    assert usage.usage.output_tokens == row["output_tokens"]
    assert (usage.usage.cache_read_tokens or 0) == row["cached_tokens"]
    assert (usage.usage.cache_write_tokens or 0) == row["cache_write_tokens"]
    price = usage.calc_price().total_price
    assert int(price * 1_000_000_000) == row["nano_usd"]


async def test_openai_usage_equals_the_meter(openai: AsyncOpenAI, sim: Sim) -> None:
    assert_same(sim, await openai_usage(openai, RICH), "openai", "chat")
    assert sim.row()["reasoning_tokens"] == 7


async def test_openai_responses_usage_equals_the_meter(openai: AsyncOpenAI, sim: Sim) -> None:
    answer = await openai.responses.create(model="gpt-4o-mini", input=RICH)
    assert_same(sim, answer.to_dict(), "openai", "responses")


async def test_anthropic_usage_equals_the_meter(anthropic: AsyncAnthropic, sim: Sim) -> None:
    async with anthropic.messages.stream(
        model="claude-haiku-4-5", max_tokens=1000, messages=[{"role": "user", "content": RICH}]
    ) as stream:
        message = await stream.get_final_message()
    assert_same(sim, message.to_dict(), "anthropic")


def test_bedrock_usage_equals_the_meter(bedrock: BedrockRuntimeClient, sim: Sim) -> None:
    model = "amazon.nova-lite-v1:0"
    answer = bedrock.converse(modelId=model, messages=[{"role": "user", "content": [{"text": RICH}]}])
    assert_same(sim, {"model": model, "usage": answer["usage"]}, "aws")


async def test_a_row_tells_job_call_times_and_the_text_that_was_sent(openai: AsyncOpenAI, sim: Sim) -> None:
    await openai_usage(openai, "hello [[sim text='Olá 🌍']]")
    row = sim.row()
    assert (row["n"], row["job"], row["call"]) == (1, "job-7", 2)
    assert (row["provider"], row["model"], row["status"], row["billed"]) == ("openai", "gpt-4o-mini", "completed", True)
    assert row["text"] == "Olá 🌍"
    assert row["text_sha256"] == hashlib.sha256("Olá 🌍".encode()).hexdigest()
    assert "text" not in sim.http.get("/meter").json()["calls"][0]


async def test_input_tokens_are_a_quarter_of_the_bytes_rounded_up(openai: AsyncOpenAI, sim: Sim) -> None:
    await openai.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "system", "content": "é" * 4}, {"role": "user", "content": "x"}],
    )
    assert sim.row()["input_tokens"] == 3


async def test_an_unknown_model_is_unpriced_never_free(openai: AsyncOpenAI, sim: Sim) -> None:
    await openai_usage(openai, "hello", model="llama-of-nobody")
    assert sim.row()["nano_usd"] is None
    assert sim.totals()["unpriced"] == 1


async def test_a_refusal_is_counted_but_not_billed(openai: AsyncOpenAI, sim: Sim) -> None:
    with pytest.raises(RateLimitError):
        await openai_usage(openai, "[[sim fault=429]]")
    row = sim.row()
    assert (row["status"], row["http_status"], row["billed"], row["nano_usd"]) == ("refused", 429, False, None)
    assert sim.rows() == []
    assert sim.totals() == {**dict.fromkeys(sim.totals(), 0), "refused": 1}


async def test_a_client_that_leaves_an_openai_stream_is_noticed_and_billed_until_then(
    openai: AsyncOpenAI, sim: Sim
) -> None:
    async with await openai.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": ENDLESS}], stream=True
    ) as stream:
        async for _ in stream:
            break
    row = sim.wait_for("aborted")
    assert row["billed"] is True
    assert row["closed_at"] == row["ended_at"] is not None
    assert row["nano_usd"]


async def test_a_client_that_leaves_an_anthropic_stream_is_noticed(anthropic: AsyncAnthropic, sim: Sim) -> None:
    async with anthropic.messages.stream(
        model="claude-haiku-4-5", max_tokens=100_000, messages=[{"role": "user", "content": ENDLESS}]
    ) as stream:
        async for _ in stream.text_stream:
            break
    assert sim.wait_for("aborted")["billed"] is True


def test_a_bedrock_stream_that_is_shut_down_is_noticed(bedrock: BedrockRuntimeClient, sim: Sim) -> None:
    answer = bedrock.converse_stream(
        modelId="amazon.nova-lite-v1:0", messages=[{"role": "user", "content": [{"text": ENDLESS}]}]
    )
    next(iter(answer["stream"]))
    answer["stream"].close()
    assert sim.wait_for("aborted")["billed"] is True


async def test_totals_add_up_over_all_jobs_and_over_one(openai: AsyncOpenAI, sim: Sim) -> None:
    await openai_usage(openai, "hello")
    await openai.responses.create(model="gpt-4o-mini", input="hello")
    rows = sim.rows()
    assert sim.totals()["calls"] == 2
    assert sim.totals()["nano_usd"] == sum(int(str(row["nano_usd"])) for row in rows)
    assert sim.totals("?job=job-7")["nano_usd"] == rows[0]["nano_usd"]
    assert sim.totals("?job=nobody")["calls"] == 0


async def test_deleting_the_meter_starts_it_again(openai: AsyncOpenAI, sim: Sim) -> None:
    await openai_usage(openai, "hello")
    assert sim.http.delete("/meter").status_code == 204
    assert sim.rows() == []


@pytest.mark.parametrize(
    ("header", "job", "call"),
    [("job/3", "job", 3), ("a/b/3", "a/b", 3), ("plain", "plain", None), ("job/x", "job/x", None), ("", None, None)],
)
def test_any_request_id_is_understood(sim: Sim, header: str, job: str | None, call: int | None) -> None:
    sim.http.post("/openai/v1/chat/completions", headers={"X-Client-Request-Id": header})
    assert (sim.row()["job"], sim.row()["call"]) == (job, call)


def test_a_request_whose_body_is_not_whole_is_no_call(sim: Sim) -> None:
    """Clients send the head before the body. One that leaves in between owes nothing, and has never been a call."""
    url = httpx2.URL(sim.url)
    head = [
        "POST /openai/v1/chat/completions HTTP/1.1",
        "Host: x",
        "X-Client-Request-Id: job-8/1",
        "Content-Length: 99",
    ]
    with socket.create_connection((url.host, url.port or 80)) as client:
        client.sendall("\r\n".join([*head, "", '{"model":']).encode())
        wait_until(lambda: bool(sim.rows(refused=True)), "the head to arrive")
        row = sim.wait_for("arriving")
        assert (row["job"], row["billed"]) == ("job-8", False)
        assert sim.rows() == []
    row = sim.wait_for("refused")
    assert (row["billed"], row["http_status"], row["nano_usd"]) == (False, CLOSED_BY_CLIENT, None)
