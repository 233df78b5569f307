"""The command line: one file per group of commands. Errors of ours end as one sentence and exit code 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import onceq
from onceq.errors import OnceqError
from onceq_service.cli import ask, budgets, demo, doctor, export, jobs, keys, lanes, serve, showroom, up
from onceq_service.cli.output import fail


class Commands(TyperGroup):
    """The commands; what is wrong with an option is said without the name of the exception that found it."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that was named."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as exc:
            exc.message = exc.message.removeprefix("Value error, ")
            raise


app = typer.Typer(
    name="onceq",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="LLM calls behind a queue: each one is paid for once, survives every disconnect, and can be explained.",
)

up.add_to(app)
demo.add_to(app)
showroom.add_to(app)
ask.add_to(app)
jobs.add_to(app)
export.add_to(app)
lanes.add_to(app)
budgets.add_to(app)
doctor.add_to(app)
keys.add_to(app)
serve.add_to(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"onceq {onceq.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Start with `onceq demo`, then `onceq up` and `onceq ask "..."`."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code of an error of ours, and raises SystemExit otherwise."""
    try:
        app(args=arguments, prog_name="onceq")  # raises SystemExit, also for a wrong option (2)
    except OnceqError as exc:
        return fail(str(exc))
    return 0
