"""`onceq up`: everything on this machine, until Ctrl-C."""

from __future__ import annotations

import os
import time
from typing import Annotated, Final

import typer

from onceq import Client
from onceq_service.cli.options import DashboardPort, DataDir, Port, Workers
from onceq_service.cli.output import say
from onceq_service.cli.serve import need_dashboard, warn_of_names
from onceq_service.embedded.banner import banner
from onceq_service.embedded.mode import Mode, choose_mode
from onceq_service.embedded.stack import Interrupted, Stack
from onceq_service.embedded.waiting import StopSignal
from onceq_service.settings import DEFAULT_PROVIDERS, Settings, load_settings

DRAIN_SIMULATED_S: Final = 5.0
DRAIN_REAL_S: Final = 60.0
"""How long Ctrl-C waits for running jobs: a real answer that is cut off is paid for twice."""


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(up)


def up(
    port: Port = None,
    dashboard_port: DashboardPort = None,
    data_dir: DataDir = None,
    workers: Workers = None,
    no_dashboard: Annotated[bool, typer.Option("--no-dashboard", help="Leave the dashboard out.")] = False,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Use the simulator for every provider, even where there are keys.")
    ] = False,
) -> None:
    """Run all of onceq on this machine.

    Redis, API, workers and dashboard, until Ctrl-C; no job is lost, starting again carries on.
    With a provider's key in the environment the real providers are called; with none at all a simulator answers.
    """
    settings = load_settings(port=port, dashboard_port=dashboard_port, data_dir=data_dir, worker_processes=workers)
    warn_of_names(settings)
    if not no_dashboard:
        need_dashboard()
    mode = mode_of(settings, simulate=simulate)
    with StopSignal() as signals:
        run(Stack(prepared(settings, mode), mode, signals, say, dashboard=not no_dashboard), signals)


def run(stack: Stack, signals: StopSignal) -> None:
    """Starts it, tells where everything is, keeps it alive, and stops it whatever happens."""
    begun = time.monotonic()
    say("Starting ...")
    try:
        stack.start()
        with Client(stack.base_url, stack.api_key) as client:
            say("\n".join(banner(stack, client.health(), time.monotonic() - begun)))
        stack.watch()
    except Interrupted:
        say("Interrupted while starting.")
    finally:
        if signals.count:
            say("\nStopping: running jobs may finish first; press Ctrl-C again to stop at once.")
        stack.stop()
    say("Stopped. Every job is kept; `onceq up` here carries on.")


def prepared(settings: Settings, mode: Mode) -> Settings:
    """Settings for a stack of our own: an absolute folder, and a drain that a person waits for."""
    changes: dict[str, object] = {"data_dir": settings.data_dir.absolute()}
    if "drain_s" not in settings.model_fields_set:
        changes["drain_s"] = DRAIN_SIMULATED_S if mode.simulated else DRAIN_REAL_S
    return settings.model_copy(update=changes)


def mode_of(settings: Settings, *, simulate: bool) -> Mode:
    """Real or simulated, by the configuration and the environment."""
    providers = DEFAULT_PROVIDERS | settings.file().providers
    simulate = simulate or settings.simulator_url is not None
    return choose_mode(providers, os.environ, simulate=simulate)
