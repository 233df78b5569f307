"""A loop that pauses wakes for the sockets that it watches, and for no other."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from onceq_service.wakeups import Wakeups, wakeups

HANGS_S = 3600.0
"""A pause that nothing ends fails its test by the test's own limit."""


@asynccontextmanager
async def connected() -> AsyncGenerator[tuple[asyncio.Transport, socket.socket]]:
    """A transport of this loop, and the other end of its socket."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    try:
        yield transport, theirs
    finally:
        transport.close()
        theirs.close()
        await asyncio.sleep(0)


async def test_a_heeded_socket_ends_a_pause_and_the_others_wait() -> None:
    urgent = Wakeups()
    async with connected() as (calm, other_end), connected() as (watched, end):
        assert urgent.watch(watched)
        other_end.send(b"words")
        assert not urgent.pause(0.01)
        end.send(b"now")
        assert urgent.pause(HANGS_S)
        urgent.unwatch(watched)
        assert not urgent.pause(0.01)
        urgent.watch(calm)
        assert urgent.pause(HANGS_S)


async def test_heeding_twice_and_ignoring_what_is_not_heeded_change_nothing() -> None:
    urgent = Wakeups()
    async with connected() as (transport, end):
        urgent.unwatch(transport)
        assert urgent.watch(transport)
        assert urgent.watch(transport)
        end.send(b"now")
        assert urgent.pause(HANGS_S)
        urgent.unwatch(transport)
        urgent.unwatch(transport)
        assert not urgent.pause(0.01)


async def test_a_socket_that_was_closed_is_forgotten() -> None:
    urgent = Wakeups()
    async with connected() as (transport, end):
        urgent.watch(transport)
        end.send(b"now")
        assert urgent.pause(HANGS_S)
    assert not urgent.pause(0.01)
    urgent.unwatch(transport)
    assert not urgent.watch(transport)


async def test_where_the_system_can_not_do_it_nothing_is_heeded_and_nothing_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(select, "epoll")
    urgent = Wakeups()
    async with connected() as (transport, _):
        assert not urgent.can_pause
        assert not urgent.watch(transport)
        urgent.unwatch(transport)
        assert not urgent.pause(HANGS_S)


def test_each_loop_has_its_own() -> None:
    async def of_this_loop() -> Wakeups:
        assert wakeups() is wakeups()
        return wakeups()

    assert asyncio.run(of_this_loop()) is not asyncio.run(of_this_loop())
