"""`onceq lanes`: what limits and brakes the models now, and the switch that pauses one of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from onceq import Client
from onceq.wire import Band, LaneInfo, Lanes
from onceq_service.cli.options import AsJson
from onceq_service.cli.output import say, table

Lane = Annotated[str | None, typer.Argument(metavar="[LANE]", help="A model, or an alias.")]
OfBand = Annotated[Band | None, typer.Option("--band", help="Instead of a lane: a whole band.")]

group = typer.Typer(help="Show, pause and resume lanes.", rich_markup_mode=None)


def add_to(app: typer.Typer) -> None:
    """Adds the group."""
    app.add_typer(group, name="lanes")


@group.callback(invoke_without_command=True)
def lanes(ctx: typer.Context) -> None:
    """Without a command: every lane that has started a job lately."""
    if ctx.invoked_subcommand is None:
        list_lanes()


@group.command("list")
def list_lanes(as_json: AsJson = False) -> None:
    """List the lanes, the newest start first."""
    with Client() as client:
        found = client.lanes()
    say(found.model_dump_json(indent=2) if as_json else "\n".join(lane_page(found)))


@group.command()
def pause(lane: Lane = None, band: OfBand = None) -> None:
    """Start nothing new in a lane or a band; what runs goes on."""
    with Client() as client:
        client.pause(lane=lane, band=band)
    say(f"{lane or band} is paused: onceq lanes resume {lane or f'--band {band}'} lets it go on")


@group.command()
def resume(lane: Lane = None, band: OfBand = None) -> None:
    """Let a paused or braked lane, or a paused band, go on.

    A lane that waits after a 429 or failures of its provider may start jobs again at once.
    """
    with Client() as client:
        client.resume(lane=lane, band=band)
    say(f"{lane or band} goes on")


def lane_page(found: Lanes) -> list[str]:
    """One row a lane, and the paused bands."""
    head = ("LANE", "STATE", "RUNNING", "STARTED IN 60 S", "LIMITS")
    rows = table(head, map(_row, found.lanes), right=(2, 3)) if found.lanes else ["no lane has started a job lately"]
    return [*rows, *(f"the band {band} is paused" for band in found.paused_bands)]


def _row(lane: LaneInfo) -> tuple[str, ...]:
    limits = ", ".join(f"{name} {limit}" for name, limit in (lane.learned_limits | lane.limits).items())
    return lane.lane, _state(lane), _count(lane.running), _count(lane.requests_last_minute), limits or "-"


def _count(number: int | None) -> str:
    return "-" if number is None else str(number)


def _state(lane: LaneInfo) -> str:
    if lane.paused:
        return "paused"
    if lane.braked_until is not None and lane.braked_until > datetime.now(lane.braked_until.tzinfo):
        return f"waits until {lane.braked_until:%H:%M:%S} UTC: {lane.brake_reason}"
    return "open" if lane.breaker == "closed" else "on trial: one job tries it"
