"""`onceq.testing` seen from outside: a project of a user's own, run by pytest in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CONFTEST = 'pytest_plugins = ["onceq.testing.plugin"]\n'
TESTS = '''
import onceq

MODEL = "openai/gpt-4o-mini"
PROMPT = "Say it once. [[sim tokens=9 tps=0 ttft_ms=0]]"


def ask():
    """Code under test, which makes its own client."""
    with onceq.Client(model=MODEL) as client:
        return client.submit(PROMPT).result()


def test_the_code_under_test_finds_the_private_service(onceq_client, onceq_server):
    job = ask()
    assert job.simulated and job.usage.output_tokens == 9
    assert onceq_client.get(job.id).text == job.text
    assert onceq_server.billed_calls(job.id) == 1


def test_another_test_has_a_tenant_of_its_own(onceq_client, onceq_server):
    before = onceq_server.billed_calls()
    assert list(onceq_client.list()) == []
    handle = onceq_client.submit(PROMPT, model=MODEL)
    assert handle.disposition == "created"
    handle.result()
    assert ask().id == handle.id
    assert onceq_server.billed_calls() == before + 1
'''


def pytest_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ONCEQ_", "PYTEST_"))}
    env |= {"TMPDIR": str(folder / "t"), "ONCEQ_REDIS_URL": "redis://127.0.0.1:1"}  # which must not reach it
    (folder / "t").mkdir(exist_ok=True)
    command = [sys.executable, *arguments, "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)


def test_a_users_own_tests_run_on_a_private_onceq_that_is_gone_afterwards(short_folder: Path) -> None:
    (short_folder / "conftest.py").write_text(CONFTEST)
    (short_folder / "test_mine.py").write_text(TESTS)
    done = pytest_in(short_folder, "-m", "pytest")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert running_for(short_folder) == []
    assert list((short_folder / "t").glob("onceq-*")) == [], "its data went with it"


def test_without_the_service_extra_the_reason_is_a_sentence(short_folder: Path) -> None:
    (short_folder / "conftest.py").write_text(CONFTEST)
    (short_folder / "test_mine.py").write_text("def test_it(onceq_client): ...\n")
    blocked = "import sys; sys.modules['taskiq'] = None; import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    done = pytest_in(short_folder, "-c", blocked)
    assert done.returncode == 1
    assert "taskiq is not installed: pip install 'onceq[service]'" in done.stdout
    assert "Traceback" not in done.stdout


def running_for(folder: Path) -> list[str]:
    """The command lines of processes that were given the folder."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:  # it has ended meanwhile
            continue
        if str(folder) in line:
            found.append(line)
    return found
