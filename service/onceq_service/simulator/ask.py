"""What a request asks for, once its provider's file has read it: the same words for every wire format."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, cast

import msgspec

Provider = Literal["openai", "anthropic", "bedrock"]

Schema = dict[str, object]
"""A JSON schema as decoded; values are looked at with `isinstance`, never trusted."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the request offers."""

    name: str
    schema: Schema


@dataclass(frozen=True, slots=True)
class Ask:
    """One request for an answer.

    `texts` is every text of the messages and of the system prompt, in order; `pick` names the tool that must be
    called, "*" any of them; `schema` is the JSON schema the answer must fit, None for prose.
    """

    provider: Provider
    model: str
    texts: tuple[str, ...]
    stream: bool = False
    max_tokens: int | None = None
    tools: tuple[Tool, ...] = ()
    pick: str | None = None
    schema: Schema | None = None
    reasons: bool = False
    salt: int | None = None
    include_usage: bool = False
    background: bool = False

    @property
    def input_tokens(self) -> int:
        """A quarter of the UTF-8 bytes of all texts, rounded up, at least 1."""
        size = sum(len(text.encode()) for text in self.texts)
        return max(1, -(-size // 4))

    @property
    def seed(self) -> int:
        """The same content gives the same seed, streamed or not, at every provider."""
        tools = tuple(tool.name for tool in self.tools)
        content = msgspec.json.encode((self.model, self.texts, tools, self.pick, self.schema, self.salt))
        return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")


class RefusedError(Exception):
    """The request gets an error answer before its first byte; it is not billed.

    `code` replaces the provider's own error code for this status where one is needed.
    """

    def __init__(
        self, status: int, message: str, *, code: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.retry_after_s = retry_after_s


def as_map(value: object) -> dict[str, object]:
    """The JSON object itself, or an empty one where something else was sent."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[object]:
    """The JSON array itself, or an empty one where something else was sent."""
    return cast("list[object]", value) if isinstance(value, list) else []
