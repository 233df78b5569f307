"""One client in several places: forked processes, event loops one after the other or at once, loops that end early."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import cast

import pytest
from starlette.responses import Response, StreamingResponse

from onceq import AsyncClient
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
    """Serves a job's events, or a batch's, so that each is read by itself."""

    def events(seen: Seen) -> Response:
        async def body() -> AsyncIterator[bytes]:
            for frame in frames(whole_log(*text), int(seen.headers.get("last-event-id", "0"))):
                yield frame
                await asyncio.sleep(0.03)

        return StreamingResponse(body(), media_type="text/event-stream")

    fake.on("GET /v1/jobs/{id}/events", events)
    fake.on("GET /v1/events", events)
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


@pytest.mark.parametrize("options", [(), ("-X", "dev"), ("-W", "error")])
def test_an_awaiting_client_works_in_one_loop_after_the_other(own_words: FakeService, options: Sequence[str]) -> None:
    program = """
        import asyncio, onceq

        client = onceq.AsyncClient(max_retries=0)

        async def ask(job_id):
            return (await client.get(job_id)).text

        print(*(asyncio.run(ask(f"job_{n}")) for n in range(4)))
    """
    assert said_by(program, own_words.url, *options) == "job_0 job_1 job_2 job_3\n"


def test_an_awaiting_client_works_in_loops_of_several_threads_and_forks_at_once(own_words: FakeService) -> None:
    program = """
        import asyncio, multiprocessing, onceq
        from concurrent.futures import ProcessPoolExecutor

        client = onceq.AsyncClient(max_retries=0)

        async def ask(n):
            return all([(await client.get(f"job_{n}_{k}")).text == f"job_{n}_{k}" for k in range(20)])

        def asked(n):
            return asyncio.run(ask(n))

        async def main():
            await ask("first")
            loop = asyncio.get_running_loop()
            with ProcessPoolExecutor(3, multiprocessing.get_context("fork")) as pool:
                forked = [loop.run_in_executor(pool, asked, f"forked_{n}") for n in range(3)]
                threads = [asyncio.to_thread(asked, f"thread_{n}") for n in range(3)]
                print(*await asyncio.gather(ask("here"), *forked, *threads))

        asyncio.run(main())
    """
    assert said_by(program, own_words.url, "-X", "dev") == " ".join(["True"] * 7) + "\n"


async def test_a_closed_awaiting_client_is_closed_in_every_loop(own_words: FakeService) -> None:
    client = AsyncClient(own_words.url, "oq_test")
    assert (await client.get("job_1")).text == "job_1"
    await client.close()
    for asking in (client.get("job_1"), asyncio.to_thread(asyncio.run, client.get("job_1"))):
        with pytest.raises(RuntimeError, match="closed"):
            await asking
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("options", [(), ("-X", "dev")])
@pytest.mark.parametrize("stream", ["client.follow(JOB)", "client.follow(JOB).events()", "client.follow_batch('b')"])
@pytest.mark.parametrize("holder", ["here", "globals()"])
def test_a_stream_may_be_left_where_its_loop_ends(
    fake: FakeService, options: Sequence[str], stream: str, holder: str
) -> None:
    slowly(fake, "abcdefgh")
    program = f"""
        import asyncio, onceq

        JOB = "{JOB_ID}"
        client = onceq.AsyncClient()

        async def main():
            here = {{}}
            held = {holder}
            held["pieces"] = aiter({stream})
            async for piece in held["pieces"]:
                break

        asyncio.run(main())
        print(asyncio.run(client.get(JOB)).text)
    """
    assert said_by(program, fake.url, *options) == "abcdefgh\n"


async def test_a_stream_that_is_left_closes_its_connection_at_once(fake: FakeService) -> None:
    slowly(fake, "abcdefgh")
    async with AsyncClient(fake.url, "oq_test") as client:
        stream = client.follow(JOB_ID)
        async with aclosing(cast("AsyncGenerator[str]", aiter(stream))) as pieces:
            assert await anext(pieces) == "a"
        hooks = sys.get_asyncgen_hooks()
        assert [piece async for piece in stream] == [*"bcdefgh"]
        assert sys.get_asyncgen_hooks() == hooks
        assert hooks.firstiter is not None
    assert asyncio.all_tasks() == {asyncio.current_task()}
