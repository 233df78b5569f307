"""Puts jobs.json, what an older version left behind, into the queue of a running deployment, as if it were of today."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from redis.asyncio import Redis

from onceq_service.store.keys import root

AGO_MS = 16_000
"""How long ago the older version stopped: its leases (15 s) have run out, its delays (22 s) not yet."""
A_TIME_MS = 10**12
"""Numbers from here to the year 2286 are times in ms; what is larger is `for ever`."""
FILE = Path(__file__).with_name("jobs.json")


class State(msgspec.Struct, frozen=True):
    """The file: the time (ms) at which it was taken, and its keys."""

    now_ms: int
    tenant: str
    keys: list[KeyState]


class KeyState(msgspec.Struct, frozen=True):
    """One key, its name below the root; `ttl_ms` -1: no lifetime."""

    key: str
    kind: str
    ttl_ms: int
    value: Any


async def put_back(url: str, queue: str, tenant: str) -> dict[str, str]:
    """In one transaction, since workers are waiting for it. What each job was in (label `was`) and its id."""
    text = FILE.read_text("utf-8")
    state = msgspec.json.decode(text.replace(msgspec.json.decode(text)["tenant"], tenant), type=State)
    async with Redis.from_url(url, decode_responses=True) as redis:  # pyright: ignore[reportUnknownMemberType]
        seconds, _ = await redis.time()  # pyright: ignore[reportUnknownMemberType] - redis-py: untyped kwargs
        shift = seconds * 1000 - AGO_MS - state.now_ms
        async with redis.pipeline(transaction=True) as pipe:
            for key in state.keys:
                for command in commands(root(queue), key, shift):
                    pipe.execute_command(*command)  # pyright: ignore[reportUnknownMemberType]
            await pipe.execute()
    jobs = [key for key in state.keys if key.key.startswith("job:")]
    return {msgspec.json.decode(job.value["labels"])["was"]: job.key.removeprefix("job:") for job in jobs}


def commands(prefix: str, key: KeyState, shift: int) -> Iterator[list[Any]]:
    """The Redis commands that make the key, its times `shift` ms later."""
    name = prefix + key.key
    if key.key == "totals":
        yield from (["HINCRBY", name, field, n] for field, n in key.value.items())
    elif key.kind == "hash":
        yield ["HSET", name, *(x for field, text in key.value.items() for x in (field, later(text, shift)))]
    elif key.kind == "zset":
        yield from (["ZADD", name, later(score, shift), member] for member, score in key.value)
    else:
        yield from (
            ["XADD", name, entry if key.key.startswith("events:") else "*", *flat(row)] for entry, row in key.value
        )
    if key.ttl_ms > 0:
        yield ["PEXPIRE", name, key.ttl_ms]


def flat(row: dict[str, str]) -> list[str]:
    return [x for pair in row.items() for x in pair]


def later(text: str | float, shift: int) -> str:
    """A number that is a time, moved; anything else as it is."""
    word = text if isinstance(text, str) else f"{text:.0f}"
    is_time = word.isdigit() and A_TIME_MS <= int(word) < 10 * A_TIME_MS
    return str(int(word) + shift) if is_time else word
