"""`onceq doctor`: what is wrong with this installation, and what to do about it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Annotated, Final

import typer

from onceq_service.cli.options import AsJson, DashboardPort, DataDir, Port, reach_redis
from onceq_service.cli.output import say
from onceq_service.embedded.doctor import Check, Level, examine
from onceq_service.embedded.worker_check import worker_check
from onceq_service.settings import load_settings

COLOURS: Final[dict[Level, str]] = {"ok": typer.colors.GREEN, "warn": typer.colors.YELLOW, "fail": typer.colors.RED}


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(doctor)


def doctor(
    data_dir: DataDir = None,
    port: Port = None,
    dashboard_port: DashboardPort = None,
    worker: Annotated[
        bool, typer.Option("--worker", help="Ask only whether a worker of this host is alive, for health checks.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check this installation, and say what to do.

    Redis, what it keeps, provider keys, ports, clock. Exits 1 when something fails.
    """
    settings = load_settings(data_dir=data_dir, port=port, dashboard_port=dashboard_port)
    checks = [worker_check(reach_redis(settings))] if worker else list(examine(settings, os.environ))
    if as_json:
        say(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        say("\n".join(map(line, checks)))
    if any(check.level == "fail" for check in checks):
        raise typer.Exit(1)


def line(check: Check) -> str:
    """One check; the advice, where there is one, on a line of its own."""
    mark = typer.style(f"{check.level:<4}", fg=COLOURS[check.level])
    advice = f"\n{'':>6}-> {check.advice}" if check.advice else ""
    return f"{mark}  {check.name:<18} {check.says}{advice}"
