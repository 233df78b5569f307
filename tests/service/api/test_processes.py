"""ONCEQ_API_PROCESSES=2: really several processes on one socket, replaced when they die, ended together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import Generator
from http.client import HTTPConnection
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from tests.service.api.kit import JOBS, Http, ask, frames, problem_of, start_api
from tests.service.api.test_submit import posts_at_once
from tests.stack import API, Process, Stack, start, url_printed_by
from tests.waiting import wait_until

PATIENT_FLEET = """
from onceq_service.api.server import processes
from onceq_service.api.server.serve import run
from onceq_service.settings import load_settings

processes.STOP_S = 15.0
run(load_settings())
"""
"""No test of when a child that does not hear is killed: one that is only slow has to end its streams."""

STOPPED_EARLY = """
import os
import signal

from onceq_service.api.server import serve
from onceq_service.settings import load_settings


class Early(serve.ApiServer):
    def run(self, sockets):
        os.kill(os.getpid(), signal.SIGTERM)
        super().run(sockets)


serve.ApiServer = Early
serve.run(load_settings())
"""
"""Told to stop before uvicorn listens to signals."""


class Fleet:
    """An API of two processes: the parent, and what Linux knows of its children."""

    def __init__(self, stack: Stack) -> None:
        log = f"fleet-{uuid4().hex}.log"
        self.parent = start_api(stack, PATIENT_FLEET, log, api_processes="2", log_json="true")
        self.url = url_printed_by(self.parent)

    def servers(self) -> set[int]:
        """The pids of the processes that serve: children of the parent that hold the listening socket."""
        return {pid for pid in group_of(self.parent) if pid != self.parent.popen.pid and b"spawn_main" in command(pid)}


def group_of(process: Process) -> set[int]:
    """The living processes of the parent's group, it among them."""
    return {
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _group(entry) == process.popen.pid
    }


def _group(entry: Path) -> int:
    """The process group; 0 for one that is gone, or dead and not yet reaped."""
    try:
        state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return 0
    return 0 if state == "Z" else int(group)


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def fleet(shared: Stack) -> Generator[Fleet]:
    started = Fleet(shared)
    yield started
    with contextlib.suppress(ProcessLookupError):
        os.killpg(started.parent.popen.pid, signal.SIGKILL)
    started.parent.popen.wait(10)


def serving_pids(fleet: Fleet, key: str) -> set[int]:
    """The processes that answer when asked on many connections: those that hold the other ends of them."""
    where = httpx2.URL(fleet.url)
    with contextlib.ExitStack() as opened:
        for _ in range(20):
            conn = HTTPConnection(where.host, where.port or 80, timeout=10)
            opened.callback(conn.close)
            conn.request("GET", "/v1/keys/self", headers={"authorization": f"Bearer {key}"})
            assert conn.getresponse().read()
        return {pid for pid in fleet.servers() if served_by(pid, where.port or 80)}


def served_by(pid: int, port: int) -> bool:
    """Whether a process holds an accepted connection on a port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"}
    return not inodes.isdisjoint(_files(pid))


def _files(pid: int) -> set[str]:
    found: set[str] = set()
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(str(entry.readlink()))
    return found


def test_two_processes_serve_and_a_hundred_equal_posts_to_them_are_one_job(
    shared: Stack, fleet: Fleet, client: Http, tenant: str
) -> None:
    key = shared.key(tenant)
    assert len(fleet.servers()) == 2
    wait_until(lambda: serving_pids(fleet, key) == fleet.servers(), "both processes to answer")
    jobs = asyncio.run(posts_at_once([fleet.url], key, ask(ttft_ms=300), 100))
    [job_id] = {job["id"] for job in jobs}
    assert Counter(job["disposition"] for job in jobs)["created"] == 1
    assert client.job(job_id, wait=30).status == "succeeded"
    assert len(shared.meter(job_id)) == 1


def test_a_process_that_is_killed_is_replaced_and_nobody_is_refused_meanwhile(
    shared: Stack, fleet: Fleet, tenant: str
) -> None:
    key, [victim, survivor] = shared.key(tenant), sorted(fleet.servers())
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(fleet.servers() - {victim}) == 2, "a replacement")
    assert survivor in fleet.servers()
    wait_until(lambda: serving_pids(fleet, key) == fleet.servers(), "the replacement to answer")
    assert str(victim) in fleet.parent.text()
    assert "died and is replaced" in fleet.parent.text()


def test_ctrl_c_is_the_parents_to_hear(shared: Stack, fleet: Fleet, tenant: str) -> None:
    """A child that heard it behind the parent's SIGTERM would take it for the wish to leave all as it is."""
    key, children = shared.key(tenant), fleet.servers()
    for child in children:
        os.kill(child, signal.SIGINT)
    wait_until(lambda: serving_pids(fleet, key) == children, "both processes to answer")
    fleet.parent.popen.send_signal(signal.SIGTERM)
    assert fleet.parent.popen.wait(20) == 0
    assert "died and is replaced" not in fleet.parent.text()


def test_ctrl_c_is_the_parents_to_hear_while_they_start(shared: Stack) -> None:
    process = start_api(shared, PATIENT_FLEET, f"fleet-{uuid4().hex}.log", api_processes="2")

    def children() -> set[int]:
        found = {pid for pid in group_of(process) if b"spawn_main" in command(pid)}
        return found if len(found) == 2 else set()

    try:
        begun = wait_until(children, "two children")
        for child in begun:
            os.kill(child, signal.SIGINT)
        assert url_printed_by(process)
        assert children() == begun
        os.killpg(process.popen.pid, signal.SIGINT)
        assert process.popen.wait(20) == 0
        assert "Traceback" not in process.text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.popen.pid, signal.SIGKILL)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("whom", ["parent", "group"])
def test_a_signal_ends_all_of_them_and_a_stream_ends_so_that_its_reader_comes_back(
    shared: Stack, fleet: Fleet, client: Http, tenant: str, how: signal.Signals, whom: str
) -> None:
    job_id = client.submit(ask(ttft_ms=60_000))["id"]
    with Http(fleet.url, shared.key(tenant)) as reader, reader.stream("GET", f"{JOBS}/{job_id}/events") as answer:
        pieces = answer.iter_text()
        said = next(pieces)
        send = os.kill if whom == "parent" else os.killpg  # Ctrl-C reaches the whole group
        send(fleet.parent.popen.pid, how)
        said += "".join(pieces)
    assert [event.name for event in frames(said)][:1] == ["queued"]
    assert fleet.parent.popen.wait(20) == 0
    wait_until(lambda: not group_of(fleet.parent), "every process of it to be gone")
    assert "Traceback" not in fleet.parent.text()
    client.post(f"{JOBS}/{job_id}/cancel")


def test_a_signal_that_comes_before_uvicorn_hears_any_is_heard(shared: Stack) -> None:
    process = start_api(shared, STOPPED_EARLY, "early.log")
    try:
        assert process.popen.wait(20) == 0
        assert "Traceback" not in process.text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.popen.pid, signal.SIGKILL)


def test_a_parent_that_is_killed_leaves_no_orphan(shared: Stack, fleet: Fleet) -> None:
    os.kill(fleet.parent.popen.pid, signal.SIGKILL)
    fleet.parent.popen.wait(10)
    wait_until(lambda: not group_of(fleet.parent), "the children to end by themselves")


def test_an_address_that_is_taken_is_said_in_a_sentence(shared: Stack) -> None:
    port = shared.url.rpartition(":")[2]
    second = start([sys.executable, "-c", API], shared.env | {"ONCEQ_PORT": port}, shared.folder / "taken.log")
    assert second.popen.wait(30) != 0
    assert "ONCEQ_PORT" in second.text()


def test_a_key_that_one_process_revoked_stops_working_in_the_other(shared: Stack, fleet: Fleet, client: Http) -> None:
    made = client.post("/v1/keys", json={"name": "short-lived"})
    assert made.headers["cache-control"] == "no-store"
    key = made.json()
    headers = {"authorization": f"Bearer {key['secret']}", "connection": "close"}
    assert {httpx2.get(fleet.url + JOBS, headers=headers).status_code for _ in range(20)} == {200}
    assert client.delete(f"/v1/keys/{key['id']}").status_code == 204

    def refused_everywhere() -> bool:
        return {httpx2.get(fleet.url + JOBS, headers=headers).status_code for _ in range(20)} == {401}

    wait_until(refused_everywhere, "both processes to forget the key")
    problem_of(httpx2.get(fleet.url + JOBS, headers=headers), 401, "unauthorized")
