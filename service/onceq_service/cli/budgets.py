"""`onceq budgets`: what may be spent, what is, and what is left; and for an admin, making and changing them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from onceq import Client
from onceq.errors import ConfigurationError
from onceq.wire import BudgetMode, BudgetPeriod, BudgetStatus, BudgetUse
from onceq_service.cli.options import AsJson
from onceq_service.cli.output import say, table, usd

Name = Annotated[str, typer.Argument(help="The budget's name, unique in its tenant.")]
Which = Annotated[str, typer.Argument(metavar="BUDGET", help="The budget's id or name.")]
Limit = Annotated[float, typer.Argument(metavar="USD", help="The limit, in US dollars.")]
Alerts = Annotated[
    list[float] | None,
    typer.Option(
        "--alert", metavar="SHARE", help="Tell when this share of the limit is gone, like 0.8; may be repeated."
    ),
]
Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Only jobs with this label; may be repeated.")
]

group = typer.Typer(help="Show, make, change and delete budgets.", rich_markup_mode=None)


def add_to(app: typer.Typer) -> None:
    """Adds the group."""
    app.add_typer(group, name="budgets")


@group.callback(invoke_without_command=True)
def budgets(ctx: typer.Context) -> None:
    """Without a command: every budget of the tenant, and how it stands."""
    if ctx.invoked_subcommand is None:
        list_budgets()


@group.command("list")
def list_budgets(as_json: AsJson = False) -> None:
    """List the budgets by name, those of onceq.toml too."""
    with Client() as client:
        found = client.budgets()
    if as_json:
        say("[" + ",".join(budget.model_dump_json() for budget in found) + "]")
    else:
        say("\n".join(page(found)))


@group.command()
def create(
    name: Name,
    limit_usd: Limit,
    period: Annotated[BudgetPeriod, typer.Option(help="What the limit is for.")] = "month",
    mode: Annotated[BudgetMode, typer.Option(help="hard refuses what may not fit, soft only counts.")] = "hard",
    time_zone: Annotated[str, typer.Option(help="Where its days begin, like Europe/Berlin.")] = "UTC",
    team: Annotated[str | None, typer.Option(help="Only jobs of this team.")] = None,
    key: Annotated[str | None, typer.Option(help="Only jobs of this API key (its id).")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model, or <provider>/*.")] = None,
    label: Labels = None,
    alert: Alerts = None,
    tenant: Annotated[str | None, typer.Option(help="For another tenant; needs an operator's key.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a budget. It counts jobs that are posted from now on."""
    with Client() as client:
        made = client.create_budget(
            name, limit_usd, period=period, mode=mode, time_zone=time_zone, team=team, key=key, model=model,
            labels=_labels(label or []), alerts=alert or (0.5, 0.8, 1.0), tenant=tenant,
        )  # fmt: skip
    say(made.model_dump_json(indent=2) if as_json else f"{made.id}: {_told(made)}")


@group.command()
def change(
    which: Which,
    limit_usd: Annotated[float | None, typer.Option("--limit", metavar="USD", help="The new limit.")] = None,
    mode: Annotated[BudgetMode | None, typer.Option(help="hard or soft.")] = None,
    alert: Alerts = None,
) -> None:
    """Change a budget; what was spent stays counted."""
    with Client() as client:
        changed = client.change_budget(_id(client, which), limit_usd=limit_usd, mode=mode, alerts=alert)
    say(_told(changed))


@group.command()
def delete(which: Which) -> None:
    """Take a budget away, and what it has counted."""
    with Client() as client:
        client.delete_budget(_id(client, which))
    say(f"{which} is deleted")


def page(found: Sequence[BudgetStatus]) -> list[str]:
    """One row a budget; the simulator's money where there is no other."""
    if not found:
        return ["no budget limits this tenant: onceq budgets create makes one, docs/budgets.md tells of them"]
    head = ("BUDGET", "COUNTS", "MODE", "LIMIT", "SPENT", "RESERVED", "UNSURE", "LEFT", "RENEWS (UTC)")
    return table(head, map(_row, found), right=(3, 4, 5, 6, 7))


def _row(budget: BudgetStatus) -> tuple[str, ...]:
    use, simulated = budget.use, ""
    if not _used(use) and _used(budget.simulated_use):
        use, simulated = budget.simulated_use, " (simulated)"
    renews = "never" if budget.renews_at is None else f"{budget.renews_at:%Y-%m-%d %H:%M}"
    money = (use.spent_nano_usd, use.reserved_nano_usd, use.unsure_nano_usd, use.left_nano_usd)
    return budget.name + simulated, _counts(budget), budget.mode, *map(usd, (budget.limit_nano_usd, *money)), renews


def _used(use: BudgetUse) -> bool:
    return use.spent_nano_usd + use.reserved_nano_usd + use.unsure_nano_usd + use.unpriced_calls > 0


def _counts(budget: BudgetStatus) -> str:
    """What falls under it, in a few words."""
    named = {"team": budget.team, "key": budget.key, "model": budget.model, **budget.labels}
    chosen = " ".join(f"{name}={value}" for name, value in named.items() if value is not None)
    return f"{budget.tenant}: {chosen or 'all'}"


def _told(budget: BudgetStatus) -> str:
    span = "in all" if budget.period == "total" else f"a {budget.period}"
    return f"{budget.name}, {budget.limit_usd} USD {span}, {budget.mode}"


def _id(client: Client, which: str) -> str:
    if which.startswith("bud_"):
        return which
    named = [budget.id for budget in client.budgets() if budget.name == which]
    if len(named) != 1:
        what = "there is no budget named" if not named else "several tenants have a budget named"
        raise ConfigurationError(f"{what} {which!r}: onceq budgets lists them, with --json their ids too.")
    return named[0]


def _labels(given: list[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in given]
    if any(not equals for _, equals, _ in pairs):
        raise ConfigurationError("a label is written KEY=VALUE, like --label project=x.")
    return {name: value for name, _, value in pairs}
