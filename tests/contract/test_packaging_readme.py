"""What the README says, works as pasted: its blocks are run in a folder as `make up` leaves it."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Generator
from pathlib import Path
from textwrap import indent

import httpx2
import pytest

from onceq import AsyncClient
from onceq._submission import DEDUPE_WINDOW_S
from onceq_service.cli import app
from onceq_service.settings import FileConfig, Settings
from tests.stack import KEYS, Stack

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    assert found, f"the README has no {language} block"
    return found


@pytest.fixture
def folder(tmp_path: Path, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as `make up` leaves it, and a shell that stands in it."""
    data = tmp_path / ".onceq"
    data.mkdir()
    (data / "url").write_text(stack.url + "\n")
    (data / "api-key").write_text(stack.key("readme") + "\n")
    (data / "api-key").chmod(0o600)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("ONCEQ_") or name in KEYS]:
        monkeypatch.delenv(name)
    return tmp_path


async def run_cell(source: str) -> str:
    """Runs a notebook's cell, top-level await included; what it printed."""
    code = compile(source, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names: dict[str, object] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        cell = eval(code, names)
        if inspect.isawaitable(cell):
            await cell
    client = names.get("client")
    if isinstance(client, AsyncClient):
        await client.close()  # a notebook leaves it open
    return printed.getvalue()


async def test_the_notebook_cells_run(folder: Path) -> None:
    stream, batch, frame = blocks("python")
    assert "USD, first token after" in await run_cell(stream)
    lines = (await run_cell(batch)).splitlines()
    assert len(lines) == 20
    assert all(line.startswith("created ") for line in lines)
    assert all(line.startswith("replayed ") for line in (await run_cell(batch)).splitlines())
    shown = await run_cell(frame)
    assert shown.count("succeeded") == 3
    assert shown.splitlines()[0].split() == ["review", "text", "status", "cost_usd"]


def test_a_type_checker_has_nothing_to_say_of_the_cells(tmp_path: Path) -> None:
    cells = "\n".join(f"async def cell_{n}():\n{indent(cell, '    ')}" for n, cell in enumerate(blocks("python")))
    (tmp_path / "cells.py").write_text(cells)
    places = [str(ROOT / package) for package in ("sdk", "service")]
    rules = {"typeCheckingMode": "standard", "extraPaths": places}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(rules))
    checker = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--project", str(tmp_path)]
    done = subprocess.run(checker, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_batch_tells_of_an_item_that_was_refused(folder: Path) -> None:
    batch = blocks("python")[1].replace("n in range(20)", "n in [1]").replace("anthropic/claude-haiku-4-5", "no/such")
    assert "refused: " in asyncio.run(run_cell(batch))


@pytest.mark.parametrize("page", ["README.md", "docs/sdk/index.md"])
def test_what_costs_nothing_a_second_time_is_said_with_how_long_that_holds(page: str) -> None:
    assert DEDUPE_WINDOW_S == 10 * 60
    told = (ROOT / page).read_text("utf-8")
    assert "ten minutes" in told
    assert "dedupe_window_s=86_400" in told


@pytest.fixture
def many_events(stack: Stack) -> Generator[None]:
    """Answers of many events: what belongs to different tools is never one, however late a worker says it."""
    control = f"{stack.simulator}/control"
    httpx2.put(control, json={"defaults": {"tool": "a,b,c,d,e,f"}}).raise_for_status()
    yield
    httpx2.delete(control).raise_for_status()


@pytest.mark.usefixtures("many_events")
def test_the_curl_lines_run(folder: Path) -> None:
    curl = next(block for block in blocks("bash") if "curl" in block)
    out = paste(curl)
    assert out.count("event: succeeded") == 2
    assert out.count("event: queued") == 1
    assert '"status":"succeeded"' in out.splitlines()[-1]
    assert re.findall(r"^id: (\d+)$", out.partition("event: succeeded")[2], flags=re.MULTILINE)[0] == "6"


def test_the_shell_lines_run(folder: Path) -> None:
    out = paste(next(block for block in blocks("bash") if "activate" in block))
    assert "openai/gpt-4o-mini" in out
    assert "fail" not in out


def paste(block: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail"], input=block, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_configuration_is_one_that_is_accepted() -> None:
    (text,) = blocks("toml")
    assert set(FileConfig.model_validate(tomllib.loads(text)).providers) == {"local", "azure"}


def test_every_variable_in_the_table_is_a_setting() -> None:
    named = set(re.findall(r"`ONCEQ_([A-Z_]+)`", README.partition("| variable |")[2]))
    assert len(named) > 8
    assert {name.lower() for name in named} <= Settings.model_fields.keys()


def test_every_command_in_the_table_is_there() -> None:
    known = {c.name or (c.callback.__name__ if c.callback else "") for c in app.registered_commands}
    known |= {group.name for group in app.registered_groups}
    table = README.partition("| command | does |")[2].partition("| variable |")[0]
    rows = [line.split("|", 2)[1] for line in table.splitlines() if line.startswith("| `onceq")]
    named = {word for row in rows for word in re.findall(r"`(?:onceq )?([a-z]+)", row)}
    assert named == known


def test_every_make_target_that_is_named_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", README, flags=re.MULTILINE))
    assert {"demo", "up", "test"} <= named <= targets


def test_it_opens_with_what_it_is_for_and_the_two_commands() -> None:
    opening = "\n".join(README.splitlines()[:20])
    assert "paid for once" in opening
    assert opening.index("make demo") < opening.index("make up")


def test_every_file_that_is_linked_is_there() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
