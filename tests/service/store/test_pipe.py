"""The one connection under the store: shared writes, and Redis that goes away or falls silent in between."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop
from redis.asyncio.connection import Connection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import StoreError, StoreUnavailable
from onceq_service.store._link import open_link
from onceq_service.store._lua import Script
from onceq_service.store._pipe import TIMEOUT_S, Pipe, connect
from onceq_service.store._subscription import Subscription
from onceq_service.store.heartbeat import HeartbeatClient
from tests.stack import running_redis

CERTIFICATE = Path(__file__).parents[1] / "providers" / "localhost.pem"


@pytest.fixture(scope="module")
def redis_server() -> Generator[EmbeddedRedis]:
    """One of our own: these tests count and cut Redis's connections, and a stack of other tests has some too."""
    with running_redis() as redis:
        yield redis


@asynccontextmanager
async def piped(url: str, timeout_s: float = TIMEOUT_S) -> AsyncGenerator[Pipe]:
    """A pipe; what never has an answer fails its test within twenty seconds."""
    pipe = Pipe(connect(url, connections=1, timeout_s=timeout_s), timeout_s=timeout_s)
    try:
        async with asyncio.timeout(20):
            yield pipe
    finally:
        async with asyncio.timeout(20):
            await pipe.close()


async def test_each_command_gets_its_own_answer_however_many_share_the_connection(redis_server: EmbeddedRedis) -> None:
    async with piped(redis_server.url) as pipe:
        asked: list[Awaitable[Any]] = [pipe.command("ECHO", str(n)) for n in range(1000)]
        assert await asyncio.gather(*asked) == [str(n).encode() for n in range(1000)]


async def test_an_error_is_the_answer_of_its_own_command_alone(redis_server: EmbeddedRedis) -> None:
    async with piped(redis_server.url) as pipe:
        asked = [pipe.command("ECHO", "a"), pipe.command("NO-SUCH-COMMAND"), pipe.command("ECHO", "b")]
        first, wrong, last = await asyncio.gather(*asked, return_exceptions=True)
    assert (first, last) == (b"a", b"b")
    assert isinstance(wrong, StoreError)
    assert "NO-SUCH-COMMAND" in str(wrong)


@pytest.mark.parametrize("odd", ["half a \ud800", None])
async def test_what_can_not_be_written_fails_alone_and_moves_no_other_answer(
    redis_server: EmbeddedRedis, odd: Any
) -> None:
    async with piped(redis_server.url) as pipe:
        asked = [pipe.command("ECHO", "a"), pipe.command("ECHO", odd), pipe.command("ECHO", "b")]
        first, wrong, last = await asyncio.gather(*asked, return_exceptions=True)
        assert await pipe.command("ECHO", "c") == b"c"
    assert (first, last) == (b"a", b"b")
    assert isinstance(wrong, StoreError)


async def test_a_script_that_redis_has_forgotten_is_told_it_again(redis_server: EmbeddedRedis) -> None:
    text = "return ARGV[1]"
    script = Script("echo", text, "098e0f0d1448c0a81dafe820f66d460eb09263da", "value")
    async with piped(redis_server.url) as pipe:
        await pipe.command("SCRIPT", "FLUSH")
        asked = [pipe.script(script, "root", [n]) for n in range(3)]
        assert await asyncio.gather(*asked) == [b"0", b"1", b"2"]


async def test_a_cut_under_a_command_is_not_seen_by_its_caller(redis_server: EmbeddedRedis) -> None:
    async with piped(redis_server.url) as pipe, piped(redis_server.url) as other:
        mine = await pipe.command("CLIENT", "ID")
        waiting = asyncio.ensure_future(pipe.command("BLPOP", "never-there", 0.3))
        await asyncio.sleep(0.05)
        await other.command("CLIENT", "KILL", "ID", mine)
        assert await waiting is None
        assert await pipe.command("CLIENT", "ID") != mine


async def test_a_command_that_is_cut_twice_says_that_redis_is_away(redis_server: EmbeddedRedis) -> None:
    async with piped(redis_server.url) as pipe, piped(redis_server.url) as other:
        waiting = asyncio.ensure_future(pipe.command("BLPOP", "never-there", 30))
        for _ in range(2):
            await other.command("CLIENT", "KILL", "ID", await soon(lambda: _blocked(other)))
        with pytest.raises(StoreUnavailable):
            await waiting
        answer = asyncio.ensure_future(pipe.command("PING"))
        while not answer.done():
            assert not await _blocked(other), "it was sent a third time, though its caller has been told"
        assert await answer == b"PONG"


async def _blocked(pipe: Pipe) -> str:
    listed = cast("bytes", await pipe.command("CLIENT", "LIST")).decode().splitlines()
    return next((line.split()[0].partition("=")[2] for line in listed if " cmd=blpop " in line), "")


async def soon(look: Callable[[], Awaitable[Any]]) -> Any:
    """What `look` gives as soon as that is something."""
    async with asyncio.timeout(20):
        while True:
            if found := await look():
                return found
            await asyncio.sleep(0.01)


async def test_what_nobody_waits_for_any_more_opens_no_connection_behind_the_close(redis_server: EmbeddedRedis) -> None:
    async with piped(redis_server.url) as admin:
        pipe = Pipe(connect(redis_server.url, connections=1))
        mine = await pipe.command("CLIENT", "ID")
        asking = asyncio.ensure_future(pipe.command("BLPOP", "never-there", 60))
        await soon(lambda: _waits(admin, mine))
        asking.cancel()
        before = await _opened(admin)
        await pipe.close()
        await soon(lambda: _left(admin, mine))
        for _ in range(50):  # time enough to connect
            assert await _opened(admin) == before


async def test_what_was_never_sent_and_nobody_waits_for_opens_none_either(redis_server: EmbeddedRedis) -> None:
    async with piped(redis_server.url) as admin:
        before = await _opened(admin)
        pipe = Pipe(connect(redis_server.url, connections=1))
        asyncio.ensure_future(pipe.command("PING")).cancel()
        await pipe.close()
        for _ in range(50):  # time enough to connect
            assert await _opened(admin) == before


async def _waits(admin: Pipe, client: int) -> bool:
    return b"cmd=blpop" in await admin.command("CLIENT", "LIST", "ID", client)


async def _left(admin: Pipe, client: int) -> bool:
    return not await admin.command("CLIENT", "LIST", "ID", client)


async def _opened(admin: Pipe) -> bytes:
    """How many connections there have ever been."""
    info: bytes = await admin.command("INFO", "stats")
    return next(line for line in info.splitlines() if line.startswith(b"total_connections_received"))


async def test_silence_is_noticed_and_told(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as redis:
        async with piped(redis.url, timeout_s=0.2) as pipe:
            assert await soon(lambda: _answer(pipe)) == b"PONG"  # once Redis is not too slow for this
            assert redis.pid is not None
            os.kill(redis.pid, signal.SIGSTOP)
            try:
                with pytest.raises(StoreUnavailable):
                    await pipe.command("PING")
            finally:
                os.kill(redis.pid, signal.SIGCONT)
            assert await soon(lambda: _answer(pipe)) == b"PONG"


async def _answer(pipe: Pipe) -> object:
    try:
        return await pipe.command("PING")
    except StoreUnavailable:
        return None


def test_a_transport_that_was_closed_under_a_command_is_a_cut_like_any_other(redis_server: EmbeddedRedis) -> None:
    """uvloop raises RuntimeError where such a transport is written to, which no caller would take for a cut."""

    async def ask() -> bytes:
        async with piped(redis_server.url) as pipe:
            await pipe.command("PING")
            link = pipe._link  # pyright: ignore[reportPrivateUsage]
            assert link is not None
            link.cut(ConnectionError("by a test"))
            await asyncio.sleep(0)
            return cast("bytes", await pipe.command("PING"))

    assert uvloop.run(ask()) == b"PONG"


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What one side says to the other, until it has said all."""
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def serve_tls(redis: EmbeddedRedis, listens: Future[int], over: Future[None]) -> None:
    """TLS in front of a Redis; tells its port, ends when it is `over`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    carried: set[asyncio.Task[None]] = set()

    def through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carried.add(asyncio.create_task(between(redis, reader, writer)))

    server = await asyncio.start_server(through, "127.0.0.1", 0, ssl=context)
    listens.set_result(server.sockets[0].getsockname()[1])
    await asyncio.wrap_future(over)
    server.close()
    await asyncio.gather(*carried)  # whose clients have gone: none stays open behind this


async def between(redis: EmbeddedRedis, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A connection to the Redis behind this."""
    answers, commands = await asyncio.open_unix_connection(redis.socket)
    await asyncio.gather(carry(reader, commands), carry(answers, writer))


@pytest.fixture(scope="module")
def behind_tls(redis_server: EmbeddedRedis) -> Generator[str]:
    """The same Redis behind TLS, in a loop and a thread of its own; its URL."""
    listens, over = Future[int](), Future[None]()
    thread = threading.Thread(target=lambda: asyncio.run(serve_tls(redis_server, listens, over)))
    thread.start()
    try:
        yield f"rediss://127.0.0.1:{listens.result(20)}/0?ssl_ca_certs={CERTIFICATE}"
    finally:
        over.set_result(None)
        thread.join()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


async def told_by(url: str) -> str:
    """Why nothing can be asked there."""
    async with piped(url) as pipe:
        with pytest.raises(StoreUnavailable) as away:
            await pipe.command("PING")
    return str(away.value)


async def test_why_redis_is_away_is_told_without_its_password(behind_tls: str, tmp_path: Path) -> None:
    causes = {
        f"redis://u:hidden@127.0.0.1:{free_port()}/0": "refused|Connect call failed",
        f"unix://u:hidden@{tmp_path}/none.sock": "No such file",
        behind_tls.replace("//", "//u:hidden@").partition("?")[0]: "CERTIFICATE_VERIFY_FAILED",
        behind_tls.replace("rediss://", "redis://u:hidden@").partition("?")[0]: "closed",
    }
    for url, cause in causes.items():
        told = await told_by(url)
        assert re.search(rf"^Redis can't be reached \(.*({cause})", told), (url, told)
        assert "hidden" not in told


async def test_what_a_redis_that_takes_nothing_says_is_told(redis_server: EmbeddedRedis) -> None:
    beats = HeartbeatClient(redis_server.url, "q", 1000)
    async with piped(redis_server.url) as pipe:
        await pipe.command("REPLICAOF", "127.0.0.1", free_port())
        try:
            with pytest.raises(StoreUnavailable, match=r"takes no commands now \(READONLY You can't write"):
                await pipe.command("SET", "a", "b")
            with pytest.raises(StoreUnavailable, match=r"takes no commands now \(.*You can't write"):
                await asyncio.to_thread(beats.beat, "w", b"{}", [])
        finally:
            await pipe.command("REPLICAOF", "NO", "ONE")
            beats.close()


async def test_what_was_sent_is_in_no_error(redis_server: EmbeddedRedis) -> None:
    async with piped(redis_server.url) as pipe:
        with pytest.raises(StoreError, match="unknown command 'AUHT'") as refused:
            await pipe.command("AUHT", "hidden")
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_redis_behind_tls_is_spoken_to_in_the_same_way(behind_tls: str, run: Callable[..., None]) -> None:
    heard: list[bytes] = []

    async def ask() -> None:
        async with piped(behind_tls) as pipe:
            assert await pipe.command("ECHO", "x" * 300_000) == b"x" * 300_000
            fresh = asyncio.Event()
            subscription = Subscription(connect(behind_tls, connections=1), heard.append, lambda _: fresh.set())
            subscription.start()
            subscription.join("news")
            async with asyncio.timeout(20):
                await fresh.wait()
                await pipe.command("PUBLISH", "news", "hello")
                await soon(lambda: pipe.command("EXISTS", "never-there") if not heard else asyncio.sleep(0, heard))
            await subscription.stop()

    run(ask())
    assert heard == [b"hello"]


class Ended(UnixDomainSocketConnection):
    """A connection that Redis has closed by the time that it is open; redis-py's reader has heard of it."""

    async def connect(self) -> None:
        await super().connect()
        await self.send_command("CLIENT", "ID")
        mine = cast("int", await self.read_response())
        await self.send_command("CLIENT", "KILL", "SKIPME", "NO", "ID", mine)
        assert await self.read_response() == 1
        await soon(partial(asyncio.to_thread, cast("asyncio.StreamReader", self._reader).at_eof))


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_connection_that_ended_as_soon_as_it_was_open_is_none(
    redis_server: EmbeddedRedis, run: Callable[..., None]
) -> None:
    async def ask() -> None:
        client = connect(redis_server.url, connections=1)
        client.connection_pool.connection_class = Ended
        async with asyncio.timeout(20):
            with pytest.raises(RedisConnectionError, match="as soon as it was open"):
                await open_link(client, lambda _: None, lambda _: None)

    run(ask())


class Broken(Connection):
    """A connection that breaks when it is open and Redis has not been greeted."""

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        cast("asyncio.StreamWriter", self._writer).transport.abort()
        await asyncio.sleep(0.01)  # the loop closes it at its next turns
        await super().on_connect_check_health(check_health)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_connection_that_breaks_before_redis_is_greeted_is_a_redis_that_is_away(run: Callable[..., None]) -> None:
    """uvloop has a RuntimeError for it, Python 3.13 a TypeError: redis-py knows neither, and workers ended by it."""

    async def ask() -> None:
        async with piped(f"redis://127.0.0.1:{listener.getsockname()[1]}") as pipe:
            pipe.client.connection_pool.connection_class = Broken
            with pytest.raises(StoreUnavailable):
                await pipe.command("PING")

    with socket.create_server(("127.0.0.1", 0)) as listener:  # to which a connection can be opened, no more
        run(ask())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_cancel_ends_the_opening_of_a_connection_whenever_it_comes(
    redis_server: EmbeddedRedis, run: Callable[..., None]
) -> None:
    async def ask() -> None:
        client = connect(redis_server.url, connections=1, retries=0)
        for turns in range(60):
            opening = asyncio.create_task(open_link(client, lambda _: None, lambda _: None))
            for _ in range(turns):
                await asyncio.sleep(0)
            cancelled = opening.cancel()
            await asyncio.wait([opening])
            if not opening.cancelled():
                opening.result().cut(RedisConnectionError("closed by the test"))
            assert opening.cancelled() == cancelled, f"a cancel after {turns} turns was swallowed"

    run(ask())


async def test_a_subscription_that_redis_refuses_is_asked_for_again(redis_server: EmbeddedRedis) -> None:
    name = "reader"
    async with piped(redis_server.url) as admin:
        await admin.command("ACL", "SETUSER", name, "on", "nopass", "+@all", "allkeys", "resetchannels")
        fresh = asyncio.Event()
        client = connect(f"unix://{name}:any@{redis_server.socket}", connections=1, retries=0)
        subscription = Subscription(client, lambda _: None, lambda _: fresh.set())
        subscription.start()
        subscription.join("news")
        try:
            async with asyncio.timeout(20):
                await soon(lambda: _refusals(admin, name))
                await admin.command("ACL", "SETUSER", name, "allchannels")
                await fresh.wait()
        finally:
            await subscription.stop()
            await admin.command("ACL", "DELUSER", name)


async def _refusals(admin: Pipe, name: str) -> bool:
    return name.encode() in str(await admin.command("ACL", "LOG")).encode()
