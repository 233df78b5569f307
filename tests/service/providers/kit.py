"""What the provider tests share: one way to ask, one way to collect, the simulator's meter."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast
from uuid import uuid4

import httpx2
import pytest

from onceq.wire import FinishReason, JobRequest
from onceq_service.providers.base import CallSpec, Clocks, Delta, Provider, ProviderError
from onceq_service.settings import ProviderKind

KINDS: Final[tuple[ProviderKind, ...]] = ("openai", "anthropic", "bedrock")
MODELS: Final[Mapping[ProviderKind, str]] = {
    "openai": "gpt-4o-mini",
    "anthropic": "claude-haiku-4-5",
    "bedrock": "amazon.nova-lite-v1:0",
}
LEARNT: Final = 2
"""Calls of a path after which the SDK's requests are repeated."""
PATIENT: Final = Clocks(first_byte_s=10, between_bytes_s=10)

Row = dict[str, Any]


@dataclass
class Heard:
    """What a call gave, and how it ended."""

    batches: list[list[Delta]] = field(default_factory=list[list[Delta]])
    finish_reason: FinishReason | None = None
    usage: Mapping[str, object] | None = None
    early_usage: Mapping[str, object] | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    price_context: Mapping[str, str] = field(default_factory=dict[str, str])
    error: ProviderError | None = None

    @property
    def deltas(self) -> list[Delta]:
        return [delta for batch in self.batches for delta in batch]

    def said(self, kind: str = "text") -> str:
        return "".join(delta.text for delta in self.deltas if delta.kind == kind)

    def broke(self) -> ProviderError:
        assert self.error is not None, "the call ended well"
        return self.error


def spec_for(kind: ProviderKind, prompt: str = "hello", *, clocks: Clocks = PATIENT, **fields: Any) -> CallSpec:
    """A call of a new job; `prompt` may hold a [[sim ...]] directive, `messages` replaces it."""
    question = {} if "messages" in fields else {"prompt": prompt}
    request = JobRequest.model_validate({"model": f"{kind}/{MODELS[kind]}", **question, **fields})
    return CallSpec(request, MODELS[kind], f"job_{uuid4().hex}/1", clocks)


def sim(**settings: object) -> str:
    """A prompt that tells the simulator what to do."""
    return f"[[sim {' '.join(f'{name}={value}' for name, value in settings.items())}]] Say something."


async def hear(provider: Provider, spec: CallSpec) -> Heard:
    """Runs a call to its end and keeps everything, the error too; takes what comes as a worker does."""
    heard = Heard()

    def take(batch: list[Delta]) -> bool:
        heard.batches.append(batch)
        return True

    try:
        async with provider.call(spec) as stream:
            heard.headers = stream.headers
            stream.hand_to(take)
            try:
                async for batch in stream:
                    heard.batches.append(batch)
            finally:
                heard.finish_reason, heard.usage, heard.early_usage = (
                    stream.finish_reason,
                    stream.usage,
                    stream.early_usage,
                )
                heard.price_context = stream.price_context
    except ProviderError as exc:
        heard.error = exc
    return heard


async def refusal(provider: Provider, spec: CallSpec) -> ProviderError:
    """The error of a call that must fail before its stream begins."""
    with pytest.raises(ProviderError) as caught:
        async with provider.call(spec):
            pass
    return caught.value


def _of_job(spec: CallSpec) -> dict[str, str]:
    return {"job": spec.client_request_id.partition("/")[0], "text": "1", "refused": "1"}


def _calls(answer: httpx2.Response) -> list[Row]:
    return cast("list[Row]", answer.raise_for_status().json()["calls"])


class Clock:
    """The running loop's clock, which a test can put on: a process that stands still for seconds is no silence then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        real, self._ahead_s = loop.time, 0.0
        monkeypatch.setattr(loop, "time", lambda: real() + self._ahead_s)

    async def put_on(self, seconds: float) -> None:
        """Returns when all that is due by then has been done, and what follows from it at once."""
        self._ahead_s += seconds
        await turns()


async def turns() -> None:
    """Some turns of the loop: it does what it can do at once."""
    for _ in range(10):
        await asyncio.sleep(0)


class Meter:
    """The simulator's meter, by job."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def rows(self, spec: CallSpec) -> list[Row]:
        """Every request of the call's job, refused ones too."""
        async with httpx2.AsyncClient() as http:
            return _calls(await http.get(f"{self._url}/meter", params=_of_job(spec)))

    def rows_while_the_loop_stands(self, spec: CallSpec) -> list[Row]:
        """The same, blocking: whatever our loop had still to do is not done meanwhile. The simulator has a thread."""
        return _calls(httpx2.get(f"{self._url}/meter", params=_of_job(spec)))

    async def row(self, spec: CallSpec) -> Row:
        """The only request of the call's job."""
        (row,) = await self.rows(spec)
        return row

    async def runs(self, spec: CallSpec) -> bool:
        """Whether the provider has its whole request: one that is left before has never been a call."""
        return any(row["status"] == "running" for row in await self.rows(spec))
