"""A user's program in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from contextlib import suppress

from tests.stack import clean_environment

QUIET = 'import logging; logging.getLogger("asyncio").setLevel("ERROR")'
"""A callback of a tenth of a second is nothing to warn of here, as `-X dev` does."""


def said_by(program: str, url: str, *options: str, api_key: str = "oq_test") -> str:
    """What it prints; it ends well, and with nothing on stderr. `options` are Python's, and `Client()` finds `url`."""
    environment = clean_environment() | {"ONCEQ_BASE_URL": url, "ONCEQ_API_KEY": api_key}
    command = [sys.executable, *options, "-c", f"{QUIET}\n{textwrap.dedent(program)}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def printed_on(reader: int) -> bytes:
    """All that comes out of a terminal."""
    printed = b""
    with suppress(OSError):  # what Linux says at its end
        while chunk := os.read(reader, 65536):
            printed += chunk
    return printed
