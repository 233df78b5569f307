"""R18: behind a real nginx with its own defaults, a stream arrives as it is written and nothing else changes; and the
configuration of docs/operations.md does what is said of it, below a path too."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Generator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from onceq import Client
from tests.service.api.kit import JOBS, Http, ask, http, own_lane, read_until, switch, text_of
from tests.stack import Stack, start
from tests.waiting import wait_until

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
"""`.ci/run` installs it; where it is not there these tests fail, they do not pass by being left out."""

CONFIG = """
error_log stderr;
pid {folder}/nginx.pid;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen {host}:{port};
    {inside}
  }}
}}
"""

PAGE = (Path(__file__).parents[3] / "docs" / "operations.md").read_text("utf-8")
HOST = str(IPv4Address("127.1.0.0") + os.getpid())
"""An address of this process alone: on one that others use too, somebody else may get the port before nginx does."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def nginx(shared: Stack, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The URL of an nginx before the API: nothing is set but where it may write and whom it asks."""
    with running_nginx(tmp_path_factory.mktemp("nginx"), f"location / {{ proxy_pass {shared.url}; }}") as url:
        yield url


@pytest.fixture(scope="module")
def documented(shared: Stack, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The URL of one that has all that docs/operations.md tells to write, for the root and for a path."""
    inside = "\n".join(re.findall(r"^```nginx\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL))
    with running_nginx(tmp_path_factory.mktemp("nginx"), inside.replace("http://127.0.0.1:8000", shared.url)) as url:
        yield url


@contextmanager
def running_nginx(folder: Path, inside: str) -> Generator[str]:
    assert NGINX is not None, "nginx is not installed"
    port, config = free_port(), folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, host=HOST, port=port, inside=inside))
    process = start([NGINX, "-c", str(config), "-p", str(folder), "-g", "daemon off;"], {}, Path(folder / "log"))
    try:
        wait_until(lambda: answers(port), "nginx to listen")
        yield f"http://{HOST}:{port}"
    finally:
        process.stop()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


@pytest.fixture
def through(shared: Stack, nginx: str, tenant: str) -> Generator[Http]:
    """A client that comes by nginx."""
    with http(shared, tenant, url=nginx) as opened:
        yield opened


def test_r18_tokens_come_through_while_the_job_still_runs(through: Http, client: Http, tenant: str) -> None:
    body = ask(tokens=50, tps=100, fault="stall", after=5) | own_lane(tenant)
    switch(client, "pause", body)
    job_id = through.submit(body)["id"]
    with through.stream("GET", f"{JOBS}/{job_id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        pieces = answer.iter_text()
        said = next(pieces)
        assert "event: delta" not in said, "what comes with the headers is not held back by any nginx"
        switch(client, "resume", body)
        read_until(pieces, lambda said: "event: delta" in said, "the first token")
        assert client.job(job_id).status == "running", "the token was not held back until the end"
    assert client.post(f"{JOBS}/{job_id}/cancel").status_code in (200, 202)


def test_r18_keep_alives_come_through(through: Http) -> None:
    job_id = through.submit(ask(ttft_ms=60_000))["id"]
    with through.stream("GET", f"{JOBS}/{job_id}/events") as answer:
        read_until(answer.iter_text(), lambda said: said.count(": keep-alive\n\n") >= 2, "two keep-alives")
    through.post(f"{JOBS}/{job_id}/cancel")


def test_r18_a_stream_a_poll_and_a_resumed_stream_say_the_same_through_nginx(shared: Stack, through: Http) -> None:
    job_id = through.submit(ask(tokens=100, tps=200))["id"]
    whole = through.read(job_id)
    [call] = shared.meter(job_id)
    job = through.job(job_id, wait=30)
    assert call["text"] == text_of(whole) == job.text
    half = len(whole) // 2
    assert half >= 2, "queued, started, text, succeeded"
    assert [event.raw for event in through.read(job_id, after=half)] == [event.raw for event in whole[half:]]
    end = through.get(f"{JOBS}/{job_id}/events", headers={"last-event-id": str(len(whole))})
    assert end.status_code == 204


def test_r18_etags_and_replays_come_through(through: Http) -> None:
    body = ask()
    first = through.post_json(body, idempotency_key="k")
    assert first.headers["location"] == f"{JOBS}/{first.json()['id']}"
    through.job(first.json()["id"], wait=30)
    assert through.post_json(body, idempotency_key="k").headers["idempotent-replayed"] == "true"
    tag = through.get(first.headers["location"]).headers["etag"]
    assert through.get(first.headers["location"], headers={"if-none-match": tag}).status_code == 304


def test_r18_a_reader_that_leaves_nginx_is_let_go_by_the_api(shared: Stack, through: Http) -> None:
    body = ask(ttft_ms=60_000) | {"on_disconnect": "cancel", "disconnect_grace_s": 1}
    job_id = through.submit(body)["id"]
    with through.stream("GET", f"{JOBS}/{job_id}/events") as answer:
        pieces = answer.iter_text()
        assert next(pieces)
    wait_until(lambda: through.ids(status="cancelled") == [job_id], "nobody to be there any more")


@pytest.mark.parametrize("path", ["", "/llm"])
def test_the_sdk_works_behind_what_is_documented(shared: Stack, documented: str, tenant: str, path: str) -> None:
    body = ask(tokens=50, tps=100)
    with Client(documented + path, shared.key(tenant), model=body["model"]) as client:
        handle = client.submit(body["prompt"])
        text = "".join(handle.stream())
        assert handle.wait(30).text == text == shared.meter(handle.id)[0]["text"]
        assert [job.id for job in client.list()] == [handle.id]


def test_below_a_path_location_has_it_and_bodies_begin_at_the_api_s_own_root(
    shared: Stack, documented: str, tenant: str
) -> None:
    with http(shared, tenant, url=documented) as through:
        posted = through.post(f"/llm{JOBS}", json=ask(tokens=50, tps=100))
        job_id, urls = posted.json()["id"], posted.json()["urls"]
        assert posted.headers["location"] == f"/llm{JOBS}/{job_id}"
        assert urls["self"] == f"{JOBS}/{job_id}"
        assert "event: succeeded" in through.get("/llm" + urls["events"]).text
        token = through.post(f"/llm{JOBS}/{job_id}/stream-token").json()
        assert token["url"].startswith(urls["events"])
        assert through.get(f"/llm{JOBS}/none").json()["instance"] == f"{JOBS}/none"
        again = through.post(f"/llm{JOBS}/{job_id}/replay")
        assert again.headers["location"] == f"/llm{JOBS}/{again.json()['id']}"
