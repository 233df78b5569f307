"""What a map's bar says, in a terminal and in a cell: done, failed, rate, time left, cost so far, where that leads."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from functools import partialmethod
from html import unescape
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tqdm import tqdm

from onceq import Client
from tests.sdk.map.kit import mapped, texts
from tests.sdk.notebook.kernel import reader_folder, running_kernel
from tests.sdk.program import printed_on
from tests.stack import Stack

MONEY = r"\$0\.\d+"
UNDER_WAY = rf"(\d+)/60, (\d) failed, {MONEY} of {MONEY}–0\.\d+, simulated \[00:\d\d<00:\d\d, +\d+\.\d\drow/s\]"
ENDED = rf"60/60, 3 failed, ({MONEY}), simulated \[00:\d\d<00:00, +\d+\.\d\drow/s\]"


@pytest.fixture
def each_row_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here, and in what is started: left alone, tqdm draws as often as a machine lets it, at most each 0.1 s."""
    monkeypatch.setenv("TQDM_MININTERVAL", "0")
    bar: Any = tqdm
    monkeypatch.setattr(bar, "__init__", partialmethod(bar.__init__, mininterval=0))


def rows(failing: int = 3) -> list[str]:
    """Sixty that take their time, and cost differently; some of them fail."""
    mark, failed = uuid4().hex[:8], range(7, 20 * failing, 20)
    told = ("fault=400" if n in failed else f"tokens={4 + n % 5} tps=0 ttft_ms={25 * n}" for n in range(60))
    return [f"{mark} {n} [[sim {how}]]" for n, how in enumerate(told)]


def under_way(shown: str) -> list[re.Match[str]]:
    return [found for found in re.finditer(UNDER_WAY, shown) if 0 < int(found[1]) < 60]


@pytest.mark.usefixtures("each_row_drawn")
def test_the_bar_tells_done_failed_cost_forecast_time_left_and_rate(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = mapped(client, rows(), name="reviews", progress=True, max_tokens=20)
    shown = capsys.readouterr().err
    assert re.search(r"\rreviews: +[1-9]\d?%\|█", shown)
    assert len(under_way(shown)) > 3
    [bill] = re.findall(ENDED, shown)[-1:]
    assert float(bill[1:]) == pytest.approx(frame["cost_usd"].sum(), rel=0.1)


@pytest.mark.usefixtures("each_row_drawn")
def test_the_forecast_holds_the_bill(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    bill = mapped(client, rows(failing=0), progress=True, max_tokens=20)["cost_usd"].sum()
    ranges = re.findall(r"of \$(0\.\d+)–(0\.\d+)", capsys.readouterr().err)
    held = [float(low) * 0.95 <= bill <= float(high) * 1.05 for low, high in ranges]
    assert sum(held) > 0.8 * len(held) > 2


def test_remembered_rows_are_done_at_once_and_do_not_count_for_the_rate(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = texts(300)
    mapped(client, asked)
    capsys.readouterr()
    slow = texts(6, ttft_ms=900)
    mapped(client, asked + slow, progress=True)
    rates = [float(rate) for rate in re.findall(r"(\d+\.\d\d)row/s", capsys.readouterr().err)]
    assert rates
    assert max(rates) < 100
    mapped(client, asked + slow, progress=True)
    assert re.search(rf"306/306, {MONEY}, simulated \[", capsys.readouterr().err), (
        "simulated money is never told as real"
    )


def test_a_sample_counts_what_it_asks_and_a_limit_tells_what_it_left_out(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = texts(100)
    mapped(client, asked, progress=True, sample=10, max_tokens=20)
    said = capsys.readouterr()
    assert re.findall(r"map: (\d+) rows", said.err)[-1] == "10"
    assert "Sample: 10 of 100 rows" in said.out
    frame = mapped(client, texts(100), progress=True, max_cost_usd=0.0005, max_tokens=20)
    left = int((frame["status"] == "not_posted").sum())
    assert f"{100 - left}/100, {left} not posted" in capsys.readouterr().err


def test_an_iterator_of_unknown_length_is_counted(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    mapped(client, iter(texts(5)), progress=True)
    assert re.search(rf"map: 5 rows, {MONEY}, simulated \[00:\d\d, +\d+\.\d\drow/s\]", capsys.readouterr().err)


SCRIPT = """
import sys, onceq
rows = sys.argv[1:]
onceq.Client(model="openai/gpt-4o-mini").map(rows, cache=False, max_tokens=20)
"""


@pytest.mark.usefixtures("each_row_drawn")
def test_a_narrow_terminal_shows_all_but_the_bar(stack: Stack, key: str) -> None:
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env = {**os.environ, "ONCEQ_BASE_URL": stack.url, "ONCEQ_API_KEY": key, "TERM": "xterm"}
    env = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES")}
    child = subprocess.Popen([sys.executable, "-c", SCRIPT, *rows()], env=env, stdout=writer, stderr=writer)
    os.close(writer)
    shown = printed_on(reader).decode()
    os.close(reader)
    assert child.wait(60) == 0
    lines = [line for line in re.split(r"[\r\n]+", shown) if line]
    assert max(map(len, lines)) <= 80
    whole = rf"/60, \d failed, {MONEY} of {MONEY}–0\.\d+, simulated, 00:\d\d left"
    assert len([line for line in lines if re.search(whole, line)]) > 3
    assert "█" not in shown


@pytest.mark.usefixtures("each_row_drawn")
def test_a_cell_has_a_widget_that_tells_the_same(stack: Stack, folder: Path) -> None:
    home = reader_folder(stack, folder, f"reader-{uuid4().hex[:8]}")
    with running_kernel(home) as kernel:
        kernel.start(f"frame = plain.map({rows()!r}, name='reviews', cache=False, max_tokens=20)")
        messages = list(kernel.messages())
    assert [content for kind, content in messages if kind in ("error", "stream")] == []
    told = "\n".join(value for kind, content in messages if "comm" in kind for value in texts_of(content))
    assert re.search(r"^reviews: +[1-9]\d?%$", told, re.MULTILINE)
    assert len(under_way(told)) > 3
    assert re.search(ENDED, told)


def texts_of(content: dict[str, Any]) -> list[str]:
    """What a widget is told to show."""
    state = content.get("data", {}).get("state", {})
    value = state.get("value")
    return [unescape(value).replace("\u2007", " ")] if isinstance(value, str) else []
