"""One client in several places: forked processes, event loops one after the other or at once, loops that end early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.responses import Response, StreamingResponse

from tests.sdk.fake import JOB_ID, FakeService, Seen, answer, frames, job, whole_log
from tests.sdk.program import said_by

GET = "GET /v1/jobs/{id}"


@pytest.fixture
def own_words(fake: FakeService) -> FakeService:
    """A service whose jobs say their own ids."""

    def told(seen: Seen) -> Response:
        job_id = seen.path.rpartition("/")[2]
        return answer(job("succeeded", job_id, job_id))

    fake.on(GET, told)
    return fake


def test_forked_children_and_their_parent_get_their_own_answers(own_words: FakeService) -> None:
    program = """
        import multiprocessing, onceq
        from concurrent.futures import ProcessPoolExecutor

        client = onceq.Client(max_retries=0)

        def ask(n):
            return [client.get(f"job_{n}_{k}").text == f"job_{n}_{k}" for k in range(50)]

        client.get("job_first")
        with ProcessPoolExecutor(6, multiprocessing.get_context("fork")) as pool:
            answers = [pool.submit(ask, n) for n in range(6)]
            print(all(ask("parent")), all(all(answer.result()) for answer in answers))
    """
    assert said_by(program, own_words.url) == "True True\n"


def slowly(fake: FakeService, text: str) -> None:
    """Serves a job's events so that each piece is read by itself."""

    def events(seen: Seen) -> Response:
        async def body() -> AsyncIterator[bytes]:
            for frame in frames(whole_log(*text), int(seen.headers.get("last-event-id", "0"))):
                yield frame
                await asyncio.sleep(0.03)

        return StreamingResponse(body(), media_type="text/event-stream")

    fake.on("GET /v1/jobs/{id}/events", events)
    fake.on(GET, answer(job("succeeded", text)))


def test_a_stream_that_was_open_at_a_fork_goes_on_in_both_processes(fake: FakeService) -> None:
    slowly(fake, "abcdefgh")
    program = f"""
        import os, onceq

        client = onceq.Client()
        pieces = iter(client.follow("{JOB_ID}"))
        first = next(pieces)
        child = os.fork()
        text = first + "".join(pieces)
        if not child:
            client.close()
            os._exit(text != "abcdefgh")
        print(text, os.waitpid(child, 0)[1], client.get("{JOB_ID}").text)
    """
    assert said_by(program, fake.url) == "abcdefgh 0 abcdefgh\n"
    assert len(fake.to("GET /v1/jobs/{id}/events")) == 2


def test_a_client_that_was_closed_is_closed_in_a_child_too(own_words: FakeService) -> None:
    program = """
        import os, onceq

        client = onceq.Client()
        client.close()
        if not os.fork():
            try:
                client.get("job_1")
            except RuntimeError as exc:
                print(exc, flush=True)
            os._exit(0)
        os.wait()
    """
    assert "closed" in said_by(program, own_words.url)
