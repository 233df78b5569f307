"""`onceq export`: the ledger of an API key's tenant as CSV or Parquet; run again, it adds what is new."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onceq import Client
from onceq.export import csv_text
from onceq_service.cli.export_file import Exported, update
from onceq_service.cli.options import TIME, time_of
from onceq_service.cli.output import hint

Since = Annotated[
    str | None,
    typer.Option(
        metavar=TIME, help="Rows booked from this time on, like 2026-11-24T10:00; without a zone it is local."
    ),
]
Until = Annotated[str | None, typer.Option(metavar=TIME, help="Rows booked before this time; without it, before now.")]


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(export)


def export(
    out: Annotated[
        Path | None, typer.Option(help="A .csv or .parquet file; without it, CSV on standard output.")
    ] = None,
    since: Since = None,
    until: Until = None,
    restated_at: Annotated[
        str | None, typer.Option(metavar=TIME, help="Add what the tokens would cost at the prices of this time.")
    ] = None,
) -> None:
    """Export the ledger: what was paid, a row a try.

    Run again with the same file, it appends the rows that are new since; nothing is there twice.
    """
    begin, end, prices = (time_of(text) for text in (since, until, restated_at))
    with Client() as client:
        if out is None:
            for n, page in enumerate(client.ledger_pages(since=begin, until=end, restated_at=prices)):
                typer.echo(csv_text(page.entries, head=n == 0), nl=False)
            return
        found = update(out, lambda after: client.ledger_pages(since=begin, until=end, after=after, restated_at=prices))
    hint(_told(out, found))


def _told(out: Path, found: Exported) -> str:
    said = f"{out}: {found.added} new rows"
    if found.missed_before is not None:
        at = found.missed_before.isoformat(timespec="seconds")
        said += f"; rows before {at} had left the ledger before this export, so there may be a gap"
    return said
