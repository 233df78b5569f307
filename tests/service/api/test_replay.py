"""Replays of jobs that are not as this version would have taken them."""

from __future__ import annotations

import asyncio

from onceq_service.store import open_store
from tests.service.api.kit import JOBS, Http, ask, problem_of
from tests.stack import Stack


def test_a_job_that_another_version_took_and_this_one_refuses_is_no_fault_of_ours(shared: Stack, client: Http) -> None:
    done = client.done(ask())

    async def as_another_version_had_it() -> None:
        async with open_store(shared.redis.url, shared.queue) as store:
            pipe, key = store._pipe, store.names("job", done.id)  # pyright: ignore[reportPrivateUsage]
            await pipe.command("HSET", key, "request", b'{"model":"openai/gpt-4o-mini","prompt":"Say it.","gone":1}')

    asyncio.run(as_another_version_had_it())
    problem = problem_of(client.post(f"{JOBS}/{done.id}/replay"), 422, "invalid_request")
    assert done.id in problem.detail
    assert "another version" in problem.detail
