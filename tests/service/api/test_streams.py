"""A job's events as SSE (G6): any number, any replica, any count of readers, and nothing left when they go."""

from __future__ import annotations

import asyncio
import select
import signal
import socket
import sys
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from tests.service.api.kit import (
    JOBS,
    Frame,
    Http,
    ask,
    frames,
    meter_of,
    problem_of,
    read_until,
    start_api,
    stuck_reader,
    text_of,
)  # fmt: skip
from tests.stack import API, Process, Stack, start, url_printed_by
from tests.waiting import wait_until


def test_a_reader_gets_exactly_what_is_behind_its_number_on_any_replica(
    shared: Stack, replica: str, client: Http
) -> None:
    job = client.done(ask(tool="a,b,c,d,e,f"))  # what belongs to different tools is never one event
    whole = client.read(job.id)
    assert [event.id for event in whole] == list(range(1, len(whole) + 1))
    assert [event.data.seq for event in whole] == [event.id for event in whole]
    assert len(whole) >= 9, "queued, started, six tools, succeeded"
    key = client.headers["authorization"].removeprefix("Bearer ")
    with Http(replica, key) as elsewhere:
        for after in range(len(whole)):
            for place in (client, elsewhere):
                assert [event.raw for event in place.read(job.id, after)] == [event.raw for event in whole[after:]]


def test_the_terminal_event_is_the_last_and_has_the_whole_account(client: Http) -> None:
    job = client.done(ask(tokens=20))
    events = client.read(job.id)
    assert [event.name for event in events if event.name != "delta"] == ["queued", "started", "succeeded"]
    end = events[-1].data
    assert (end.usage, end.cost, end.timings) == (job.usage, job.cost, job.timings)
    assert end.finish_reason == "stop"


def test_a_reader_that_has_everything_gets_a_204_so_that_a_browser_stops(client: Http) -> None:
    job = client.done(ask())
    last = len(client.read(job.id))
    path = f"{JOBS}/{job.id}/events"
    for answer in (
        client.get(path, headers={"last-event-id": str(last)}),
        client.get(path, params={"last_event_id": last}),
    ):
        assert (answer.status_code, answer.content) == (204, b"")
        assert "content-length" not in answer.headers


def test_a_number_that_is_not_there_yet_is_a_400(client: Http) -> None:
    job = client.done(ask())
    answer = client.get(f"{JOBS}/{job.id}/events", headers={"last-event-id": "1000"})
    assert "read again from 0" in problem_of(answer, 400, "last_event_id_ahead").detail


def test_the_header_beats_the_query_because_a_browser_keeps_it_up_to_date(client: Http) -> None:
    job = client.done(ask())
    path = f"{JOBS}/{job.id}/events"
    answer = client.get(path, headers={"last-event-id": "2"}, params={"last_event_id": "1"})
    assert next(iter(frames(answer.text))).id == 3


def test_a_stream_says_that_nothing_may_keep_or_change_it_and_keeps_itself_alive(client: Http) -> None:
    job_id = client.submit(ask(ttft_ms=60_000))["id"]
    with client.stream("GET", f"{JOBS}/{job_id}/events") as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["x-accel-buffering"] == "no"
        assert answer.headers["cache-control"] == "no-cache, no-transform"

        def enough(said: str) -> bool:
            return said.count(": keep-alive\n\n") >= 2 and "event: started" in whole_events(said)

        said = read_until(answer.iter_text(), enough, "two keep-alives and the start")
        assert [event.name for event in frames(whole_events(said))] == ["queued", "started"]
    client.post(f"{JOBS}/{job_id}/cancel")


def test_r15_a_job_without_readers_is_the_same_job(shared: Stack, client: Http) -> None:
    job_id = client.submit(ask(tokens=50, tps=200))["id"]
    wait_until(lambda: client.ids(status="succeeded") == [job_id], "the end of a job that nobody reads")
    assert text_of(client.read(job_id)) == shared.meter(job_id)[0]["text"]


def test_r15_a_hundred_readers_over_two_replicas_get_the_same_bytes(shared: Stack, replica: str, client: Http) -> None:
    job_id = client.submit(ask(tokens=200, tps=200, ttft_ms=500))["id"]
    headers = {"authorization": client.headers["authorization"]}

    async def read(url: str) -> list[str]:
        async with httpx2.AsyncClient(headers=headers, timeout=60) as one:
            answer = await one.get(f"{url}{JOBS}/{job_id}/events")
            return [event.raw for event in frames(answer.text)]

    async def read_all() -> list[list[str]]:
        return await asyncio.gather(*(read((shared.url, replica)[n % 2]) for n in range(100)))

    streams = asyncio.run(read_all())
    assert all(stream == streams[0] for stream in streams)
    assert text_of(client.read(job_id)) == shared.meter(job_id)[0]["text"]


def test_a_reader_that_hops_between_replicas_misses_and_repeats_nothing(
    shared: Stack, replica: str, client: Http
) -> None:
    job_id = client.submit(ask(tokens=100_000, tps=100))["id"]
    key = client.headers["authorization"].removeprefix("Bearer ")
    seen: list[Frame] = []
    with Http(shared.url, key) as here, Http(replica, key) as there:
        hops = 0
        while not (seen and seen[-1].name == "cancelled"):
            seen += first_events((here, there)[hops % 2], job_id, len(seen), want=10)
            hops += 1
            if hops == 6:
                client.post(f"{JOBS}/{job_id}/cancel")
    assert hops >= 6
    assert [event.id for event in seen] == list(range(1, len(seen) + 1))
    text = text_of(seen)
    assert text == client.job(job_id).text
    call = meter_of(shared, job_id, lambda call: call["status"] == "aborted", "the provider to see the cut")
    assert call["text"].startswith(text)


def first_events(client: Http, job_id: str, after: int, want: int) -> list[Frame]:
    """At least `want` events live, then the reader hangs up; fewer when the stream ends."""
    said = ""
    with client.stream("GET", f"{JOBS}/{job_id}/events", headers={"last-event-id": str(after)}) as answer:
        for piece in answer.iter_text():
            said += piece
            if said.count("\n\n") >= want:
                break
    return list(frames(whole_events(said)))


def whole_events(said: str) -> str:
    """A stream's text without the event of which only a part has come."""
    return said[: said.rfind("\n\n") + 2]


PATIENCE = """
import signal
from onceq_service.api.streams import events
from onceq_service.api.server.serve import run
from onceq_service.settings import load_settings

def change(number, _):
    events.SEND_TIMEOUT_S = 0.5 if number == signal.SIGUSR1 else 600.0

for number in (signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, change)
events.SEND_TIMEOUT_S = 600.0
run(load_settings())
"""


@pytest.fixture
def moody_api(shared: Stack) -> Generator[tuple[str, Process]]:
    """An API that cuts a stuck reader from SIGUSR1 on, and no slow one before that and after SIGUSR2."""
    process = start_api(shared, PATIENCE, "moody.log")
    yield url_printed_by(process), process
    process.stop()
    assert "Traceback" not in process.text()


def test_a_reader_that_never_reads_is_cut_and_can_come_back_while_others_read_on(
    shared: Stack, moody_api: tuple[str, Process], client: Http
) -> None:
    url, process = moody_api
    job_id = client.submit(ask(tokens=1_000_000, tps=0))["id"]
    assert client.job(job_id, wait=60).status == "succeeded"
    key = client.headers["authorization"].removeprefix("Bearer ")
    with Http(url, key) as other, stuck_reader(url, key, job_id) as link:
        assert select.select([link], [], [], 20)[0], "the stuck reader is there"
        assert text_of(other.read(job_id)) == shared.meter(job_id)[0]["text"]
        assert streams_of(other) >= 1, "it still is"
        process.popen.send_signal(signal.SIGUSR1)
        wait_until(lambda: streams_of(other) == 0, "the stuck reader to be cut")
        process.popen.send_signal(signal.SIGUSR2)
        assert not all_of(link).endswith(b"0\r\n\r\n"), "it is told that this is not the end"
        assert text_of(other.read(job_id)) == shared.meter(job_id)[0]["text"]


def all_of(link: socket.socket) -> bytes:
    """What comes until the connection ends, however it ends."""
    got = b""
    with suppress(ConnectionResetError):
        while data := link.recv(1_048_576):
            got += data
    return got


def streams_of(client: Http) -> int:
    """Open streams of all API processes, as the one that answers knows them."""
    lines = client.get("/metrics").text.splitlines()
    return int(float(next(line for line in lines if line.startswith("onceq_api_streams ")).split()[-1]))


REDIS_POOL = 16
"""Connections to Redis that a process may open when it is busy, and keeps."""


class Held:
    """What an API process holds: memory, and descriptors (so connections to readers and to Redis)."""

    def __init__(self, process: Process) -> None:
        folder = Path(f"/proc/{process.popen.pid}")
        status = (folder / "status").read_text()
        self.rss_mb = int(status.split("VmRSS:")[1].split()[0]) / 1024
        self.descriptors = len(list((folder / "fd").iterdir()))


@pytest.fixture
def quiet_api(shared: Stack) -> Generator[tuple[str, Process]]:
    """An API that no other test talks to."""
    process = start([sys.executable, "-c", API], shared.env, shared.folder / "quiet.log")
    yield url_printed_by(process), process
    process.stop()


def test_r16_a_thousand_readers_come_and_go_and_leave_nothing_behind(
    shared: Stack, quiet_api: tuple[str, Process], client: Http
) -> None:
    url, process = quiet_api
    job_id = client.submit(ask(ttft_ms=600_000))["id"]
    key = client.headers["authorization"].removeprefix("Bearer ")
    with Http(url, key) as watcher:
        asyncio.run(come_and_go(url, key, job_id, 200))
        wait_until(lambda: streams_of(watcher) == 0, "the first readers to be gone")
        before = Held(process)
        asyncio.run(come_and_go(url, key, job_id, 1_000))
        wait_until(lambda: streams_of(watcher) == 0, "a thousand readers to be gone")
        most = before.descriptors + REDIS_POOL
        wait_until(lambda: Held(process).descriptors <= most, "their sockets to be closed")
        after = Held(process)
    assert after.rss_mb < before.rss_mb + 20
    client.post(f"{JOBS}/{job_id}/cancel")


async def come_and_go(url: str, key: str, job_id: str, n: int) -> None:
    """Readers of one job, a hundred at a time, each gone after its first events."""
    for _ in range(n // 100):
        await asyncio.gather(*(one_reader(url, key, job_id) for _ in range(100)))


async def one_reader(url: str, key: str, job_id: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {JOBS}/{job_id}/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n".encode())
    await reader.readuntil(b"event: queued")
    writer.close()
    await writer.wait_closed()
