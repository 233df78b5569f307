"""`onceq ask`: a completion from the shell, streamed; Ctrl-C leaves the reader, not the job."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

from onceq import Client, ConfigurationError, JobOptions, JobStream, Reset
from onceq_service.cli.options import AsJson
from onceq_service.cli.output import hint, say, summary

DEFAULT_MODELS: Final = {
    "openai": "openai/gpt-4o-mini",
    "anthropic": "anthropic/claude-haiku-4-5",
    "bedrock": "bedrock/amazon.nova-lite-v1:0",
}
"""Asked for when no --model is given: the first whose provider is served."""

INTERRUPTED: Final = 130


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(ask)


def ask(
    prompt: Annotated[str, typer.Argument(help="The question; - reads it from standard input.")],
    model: Annotated[str | None, typer.Option("--model", "-m", help="<provider>/<model>, or an alias.")] = None,
    system: Annotated[str | None, typer.Option("--system", "-s", help="System prompt.")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="Longest answer.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="A new answer, even to a question asked before.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask a model and stream its answer.

    The same question within ten minutes is answered without paying again. Ctrl-C leaves the job running.
    """
    text = sys.stdin.read() if prompt == "-" else prompt
    if not text.strip():
        raise ConfigurationError("there is no question: give one, or pipe it in with -.")
    options: JobOptions = {"band": "interactive"}
    if system is not None:
        options["system"] = system
    if max_tokens is not None:
        options["max_tokens"] = max_tokens
    if fresh:
        options["fresh"] = True
    with Client() as client:
        stream = client.stream(text, model=model or default_model(client), **options)
        _show(stream, quiet=as_json)


def default_model(client: Client) -> str:
    """A small model of the first provider that a live worker serves; raises ConfigurationError without one."""
    served = {name for worker in client.stats().workers for name in worker.providers}
    model = next((model for provider, model in DEFAULT_MODELS.items() if provider in served), None)
    if model is None:
        raise ConfigurationError("no worker says what it serves, so name a model: onceq ask -m openai/gpt-4o-mini ...")
    return model


def _show(stream: JobStream, *, quiet: bool) -> None:
    try:
        for piece in stream:
            if not quiet:
                typer.echo(str(piece), nl=False, err=isinstance(piece, Reset))
                sys.stdout.flush()
    except KeyboardInterrupt:
        hint(left_behind(stream))
        raise typer.Exit(INTERRUPTED) from None
    if stream.job is None:
        return
    if quiet:
        say(stream.job.model_dump_json(indent=2))
    else:
        say()
        hint(summary(stream.job, stream.disposition))


def left_behind(stream: JobStream) -> str:
    """What to do about the job whose reader has left."""
    if stream.job_id is None:
        return "\nstopped before the job was accepted"
    return f"\nthe job goes on without you: onceq jobs show {stream.job_id}, or onceq jobs cancel {stream.job_id}"
