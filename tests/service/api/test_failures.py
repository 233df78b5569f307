"""What nobody foresaw: the client gets a problem or a broken stream, the log gets the kind and the place, no words."""

from __future__ import annotations

import sys
from collections.abc import Generator

import httpx2
import pytest

from tests.service.api.kit import SECRET, problem_of
from tests.stack import Process, Stack, start, url_printed_by
from tests.waiting import wait_until

FAILING_API = """
import asyncio
from fastapi.responses import StreamingResponse
from onceq_service.api import app
from onceq_service.api.server import serve
from onceq_service.settings import load_settings

def fail():
    raise ValueError("sesame in an exception")

async def whole():
    fail()

async def half():
    async def pieces():
        yield b"the beginning"
        fail()
    return StreamingResponse(pieces())

async def hot(service, key, heads, receive):
    fail()

async def unheard():
    task = asyncio.create_task(whole())
    await asyncio.sleep(0)

class Server(serve.ApiServer):
    def __init__(self, settings, on_ready):
        super().__init__(settings, on_ready)
        for route in (whole, half, unheard):
            self.config.app.add_api_route(f"/{route.__name__}", route)

app.HOT["GET", "/v1/hot"] = hot
serve.ApiServer = Server
serve.run(load_settings())
"""


@pytest.fixture(scope="module")
def failing(shared: Stack) -> Generator[tuple[str, Process]]:
    """An API with routes that fail in every way, and its process."""
    process = start([sys.executable, "-c", FAILING_API], shared.env, shared.folder / "failing.log")
    yield url_printed_by(process), process
    process.stop()


def logged(process: Process, what: str) -> str:
    """What the process has logged, once it names this."""
    said = wait_until(lambda: process.text() if what in process.text() else None, f"{what} in the log")
    assert "ValueError" in said
    assert " fail" in said, "the place"
    assert SECRET not in said
    return said


def test_an_exception_of_a_route_is_a_500_without_its_words(failing: tuple[str, Process]) -> None:
    url, process = failing
    problem = problem_of(httpx2.get(f"{url}/whole"), 500, "internal_error")
    assert problem.instance == "/whole"
    said = logged(process, "GET /whole")
    assert said.count("GET /whole") == 1, "it is logged once"


def test_an_exception_of_a_hot_route_is_a_500_without_its_words(shared: Stack, failing: tuple[str, Process]) -> None:
    url, process = failing
    answer = httpx2.get(f"{url}/v1/hot", headers={"authorization": f"Bearer {shared.api_key}"})
    problem_of(answer, 500, "internal_error")
    logged(process, "GET /v1/hot")


def test_an_exception_in_the_middle_of_an_answer_breaks_it_off_without_its_words(failing: tuple[str, Process]) -> None:
    url, process = failing
    with pytest.raises(httpx2.RemoteProtocolError):
        httpx2.get(f"{url}/half")
    logged(process, "GET /half")
    assert httpx2.get(f"{url}/livez").status_code == 200


def test_an_exception_that_nobody_waited_for_is_logged_without_its_words(failing: tuple[str, Process]) -> None:
    url, process = failing
    assert httpx2.get(f"{url}/unheard").status_code == 200
    logged(process, "never retrieved")
