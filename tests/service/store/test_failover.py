"""A failover: the old primary stays up as a replica, closes nobody, and the name leads to the new one from now on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack
from typing import Any

import pytest

from onceq_service.embedded.ping import ask_redis
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import Store, StoreUnavailable, _pipe, events, open_store
from onceq_service.store._pipe import Pipe, connect
from onceq_service.store.heartbeat import HeartbeatClient
from tests.faults.proxy import Proxy
from tests.service.store.driver import admission, claim_one, dispatch, names, read_log, success
from tests.stack import running_redis
from tests.waiting import until, wait_until


class Pair:
    """A primary and its replica behind one name, each reached by the other over TCP."""

    def __init__(self, stack: ExitStack) -> None:
        self.old, self.new = (stack.enter_context(running_redis()) for _ in range(2))
        self.name, self._to_old, self._to_new = (Proxy(redis.socket) for redis in (self.old, self.old, self.new))
        for proxy in (self.name, self._to_old, self._to_new):
            proxy.start()
            stack.callback(proxy.stop)
        tell(self.old, "CONFIG SET repl-diskless-sync-delay 0")
        tell(self.new, f"REPLICAOF 127.0.0.1 {self._to_old.port}")
        wait_until(lambda: "master_link_status:up" in info(self.new), "the replica to be one")

    def fail_over(self, follows: bool) -> None:
        """Promotes the replica; the old primary, now a replica, follows the new one or has not found it."""
        tell(self.new, "REPLICAOF NO ONE")
        self.name.lead(self.new.socket)
        tell(self.old, f"REPLICAOF 127.0.0.1 {self._to_new.port if follows else 1}")


def tell(redis: EmbeddedRedis, command: str) -> None:
    assert (ask_redis(redis.socket, command, timeout_s=20) or "").startswith("+OK")


def info(redis: EmbeddedRedis) -> str:
    return ask_redis(redis.socket, "INFO replication", timeout_s=20) or ""


@pytest.fixture
def pair() -> Generator[Pair]:
    with ExitStack() as stack:
        yield Pair(stack)


async def soon(ask: Callable[[], Awaitable[Any]], description: str) -> Any:
    """What is answered as soon as Redis takes it."""

    async def answered() -> list[Any]:
        try:
            return [await ask()]
        except StoreUnavailable:
            return []

    [answer] = await until(answered, description)
    return answer


@pytest.mark.parametrize("follows", [True, False])
async def test_after_a_failover_everything_goes_on_at_the_new_primary_without_a_restart(
    pair: Pair, queue: str, follows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "QUIET_S", 3600.0)  # no look at the log helps a reader who hears nothing
    heart, stopped = HeartbeatClient(pair.name.url, queue, 60_000), list[str]()
    async with open_store(pair.name.url, queue) as store, store.cancels(stopped.append):
        made = await store.jobs.admit(admission())
        claim = await claim_one(store)
        sent = await dispatch(store, claim)
        assert heart.beat("w1", b"{}", [(claim.id, claim.fence)]) == ["ok"]
        reading = asyncio.create_task(read_log(store, made.id))
        await until(lambda: listened_to(store), "reader and worker to listen")
        await store._pipe.command("WAIT", 1, 0)  # pyright: ignore[reportPrivateUsage]
        pair.fail_over(follows)
        held = [(claim.id, claim.fence)]
        assert await soon(lambda: asyncio.to_thread(heart.beat, "w1", b"{}", held), "a beat") == ["ok"]
        other = await soon(lambda: store.jobs.admit(admission("another")), "a post")
        await soon(lambda: store.engine.wait_for_work(["openai"], 0.1), "a wait for work")
        assert (await claim_one(store)).id == other.id
        assert not (await store.inspect()).replica
        await until(lambda: listened_to(store), "both to listen to the new one")
        await store.engine.finish(claim, success(sent.seq + 1))
        assert names(await reading)[-1] == "succeeded"
        await store.jobs.cancel(other.id, "t")
        await until(lambda: asyncio.sleep(0, stopped), "the worker to hear of a cancel")
    heart.close()


async def listened_to(store: Store) -> bool:
    """Whether the Redis that this store writes to has its two subscriptions."""
    listed: list[bytes] = await store._pipe.command("PUBSUB", "CHANNELS")  # pyright: ignore[reportPrivateUsage]
    return len(listed) == 2


async def test_a_redis_that_stays_a_replica_is_not_connected_to_again_at_each_refusal(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pipe, "AGAIN_S", 3600.0)
    pipe = Pipe(connect(pair.new.url, connections=1))
    connections = {await pipe.command("CLIENT", "ID")}
    for _ in range(5):
        with pytest.raises(StoreUnavailable, match="READONLY"):
            await pipe.command("SET", "a", "b")
        connections.add(await pipe.command("CLIENT", "ID"))
    await pipe.close()
    assert len(connections) == 2


async def test_who_waits_at_a_primary_that_becomes_a_replica_is_told_that_it_is_away(pair: Pair) -> None:
    pipe = Pipe(connect(pair.old.url, connections=1))
    waiting = asyncio.ensure_future(pipe.command("BLPOP", "never-there", 60))
    await until(lambda: asyncio.to_thread(blocked, pair.old), "Redis to wait")
    tell(pair.old, "REPLICAOF 127.0.0.1 1")
    with pytest.raises(StoreUnavailable, match="UNBLOCKED"):
        await waiting
    await pipe.close()


def blocked(redis: EmbeddedRedis) -> bool:
    return " cmd=blpop " in (ask_redis(redis.socket, "CLIENT LIST", timeout_s=20) or "")
