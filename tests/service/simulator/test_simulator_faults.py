"""Each fault looks to the official SDKs as the real one does."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import anthropic as anthropic_sdk
import httpx2
import openai as openai_sdk
import pytest
from anthropic import AsyncAnthropic
from botocore.eventstream import ChecksumMismatch
from botocore.exceptions import ClientError, ConnectionClosedError, EventStreamError, ReadTimeoutError
from openai import AsyncOpenAI
from simulator_kit import Sim
from urllib3.exceptions import ProtocolError
from urllib3.exceptions import ReadTimeoutError as RawReadTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from types_boto3_bedrock_runtime import BedrockRuntimeClient

IMPATIENT_S = 0.4
"""Read timeout for faults that answer nothing. Where what is said depends on whether the headers have come, a client is
patient until they have: a simulator may be seconds late."""


async def ask_openai(client: AsyncOpenAI, prompt: str, seen: list[str] | None = None) -> list[str]:
    """The deltas; `seen` keeps them when it ends with an exception."""
    seen = [] if seen is None else seen
    stream = await client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": prompt}], stream=True
    )
    async with stream:
        async for chunk in stream:
            seen += [choice.delta.content for choice in chunk.choices if choice.delta.content]
            seen += [choice.finish_reason for choice in chunk.choices if choice.finish_reason]
    return seen


async def ask_anthropic(client: AsyncAnthropic, prompt: str, seen: list[str] | None = None) -> list[str]:
    seen = [] if seen is None else seen
    stream = await client.messages.create(
        model="claude-haiku-4-5", max_tokens=1000, messages=[{"role": "user", "content": prompt}], stream=True
    )
    async with stream:
        async for event in stream:
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                seen.append(event.delta.text)
            elif event.type == "message_stop":
                seen.append(event.type)
    return seen


async def lose_patience(response: httpx2.Response) -> None:
    """A response hook: the body's read timeout is looked up once the headers are there."""
    response.request.extensions["timeout"]["read"] = IMPATIENT_S


def ask_bedrock(
    client: BedrockRuntimeClient, prompt: str, seen: list[str] | None = None, *, impatient: bool = False
) -> list[str]:
    seen = [] if seen is None else seen
    messages = [{"role": "user", "content": [{"text": prompt}]}]
    answer = client.converse_stream(modelId="amazon.nova-lite-v1:0", messages=messages)  # pyright: ignore[reportArgumentType] - a literal dict is too wide
    with closing(answer["stream"]) as stream:
        if impatient:
            cast("Any", stream)._raw_stream.connection.sock.settimeout(IMPATIENT_S)
        for event in stream:
            if "contentBlockDelta" in event:
                seen.append(event["contentBlockDelta"]["delta"].get("text", ""))
            elif "messageStop" in event:
                seen.append("messageStop")
    return seen


OPENAI_ERRORS: list[tuple[str, type[openai_sdk.APIStatusError]]] = [
    ("400", openai_sdk.BadRequestError),
    ("401", openai_sdk.AuthenticationError),
    ("403", openai_sdk.PermissionDeniedError),
    ("404", openai_sdk.NotFoundError),
    ("413", openai_sdk.APIStatusError),
    ("429", openai_sdk.RateLimitError),
    ("quota", openai_sdk.RateLimitError),
    ("500", openai_sdk.InternalServerError),
    ("503", openai_sdk.InternalServerError),
    ("529", openai_sdk.InternalServerError),
]

ANTHROPIC_ERRORS: list[tuple[str, type[anthropic_sdk.APIStatusError], str]] = [
    ("400", anthropic_sdk.BadRequestError, "invalid_request_error"),
    ("401", anthropic_sdk.AuthenticationError, "authentication_error"),
    ("403", anthropic_sdk.PermissionDeniedError, "permission_error"),
    ("404", anthropic_sdk.NotFoundError, "not_found_error"),
    ("413", anthropic_sdk.APIStatusError, "request_too_large"),
    ("429", anthropic_sdk.RateLimitError, "rate_limit_error"),
    ("500", anthropic_sdk.InternalServerError, "api_error"),
    ("503", anthropic_sdk.InternalServerError, "api_error"),
    ("529", anthropic_sdk.InternalServerError, "overloaded_error"),
]

BEDROCK_ERRORS = [
    ("400", "ValidationException"),
    ("403", "AccessDeniedException"),
    ("404", "ResourceNotFoundException"),
    ("429", "ThrottlingException"),
    ("500", "InternalServerException"),
    ("503", "ServiceUnavailableException"),
]


@pytest.mark.parametrize(("fault", "error"), OPENAI_ERRORS)
async def test_openai_refusals_are_its_own_errors(
    openai: AsyncOpenAI, sim: Sim, fault: str, error: type[openai_sdk.APIStatusError]
) -> None:
    with pytest.raises(error) as caught:
        await ask_openai(openai, f"[[sim fault={fault} retry_after=2]]")
    assert caught.value.response.headers["retry-after"] == "2"
    assert cast("dict[str, str]", caught.value.body)["message"]
    assert sim.row()["status"] == "refused"


@pytest.mark.parametrize(("fault", "error", "kind"), ANTHROPIC_ERRORS)
async def test_anthropic_refusals_are_its_own_errors(
    anthropic: AsyncAnthropic, sim: Sim, fault: str, error: type[anthropic_sdk.APIStatusError], kind: str
) -> None:
    with pytest.raises(error) as caught:
        await ask_anthropic(anthropic, f"[[sim fault={fault}]]")
    assert caught.value.type == kind
    assert caught.value.status_code == int(fault)
    assert sim.row()["status"] == "refused"


@pytest.mark.parametrize(("fault", "code"), BEDROCK_ERRORS)
def test_bedrock_refusals_are_its_own_errors(bedrock: BedrockRuntimeClient, sim: Sim, fault: str, code: str) -> None:
    with pytest.raises(ClientError) as caught:
        ask_bedrock(bedrock, f"[[sim fault={fault}]]")
    assert caught.value.response.get("Error", {}).get("Code") == code
    assert isinstance(caught.value, getattr(bedrock.exceptions, code))
    assert sim.row()["billed"] is False


async def test_a_429_says_when_to_come_back_unless_it_is_the_quota(openai: AsyncOpenAI) -> None:
    with pytest.raises(openai_sdk.RateLimitError) as limited:
        await ask_openai(openai, "[[sim fault=429]]")
    with pytest.raises(openai_sdk.RateLimitError) as exhausted:
        await ask_openai(openai, "[[sim fault=quota]]")
    assert limited.value.response.headers["retry-after"] == "1"
    assert limited.value.code == "rate_limit_exceeded"
    assert exhausted.value.code == "insufficient_quota"
    assert "retry-after" not in exhausted.value.response.headers


async def test_openai_sees_a_cut_as_a_connection_error_after_k_tokens(openai: AsyncOpenAI, sim: Sim) -> None:
    seen: list[str] = []
    with pytest.raises(openai_sdk.APIConnectionError):
        await ask_openai(openai, "[[sim fault=cut after=3]]", seen)
    assert len(seen) == 3
    assert sim.row()["status"] == "cut"
    assert sim.row()["output_tokens"] == 3


async def test_anthropic_sees_a_cut_as_a_raw_protocol_error(anthropic: AsyncAnthropic, sim: Sim) -> None:
    seen: list[str] = []
    with pytest.raises(httpx2.RemoteProtocolError):
        await ask_anthropic(anthropic, "[[sim fault=cut after=3]]", seen)
    assert len(seen) == 3
    assert sim.row()["status"] == "cut"


def test_bedrock_sees_a_cut_as_a_raw_protocol_error(bedrock: BedrockRuntimeClient, sim: Sim) -> None:
    seen: list[str] = []
    with pytest.raises(ProtocolError):
        ask_bedrock(bedrock, "[[sim fault=cut after=3]]", seen)
    assert len(seen) == 3
    assert sim.row()["status"] == "cut"


async def test_a_clean_early_end_raises_nothing_and_lacks_the_end_marker(
    openai: AsyncOpenAI, anthropic: AsyncAnthropic, bedrock: BedrockRuntimeClient, sim: Sim
) -> None:
    prompt = "[[sim fault=end after=4]]"
    assert len(await ask_openai(openai, prompt)) == 4
    assert len(await ask_anthropic(anthropic, prompt)) == 4
    assert len(ask_bedrock(bedrock, prompt)) == 4
    assert [row["status"] for row in sim.rows()] == ["ended"] * 3


@pytest.mark.parametrize(
    ("fault", "openai_says", "anthropic_type", "bedrock_code"),
    [
        ("error", "had an error", "api_error", "internalServerException"),
        ("overload", "overloaded", "overloaded_error", "serviceUnavailableException"),
    ],
)
async def test_an_error_event_in_a_200_stream_is_each_sdks_own(
    openai: AsyncOpenAI, anthropic: AsyncAnthropic, bedrock: BedrockRuntimeClient, sim: Sim,
    fault: str, openai_says: str, anthropic_type: str, bedrock_code: str,
) -> None:  # fmt: skip
    prompt = f"[[sim fault={fault} after=4]]"
    with pytest.raises(openai_sdk.APIError, match=openai_says) as bare:
        await ask_openai(openai, prompt)
    assert type(bare.value) is openai_sdk.APIError
    with pytest.raises(anthropic_sdk.APIStatusError) as typed:
        await ask_anthropic(anthropic, prompt)
    assert (typed.value.status_code, typed.value.type) == (200, anthropic_type)
    with pytest.raises(EventStreamError) as named:
        ask_bedrock(bedrock, prompt)
    assert named.value.response.get("Error", {}).get("Code") == bedrock_code
    assert [row["status"] for row in sim.rows()] == ["error"] * 3


async def test_garbage_can_not_be_decoded(
    openai: AsyncOpenAI, anthropic: AsyncAnthropic, bedrock: BedrockRuntimeClient
) -> None:
    prompt = "[[sim fault=garbage after=4]]"
    with pytest.raises(json.JSONDecodeError):
        await ask_openai(openai, prompt)
    with pytest.raises(json.JSONDecodeError):
        await ask_anthropic(anthropic, prompt)
    with pytest.raises(ChecksumMismatch):
        ask_bedrock(bedrock, prompt)


@pytest.mark.parametrize("fault", ["stall", "half", "slow", "hang"])
async def test_openai_times_out_when_nothing_more_comes(openai: AsyncOpenAI, sim: Sim, fault: str) -> None:
    with pytest.raises(openai_sdk.APITimeoutError):
        await ask_openai(openai.with_options(timeout=IMPATIENT_S), f"[[sim fault={fault}]]")
    assert sim.wait_for("aborted")["billed"] is True


@pytest.mark.parametrize("fault", ["stall", "half", "slow"])
async def test_anthropic_times_out_raw_in_mid_stream(anthropic: AsyncAnthropic, sim: Sim, fault: str) -> None:
    async with anthropic_sdk.DefaultAsyncHttpxClient(event_hooks={"response": [lose_patience]}) as http:
        with pytest.raises(httpx2.ReadTimeout):
            await ask_anthropic(anthropic.with_options(http_client=http), f"[[sim fault={fault}]]")
    assert sim.wait_for("aborted")["billed"] is True


async def test_anthropic_times_out_before_the_headers(anthropic: AsyncAnthropic, sim: Sim) -> None:
    with pytest.raises(anthropic_sdk.APITimeoutError):
        await ask_anthropic(anthropic.with_options(timeout=IMPATIENT_S), "[[sim fault=hang]]")
    assert sim.wait_for("aborted")["output_tokens"] == 0


def test_bedrock_times_out_raw_in_mid_stream(bedrock: BedrockRuntimeClient, sim: Sim) -> None:
    with pytest.raises(RawReadTimeoutError):
        ask_bedrock(bedrock, "[[sim fault=stall]]", impatient=True)
    assert sim.wait_for("aborted")["billed"] is True


def test_bedrock_times_out_in_its_own_words_before_the_headers(
    make_bedrock: Callable[[float], BedrockRuntimeClient], sim: Sim
) -> None:
    client = make_bedrock(IMPATIENT_S)
    with pytest.raises(ReadTimeoutError):
        ask_bedrock(client, "[[sim fault=hang]]")
    client.close()


async def test_a_dropped_connection_is_a_connection_error_and_is_not_billed(
    openai: AsyncOpenAI, anthropic: AsyncAnthropic, bedrock: BedrockRuntimeClient, sim: Sim
) -> None:
    with pytest.raises(openai_sdk.APIConnectionError):
        await ask_openai(openai, "[[sim fault=drop]]")
    with pytest.raises(anthropic_sdk.APIConnectionError):
        await ask_anthropic(anthropic, "[[sim fault=drop]]")
    with pytest.raises(ConnectionClosedError):
        ask_bedrock(bedrock, "[[sim fault=drop]]")
    assert sim.rows() == []
    assert sim.totals()["refused"] == 3


@pytest.mark.parametrize("after", [0, 1, 1000])
async def test_a_fault_in_mid_stream_strikes_whatever_the_length(openai: AsyncOpenAI, after: int) -> None:
    seen: list[str] = []
    with pytest.raises(openai_sdk.APIConnectionError):
        await ask_openai(openai, f"[[sim tokens=6 fault=cut after={after}]]", seen)
    assert len(seen) == min(after, 6)


@pytest.mark.parametrize("fault", ["cut", "end", "garbage", "error", "stall", "half"])
async def test_an_answer_in_one_piece_is_spoilt_as_well(openai: AsyncOpenAI, fault: str) -> None:
    with pytest.raises((openai_sdk.APIError, json.JSONDecodeError)):
        await openai.with_options(timeout=IMPATIENT_S).chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": f"[[sim fault={fault}]]"}]
        )


async def test_an_unknown_fault_or_setting_is_a_400_that_lists_the_known_ones(openai: AsyncOpenAI) -> None:
    with pytest.raises(openai_sdk.BadRequestError, match=r"known: .*garbage"):
        await ask_openai(openai, "[[sim fault=earthquake]]")
    with pytest.raises(openai_sdk.BadRequestError, match="Known settings: tokens, tps"):
        await ask_openai(openai, "[[sim token=5]]")
    with pytest.raises(openai_sdk.BadRequestError, match="name=value"):
        await ask_openai(openai, "[[sim slowly]]")
