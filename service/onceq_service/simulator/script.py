"""Decide what to answer: the blocks of the answer, its length, its end and its usage. No I/O, no wire format."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from onceq_service.simulator.ask import Ask, RefusedError, Tool
from onceq_service.simulator.faults import IN_THE_ANSWER, Fault, read_fault
from onceq_service.simulator.jsonmaker import make_json
from onceq_service.simulator.knobs import Knobs
from onceq_service.simulator.words import split, text_pieces

Kind = Literal["reasoning", "text", "refusal", "tool"]

REASONING_TOKENS = 24
"""Length of the reasoning when the request asks for it and nothing says how much."""

DECLINE = "I'm sorry, but I can't help with that request."


@dataclass(frozen=True, slots=True)
class Block:
    """A run of tokens of one kind; `id` and `name` are those of a tool call."""

    kind: Kind
    pieces: tuple[str, ...]
    id: str = ""
    name: str = ""

    @property
    def text(self) -> str:
        """All pieces."""
        return "".join(self.pieces)

    @property
    def arguments(self) -> object:
        """Those of a tool call; {} when the most tokens of the answer cut them short."""
        try:
            return msgspec.json.decode(self.text)
        except msgspec.DecodeError:
            return {}


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts; `input` includes what was cached or written to the cache, `output` includes reasoning."""

    input: int
    cached: int
    cache_write: int
    output: int
    reasoning: int

    @property
    def fresh(self) -> int:
        """Input that was neither read from the cache nor written to it."""
        return self.input - self.cached - self.cache_write


@dataclass(frozen=True, slots=True)
class Script:
    """One answer, decided. `started_at` is a Unix time in seconds; tps 0 is as fast as possible."""

    ask: Ask
    blocks: tuple[Block, ...]
    stop: str
    usage: Usage
    ttft_s: float
    tps: float
    slow_s: float
    fault: Fault | None
    resumable_s: float = 300.0
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:24])
    started_at: float = field(default_factory=time.time)

    def has(self, kind: Kind) -> bool:
        """Whether there is a block of this kind."""
        return any(block.kind == kind for block in self.blocks)

    def pieces_of(self, kind: Kind) -> str:
        """All text of this kind."""
        return "".join(block.text for block in self.blocks if block.kind == kind)


def plan(ask: Ask, knobs: Knobs) -> Script:
    """The answer to a request under these settings; RefusedError (400) when a setting makes no sense here."""
    fault = read_fault(knobs)
    blocks, stop = _blocks(ask, knobs, fault)
    shown, cut = _within(blocks, ask.max_tokens)
    slow = fault is not None and fault.name == "slow"
    return Script(
        ask=ask,
        blocks=shown,
        stop=knobs.stop or ("length" if cut else stop),
        usage=_usage(ask, knobs, shown),
        ttft_s=(knobs.ttft_ms or 0) / 1000,
        tps=knobs.tps or 0,
        slow_s=(knobs.slow_ms or 0) / 1000 if slow else 0,
        resumable_s=knobs.resumable or 0,
        fault=fault,
    )


def _blocks(ask: Ask, knobs: Knobs, fault: Fault | None) -> tuple[list[Block], str]:
    seed = knobs.seed if knobs.seed is not None else ask.seed
    blocks = _reasoning(ask, knobs, seed)
    if fault is not None and fault.name in IN_THE_ANSWER:
        return _declined(blocks, fault.name, seed, knobs)
    if calls := _tool_calls(ask, knobs, seed):
        return [*blocks, *calls], "tool"
    return [*blocks, Block("text", tuple(_answer(ask, knobs, seed)))], "stop"


def _reasoning(ask: Ask, knobs: Knobs, seed: int) -> list[Block]:
    count = knobs.reasoning if knobs.reasoning is not None else REASONING_TOKENS * ask.reasons
    return [Block("reasoning", tuple(text_pieces(~seed, count)))] if count else []


def _declined(blocks: list[Block], name: str, seed: int, knobs: Knobs) -> tuple[list[Block], str]:
    if name == "refusal":
        return [*blocks, Block("refusal", tuple(split(DECLINE)))], "refusal"
    begun = text_pieces(seed, min(knobs.after or 0, knobs.tokens or 0))
    return [*blocks, Block("text", tuple(begun))], "filter"


def _answer(ask: Ask, knobs: Knobs, seed: int) -> list[str]:
    if knobs.text is not None:
        return split(knobs.text)
    if ask.schema is not None:
        return split(make_json(ask.schema, seed))
    pieces = text_pieces(seed, knobs.tokens or 0)
    if len(pieces) > 2:
        pieces[-1] = "."
    return pieces


def _tool_calls(ask: Ask, knobs: Knobs, seed: int) -> list[Block]:
    tools = _tools_to_call(ask, knobs)
    return [_tool_call(tool, knobs, seed + n) for n, tool in enumerate(tools)]


def _tools_to_call(ask: Ask, knobs: Knobs) -> list[Tool]:
    wanted = knobs.tool or ask.pick
    if wanted is None:
        return []
    if wanted in ("1", "*"):
        if not ask.tools:
            raise RefusedError(400, "a tool call is wanted, but the request offers no tools")
        return [ask.tools[0]]
    offered = {tool.name: tool for tool in ask.tools}
    return [offered.get(name, Tool(name, {})) for name in wanted.split(",")]


def _tool_call(tool: Tool, knobs: Knobs, seed: int) -> Block:
    text = knobs.args or make_json(tool.schema or {"type": "object"}, seed)
    return Block("tool", tuple(split(text)), id=uuid.uuid4().hex[:24], name=tool.name)


def _within(blocks: list[Block], limit: int | None) -> tuple[tuple[Block, ...], bool]:
    """The blocks as far as max_tokens goes, and whether something had to go."""
    left = limit if limit is not None else sum(len(block.pieces) for block in blocks)
    shown: list[Block] = []
    for block in blocks:
        if left > 0 or not block.pieces:
            shown.append(Block(block.kind, block.pieces[:left], block.id, block.name))
        left -= len(block.pieces)
    return tuple(shown), left < 0


def _usage(ask: Ask, knobs: Knobs, blocks: tuple[Block, ...]) -> Usage:
    total = ask.input_tokens
    cached = min(knobs.cached or 0, total)
    return Usage(
        input=total,
        cached=cached,
        cache_write=min(knobs.cache_write or 0, total - cached),
        output=sum(len(block.pieces) for block in blocks),
        reasoning=sum(len(block.pieces) for block in blocks if block.kind == "reasoning"),
    )
