"""Outside a notebook a stream is plain text: no escape sequence, whether or not standard output is a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from onceq._display import detached, plain
from onceq.notebook.screen import Terminal
from tests.sdk.program import printed_on

SHOW = (
    "import onceq; onceq.Client(model='openai/gpt-4o-mini').stream('Hello. [[sim tokens=20 tps=0 ttft_ms=0]]').show()"
)


def test_a_script_prints_the_text_and_a_footer(home: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SHOW], cwd=home, capture_output=True, text=True, check=True)
    text, _, foot = done.stdout.rstrip("\n").rpartition("\n")
    assert text
    assert "20 tokens" in foot
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


def test_a_terminal_gets_no_escape_sequence_either(home: Path) -> None:
    reader, writer = pty.openpty()
    subprocess.run([sys.executable, "-c", SHOW], cwd=home, stdout=writer, stderr=writer, check=True, timeout=60)
    os.close(writer)
    printed = printed_on(reader)
    os.close(reader)
    assert b"20 tokens" in printed
    assert b"\x1b" not in printed


def test_only_what_is_new_is_written_and_a_reset_begins_again(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Terminal()
    for text in ("One", "One two", "Other"):
        screen.update(text, "")
    screen.end("Other end", "foot")
    out = capsys.readouterr().out
    assert out.startswith("One two\n[the answer starts again")
    assert out.endswith("]\nOther end\nfoot\n")


def test_model_text_cannot_steer_a_terminal() -> None:
    assert plain("a\x1b]0;title\x07b\x1b[2Jc\x9b1md\te\nf") == "a]0;titleb[2Jc1md\te\nf"


def test_an_interrupt_before_the_post_was_answered_says_that_running_again_joins() -> None:
    assert "run the cell again" in detached(None, awaited=False)
