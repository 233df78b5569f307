"""The grip on a blocking call's connection."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from onceq_service.providers import _bedrock_connection
from onceq_service.providers._bedrock_connection import HeldConnection, Hold, LetGoError, hold_in_this_thread
from tests.service.providers.kit import Heard, hear, refusal, spec_for
from tests.service.providers.raw_server import answer, raw_provider

OVERLOADED = answer(b"{}", status=503, headers="x-amzn-errortype: ServiceUnavailableException\r\n")


@pytest.fixture
def held() -> tuple[HeldConnection, Hold]:
    return HeldConnection("127.0.0.1", 1), Hold("job/1")


def test_a_call_that_was_left_before_it_was_sent_is_never_sent(held: tuple[HeldConnection, Hold]) -> None:
    connection, hold = held
    hold.let_go()
    hold_in_this_thread(hold)
    try:
        with pytest.raises(LetGoError):
            connection.request("POST", "/", b"prompt")
    finally:
        hold_in_this_thread(None)
    assert connection.sock is None


def test_a_call_that_is_left_while_it_connects_is_not_sent(held: tuple[HeldConnection, Hold]) -> None:
    _, hold = held
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = HeldConnection("127.0.0.1", server.getsockname()[1])
        hold_in_this_thread(hold)
        try:
            hold.take(connection)
            hold.let_go()
            with pytest.raises(LetGoError):
                connection.connect()
        finally:
            hold_in_this_thread(None)
            connection.close()


def test_letting_go_wakes_a_thread_that_reads(held: tuple[HeldConnection, Hold]) -> None:
    connection, hold = held
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection.sock = ours
        hold.take(connection)
        got: list[bytes] = []
        reader = threading.Thread(target=lambda: got.append(ours.recv(1)))
        reader.start()
        hold.let_go()
        reader.join(20)
        assert got == [b""]
        assert theirs.recv(1) == b"", "the provider does not see the end"
        connection.sock = None


def test_a_connection_that_serves_another_call_is_left_alone(held: tuple[HeldConnection, Hold]) -> None:
    connection, hold = held
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection.sock = ours
        hold.take(connection)
        Hold("job/2").take(connection)
        hold.let_go()
        ours.sendall(b"x")
        assert theirs.recv(1) == b"x"
        connection.sock = None


async def test_a_refused_call_that_ends_does_not_cut_the_one_that_has_its_connection_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first is left when the second, in another loop, has been given the connection and has yet to send on it."""
    let_go, request = Hold.let_go, HeldConnection.request
    given, left, connections = threading.Event(), threading.Event(), list[int]()
    second: list[Future[Heard]] = []

    def given_and_late(connection: HeldConnection, *args: Any, **kwargs: Any) -> Any:
        if second:
            given.set()
            assert left.wait(20)
        return request(connection, *args, **kwargs)

    def left_late(hold: Hold) -> None:
        if not second:
            second.append(threads.submit(asyncio.run, hear(provider, spec_for("bedrock"))))
            assert given.wait(20)
        let_go(hold)
        left.set()

    monkeypatch.setattr(HeldConnection, "request", given_and_late)
    monkeypatch.setattr(Hold, "let_go", left_late)
    with ThreadPoolExecutor(1) as threads:
        async with raw_provider("bedrock", OVERLOADED, "keep", connections) as provider:
            first = await refusal(provider, spec_for("bedrock"))
            heard = await asyncio.wrap_future(second[0])
    assert (first.code, heard.broke().code, connections) == ("provider_overloaded", "provider_overloaded", [2])


async def test_a_connection_that_was_idle_for_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its host may just be closing it: that can't be told from a call that was cut."""
    monkeypatch.setattr(_bedrock_connection, "KEEP_ALIVE_S", 0)
    connections: list[int] = []
    async with raw_provider("bedrock", OVERLOADED, "keep", connections) as provider:
        for _ in range(2):
            await refusal(provider, spec_for("bedrock"))
    assert connections == [1, 1]
