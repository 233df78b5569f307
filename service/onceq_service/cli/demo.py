"""`onceq demo`: the whole product in half a minute, and a test of it: whatever is not as promised ends it with 1.

It starts a stack of its own in a folder of its own, always on the simulator, and speaks to it as anybody would:
through the SDK.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from onceq import Client
from onceq_service.cli.output import fail, hint, say
from onceq_service.cli.story import Story
from onceq_service.cli.up import mode_of, prepared
from onceq_service.embedded.banner import headline
from onceq_service.embedded.stack import Interrupted, Stack
from onceq_service.embedded.waiting import StopSignal
from onceq_service.settings import load_settings


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(demo)


def demo(
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="A folder that stays, instead of a temporary one.")
    ] = None,
) -> None:
    """See it all work, in half a minute.

    Stream, ask again for free, cut and resume, three providers, the bill.
    Uses the simulator and a temporary folder: nothing is billed, nothing is left behind.
    """
    begun = time.monotonic()
    forget_environment()
    with (
        StopSignal() as signals,
        folder(data_dir) as home,
        running(home, signals) as stack,
        Client(stack.base_url, stack.api_key) as client,
    ):
        story = Story(client, stack.base_url, stack.api_key, stack.settings.simulator_url or "")
        story.tell()
    for broken in story.broken:
        fail(broken)
    if story.broken:
        raise typer.Exit(1)
    say(f"\nAll as promised, in {time.monotonic() - begun:.0f} s. Next: `make up`, then open the dashboard.")


def forget_environment() -> None:
    """The demo is the same everywhere: no setting of this machine changes it, no Redis of yours is touched."""
    for name in [name for name in os.environ if name.startswith("ONCEQ_")]:
        del os.environ[name]


@contextmanager
def folder(data_dir: Path | None) -> Generator[Path]:
    """The named folder, which stays, or a temporary one, which does not."""
    if data_dir is not None:
        yield data_dir
        return
    temporary = Path(tempfile.mkdtemp(prefix="onceq-demo-"))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def running(home: Path, signals: StopSignal) -> Generator[Stack]:
    """A stack on free ports, stopped whatever happens."""
    settings = load_settings(data_dir=home, port=0, worker_processes=2)
    mode = mode_of(settings, simulate=True)
    stack = Stack(prepared(settings, mode), mode, signals, hint, dashboard=False)
    say("onceq demo: starting Redis, the API, two worker processes and the simulator ...")
    try:
        stack.start()
        say(headline(mode))
        yield stack
    except Interrupted:
        raise typer.Exit(130) from None
    finally:
        stack.stop()
