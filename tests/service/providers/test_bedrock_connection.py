"""The grip on a blocking call's connection."""

from __future__ import annotations

import socket
import threading

import pytest

from onceq_service.providers._bedrock_connection import HeldConnection, Hold, LetGoError, hold_in_this_thread


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
