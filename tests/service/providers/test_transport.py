"""How calls reach a provider's host: plain, by TLS, through a proxy; and what a host may say that is no answer yet."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from onceq_service.providers import SEND_PROGRESS, Provider, SendProgress, open_providers
from onceq_service.settings import ProviderConfig
from onceq_service.wakeups import wakeups
from tests.service.providers.kit import hear, refusal, spec_for
from tests.service.providers.raw_server import chunked, raw_provider, sse

CERTIFICATE = Path(__file__).with_name("localhost.pem")
SAID = sse({"choices": [{"delta": {"content": "Hi"}}]}, {"choices": [{"finish_reason": "stop"}]}, "[DONE]")
ANSWER = chunked(SAID, end=True)


@asynccontextmanager
async def host(*, tls: bool = False, heads: list[bytes] | None = None) -> AsyncGenerator[str]:
    """A server that answers every request with ANSWER; its address."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if heads is not None:
            heads.append(head)
        writer.write(ANSWER)
        writer.close()

    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


@asynccontextmanager
async def provider_at(base_url: str, key: str = "sk-x") -> AsyncGenerator[Provider]:
    config = ProviderConfig(kind="openai", base_url=base_url, key_env="KEY")
    provider = open_providers({"openai": config}, {"KEY": key})["openai"]
    yield provider
    await provider.close()


async def test_a_host_with_a_trusted_certificate_is_spoken_to_by_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    async with host(tls=True) as address, provider_at(f"https://{address}/v1") as provider:
        assert (await hear(provider, spec_for("openai"))).said() == "Hi"


async def test_a_host_whose_certificate_nobody_vouches_for_is_sent_nothing() -> None:
    heads: list[bytes] = []
    async with host(tls=True, heads=heads) as address, provider_at(f"https://{address}/v1") as provider:
        error = await refusal(provider, spec_for("openai"))
    assert (error.code, error.cause, heads) == ("provider_unreachable", "refused", [])


async def test_a_proxy_of_the_system_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[bytes] = []
    async with host(heads=heads) as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy}")
        async with provider_at("http://models.example.org/v1") as provider:
            assert (await hear(provider, spec_for("openai"))).said() == "Hi"
    assert heads[0].startswith(b"POST http://models.example.org/v1/chat/completions ")


async def test_a_key_with_a_line_break_is_never_sent() -> None:
    heads: list[bytes] = []
    async with host(heads=heads) as address, provider_at(f"http://{address}/v1", "sk-x\r\nx: y") as provider:
        error = await refusal(provider, spec_for("openai"))
    assert heads == []
    assert (error.cause, error.may_be_billed) == ("rejected", False)
    assert "sk-x" not in error.message


async def test_an_interim_answer_is_passed_over() -> None:
    async with raw_provider("openai", b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + ANSWER) as provider:
        assert (await hear(provider, spec_for("openai"))).said() == "Hi"


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    async with raw_provider("openai", b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + SAID) as provider:
        heard = await hear(provider, spec_for("openai"))
    assert (heard.said(), heard.error) == ("Hi", None)


async def test_a_compressed_answer_is_unpacked() -> None:
    packed = gzip.compress(SAID)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
    async with raw_provider("openai", head + packed) as provider:
        assert (await hear(provider, spec_for("openai"))).said() == "Hi"


async def test_an_answer_wakes_a_loop_that_pauses_until_its_first_words_and_not_after_them() -> None:
    """Words that follow gather with other answers'. The host stops the loop where it has just written."""
    begun, woken, told = asyncio.Event(), list[bool](), list[bool]()

    def chunk(delta: dict[str, str], why: str | None = None) -> bytes:
        data = sse({"choices": [{"delta": delta, "finish_reason": why}]})
        return b"%x\r\n%s\r\n" % (len(data), data)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for event in ("role", "assistant"), ("content", "Hi"):
            writer.write(chunk(dict([event])) if woken else chunked(end=False) + chunk(dict([event])))
            woken.append(wakeups().pause(20))
            await asyncio.sleep(0.05)
        await begun.wait()
        writer.write(chunk({}) + chunk({}, "stop") + b"0\r\n\r\n")
        woken.append(wakeups().pause(0.02))
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    SEND_PROGRESS.set(SendProgress(told.append))
    async with (
        provider_at(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1") as provider,
        provider.call(spec_for("openai")) as stream,
    ):
        text = ""
        async for deltas in stream:
            text += "".join(delta.text for delta in deltas)
            begun.set()
    server.close()
    assert (text, told, woken) == ("Hi", [True], [True, True, False])
