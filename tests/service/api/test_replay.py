"""Replays of jobs that are not as this version would have taken them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from onceq_service import heap
from onceq_service.api.service import Service
from onceq_service.api.submission import replay
from onceq_service.api.submission.submit import Accepted
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.settings import Settings
from onceq_service.store import ApiKey, Store, open_store
from tests.service.api.kit import JOBS, Http, ask, problem_of
from tests.service.store.driver import admission
from tests.stack import Stack


def test_a_job_that_another_version_took_and_this_one_refuses_is_no_fault_of_ours(shared: Stack, client: Http) -> None:
    done = client.done(ask())

    async def as_another_version_had_it() -> None:
        async with open_store(shared.redis.url, shared.queue) as store:
            pipe, key = store._pipe, store.redis_keys("job", done.id)  # pyright: ignore[reportPrivateUsage]
            await pipe.command("HSET", key, "request", b'{"model":"openai/gpt-4o-mini","prompt":"Say it.","gone":1}')

    asyncio.run(as_another_version_had_it())
    problem = problem_of(client.post(f"{JOBS}/{done.id}/replay"), 422, "invalid_request")
    assert done.id in problem.detail
    assert "another version" in problem.detail


async def test_of_many_replays_few_requests_are_held_at_once(
    redis_server: EmbeddedRedis, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request may have megabytes, and a thousand jobs may be asked for."""
    service = Service(Settings(redis_url=redis_server.url, queue=queue))
    held, most = set[str](), 0
    replayed = replay._replay  # pyright: ignore[reportPrivateUsage]

    async def counted(service: Service, key: ApiKey, job_id: str, idem_key: str | None) -> Accepted:
        nonlocal most
        held.add(job_id)
        most = max(most, len(held))
        try:
            return await replayed(service, key, job_id, idem_key)
        finally:
            held.remove(job_id)

    monkeypatch.setattr(replay, "_replay", counted)
    monkeypatch.setattr(heap, "set_aside", lambda: None)
    async with service.running():
        ids = [await ended(service.store, f"question {n}") for n in range(30)]
        key = ApiKey("k", "t", "n", ("submit", "read"), datetime.now(UTC))
        items = await replay._outcomes(service, key, ids)  # pyright: ignore[reportPrivateUsage]
        again = [await service.store.jobs.fields(item.job.id, "t") for item in items if item.job]
    assert [fields["retry_of"].decode() for fields in again if fields] == ids
    assert most <= replay.AT_ONCE <= 8


async def ended(store: Store, prompt: str) -> str:
    made = await store.jobs.admit(admission(prompt))
    await store.jobs.cancel(made.id, "t")
    return made.id
