"""`onceq ask`: a completion from the shell, streamed; Ctrl-C leaves the reader, not the job."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

from onceq import Client, ConfigurationError, JobOptions, JobStream, Quote, Reset
from onceq_service.cli.options import AsJson
from onceq_service.cli.output import hint, say, summary, usd

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
    max_cost: Annotated[float | None, typer.Option("--max-cost", help="Most that it may cost, in USD.")] = None,
    quote: Annotated[
        bool, typer.Option("--quote", help="Say what it may cost and when it starts; ask nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Ask a model and stream its answer.

    A pipe or a file gets it when it is whole.

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
    if max_cost is not None:
        options["max_cost_usd"] = max_cost
    if fresh:
        options["fresh"] = True
    with Client() as client:
        if quote:
            _tell(client.quote(text, model=model or default_model(client), **options), as_json=as_json)
            return
        stream = client.stream(text, model=model or default_model(client), **options)
        _show(stream, quiet=as_json)


def _tell(told: Quote, *, as_json: bool) -> None:
    if as_json:
        say(told.model_dump_json(indent=2))
        return
    cost = told.cost
    say(f"at most    {usd(cost.upper_nano_usd) if cost.upper_nano_usd is not None else f'unknown: {cost.unbounded}'}")
    say(f"expected   {usd(cost.expected_nano_usd) if cost.expected_nano_usd is not None else 'unknown'}")
    say(f"ahead      {told.jobs_ahead if told.jobs_ahead is not None else 'too many to count'}")
    say(f"starts     {told.expected_start_at.isoformat(timespec='seconds') if told.expected_start_at else 'unknown'}")
    if told.refused:
        hint(f"a post would be refused: {told.refused}")


def default_model(client: Client) -> str:
    """A small model of the first provider that a live worker serves; raises ConfigurationError without one."""
    served = client.stats().fleet.providers
    model = next((model for provider, model in DEFAULT_MODELS.items() if provider in served), None)
    if model is None:
        raise ConfigurationError(
            f"no live worker serves {', '.join(DEFAULT_MODELS)}: run `onceq doctor`, or name another provider's model "
            "with -m."
        )
    return model


def _show(stream: JobStream, *, quiet: bool) -> None:
    # a reset can take back what a terminal shows, but not what is in a pipe or a file
    live = not quiet and sys.stdout.isatty()
    try:
        for piece in stream:
            if live:
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
        say("" if live else stream.text)
        hint(summary(stream.job, stream.disposition))


def left_behind(stream: JobStream) -> str:
    """What to do about the job whose reader has left."""
    if stream.job_id is None:
        return "\nstopped before the job was accepted"
    return f"\nthe job goes on without you: onceq jobs show {stream.job_id}, or onceq jobs cancel {stream.job_id}"
