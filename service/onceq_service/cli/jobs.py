"""`onceq jobs`: what was asked, what became of it, what it cost."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Annotated, Literal

import typer
from pydantic import TypeAdapter

from onceq import Client, Job, JobFilters, JobHandle, LedgerEntry, OnceqError
from onceq.wire import PHASES, Band, Phases, Status, Verdict
from onceq_service.cli.options import TIME, AsJson, time_of
from onceq_service.cli.output import age, money, say, seconds, table, usd

Ended = Literal["failed", "expired", "cancelled"]
JOB_ID = Annotated[str, typer.Argument(metavar="ID", help="The job's id, job_...")]

group = typer.Typer(help="List, show, cancel and replay jobs.", rich_markup_mode=None)


def add_to(app: typer.Typer) -> None:
    """Adds the group."""
    app.add_typer(group, name="jobs")


@group.callback(invoke_without_command=True)
def jobs(ctx: typer.Context) -> None:
    """Without a command: the newest twenty."""
    if ctx.invoked_subcommand is None:
        list_jobs()


@group.command("list")
def list_jobs(
    status: Annotated[Status | None, typer.Option(help="Only jobs in this state.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    team: Annotated[str | None, typer.Option(help="Only this team's.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user's.")] = None,
    key: Annotated[str | None, typer.Option(help="Only those posted with this API key, by its id.")] = None,
    band: Annotated[Band | None, typer.Option(help="Only this band.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Only those with this label, name=value; repeatable.")] = None,
    verdict: Annotated[
        Verdict | None, typer.Option(help="Only those with this verdict: who made them slow or fail.")
    ] = None,
    error: Annotated[str | None, typer.Option(help="Only those that failed for this cause, an error's code.")] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar=TIME, help="Only those made since, like 2026-11-24T10:00; without a zone it is local."),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar=TIME, help="Only those made until then.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    where = JobFilters(
        status=status, model=model, team=team, user=user, key=key, band=band, label=_labels(label or ()),
        verdict=verdict, error=error, since=time_of(since), until=time_of(until),
    )  # fmt: skip
    with Client() as client:
        found = list(islice(client.list(page_size=min(limit, 100), **where), limit))
    if as_json:
        say(TypeAdapter(list[Job]).dump_json(found, indent=2).decode())
    else:
        nothing = "no job fits" if any(where.values()) else 'no jobs yet: onceq ask "..." makes one'
        say("\n".join(job_table(found)) if found else nothing)


def _labels(given: Iterable[str]) -> dict[str, str]:
    """`name=value` of each; raises BadParameter."""
    pairs = [label.partition("=") for label in given]
    if not all(name and value for name, _, value in pairs):
        raise typer.BadParameter("a label is given as name=value, as in --label version=v4")
    return {name: value for name, _, value in pairs}


@group.command()
def show(job_id: JOB_ID, as_json: AsJson = False) -> None:
    """Show a job: answer, times, and each try that was booked."""
    with Client() as client:
        job, ledger = client.get(job_id), list(client.ledger(job_id))
    say(job.model_dump_json(indent=2) if as_json else "\n".join(job_page(job, ledger)))


@group.command()
def cancel(job_id: JOB_ID) -> None:
    """Cancel a job, for everyone who joined it."""
    with Client() as client:
        job = client.cancel(job_id)
    say(f"{job.id} {job.status}" + (", being cancelled" if job.cancel_requested and job.status == "running" else ""))


@group.command()
def replay(
    job_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="The jobs' ids, job_...")] = None,
    all_of: Annotated[
        Ended | None,
        typer.Option("--all", help="Instead of ids: the newest jobs that ended like this, not replayed yet."),
    ] = None,
    error: Annotated[str | None, typer.Option(help="With --all: only those of this cause, an error's code.")] = None,
    team: Annotated[str | None, typer.Option(help="With --all: only this team's.")] = None,
    model: Annotated[str | None, typer.Option(help="With --all: only this model's.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="With --all: at most this many.")] = 100,
) -> None:
    """Ask again what ended without an answer.

    New jobs, new calls, a new bill.
    """
    if bool(job_ids) == bool(all_of):
        raise typer.BadParameter("give either ids or --all failed")
    with Client() as client:
        if all_of:
            made = client.replay_all(status=all_of, error=error, team=team, model=model, limit=limit)
        else:
            made = [_replayed(client, job_id) for job_id in job_ids or ()]
    for one in made:
        say(f"{one.job.id} replays {one.job.retry_of}" if isinstance(one, JobHandle) else f"not replayed: {one}")
    if not made:
        say("nothing to replay")
    if any(isinstance(one, OnceqError) for one in made):
        raise typer.Exit(1)


def _replayed(client: Client, job_id: str) -> JobHandle | OnceqError:
    """One that is refused keeps nobody from hearing which were paid for."""
    try:
        return client.replay(job_id)
    except OnceqError as exc:
        return exc


def job_table(found: list[Job]) -> list[str]:
    """One row a job."""
    head = ("JOB", "STATUS", "MODEL", "TOKENS", "TTFT", "COST", "CALLS", "CREATED")
    return table(head, map(_row, found), right=(3, 4, 5, 6))


def job_page(job: Job, ledger: list[LedgerEntry]) -> list[str]:
    """Everything about one job."""
    times = job.timings
    facts = [
        ("status", job.status + (" (simulated)" if job.simulated else "")),
        ("model", job.model),
        ("created", job.created_at.isoformat(timespec="seconds")),
        ("waited", seconds(times.queue_s)),
        ("first token", seconds(times.ttft_s)),
        ("total", seconds(times.total_s)),
        ("cost", f"{money(job.cost)}, of that wasted {usd(job.cost.wasted_nano_usd)}"),
        ("calls", f"{job.calls} billed of {job.tries} tried"),
    ]
    if times.phases:
        facts.append(("time went to", spent_on(times.phases)))
    if times.verdict:
        facts.append(("to blame", times.verdict))
    if job.error:
        facts.append(("error", f"{job.error.message} [{job.error.code}]"))
    lines = [job.id, *(f"  {name:<12} {value}" for name, value in facts)]
    return [*lines, *_tries(ledger), *(("", job.text) if job.text else ())]


def spent_on(phases: Phases) -> str:
    """The phases that took any time, in the order of a job's life."""
    took = ((name, getattr(phases, f"{name}_s")) for name in PHASES)
    return ", ".join(f"{name} {seconds(s)}" for name, s in took if s)


def _tries(ledger: list[LedgerEntry]) -> list[str]:
    if not ledger:
        return []
    rows = [
        (str(e.try_no), e.outcome, "yes" if e.billed else "no", str(e.input_tokens), str(e.output_tokens), _spent(e))
        for e in ledger
    ]
    return [
        "",
        *(f"  {line}" for line in table(("TRY", "OUTCOME", "BILLED", "IN", "OUT", "SPENT"), rows, right=(0, 3, 4, 5))),
    ]


def _spent(entry: LedgerEntry) -> str:
    spent = "unpriced" if entry.spent_nano_usd is None else usd(entry.spent_nano_usd)
    return spent + (" (estimated)" if entry.estimated else "")


def _row(job: Job) -> tuple[str, ...]:
    tokens = str(job.usage.output_tokens) if job.usage else "-"
    mark = " (simulated)" if job.simulated else ""
    cost = money(job.cost) if job.finished_at else "-"
    return (
        job.id,
        job.status,
        job.model + mark,
        tokens,
        seconds(job.timings.ttft_s),
        cost,
        str(job.calls),
        age(job.created_at),
    )
