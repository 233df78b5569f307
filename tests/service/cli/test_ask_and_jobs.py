"""`onceq ask`, `jobs` and `keys` against running processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager

import httpx2
import pytest

from onceq import Client
from onceq.wire import Cost
from onceq_service.cli.output import age, money, table
from onceq_service.embedded.redis_server import EmbeddedRedis
from tests.service.cli.conftest import Shell
from tests.stack import Stack, running_stack
from tests.waiting import wait_until


def test_ask_prints_the_answer_and_beside_it_what_it_cost(user: Shell) -> None:
    done = user("ask", "[[sim text='all is well']] hello", "--model", "anthropic/claude-haiku-4-5")
    assert done.stdout == "all is well\n"
    assert "succeeded" in done.stderr
    assert "$" in done.stderr
    assert "simulated" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_the_same_question_is_answered_without_paying_again(user: Shell) -> None:
    first, second = user("ask", "why?"), user("ask", "why?")
    assert second.stdout == first.stdout
    assert "replayed" in second.stderr
    assert "replayed" not in user("ask", "why?", "--fresh").stderr


def test_ask_finds_a_model_with_a_key_that_may_only_ask(user: Shell, stack: Stack) -> None:
    user.env["ONCEQ_API_KEY"] = stack.key("asks-only", "submit", "read")
    assert user.output("ask", "[[sim text='all is well']] which model?") == "all is well\n"


def test_ask_without_a_live_worker_says_so_and_what_to_do(redis_server: EmbeddedRedis, shell: Shell) -> None:
    with running_stack(redis_server, workers=1, lease_s="1") as stack, Client(stack.url, stack.api_key) as client:
        stack.worker.stop()
        wait_until(lambda: not client.stats().fleet.processes, "the worker's end")
        shell.env |= {"ONCEQ_BASE_URL": stack.url, "ONCEQ_API_KEY": stack.api_key}
        done = shell("ask", "why?")
    assert done.returncode == 1
    assert "no live worker serves" in done.stderr
    assert "onceq doctor" in done.stderr


def test_ask_reads_a_long_question_from_a_pipe(user: Shell) -> None:
    job = json.loads(user.output("ask", "-", "--json", "--max-tokens", "7", stdin="word " * 10_000))
    assert job["usage"]["input_tokens"] >= 10_000
    assert job["usage"]["output_tokens"] == 7


def test_a_quote_says_what_it_may_cost_and_asks_nothing(user: Shell) -> None:
    before = user.output("jobs")
    said = user.output("ask", "What would this cost?", "--quote", "--max-tokens", "50")
    assert [line.split()[0] for line in said.splitlines()[:1]] == ["at"]
    assert "$" in said.splitlines()[0]
    assert user.output("jobs") == before
    told = json.loads(user.output("ask", "And this?", "--quote", "--max-cost", "0.5", "--json"))
    assert told["cost"]["upper_nano_usd"] <= 500_000_000


def test_an_empty_question_is_refused_before_anything_is_sent(user: Shell) -> None:
    done = user("ask", "-", stdin=" \n")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "there is no question" in done.stderr


@contextmanager
def on_a_terminal(command: list[str], user: Shell) -> Generator[tuple[subprocess.Popen[bytes], int]]:
    """Runs it; what it writes to its terminal is read from the number."""
    screen, terminal = os.openpty()
    with subprocess.Popen(command, env=user.env, stdout=terminal, stderr=subprocess.PIPE) as asking:
        os.close(terminal)
        try:
            yield asking, screen
        finally:
            os.close(screen)


CUT = "[[sim fault=cut after=8 tps=0 times=1 text='The answer is forty-two, exactly so.']]"


def test_a_pipe_gets_the_answer_alone_where_the_first_try_broke_off(user: Shell) -> None:
    done = user("ask", f"What is it, for a pipe? {CUT}", "-m", "openai/gpt-4o-mini")
    assert (done.returncode, done.stdout) == (0, "The answer is forty-two, exactly so.\n")
    assert "succeeded" in done.stderr


def test_a_terminal_gets_the_answer_as_it_is_written_and_hears_that_it_starts_again(user: Shell) -> None:
    with on_a_terminal(user.command("ask", f"For a terminal? {CUT}", "-m", "openai/gpt-4o-mini"), user) as (asking, _):
        assert asking.stderr is not None
        told = asking.stderr.read().decode()
    assert asking.returncode == 0
    assert "the answer starts again" in told


def test_a_job_that_fails_says_why(user: Shell) -> None:
    done = user("ask", "[[sim fault=401]]", "--model", "openai/gpt-4o-mini")
    assert done.returncode == 1
    assert "onceq: job job_" in done.stderr
    assert "[provider_auth]" in done.stderr


def test_ctrl_c_leaves_the_job_running_and_tells_how_to_find_it(user: Shell, stack: Stack) -> None:
    command = user.command("ask", "[[sim tokens=2000 tps=50]]", "-m", "openai/gpt-4o-mini")
    with on_a_terminal(command, user) as (asking, screen):
        assert asking.stderr is not None
        assert os.read(screen, 1)
        asking.send_signal(signal.SIGINT)
        told = asking.stderr.read().decode()
    assert asking.returncode == 130
    job_id = told.partition("onceq jobs show ")[2].partition(",")[0]
    with Client(stack.url, user.env["ONCEQ_API_KEY"]) as client:
        assert client.get(job_id).status == "running"
    assert "cancel" in user.output("jobs", "cancel", job_id)
    with Client(stack.url, user.env["ONCEQ_API_KEY"]) as client:
        assert client.wait(job_id, 20).status == "cancelled"


def test_jobs_lists_shows_and_filters(user: Shell) -> None:
    assert "no jobs yet" in user.output("jobs")
    user.output("ask", "[[sim text=fine]] one", "-m", "openai/gpt-4o-mini")
    user("ask", "[[sim fault=400]] two", "-m", "openai/gpt-4o-mini")
    failed, succeeded = json.loads(user.output("jobs", "list", "--json"))
    assert (failed["status"], succeeded["status"]) == ("failed", "succeeded")
    assert failed["id"] not in user.output("jobs", "list", "--status", "succeeded")
    assert len(user.output("jobs", "list", "-n", "1").splitlines()) == 2
    assert user.output("jobs", "list", "--label", "run=7", "--since", "2026-01-01") == "no job fits\n"
    assert "name=value" in user("jobs", "list", "--label", "run").stderr
    page = user.output("jobs", "show", succeeded["id"])
    assert "succeeded (simulated)" in page
    assert "1 billed of 1 tried" in page
    assert page.endswith("fine\n")
    assert "provider_bad_request" in user.output("jobs", "show", failed["id"])


def failed_jobs(user: Shell) -> list[str]:
    return [job["id"] for job in json.loads(user.output("jobs", "list", "--status", "failed", "--json"))]


def test_dead_letters_are_listed_and_replayed_one_by_one_or_all_of_a_cause(user: Shell) -> None:
    for n in range(3):
        user("ask", f"[[sim fault=400 times=1 text=well]] {n}", "-m", "openai/gpt-4o-mini")
    *others, one = failed_jobs(user)
    assert len(others) == 2
    assert f" replays {one}\n" in user.output("jobs", "replay", one)
    assert user.output("jobs", "replay", "--all", "failed", "--error", "provider_auth") == "nothing to replay\n"
    lines = user.output("jobs", "replay", "--all", "failed", "--error", "provider_bad_request").splitlines()
    assert {line.partition(" replays ")[2] for line in lines} == set(others)
    assert user.output("jobs", "replay", "--all", "failed") == "nothing to replay\n"


def test_a_job_that_can_not_be_replayed_hides_none_that_was(user: Shell) -> None:
    user("ask", "[[sim fault=400]] one", "-m", "openai/gpt-4o-mini")
    [one], gone = failed_jobs(user), "job_" + "0" * 32
    done = user("jobs", "replay", one, gone)
    first, second = done.stdout.splitlines()
    assert done.returncode == 1
    assert first.endswith(f" replays {one}")
    assert second.startswith("not replayed: ")
    assert gone in second
    assert user("jobs", "replay").returncode == 2


def test_a_paused_lane_starts_nothing_until_it_is_resumed(user: Shell, stack: Stack) -> None:
    lane = f"openai/paused-{stack.queue}"
    assert "onceq lanes resume" in user.output("lanes", "pause", lane)
    with Client(stack.url, user.env["ONCEQ_API_KEY"]) as client:
        job = client.submit("Wait for me.", model=lane)
        wait_until(lambda: (why := client.get(job.id).waiting) and why.reason == "lane_paused", "the lane to hold it")
        row = next(row for row in user.output("lanes").splitlines() if row.startswith(lane))
        assert row.split() == [lane, "paused", "-", "-", "-"], "nobody counts in a lane without limits"
        assert user.output("lanes", "resume", lane) == f"{lane} goes on\n"
        assert job.result(30).status == "succeeded"
    assert user("lanes", "pause", lane, "--band", "batch").returncode != 0


def test_a_rotated_secret_voids_the_stream_tokens_that_were_made_with_it(user: Shell, stack: Stack) -> None:
    with Client(stack.url, user.env["ONCEQ_API_KEY"]) as client:
        job = client.submit("hello", model="openai/gpt-4o-mini")
    about = f"{stack.url}/v1/jobs/{job.id}"
    mine = {"Authorization": f"Bearer {user.env['ONCEQ_API_KEY']}"}
    token = httpx2.post(f"{about}/stream-token", headers=mine).json()["token"]
    stream = httpx2.QueryParams({"token": token})
    assert httpx2.get(f"{about}/events", params=stream).status_code == 200
    assert "is new" in user.output("keys", "rotate", "stream-tokens")
    wait_until(lambda: httpx2.get(f"{about}/events", params=stream).status_code == 401, "the old token to be refused")


@pytest.mark.parametrize("option", ["--since", "--until"])
def test_a_time_of_the_list_may_lack_its_zone_and_what_is_none_is_one_sentence(user: Shell, option: str) -> None:
    assert "no job fits" in user.output("jobs", "list", option, "2020-01-01", "--team", "nobody")
    done = user("jobs", "list", option, "soon")
    assert done.returncode == 2
    assert "'soon' is not a time such as 2026-11-24T10:00:00Z" in done.stderr


def test_a_job_that_is_not_there_is_one_sentence(user: Shell) -> None:
    done = user("jobs", "show", "job_" + "0" * 32)
    assert done.returncode == 1
    assert done.stderr.startswith("onceq: ")
    assert "job_not_found" in done.stderr


def test_keys_are_made_listed_and_revoked(user: Shell, stack: Stack) -> None:
    made = json.loads(user.output("keys", "create", "for tests", "--tenant", "t1", "--scope", "read", "--json"))
    listed = json.loads(user.output("keys", "list", "--tenant", "t1", "--json"))
    assert [key["id"] for key in listed] == [made["id"]]
    assert made["key"] not in user.output("keys", "list")
    with Client(stack.url, made["key"]) as client:
        assert list(client.list()) == []
    assert "revoked" in user.output("keys", "revoke", made["id"])
    assert user("keys", "revoke", made["id"]).returncode == 1


def test_an_unknown_scope_is_refused_with_the_known_ones(user: Shell) -> None:
    done = user("keys", "create", "--scope", "root")
    assert done.returncode == 1
    assert "choose from submit, read, cancel, admin, operator" in done.stderr


@pytest.mark.parametrize("tenant", ["", "a:b", "a b", "ä", "a\n", "x" * 65])
def test_a_tenant_that_would_make_names_in_redis_ambiguous_is_refused(user: Shell, tenant: str) -> None:
    done = user("keys", "create", "--tenant", tenant)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"{tenant!r} can't be a tenant: use 1 to 64 letters, digits, _ and -." in done.stderr


def test_nothing_running_is_one_sentence_with_what_to_do(shell: Shell) -> None:
    for arguments in (("ask", "hello"), ("jobs",)):
        done = shell(*arguments)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "onceq up" in done.stderr
    done = shell("keys", "list")
    assert done.returncode == 1
    assert "no Redis runs for .onceq: start `onceq up` there, or set ONCEQ_REDIS_URL" in done.stderr


def test_an_unpriced_cost_is_never_zero() -> None:
    assert money(Cost(nano_usd=None, usd=None, priced=False)) == "unpriced"
    assert money(Cost(nano_usd=1_500)) == "$0.000002"


def test_columns_are_as_wide_as_what_is_in_them() -> None:
    assert table(("A", "N"), [("long", "1"), ("b", "22")], right=(1,)) == ["A      N", "long   1", "b     22"]


def test_ages_are_in_the_largest_unit_that_fits() -> None:
    from datetime import UTC, datetime, timedelta

    now = datetime.now(UTC)
    assert [age(now - timedelta(seconds=s), now) for s in (5, 65, 7_300, 200_000)] == [
        "5 s ago", "1 min ago", "2 h ago", "2 d ago",
    ]  # fmt: skip
