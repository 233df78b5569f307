"""onceq as a user's type checker sees it: read by basedpyright, strict, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

import pandas as pd
from pydantic import BaseModel

import onceq
from onceq.testing import PrivateOnceq, private_onceq


class Mood(BaseModel):
    """An answer that is asked for."""

    mood: str


def blocking(client: onceq.Client) -> None:
    """The calls of a script."""
    handle = client.submit("Hello", model="openai/gpt-4o-mini", max_tokens=10, labels={"run": "7"})
    assert_type(handle, onceq.JobHandle)
    assert_type(handle.result(timeout_s=5), onceq.Job)
    client.submit("Hello", response_format=Mood)
    stream = client.stream([{"role": "user", "content": "Hello"}])
    for piece in stream:
        assert_type(piece, str)
    stream.show()
    assert_type(stream.job, onceq.Job | None)
    assert_type(stream.result(), onceq.Job)
    assert_type(client.list(status="failed"), Iterator[onceq.Job])
    for made in client.submit_batch(["One", "Two"]):
        assert_type(made, onceq.JobHandle | onceq.OnceqError)
    for end in client.follow_batch("nightly", after=7):
        assert_type(end, onceq.StreamEvent)


def mapping(client: onceq.Client, reviews: pd.DataFrame) -> None:
    """A frame of answers, rows as they are done, and what they would cost."""
    assert_type(client.map(reviews["text"], "Summarise: {text}", max_tokens=50, n=2), pd.DataFrame)
    assert_type(client.map(reviews, lambda row: row["text"], output=Mood, dry_run=True), onceq.MapQuote)
    for row in client.imap(["One", "Two"], cache=False):
        assert_type(row, onceq.MapRow)
    client.map(reviews, "{text}", fresh="yes")  # pyright: ignore[reportArgumentType, reportCallIssue]


async def mapping_awaits(client: onceq.AsyncClient) -> None:
    """The same for code that awaits."""
    assert_type(await client.map(["One"], output={"type": "object"}), pd.DataFrame)
    async for row in client.amap(["One"], max_cost_usd=0.5):
        assert_type(row, onceq.MapRow)


async def awaiting(client: onceq.AsyncClient) -> None:
    """The same for code that awaits."""
    handle = await client.submit("Hello", temperature=0.5)
    assert_type(handle, onceq.AsyncJobHandle)
    async for event in handle.events():
        assert_type(event, onceq.StreamEvent)
        assert_type(event.data, onceq.Event)
    await client.stream("Hello").show()
    assert_type(await client.stream("Hello").result(), onceq.Job)
    async for end in client.follow_batch("nightly"):
        assert_type(end, onceq.StreamEvent)
    assert_type(client.list(), AsyncIterator[onceq.Job])


def values(job: onceq.Job) -> None:
    """What is null until it is known has to be asked for."""
    assert_type(job.text, str)
    assert_type(job.cost.nano_usd, int | None)
    assert_type(job.usage, onceq.Usage | None)
    assert_type(job.timings.ttft_s, float | None)


async def frames(client: onceq.Client, other: onceq.AsyncClient) -> None:
    """Frames are pandas' own."""
    assert_type(client.jobs_frame(status="failed", limit=50), pd.DataFrame)
    assert_type(await other.costs_frame(group_by=["team"]), pd.DataFrame)
    assert_type(await other.costs_frame(group_by="team"), pd.DataFrame)
    assert_type(client.compare(["One"], {"a v1": "{text}", "a v2": "Say {text}"}, max_tokens=5), pd.DataFrame)
    assert_type(await other.compare(["One"], models=["a/b", "c/d"]), pd.DataFrame)


def parts(client: onceq.Client, sides: pd.DataFrame) -> None:
    """Modules that the documents name, behind the one import; no others."""
    assert_type(onceq.export.csv_text(client.ledger_rows()), str)
    assert_type(onceq.frames.jobs_frame([]), pd.DataFrame)
    assert_type(onceq.compare.summary(sides), pd.DataFrame)
    assert_type(onceq.wire.Usage(), onceq.Usage)
    onceq.nothing_like_that()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def refused(client: onceq.Client) -> None:
    """What a type checker must say no to; an ignore that is not needed is an error too."""
    client.submit("Hello", max_token=10)  # pyright: ignore[reportCallIssue]
    client.submit(42)  # pyright: ignore[reportArgumentType]
    client.list(statuses="failed")  # pyright: ignore[reportCallIssue]
    client.list(status="done")  # pyright: ignore[reportArgumentType]


def errors(client: onceq.Client) -> onceq.Job | None:
    """An ended job is in the error."""
    try:
        return client.result("job_1")
    except onceq.JobError as failed:
        assert_type(failed.job, onceq.Job)
    except onceq.RateLimitError as slow:
        assert_type(slow.retry_after_s, float | None)
    return None


def testing() -> None:
    """A private onceq."""
    with private_onceq(workers=2) as server:
        assert_type(server, PrivateOnceq)
        assert_type(server.billed_calls(), int)
