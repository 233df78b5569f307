"""Whom the clients trust: the system's certificates or SSL_CERT_FILE's, and without TLS nobody, which takes no time."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpcore2
import pytest

from onceq import AsyncClient, Client, ConnectionFailed
from tests.sdk.fake import job

CERTIFICATE = Path(__file__).parents[1] / "service" / "providers" / "localhost.pem"


@asynccontextmanager
async def service(heard: list[bytes]) -> AsyncGenerator[str]:
    """A service behind TLS that takes every post; its URL."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        body = json.dumps({**job(), "disposition": "created"}).encode()
        writer.write(b"HTTP/1.1 202 Accepted\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    async with await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context) as server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def submit_blocking(url: str) -> str:
    with Client(url, "oq_test", max_retries=0) as client:
        return client.submit("Hi", model="openai/gpt-4o-mini").id


async def submit(kind: str, url: str) -> str:
    """By either client; the id of the job."""
    if kind == "blocking":
        return await asyncio.to_thread(submit_blocking, url)
    async with AsyncClient(url, "oq_test", max_retries=0) as client:
        return (await client.submit("Hi", model="openai/gpt-4o-mini")).id


@pytest.mark.parametrize("kind", ["blocking", "awaiting"])
async def test_a_service_whose_certificate_is_vouched_for_is_spoken_to(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    heard: list[bytes] = []
    async with service(heard) as url:
        assert await submit(kind, url) == job()["id"]
    assert len(heard) == 1


@pytest.mark.parametrize("kind", ["blocking", "awaiting"])
async def test_one_whose_certificate_nobody_vouches_for_is_sent_nothing(kind: str) -> None:
    heard: list[bytes] = []
    async with service(heard) as url:
        with pytest.raises(ConnectionFailed, match="certificate"):
            await submit(kind, url)
    assert heard == []


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_certificates_are_read_where_there_is_tls_alone(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class ReadError(Exception): ...

    def read(**_: object) -> None:
        raise ReadError

    monkeypatch.setattr(httpcore2, "default_ssl_context", read)
    assert kind("http://onceq.example", "oq_test").base_url == "http://onceq.example"
    with pytest.raises(ReadError):
        kind("https://onceq.example", "oq_test")
