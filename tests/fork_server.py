"""Processes of ours without the seconds of imports that each begins with: forked from one that has imported already.

A fork server runs nothing. When it is asked to, it forks a child that becomes what `python -c <code>` or `python -m
<module>` would be: a session, an environment, a working folder, an output file and a `__main__` of its own. Half of the
CPU of all tests went into the same imports, some hundred times. What is asked and answered is a line of JSON each.
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from onceq_service.pricing import load_tables

ROOT = Path(__file__).parents[1]
PRELOADED = (
    "uvloop", "httptools", "uvicorn.loops.uvloop", "uvicorn.protocols.http.httptools_impl", "uvicorn.lifespan.on",
    "onceq_service.api.server.serve", "onceq_service.api.app", "onceq_service.worker.main",
    "onceq_service.worker.broker", "genai_prices.data_snapshot", "onceq_service.providers.openai",
    "onceq_service.providers.anthropic", "onceq_service.providers.bedrock", "onceq_service.simulator.server",
)  # fmt: skip
"""What API, workers and simulator import when they start."""


class ForkedProcess:
    """A child of the fork server, with the face of a subprocess.Popen."""

    def __init__(self, fork_server: ForkServer, pid: int) -> None:
        self._fork_server, self.pid = fork_server, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, None while it runs; until it was asked for, a dead child keeps its pid."""
        if self.returncode is None:
            self.returncode = self._fork_server.ask({"do": "poll", "pid": self.pid})["code"]
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code when it has ended; raises subprocess.TimeoutExpired."""
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        """Sends it a signal while it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)


class ForkServer:
    """The forking process; started when first needed, it ends, and ends what it forked, with the process that asked."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        self._asked = 0
        command = [sys.executable, "-m", "tests.fork_server"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        atexit.register(self._close)

    def start(self, args: Sequence[str], env: Mapping[str, str], log: Path) -> ForkedProcess:
        """A child as subprocess.Popen would start it: `args` behind the interpreter, all of its environment."""
        log.touch()
        wish = {"do": "start", "args": list(args), "env": dict(env), "log": str(log), "cwd": str(Path.cwd())}
        return ForkedProcess(self, self.ask(wish)["pid"])

    def ask(self, wish: Mapping[str, Any]) -> dict[str, Any]:
        """One question, one answer; that of a question which a signal interrupted is passed over by the next."""
        told, hears = self._process.stdin, self._process.stdout
        assert told is not None
        assert hears is not None
        with self._lock:
            self._asked += 1
            told.write(json.dumps({"number": self._asked, **wish}).encode() + b"\n")
            told.flush()
            while (answer := json.loads(hears.readline() or "{}")).get("number") != self._asked:
                assert answer, "the fork server has ended"
        return answer

    def _close(self) -> None:
        self._process.communicate()


def serve() -> Callable[[], object] | None:
    """Answers until nobody asks any more: None. In a child it returns what the child has to run."""
    running: set[int] = set()
    for line in sys.stdin.buffer:
        wish: dict[str, Any] = json.loads(line)
        number, do = wish.pop("number"), wish.pop("do")
        if do == "poll":
            pid, status = os.waitpid(wish["pid"], os.WNOHANG)
            running.discard(pid)
            answer = {"code": os.waitstatus_to_exitcode(status) if pid else None}
        else:
            pid = fork()
            if pid == 0:
                return leave_home(**wish)
            running.add(pid)
            answer = {"pid": pid}
        os.write(1, json.dumps({"number": number, **answer}).encode() + b"\n")
    for pid in running:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    return None


def fork() -> int:
    """A child in a session of its own, which it has when its pid is told; 0 in the child."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.close(ready)
    os.close(tell)
    if pid:
        os.read(ready, 1)
        os.close(ready)
    return pid


def leave_home(args: Sequence[str], env: Mapping[str, str], log: str, cwd: str) -> Callable[[], object]:
    """Takes on in a fresh child what an exec would have; returns the program."""
    nothing, out = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for source, target in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(out)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    if env.get("PYTHONFAULTHANDLER"):
        faulthandler.enable()
    how, what, *rest = args
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if how == "-m":
        sys.argv = [what, *rest]
        return lambda: runpy.run_module(what, run_name="__main__", alter_sys=True)
    sys.argv = ["-c", *rest]
    return lambda: exec(compile(what, "<string>", "exec"), main.__dict__)


def run_to_the_end(program: Callable[[], object]) -> NoReturn:
    """Runs a child's program and ends as the interpreter would, but for taking apart all that was only imported."""
    code = 0
    try:
        program()
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
        if isinstance(exc.code, str):
            print(exc.code, file=sys.stderr)
    except KeyboardInterrupt:
        code = 130
    except BaseException:  # noqa: BLE001 - told as the interpreter tells it
        traceback.print_exc()
        code = 1
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] - as Py_Finalize does
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage] - the same
    gc.collect()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in PRELOADED:
        importlib.import_module(name)
    load_tables()
    assert threading.active_count() == 1, "a fork copies one thread only"
    gc.collect()
    gc.freeze()
    program = serve()
    if program is not None:
        run_to_the_end(program)
