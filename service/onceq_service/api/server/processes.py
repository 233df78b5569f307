"""Several API processes on one socket: started together, replaced when one dies, stopped together.

Each child holds the reading end of a pipe whose writing end only the parent has: when the parent is killed, its end
closes, and the children stop by themselves.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final

import structlog

from onceq.errors import ConfigurationError

STOP_S: Final = 1.8
"""A child that is still there this long after SIGTERM is killed."""
PAUSE_S: Final = 0.5
"""Between the death of a child and its replacement."""
Serve = Callable[[socket.socket, Connection, Connection], None]
"""What a child does: serve on the socket, send a word when it answers, stop when the lifeline closes."""

log = structlog.get_logger("onceq.api")


@dataclass
class Fleet:
    """The children, and what they share."""

    serve: Serve
    listener: socket.socket
    size: int

    def __post_init__(self) -> None:
        self._spawn = multiprocessing.get_context("spawn")
        self._lifeline, self._parent_lives = self._spawn.Pipe(duplex=False)
        self._words, self._word = self._spawn.Pipe(duplex=False)
        self._children = [self._start() for _ in range(self.size)]

    def run(self, on_ready: Callable[[], None]) -> None:
        """Until SIGINT or SIGTERM; raises ConfigurationError when a child can't even start."""
        try:
            with _signals() as told:
                if self._all_ready(told):
                    on_ready()
                    self._keep_alive(told)
        finally:
            self._stop()

    def _all_ready(self, told: int) -> bool:
        for _ in range(self.size):
            woken = wait([told, self._words, *(child.sentinel for child in self._children)])
            if told in woken:
                return False
            if self._words not in woken:
                raise ConfigurationError("An API process ended before it could answer; its output above says why.")
            self._words.recv()
        return True

    def _keep_alive(self, told: int) -> None:
        while told not in wait([told, *(child.sentinel for child in self._children)]):
            for n, child in enumerate(self._children):
                if child.exitcode is not None:
                    log.warning("an API process died and is replaced", pid=child.pid, code=child.exitcode)
                    time.sleep(PAUSE_S)
                    self._children[n] = self._start()

    def _start(self) -> SpawnProcess:
        child = self._spawn.Process(target=self.serve, args=(self.listener, self._lifeline, self._word), daemon=True)
        with _deaf_to_ctrl_c():
            child.start()
        return child

    def _stop(self) -> None:
        for child in self._children:
            child.terminate()
        end = time.monotonic() + STOP_S
        for child in self._children:
            child.join(max(0.0, end - time.monotonic()))
            if child.is_alive():
                child.kill()
                child.join()
        for pipe in (self._lifeline, self._parent_lives, self._words, self._word):
            pipe.close()


@contextmanager
def _deaf_to_ctrl_c() -> Generator[None]:
    """What is started here never hears Ctrl-C, which reaches the whole group: the parent has the word.

    Heard behind the parent's SIGTERM it would be the second signal, by which uvicorn leaves without closing anything.
    """
    resource_tracker.ensure_running()  # it is started with the first child, and would end the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _signals() -> Generator[int]:
    """A file descriptor that becomes readable at SIGINT or SIGTERM."""
    told, tell = os.pipe()
    before = {s: signal.signal(s, lambda _signal, _frame: _tell(tell)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(told)
        os.close(tell)


def _tell(descriptor: int) -> None:
    os.write(descriptor, b"!")
