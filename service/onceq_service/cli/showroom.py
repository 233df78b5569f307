"""`onceq showroom`: the whole product on a month of made-up traffic, to look at; everything in it is simulated."""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from onceq import Client
from onceq_service.cli.demo import forget_environment
from onceq_service.cli.output import say
from onceq_service.cli.serve import need_dashboard
from onceq_service.cli.up import mode_of, prepared
from onceq_service.embedded.banner import banner
from onceq_service.embedded.ping import ask_redis
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.embedded.stack import Interrupted, Stack
from onceq_service.embedded.waiting import StopSignal
from onceq_service.settings import Settings, load_settings
from onceq_service.showroom import folder as place
from onceq_service.showroom.folder import Note

FOLDER: Final = Path(".onceq-showroom")
SEED: Final = 1
JOBS: Final = 10_000
KEPT_S: Final = 35 * 86_400
"""How long results are kept here, so that all of the month can be opened. In onceq itself it is a day."""
EVENTS_S: Final = 86_400
SETTLED: Final = timedelta(minutes=3)
"""So long before now the month ends, so that its last jobs have ended by now."""
STALE: Final = timedelta(days=2)


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(showroom)


def showroom(
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-n", min=100, max=1_000_000, help=f"About this many jobs [{JOBS}].")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help=f"The seed of what happens in it [{SEED}].")] = None,
    new: Annotated[bool, typer.Option("--new", help="Make the showroom anew where there is one.")] = False,
    traffic: Annotated[bool, typer.Option("--traffic/--no-traffic", help="Go on with a little live traffic.")] = True,
    port: Annotated[int, typer.Option("--port", help="Port of the API, 0 for a free one.")] = 8000,
    dashboard_port: Annotated[int, typer.Option("--dashboard-port", help="Port of the dashboard.")] = 8501,
    data_dir: Annotated[Path, typer.Option("--data-dir", help="The showroom's folder.")] = FOLDER,
    workers: Annotated[int, typer.Option("--workers", help="Worker processes.")] = 1,
) -> None:
    """See the dashboard with something in it.

    A month of made-up traffic, with incidents, in a folder of its own; then all of onceq runs on it until Ctrl-C.
    All of it is simulated. The next start uses what is there.
    """
    forget_environment()
    need_dashboard()
    folder = data_dir.absolute()
    with StopSignal() as signals:
        try:
            note = _filled(folder, jobs, seed, signals, new=new)
        except Interrupted:
            place.empty(folder)
            say("\nInterrupted: nothing is left behind.")
            raise typer.Exit(130) from None
        settings = _settings(folder, port, dashboard_port, workers)
        mode = mode_of(settings, simulate=True)
        _open(Stack(prepared(settings, mode), mode, signals, say), signals, note, traffic=traffic)


def _settings(folder: Path, port: int = 0, dashboard_port: int = 0, workers: int = 1) -> Settings:
    return load_settings(
        data_dir=folder, config=folder / place.CONFIG, port=port, dashboard_port=dashboard_port,
        worker_processes=workers, result_ttl_s=KEPT_S, events_ttl_s=EVENTS_S, label_keys=["prompt", "version"],
    )  # fmt: skip


def _filled(folder: Path, jobs: int | None, seed: int | None, signals: StopSignal, *, new: bool) -> Note:
    """What is there, made now where it is not, or is not what was asked for; raises Interrupted."""
    known = place.read(folder)
    if known is not None and known.state == "filled" and not new and _fits(known, jobs, seed):
        say(
            f"Found a month of {known.posts} posts up to {known.until:%d %b %H:%M} UTC (seed {known.seed}) in {folder}."
        )
        if datetime.now(UTC) - known.until > STALE:
            say("It has grown old: `--new` makes one that ends now.")
        return known
    if known is not None:
        place.empty(folder)
    note = Note("filling", jobs or JOBS, SEED if seed is None else seed, datetime.now(UTC) - SETTLED)
    say(f"Filling {folder} with a month of about {note.jobs} jobs (seed {note.seed}), all of them simulated ...")
    done = _fill(folder, note, signals)
    place.write(folder, done)
    return done


def _fits(known: Note, jobs: int | None, seed: int | None) -> bool:
    return jobs in (None, known.jobs) and seed in (None, known.seed)


def _fill(folder: Path, note: Note, signals: StopSignal) -> Note:
    from onceq_service.showroom.fill import fill  # the other commands need not wait for its imports

    begun = time.monotonic()
    settings = _settings(folder).model_copy(update={"simulator_url": "http://127.0.0.1:9"})
    config = place.prepare(folder, note)
    with EmbeddedRedis(folder) as redis:
        ask_redis(redis.socket, "CONFIG SET appendfsync no")  # nobody was promised anything yet
        ready = settings.model_copy(update={"redis_url": redis.url, "config": config})

        def progress(posts: int, at: datetime | None) -> None:
            if signals.count:
                raise Interrupted
            _bar(posts, note.jobs, at)

        filled = asyncio.run(fill(ready, note.jobs, note.seed, note.until, progress))
    _bar(filled.posts, filled.posts, note.until)
    say(f"\n{filled.posts} posts in {time.monotonic() - begun:.0f} s.")
    return Note("filled", note.jobs, note.seed, note.until, filled.posts, filled.secrets)


def _bar(posts: int, whole: int, at: datetime | None) -> None:
    """One line that is written over, on a terminal."""
    if sys.stdout.isatty():
        part = min(1.0, posts / max(1, whole))
        day = f"{at:%d %b %H:00}" if at else ""
        sys.stdout.write(f"\r  [{'#' * round(part * 30):<30}] {part:4.0%}  {posts} posts  {day}  ")
        sys.stdout.flush()


def _open(stack: Stack, signals: StopSignal, note: Note, *, traffic: bool) -> None:
    """Runs all of it, with its traffic, until a signal."""
    from onceq_service.showroom.traffic import Traffic

    begun = time.monotonic()
    say("Starting ...")
    try:
        stack.start()
        with Client(stack.base_url, stack.api_key) as client:
            say("\n".join(banner(stack, client.health(), time.monotonic() - begun)))
        say(f"\n  The showroom is open: {stack.dashboard_url}")
        if traffic:
            with Traffic(stack.base_url, note.secrets):
                stack.watch()
        else:
            stack.watch()
    except Interrupted:
        say("Interrupted while starting.")
    finally:
        stack.stop()
    say(f"Stopped. `onceq showroom` opens it again. All of it is in {stack.settings.data_dir}: remove that when done.")
