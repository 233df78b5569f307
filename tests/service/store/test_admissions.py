"""Posts of one moment are admitted together; nobody can tell from what became of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, cast

import pytest

from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import Admission, KeyReused, Store, StoreError, open_store, scripts
from onceq_service.store import admission as admissions
from onceq_service.store._lua import Script
from onceq_service.store._pipe import Arg, Pipe, connect
from onceq_service.store.admission import is_plain, plain, template, values_of
from tests.service.store.driver import admission
from tests.service.store.timed import open_timed

LIMITS = "100,0,0,0"
Outcome = tuple[str, str] | type[Exception]


def requests() -> Sequence[Admission]:
    """Some of each kind: new, known by key, by question, reused, limited, delayed, of other tenants, bands, lanes."""
    first = admission("a", idem="i", fp="f")
    return [
        first,
        admission("b", idem="i", fp="f"),
        admission("c", idem="i", body_hash="other"),
        admission("d", idem="j", fp="f"),
        admission("e", tenant="u", band="batch", team="x", group=b'{"p":"q"}'),
        admission("f", lane="openai/n", model="openai/n", limits=LIMITS),
        admission("g", lane="openai/n", model="openai/n", limits=LIMITS, chain=[("openai/o", "")]),
        admission("h", not_before_ms=32_503_680_000_000, grace_s=5.0),
        admission("i", max_cost=1, call_bound=2),
        admission("j", retry_of=first.id, queue_s=9.0),
        *(admission(str(n)) for n in range(40)),
        admission("k", idem="k", grace_s=5.0),
        admission("k", idem="k", grace_s=5.0),
    ]


def plain_ones() -> Sequence[Admission]:
    """Requests that ask for nothing special, of several kinds, with all that they may have."""
    kinds: Sequence[Mapping[str, Any]] = [
        {}, {"tenant": "u", "team": "x", "group": b'{"p":"q"}'}, {"simulated": True, "on_break": "fail"},
        {"band": "batch", "lane": "openai/n", "model": "openai/n", "limits": LIMITS}, {"deadline_s": 5.0},
    ]  # fmt: skip
    values: Sequence[Mapping[str, Any]] = [
        {}, {"idem": "i", "body_hash": "c"}, {"fp": "f"}, {"user": "a", "labels": b'{"p":"q"}', "traceparent": "00-1"},
        {"in_est": 5, "out_est": 6, "call_bound": 7},
    ]  # fmt: skip
    return [
        admission(f"{n} {m}", **kind, **{k: f"{n}{v}" if k in ("idem", "fp") else v for k, v in one.items()})
        for n, kind in enumerate(kinds)
        for m, one in enumerate(values)
    ]


async def outcome(store: Store, a: Admission) -> Outcome:
    try:
        made = await store.jobs.admit(a)
    except Exception as exc:  # noqa: BLE001 - the kind is what is compared
        return type(exc)
    return made.disposition, made.id


async def test_a_turns_posts_leave_redis_as_the_same_posts_one_by_one(redis_server: EmbeddedRedis, queue: str) -> None:
    asked = requests()
    async with open_timed(redis_server.url, f"{queue}-together") as store:
        together = await asyncio.gather(*(outcome(store, a) for a in asked))
    async with open_timed(redis_server.url, f"{queue}-alone") as store:
        alone = [await outcome(store, a) for a in asked]
    assert together == alone
    assert together[0] == ("created", asked[0].id)
    assert together[1] == together[3] == ("joined", asked[0].id)
    assert together[2] is KeyReused
    assert together[-2:] == [("created", asked[-2].id), ("joined", asked[-2].id)]
    left = await everything(redis_server.url, f"{queue}-together")
    assert len(left) > 2 * len(asked)
    assert left == await everything(redis_server.url, f"{queue}-alone")


def never(_: Admission) -> bool:
    return False


async def test_plain_posts_leave_redis_as_admit_lua_would(
    redis_server: EmbeddedRedis, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = plain_ones()
    assert all(is_plain(one) for one in asked)
    async with open_timed(redis_server.url, f"{queue}-plain") as store:
        plain = await asyncio.gather(*(outcome(store, a) for a in asked))
    monkeypatch.setattr(admissions, "is_plain", never)
    async with open_timed(redis_server.url, f"{queue}-common") as store:
        common = await asyncio.gather(*(outcome(store, a) for a in asked))
    assert plain == common == [("created", one.id) for one in asked]
    left, right = [await everything(redis_server.url, f"{queue}-{way}") for way in ("plain", "common")]
    assert len(left) > 2 * len(asked)
    assert without_shares(left) == without_shares(right)
    assert left.keys() == right.keys()


def without_shares(left: dict[str, Any]) -> dict[str, Any]:
    """Who pays for the turn of a lane is who came first, which is open among posts of one moment."""
    return {name: value for name, value in left.items() if not name.startswith("shares:")}


async def test_plain_posts_of_one_kind_go_to_redis_as_one_run(
    redis_server: EmbeddedRedis, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []
    send = Pipe.script

    def noted(pipe: Pipe, script: Script, root: str, args: Sequence[Arg]) -> Awaitable[Any]:
        runs.append(script.name)
        return send(pipe, script, root, args)

    monkeypatch.setattr(Pipe, "script", noted)
    asked = [admission(str(n), tenant=tenant, user=str(n), idem=f"{n}{tenant}") for n in range(8) for tenant in "tu"]
    async with open_store(redis_server.url, queue) as store:
        made = await asyncio.gather(*(outcome(store, a) for a in asked))
    assert made == [("created", a.id) for a in asked]
    assert runs == ["admit_plain", "admit_plain"]


async def test_a_turn_wakes_as_many_workers_as_it_has_jobs_to_start(redis_server: EmbeddedRedis, queue: str) -> None:
    async with open_store(redis_server.url, queue) as store:
        await asyncio.gather(*(store.jobs.admit(admission(str(n))) for n in range(5)))
    assert (await everything(redis_server.url, queue))["wake:openai"] == [b"1"] * 5


async def everything(url: str, queue: str) -> dict[str, object]:
    """All keys of a queue with what they hold."""
    redis = cast("Any", connect(url, connections=1))  # untyped arguments
    root = f"onceq:{{{queue}}}:"
    names = await redis.execute_command("KEYS", root.replace("{", "[{]") + "*")
    try:
        return {n.decode().removeprefix(root): await value(redis, n) for n in sorted(names)}
    finally:
        await redis.aclose()


async def value(redis: Any, name: bytes) -> object:
    kind = await redis.execute_command("TYPE", name)
    match kind:
        case b"hash":
            flat = await redis.execute_command("HGETALL", name)
            return {flat[n]: flat[n + 1] for n in range(0, len(flat), 2)}
        case b"zset":
            return await redis.execute_command("ZRANGE", name, 0, -1, "WITHSCORES")
        case b"stream":
            return await redis.execute_command("XRANGE", name, "-", "+")
        case b"list":
            return await redis.execute_command("LRANGE", name, 0, -1)
        case b"set":
            return sorted(await redis.execute_command("SMEMBERS", name))
        case _:
            return await redis.execute_command("GET", name)


HARMED: Mapping[str, Mapping[str, Any]] = {
    "wait:batch:openai/n:h": {},
    "fair:batch:openai/n": {},
    "jobs:h:queued": {},
    "queued:batch": {},
    "events": {},
    "idem:i": {"idem": "i"},
    "fp:f": {"fp": "f"},
    "watched": {"grace_s": 5.0},
    "due": {"not_before_ms": 32_503_680_000_000},
    "movable:openai/n": {"chain": [("openai/o", "")]},
    "batchlive:h:b": {"batch": "b"},
    "spent:second:0": {"budgets": "first,total,UTC,hard,100,-,9,,0,\nsecond,total,UTC,soft,100,-,9,,0,"},
}
"""Keys of something else that an admission of tenant `h` meets, and what it asks for."""


@pytest.mark.parametrize("key", HARMED)
async def test_an_error_is_the_answer_of_the_posts_that_met_it_and_leaves_nothing_of_them(
    redis_server: EmbeddedRedis, queue: str, key: str
) -> None:
    asked = [admission("a"), admission("c", idem="k", fp="g", tenant="u")]
    changes: dict[str, Any] = {"tenant": "h", "band": "batch", "lane": "openai/n", "model": "openai/n"}
    harmed = admission("b", **(changes | dict(HARMED[key])))
    spoilt = f"events:{harmed.id}" if key == "events" else key
    async with open_timed(redis_server.url, f"{queue}-alone") as store:
        for a in asked:
            assert await outcome(store, a) == ("created", a.id)
    async with open_timed(redis_server.url, f"{queue}-together") as store:
        await spoil(redis_server.url, f"onceq:{{{queue}-together}}:{spoilt}")
        met = await asyncio.gather(*(outcome(store, a) for a in (asked[0], harmed, asked[1])))
    assert met == [("created", asked[0].id), StoreError, ("created", asked[1].id)]
    left = dict(await everything(redis_server.url, f"{queue}-together"))
    assert key == "events" or left.pop(spoilt) == [b"x"]
    assert cast("Mapping[bytes, bytes]", left.pop("spent:first:0", {})).get(b"reserved", b"0") == b"0"
    assert without_lane(left) == without_lane(await everything(redis_server.url, f"{queue}-alone"))


@pytest.mark.parametrize("key", ["deadlines", "ready:standard", "counters"])
async def test_where_all_posts_of_a_turn_meet_an_error_they_can_be_sent_again_when_it_is_mended(
    redis_server: EmbeddedRedis, queue: str, key: str
) -> None:
    asked = [admission("a", idem="k", body_hash="b"), admission("b", fp="g"), admission("c", fp="g")]
    async with open_store(redis_server.url, queue) as store:
        spoilt = f"onceq:{{{queue}}}:{key}"
        await spoil(redis_server.url, spoilt)
        assert await asyncio.gather(*(outcome(store, a) for a in asked)) == [StoreError] * 3
        left = await everything(redis_server.url, queue)
        assert not [name for name in left if re.match(r"(job|events|idem|fp|jobs|wait|fair|queued):", name)]
        await clear(redis_server.url, spoilt)
        words = [("created", asked[0].id), ("created", asked[1].id), ("joined", asked[1].id)]
        assert [await outcome(store, a) for a in asked] == words
        claims, _ = await store.engine.claim("w", 5, ["openai"])
        assert {c.id for c in claims} == {asked[0].id, asked[1].id}


@pytest.mark.parametrize("key", ["lane:openai/m", "events", "wait:standard:openai/m:t", "counters"])
async def test_a_run_of_plain_posts_that_fails_leaves_them_all_to_the_common_script(
    redis_server: EmbeddedRedis, queue: str, key: str
) -> None:
    asked = [admission(word, idem=f"i{word}", fp=f"f{word}") for word in "ab"]
    spoilt = f"events:{asked[1].id}" if key == "events" else key
    pipe, root = Pipe(connect(redis_server.url, connections=1)), f"onceq:{{{queue}}}:"
    await spoil(redis_server.url, root + spoilt)
    kinds, owns = {template(a, 60).kind for a in asked}, [plain(a, values_of(a), 0) for a in asked]
    (kind,) = kinds
    argv = [60, *(kind or ()), *(part for one in owns for part in (len(one), *one))]
    assert await pipe.script(scripts.ADMIT_PLAIN, root, argv) == [b"", b""]
    await pipe.close()
    left = await everything(redis_server.url, queue)
    assert left.pop(spoilt) == [b"x"]
    assert not [name for name in left if not re.match(r"(lane|rolls?|counters|shares|wake)(:|$)", name)]


async def test_a_fresh_post_that_fails_leaves_the_question_with_the_job_that_had_it(
    redis_server: EmbeddedRedis, queue: str
) -> None:
    first = admission("a", fp="f")
    async with open_store(redis_server.url, queue) as store:
        await store.jobs.admit(first)
        await spoil(redis_server.url, f"onceq:{{{queue}}}:wait:batch:openai/m:t")
        assert await outcome(store, admission("a", fp="f", fresh=True, band="batch")) is StoreError
        assert await outcome(store, admission("a", fp="f")) == ("joined", first.id)


async def spoil(url: str, key: str) -> None:
    """Makes a key of a kind that no command of `admit` takes."""
    redis = cast("Any", connect(url, connections=1))  # untyped arguments
    await redis.execute_command("LPUSH", key, "x")
    await redis.aclose()


async def clear(url: str, key: str) -> None:
    redis = cast("Any", connect(url, connections=1))  # untyped arguments
    await redis.execute_command("DEL", key)
    await redis.aclose()


def without_lane(left: Mapping[str, object]) -> Mapping[str, object]:
    """What a lane is configured with stays: that is no request's."""
    return {name: held for name, held in left.items() if not name.startswith("lane:")}
