"""The simulator as a process: it tells its address, keeps secrets, and stops when told to."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import httpx2
import pytest
from openai import OpenAI

Start = Callable[..., "tuple[subprocess.Popen[str], str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def begin(*flags: str) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "onceq_service.simulator", *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        return process, cast("dict[str, str]", json.loads(process.stdout.readline()))["url"]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly_although_streams_are_open(start: Start, number: signal.Signals) -> None:
    process, url = start("--tokens", "100000", "--tps", "50", "--ttft-ms", "0")
    with (
        OpenAI(base_url=f"{url}/openai/v1", api_key="k", max_retries=0) as client,
        client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hello"}], stream=True
        ) as stream,
    ):
        next(iter(stream))
        process.send_signal(number)
        output, errors = process.communicate(timeout=10)
    assert (process.returncode, output, errors) == (0, "", "")


def test_the_journal_has_a_line_for_each_request_and_outcome_and_no_key_or_prompt(start: Start, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    _, url = start("--journal", str(journal), "--tps", "0", "--ttft-ms", "0")
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "my diary"}]}
    headers = {"authorization": "Bearer sk-very-secret", "x-client-request-id": "job/1"}
    httpx2.post(f"{url}/openai/v1/chat/completions", json=body, headers=headers).raise_for_status()
    written = journal.read_text()
    request, outcome = (json.loads(line) for line in written.splitlines())
    assert (request["event"], request["job"]) == ("request", "job")
    assert (outcome["event"], outcome["status"], outcome["billed"]) == ("outcome", "completed", True)
    assert "secret" not in written
    assert "diary" not in written


def test_help_names_every_setting_and_fault() -> None:
    command = [sys.executable, "-m", "onceq_service.simulator", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert all(word in shown for word in ("--ttft-ms", "--retry-after", "garbage", "/meter"))


@pytest.mark.parametrize("flags", [["--tps", "fast"], ["--fault", "flood"], ["--host", "256.0.0.1"]])
def test_a_wrong_flag_is_one_clear_sentence(flags: list[str]) -> None:
    command = [sys.executable, "-m", "onceq_service.simulator", *flags]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("simulator: ")
    assert len(ended.stderr.splitlines()) == 1
