"""The command line as a person runs it: a process of its own, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack import KEYS, Stack


class Shell:
    """Runs `onceq` with a clean environment, and what `env` adds."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.folder = folder
        clean = {k: v for k, v in os.environ.items() if k not in KEYS and not k.startswith("ONCEQ_")}
        self.env = clean | {"HOME": str(folder), "PYTHONWARNINGS": "error"} | env

    def __call__(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), input=stdin, env=self.env, cwd=self.folder,
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip

    def output(self, *arguments: str, stdin: str = "") -> str:
        """What a command that works prints."""
        done = self(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "onceq_service", *arguments]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A machine where nothing runs."""
    return Shell(tmp_path)


@pytest.fixture
def user(tmp_path: Path, stack: Stack) -> Shell:
    """A machine that knows where the service is, and may use it."""
    tenant = tmp_path.name.replace("_", "-")[:60]
    return Shell(
        tmp_path, ONCEQ_BASE_URL=stack.url, ONCEQ_API_KEY=stack.key(tenant),
        ONCEQ_REDIS_URL=stack.redis.url, ONCEQ_QUEUE=stack.queue,
    )  # fmt: skip
