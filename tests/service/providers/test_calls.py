"""Requests that an SDK makes, and the same requests when they are repeated: by what arrives at the host."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import openai
import pytest

from onceq_service.providers import Provider, _calls, open_providers
from onceq_service.providers._calls import Calls
from onceq_service.providers._http import new_http_client
from onceq_service.settings import ProviderConfig, ProviderKind
from tests.service.providers.kit import KINDS, LEARNT, hear, refusal, spec_for
from tests.service.providers.raw_server import answer, sse

TEXT = sse({"choices": [{"delta": {"content": "Hi"}}]}, {"choices": [{"finish_reason": "stop"}]}, "[DONE]")
SAID = answer(TEXT)


@dataclass
class Request:
    line: bytes
    heads: dict[str, str]
    body: dict[str, Any]


@dataclass
class Host:
    """A server that keeps every request; `says` is how it answers one."""

    url: str = ""
    says: Callable[[Request], bytes] = lambda _: SAID
    requests: list[Request] = field(default_factory=list[Request])
    writers: set[asyncio.StreamWriter] = field(default_factory=set[asyncio.StreamWriter])
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while there is no connection."""
    servers: list[asyncio.Server] = field(default_factory=list[asyncio.Server])

    def cut(self) -> None:
        """Ends all connections."""
        for writer in self.writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        self.left.clear()
        try:
            while True:
                line, *heads = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                named = {n.lower(): v for n, _, v in (head.partition(": ") for head in heads if head)}
                body = json.loads(await reader.readexactly(int(named["content-length"])))
                self.requests.append(Request(line.encode(), named, body))
                writer.write(self.says(self.requests[-1]))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.writers.discard(writer)
            if not self.writers:
                self.left.set()


@asynccontextmanager
async def hosted() -> AsyncGenerator[Host]:
    host = Host()
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    host.servers.append(server)
    host.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    yield host
    server.close()
    if host.writers:
        host.cut()
        await host.left.wait()


@asynccontextmanager
async def opened(host: Host, kind: ProviderKind = "openai", *, learnt: bool = True) -> AsyncGenerator[Provider]:
    """A provider at the host; `learnt`: whose SDK has made as many requests as are needed."""
    config = ProviderConfig(kind=kind, base_url=host.url, key_env="KEY")
    keys = {"KEY": "sk-x", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    provider = open_providers({kind: config}, keys)[kind]
    for _ in range(LEARNT if learnt else 0):
        await hear(provider, spec_for(kind))
    yield provider
    await provider.close()


@pytest.fixture
def by_sdk(caplog: pytest.LogCaptureFixture) -> Callable[[], int]:
    """How many requests went through an SDK's own HTTP client, which logs each."""
    caplog.set_level("INFO", "httpx2")
    return lambda: sum(record.name.startswith("httpx2") for record in caplog.records)


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
async def test_a_repeated_request_is_what_the_sdk_makes(kind: ProviderKind, by_sdk: Callable[[], int]) -> None:
    spec = spec_for(kind, "Gr\u00fc\u00dfe, \u2028 \U0001f642", temperature=0.25, stop=["x"], params={"top_p": 1e-7})
    async with hosted() as host:
        async with opened(host, kind) as provider:
            await hear(provider, spec)
        async with opened(host, kind, learnt=False) as provider:
            await hear(provider, spec)
    repeated, made = host.requests[LEARNT:]
    assert by_sdk() == LEARNT + 1
    assert (repeated.line, repeated.body) == (made.line, made.body)
    assert repeated.heads["x-client-request-id"] == spec.client_request_id
    lengths = [int(request.heads.pop("content-length")) for request in (repeated, made)]
    assert min(lengths) > 0
    assert repeated.heads == made.heads


async def test_each_repeated_call_has_its_own_id_and_body() -> None:
    specs = [spec_for("openai", f"question {n}") for n in range(3)]
    async with hosted() as host, opened(host) as provider:
        assert [(await hear(provider, spec)).said() for spec in specs] == ["Hi"] * 3
    sent = host.requests[LEARNT:]
    assert [request.heads["x-client-request-id"] for request in sent] == [spec.client_request_id for spec in specs]
    assert [request.body["messages"][0]["content"] for request in sent] == [f"question {n}" for n in range(3)]


async def test_a_key_that_changes_from_call_to_call_is_never_repeated() -> None:
    """As a token of Azure's that runs out; the SDK asks for it before each request."""
    keys = iter(range(9))

    async def next_key() -> str:
        return f"key-{next(keys)}"

    http, transport = new_http_client(trust_env=False)
    async with hosted() as host:
        client = openai.AsyncOpenAI(api_key=next_key, base_url=host.url, max_retries=0, http_client=http)
        calls = Calls(client.post, "/chat/completions", transport)
        for _ in range(4):
            await (await calls.open({"model": "m"}, spec_for("openai"))).aread()
        await client.close()
    assert [request.heads["authorization"] for request in host.requests] == [f"Bearer key-{n}" for n in range(4)]


async def test_after_a_while_the_sdk_makes_one_again(
    monkeypatch: pytest.MonkeyPatch, by_sdk: Callable[[], int]
) -> None:
    monkeypatch.setattr(_calls, "RENEW_S", 0)
    async with hosted() as host, opened(host) as provider:
        for _ in range(3):
            await hear(provider, spec_for("openai"))
    assert by_sdk() == len(host.requests) == LEARNT + 3


async def test_an_error_is_read_by_the_sdk_and_sent_once() -> None:
    said = b'{"error": {"message": "no such model", "type": "invalid_request_error", "code": "model_not_found"}}'
    async with hosted() as host, opened(host, learnt=False) as first, opened(host) as provider:
        host.says = lambda _: answer(said, status=404, headers="x-should-retry: true\r\n")
        errors = [await refusal(provider, spec_for("openai")) for provider in (first, provider)]
        assert len(host.requests) == LEARNT + 2
        host.says = lambda _: SAID
        assert (await hear(provider, spec_for("openai"))).said() == "Hi"
    made, repeated = [(error.code, error.cause, error.status, error.message) for error in errors]
    assert made == repeated
    assert "no such model" in made[3]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_redirect_is_not_followed_and_says_what_to_set(kind: ProviderKind, status: int) -> None:
    async with hosted() as elsewhere, hosted() as host, opened(host, kind, learnt=False) as provider:
        host.says = lambda _: answer(b"", status=status, headers=f"location: {elsewhere.url}/taken\r\n")
        errors = [await refusal(provider, spec_for(kind, "where?")) for _ in range(LEARNT + 1)]
    assert len(host.requests) == LEARNT + 1, "each is sent once, to its own host"
    assert elsewhere.requests == [], "no prompt goes where nobody has sent it"
    for error in errors:
        assert (error.code, error.cause, error.status) == ("provider_unreachable", "rejected", status)
        assert not error.may_be_billed
        assert f"status {status}" in error.message
        assert "base_url" in error.message


async def test_a_redirect_is_not_followed_through_a_proxy_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hosted() as elsewhere, hosted() as host:
        monkeypatch.setenv("http_proxy", host.url)
        host.says = lambda _: answer(b"", status=307, headers=f"location: {elsewhere.url}/taken\r\n")
        client, transport = new_http_client(trust_env=True)
        assert transport is None
        async with client:
            told = await client.post("http://api.invalid/v1/chat/completions", json={"prompt": "where?"})
    assert told.status_code == 307
    assert (len(host.requests), elsewhere.requests) == (1, [])


async def test_a_background_response_is_begun_by_the_request_that_the_sdk_makes(by_sdk: Callable[[], int]) -> None:
    config = ProviderConfig(kind="openai", responses_api=True, key_env="KEY")
    spec = replace(spec_for("openai"), background=True)
    async with hosted() as host:
        provider = open_providers({"openai": config.model_copy(update={"base_url": host.url})}, {"KEY": "sk-x"})[
            "openai"
        ]
        for _ in range(LEARNT + 1):
            await hear(provider, spec)
        await provider.close()
    assert by_sdk() == LEARNT
    made, repeated = host.requests[LEARNT - 1 :]
    assert made == repeated
    assert made.line.startswith(b"POST /v1/responses ")


async def test_what_nobody_can_write_is_refused_before_it_is_sent() -> None:
    spec = spec_for("openai", params={"user": "\ud800"})
    async with hosted() as host, opened(host, learnt=False) as first, opened(host) as provider:
        errors = [await refusal(provider, spec) for provider in (first, provider)]
        assert len(host.requests) == LEARNT
    made, repeated = [(error.code, error.cause, error.may_be_billed, error.message) for error in errors]
    assert made == repeated
    assert made[1:3] == ("rejected", False)


async def test_a_compressed_answer_to_a_repeated_request_is_unpacked(by_sdk: Callable[[], int]) -> None:
    async with hosted() as host, opened(host) as provider:
        host.says = lambda _: answer(gzip.compress(TEXT), headers="content-encoding: gzip\r\n")
        assert (await hear(provider, spec_for("openai"))).said() == "Hi"
    assert by_sdk() == LEARNT


async def test_a_host_that_has_gone_means_the_same_to_a_repeated_request() -> None:
    async with hosted() as host, opened(host, learnt=False) as first, opened(host) as provider:
        for server in host.servers:
            server.close()
        host.cut()
        errors = [await refusal(provider, spec_for("openai")) for provider in (first, provider)]
    made, repeated = [(error.code, error.cause, error.may_be_billed, error.message) for error in errors]
    assert made == repeated
    assert made[:3] == ("provider_unreachable", "refused", False)


async def test_an_error_that_the_sdk_does_not_come_to_see_leaves_no_connection() -> None:
    """Its client is closed while the request is under way."""
    http, transport = new_http_client(trust_env=False)
    async with hosted() as host:
        client = openai.AsyncOpenAI(api_key="sk-x", base_url=host.url, max_retries=0, http_client=http)
        calls = Calls(client.post, "/chat/completions", transport)
        for _ in range(LEARNT):
            await (await calls.open({"model": "m"}, spec_for("openai"))).aread()
        await client.close()
        host.says = lambda _: b"HTTP/1.1 429 X\r\ncontent-length: 9\r\n\r\n"
        with pytest.raises(RuntimeError, match="closed"):
            await calls.open({"model": "m"}, spec_for("openai"))
        async with asyncio.timeout(5):
            await host.left.wait()
