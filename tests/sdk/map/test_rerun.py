"""Cell-proof: interrupted, killed, cancelled, lapsed, on another machine; nothing is paid twice, nothing silently."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing, closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onceq import AsyncClient, Client, ConnectionFailed
from onceq.map.cache import FILE
from tests.sdk.map.kit import billed, mapped, texts
from tests.stack import Stack
from tests.waiting import until, wait_until

MODEL = "openai/gpt-4o-mini"


class Leaving(httpx2.HTTPTransport):
    """A user who presses Ctrl-C once so many answers have come."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        if request.url.path == "/v1/events" and response.status_code == 200:
            assert isinstance(response.stream, httpx2.SyncByteStream)
            response.stream = Watched(response.stream, self)
        return response


class Watched(httpx2.SyncByteStream):
    """The answers as they come."""

    def __init__(self, inner: httpx2.SyncByteStream, owner: Leaving) -> None:
        self.inner, self.owner = inner, owner

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.inner:
            self.owner.after -= chunk.count(b"event: ")
            if self.owner.after < 0:
                raise KeyboardInterrupt
            yield chunk

    def close(self) -> None:
        self.inner.close()


def interrupted(stack: Stack, key: str, rows: list[str], after: int, **options: Any) -> None:
    """A map that is left after at most so many answers."""
    with Client(stack.url, key, model=MODEL, transport=Leaving(after)) as client, pytest.raises(KeyboardInterrupt):
        mapped(client, rows, **options)


def test_an_interrupt_detaches_and_says_what_goes_on_and_how_to_come_back(
    stack: Stack, key: str, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*texts(3), *texts(5, ttft_ms=1500)]
    interrupted(stack, key, rows, 2)
    said = capsys.readouterr().out
    assert "of 8 rows are here" in said
    assert "committed and go on at the service, for up to $" in said
    assert "run this cell again" in said
    batch = said.split("client.cancel_batch('")[1].split("'")[0]
    frame = mapped(client, rows)
    assert (frame["status"] == "succeeded").all()
    assert billed(stack, client) == Counter(list(frame["job_id"]))
    assert client.cancel_batch(batch).cancelled == 0


class Dying(httpx2.HTTPTransport):
    """A kernel that dies, or is interrupted, between a post and its answer."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        if request.url.path == "/v1/jobs/batch":
            raise KeyboardInterrupt
        return response


class Pressing(httpx2.HTTPTransport):
    """A user who presses Ctrl-C once a map has posted all, and `when` has returned."""

    def __init__(self, when: Callable[[], object]) -> None:
        super().__init__()
        self.when = when

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/v1/events":
            self.when()
            raise KeyboardInterrupt
        return super().handle_request(request)


@pytest.mark.parametrize(
    ("held", "says"),
    [
        ({"not_before": datetime.now(UTC) + timedelta(hours=1)}, "0 of 2 rows are here; 2 were cancelled. Run"),
        ({}, "0 of 2 rows are here; 2 were running and told to stop (what is written by then is paid). Run"),
    ],
    ids=["waiting", "running"],
)
def test_an_interrupt_that_cancels_says_what_the_service_did(
    stack: Stack, key: str, client: Client, capsys: pytest.CaptureFixture[str], held: dict[str, Any], says: str
) -> None:
    def begun() -> bool:
        return all(job.status == "running" for job in client.list())

    def pressed() -> None:
        wait_until(lambda: held or begun(), "the jobs to run")

    with Client(stack.url, key, model=MODEL, transport=Pressing(pressed)) as leaving, pytest.raises(KeyboardInterrupt):
        mapped(leaving, texts(2, tokens=400, tps=20), on_interrupt="cancel", **held)
    assert says in capsys.readouterr().out


def test_what_had_ended_unheard_is_not_called_cancelled(
    stack: Stack, key: str, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    def pressed() -> None:
        wait_until(lambda: all(job.finished_at for job in client.list()), "the jobs to end")

    with Client(stack.url, key, model=MODEL, transport=Pressing(pressed)) as leaving, pytest.raises(KeyboardInterrupt):
        mapped(leaving, texts(3), on_interrupt="cancel")
    assert "0 of 3 rows are here; 3 were answered already" in capsys.readouterr().out


@pytest.mark.parametrize("trouble", [KeyboardInterrupt(), httpx2.ConnectError("gone")], ids=repr)
def test_a_cancel_that_does_not_get_through_is_said(
    stack: Stack, key: str, client: Client, capsys: pytest.CaptureFixture[str], trouble: BaseException
) -> None:
    class Twice(Pressing):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            if request.url.path.endswith("/cancel"):
                raise trouble
            return super().handle_request(request)

    options: Any = {"model": MODEL, "max_retries": 0, "transport": Twice(lambda: None)}
    with Client(stack.url, key, **options) as leaving, pytest.raises(KeyboardInterrupt):
        mapped(leaving, texts(2, ttft_ms=1500), on_interrupt="cancel")
    said = capsys.readouterr().out
    assert "2 are committed and go on" in said
    assert "That they are cancelled is not confirmed: " in said
    assert client.cancel_batch(said.split("client.cancel_batch('")[1].split("'")[0]).requested >= 0


@pytest.mark.parametrize("arrives", ["before the cancel", "behind the cancel", "never"])
def test_an_interrupt_while_a_post_is_on_its_way_cancels_what_arrives(
    stack: Stack, key: str, client: Client, capsys: pytest.CaptureFixture[str], arrives: str
) -> None:
    """Its answer was read by nobody."""

    class CutOff(httpx2.HTTPTransport):
        held: httpx2.Request | None = None

        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            if request.url.path == "/v1/jobs/batch":
                self.held = request
                if arrives == "before the cancel":
                    super().handle_request(request).read()
                raise KeyboardInterrupt
            answer = super().handle_request(request)
            if request.url.path.endswith("/cancel") and self.held and arrives == "behind the cancel":
                super().handle_request(self.held).read()
                self.held = None
            return answer

    later = datetime.now(UTC) + timedelta(hours=1)
    with Client(stack.url, key, model=MODEL, transport=CutOff()) as leaving, pytest.raises(KeyboardInterrupt):
        mapped(leaving, texts(3), on_interrupt="cancel", not_before=later)
    said = capsys.readouterr().out
    what = "answered already (and not paid again) or never arrived" if arrives == "never" else "cancelled"
    assert f"0 of 3 rows are here; 3 were {what}. Run" in said
    assert [job.status for job in client.list()] == ([] if arrives == "never" else ["cancelled"] * 3)


def test_an_interrupt_while_a_post_is_on_its_way_says_that_it_may_go_on(
    stack: Stack, key: str, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    with Client(stack.url, key, model=MODEL, transport=Dying()) as leaving, pytest.raises(KeyboardInterrupt):
        mapped(leaving, texts(3, ttft_ms=1500))
    said = capsys.readouterr().out
    assert "0 of 3 rows are here; 3 were just being sent, and go on too as far as they have arrived" in said
    batch = said.split("client.cancel_batch('")[1].split("'")[0]
    assert sum(client.cancel_batch(batch).model_dump().values()) == 3


class BodyError(Exception):
    """What goes wrong in a loop over the rows."""


@pytest.mark.parametrize("how", [None, BodyError(), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("kind", ["cancel", "detach"])
def test_leaving_the_loop_over_the_rows_is_an_interrupt(
    client: Client, either: Any, capsys: pytest.CaptureFixture[str], kind: Any, how: BaseException | None
) -> None:
    walk = getattr(either, "imap", None) or either.amap
    rows, here = texts(1) + texts(2, tokens=400, tps=20), list[str | None]()
    with suppress(BodyError, KeyboardInterrupt), closing(walk(rows, progress=False, on_interrupt=kind)) as walked:
        for row in walked:
            here.append(row.job_id)
            wait_until(lambda: len([job for job in client.list() if job.status == "running"]) == 2, "the rest to run")
            if how is None:
                break
            raise how
    said = capsys.readouterr().out
    flagged = [job.cancel_requested or job.status == "cancelled" for job in client.list() if job.id not in here]
    if kind == "cancel":
        assert "The loop was left: 1 of 3 rows are here; 2 were running and told to stop" in said
        assert flagged == [True, True]
        return
    assert "The loop was left: 1 of 3 rows are here; 2 are committed and go on at the service" in said
    assert flagged == [False, False]
    client.cancel_batch(said.split("client.cancel_batch('")[1].split("'")[0])


def test_a_loop_that_forgets_its_iterator_has_left_it(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in client.imap(texts(1) + texts(1, ttft_ms=4000), progress=False, on_interrupt="cancel"):
        break
    assert "The loop was left: 1 of 2 rows are here; 1 was" in capsys.readouterr().out


async def test_an_awaiting_loop_that_was_left_cancels_before_its_client_is_closed(
    stack: Stack, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = texts(1) + texts(1, ttft_ms=4000)
    async with (
        AsyncClient(stack.url, key, model=MODEL) as client,
        aclosing(client.amap(rows, progress=False, on_interrupt="cancel")) as walked,
    ):
        async for _ in walked:
            break
    assert "The loop was left: 1 of 2 rows are here; 1 was" in capsys.readouterr().out


def test_a_loop_that_is_left_with_nothing_in_flight_says_nothing(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = texts(2)
    mapped(client, rows)
    for _ in client.imap(rows, progress=False, on_interrupt="cancel"):
        break
    assert capsys.readouterr().out == ""


def test_an_interrupt_can_cancel_and_the_next_run_asks_again(
    stack: Stack, key: str, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*texts(2), *texts(4, tokens=400, tps=20)]
    interrupted(stack, key, rows, 1, on_interrupt="cancel")
    assert "were running and told to stop" in capsys.readouterr().out
    wait_until(lambda: not [j for j in client.list() if j.finished_at is None], "all jobs to have ended")
    assert {job.status for job in client.list()} == {"succeeded", "cancelled"}
    with closing(sqlite3.connect(FILE)) as db:
        assert db.execute("select count(*) from rows").fetchone() == (6,)
    again = mapped(client, rows[:2])
    assert (again["status"] == "succeeded").all()


def test_a_cell_that_awaits_detaches_when_its_task_is_cancelled(
    stack: Stack, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*texts(2), *texts(3, ttft_ms=4000)]

    async def run() -> pd.DataFrame:
        async with AsyncClient(stack.url, key, model=MODEL) as client:
            cell = asyncio.create_task(client.map(rows, progress=False))
            await until(all_accepted, "the five rows to be jobs")
            cell.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cell
            return await client.map(rows, progress=False)

    async def all_accepted() -> bool:
        return jobs_of_rows(FILE) == 5

    frame = asyncio.run(run())
    assert (frame["status"] == "succeeded").all()
    assert "await client.cancel_batch(" in capsys.readouterr().out
    with Client(stack.url, key) as client:
        assert billed(stack, client) == Counter(list(frame["job_id"]))


def jobs_of_rows(file: str) -> int:
    """How many rows the cache has with the jobs that they have become; none before there is a cache."""
    if not Path(file).exists():
        return 0
    with closing(sqlite3.connect(file)) as db:
        return int(db.execute("select count(*) from rows where job_id is not null").fetchone()[0])


def test_another_machine_takes_up_what_is_in_flight_without_the_cache(stack: Stack, client: Client) -> None:
    rows = [*texts(3), *texts(3, ttft_ms=1500)]
    for row in client.imap(rows, cache="here.sqlite", progress=False):
        assert row.status == "succeeded"
        break
    frame = mapped(client, rows, cache="there.sqlite")
    assert billed(stack, client) == Counter(list(frame["job_id"]))


def forgotten(stack: Stack, job_ids: list[str]) -> None:
    """What the service's retention does, at once: the jobs, their keys and fingerprints are gone."""
    redis = __import__("redis").Redis.from_url(stack.redis.url)
    with redis:
        for job_id in job_ids:
            redis.delete(f"onceq:{{{stack.queue}}}:job:{job_id}", f"onceq:{{{stack.queue}}}:events:{job_id}")


class Down(httpx2.HTTPTransport):
    """Nothing listens, for so many requests whose path begins so."""

    def __init__(self, times: int = 10_000, path: str = "/") -> None:
        super().__init__()
        self.times, self.path, self.asked = times, path, 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path.startswith(self.path):
            self.asked += 1
            if self.asked <= self.times:
                raise httpx2.ConnectError("nothing listens", request=request)
        return super().handle_request(request)


def test_rows_that_are_all_in_the_file_come_back_while_the_service_is_down(
    stack: Stack, key: str, client: Client
) -> None:
    rows = texts(4)
    first = mapped(client, rows)
    assert key.encode() not in Path(FILE).read_bytes()
    with Client(stack.url, key, model=MODEL, max_retries=0, transport=Down()) as down:
        pd.testing.assert_frame_equal(first, mapped(down, rows))
        assert down.map(rows, dry_run=True).done == 4
        with pytest.raises(ConnectionFailed):
            mapped(down, [*rows, *texts(1)])


@pytest.mark.parametrize("other", ["tenant", "service", "model"])
def test_the_rows_of_others_stay_theirs_while_the_service_is_down(
    stack: Stack, key: str, client: Client, other: str
) -> None:
    rows = texts(2)
    mapped(client, rows, model=MODEL)
    url = "http://127.0.0.1:1" if other == "service" else stack.url
    owner = stack.key(f"map-{uuid4().hex[:10]}") if other == "tenant" else key
    model = "anthropic/claude-haiku-4-5" if other == "model" else MODEL
    with (
        Client(url, owner, max_retries=0, transport=Down()) as down,
        pytest.raises(ConnectionFailed),
    ):
        mapped(down, rows, model=model)


@pytest.mark.parametrize("options", [{}, {"cache": False}, {"cache": False, "max_cost_usd": 1, "max_tokens": 20}])
def test_a_service_that_is_down_from_the_start_is_said_as_soon_as_by_submit(
    stack: Stack, key: str, options: dict[str, Any]
) -> None:
    down = Down()
    with Client(stack.url, key, model=MODEL, max_retries=2, transport=down) as client:
        with pytest.raises(ConnectionFailed):
            mapped(client, texts(2), **options)
        assert down.asked == 3


@pytest.mark.parametrize("options", [{}, {"cache": False}])
def test_an_outage_in_the_middle_of_a_map_is_waited_out(stack: Stack, key: str, options: dict[str, Any]) -> None:
    posted, outage = texts(1200), Down(2, "/v1/jobs/batch")

    def begun() -> Iterator[str]:
        yield from posted[:1000]
        outage.asked = 0  # the first thousand are posted
        yield from posted[1000:]

    outage.asked = outage.times
    with Client(stack.url, key, model=MODEL, max_retries=0, transport=outage) as client:
        assert (mapped(client, begun(), **options)["status"] == "succeeded").all()
    assert outage.asked > 2


def test_finished_rows_outlive_the_service(stack: Stack, client: Client) -> None:
    rows = texts(4)
    first = mapped(client, rows)
    forgotten(stack, list(first["job_id"]))
    pd.testing.assert_frame_equal(first, mapped(client, rows))
    pd.testing.assert_frame_equal(first, mapped(client, rows, labels={"run": "2"}, team="others", band="batch"))
    assert list(client.list()) == []


def test_what_lapsed_before_it_was_fetched_is_said_and_not_paid_again(stack: Stack, client: Client) -> None:
    rows = texts(3, ttft_ms=600)
    for _ in client.imap(rows, progress=False):
        break
    jobs = [job.id for job in client.list()]
    wait_until(lambda: all(client.get(job).finished_at for job in jobs), "the jobs to end")
    kept = set(known(FILE))
    forgotten(stack, jobs)
    frame = mapped(client, rows)
    lost = frame[frame["status"] == "gone"]
    assert set(lost["job_id"]) == set(jobs) - kept
    assert len(lost) >= 1
    assert lost["error"].str.contains("may have been paid").all()
    assert list(client.list()) == [], "nothing was posted again"
    assert (mapped(client, rows, fresh=True)["status"] == "succeeded").all()


def known(file: str) -> list[str]:
    """Jobs whose outcome the cache has."""
    with closing(sqlite3.connect(file)) as db:
        return [row[0] for row in db.execute("select job_id from rows where outcome is not null")]


def test_a_row_that_was_sent_long_ago_and_never_answered_is_only_asked_for(stack: Stack, client: Client) -> None:
    rows = texts(2)
    mapped(client, rows)
    forgotten(stack, known(FILE))
    with closing(sqlite3.connect(FILE)) as db:
        db.execute("update rows set outcome = null, job_id = null, sent_at = ?", (time.time() - 86_400 * 7,))
        db.commit()
    assert mapped(client, rows)["status"].tolist() == ["gone", "gone"]


def test_what_leaves_is_remembered_before_it_leaves(stack: Stack, key: str, client: Client) -> None:
    """A kernel that dies between a post and its answer: the service forgets the jobs, and nothing is paid again."""

    rows = texts(3)
    with Client(stack.url, key, model=MODEL, transport=Dying()) as dying, pytest.raises(KeyboardInterrupt):
        mapped(dying, rows)
    with closing(sqlite3.connect(FILE)) as db:
        assert db.execute("select count(*) from rows where job_id is null").fetchone() == (3,)
    assert (mapped(client, rows)["status"] == "succeeded").all()
    assert sum(billed(stack, client).values()) == 3


def test_simulated_answers_are_remembered_apart(client: Client) -> None:
    mapped(client, texts(1))
    with closing(sqlite3.connect(FILE)) as db:
        ((scope,),) = db.execute("select scope from rows").fetchall()
    assert scope == f"{client.whoami().tenant} simulated"


RUNS = st.lists(
    st.tuples(
        st.sampled_from(["whole", "interrupt", "other machine", "lost cache"]), st.integers(0, 6), st.integers(0, 3)
    ),
    min_size=2, max_size=5,
)  # fmt: skip


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=RUNS)
def test_any_interleaving_of_interrupts_runs_changes_and_failures_pays_each_distinct_row_once(
    stack: Stack, tmp_path: Path, runs: list[tuple[str, int, int]]
) -> None:
    key = stack.key(f"map-{uuid4().hex[:10]}")
    with Client(stack.url, key, model=MODEL) as client:
        good, slow, bad = texts(6), texts(2, ttft_ms=150), texts(1, fault="400")
        cache, asked = str(tmp_path / f"{uuid4().hex}.sqlite"), set[str]()
        for how, after, changed in runs:
            rows = [*good[changed:], *slow, *bad, *good[-2:], *(f"changed {n} {good[n]}" for n in range(changed))]
            asked |= set(rows) - set(bad)
            if how == "interrupt":
                with (
                    Client(stack.url, key, model=MODEL, transport=Leaving(after)) as leaving,
                    suppress(KeyboardInterrupt),
                ):
                    mapped(leaving, rows, cache=cache)
            else:
                where: str | bool = {"whole": cache, "other machine": f"{cache}-2"}.get(how, False)
                frame = mapped(client, rows, cache=where)
                assert Counter(frame["status"]) == {"succeeded": len(rows) - 1, "failed": 1}
        mapped(client, sorted(asked), cache=cache)
        bill = billed(stack, client)
        assert max(bill.values()) == 1
        assert sum(bill.values()) == len(asked)
