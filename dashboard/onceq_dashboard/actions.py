"""All that the dashboard changes, through the SDK, with the key of the person who does it. Raises SourceError."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeVar

from onceq import Client, Job, OnceqError
from onceq.wire import Band, BudgetMode, BudgetPeriod, NewApiKey, Scope
from onceq_dashboard import source
from onceq_dashboard.access import ApiAccess, client, translate_errors, trouble_of
from onceq_dashboard.source import DeadLetterFilter

T = TypeVar("T")

PATIENT_S: Final = 60.0
"""How long an action on many jobs may take."""


class Replayed(NamedTuple):
    """How many new jobs were `made`, and why others were not: sentences in Markdown with how many jobs each."""

    made: int
    refused: tuple[tuple[str, int], ...] = ()


class NewBudget(NamedTuple):
    """A budget that is wanted; None counts any."""

    name: str
    limit_usd: float
    period: BudgetPeriod = "month"
    mode: BudgetMode = "hard"
    time_zone: str = "UTC"
    team: str | None = None
    key: str | None = None
    model: str | None = None
    labels: Mapping[str, str] = {}


def cancel(access: ApiAccess, job_id: str) -> Job:
    """Cancel the job for all who joined it."""
    return _done(access, lambda client: client.cancel(job_id))


def switch(
    access: ApiAccess, word: Literal["pause", "resume"], *, lane: str | None = None, band: Band | None = None
) -> None:
    """Pause or resume a lane or a band, for all tenants."""
    _done(access, lambda client: (client.pause if word == "pause" else client.resume)(lane=lane, band=band))


def replay(access: ApiAccess, job_id: str) -> str:
    """Ask an ended job's question again; the new job's id. It may be billed again."""
    return _done(access, lambda client: client.replay(job_id).id)


def replay_all(access: ApiAccess, wanted: DeadLetterFilter, number: int) -> Replayed:
    """Ask the newest `number` dead letters that fit again. Sent once: sent again it would go on with the next ones."""
    who = access.acting
    with translate_errors(who), Client(who.base_url, who.api_key, timeout_s=PATIENT_S, max_retries=0) as patient:
        asked = patient.replay_all(error=wanted.error, model=wanted.model, team=wanted.team, limit=number)
    source.forget()
    why = Counter(trouble_of(item, who).sentence for item in asked if isinstance(item, OnceqError))
    return Replayed(len(asked) - why.total(), tuple(why.most_common()))


def create_budget(access: ApiAccess, wanted: NewBudget) -> None:
    """Make a budget; it counts jobs that are posted from now on."""
    _done(access, lambda client: client.create_budget(**wanted._asdict()))


def change_budget(access: ApiAccess, budget_id: str, limit_usd: float, mode: BudgetMode) -> None:
    """Change a budget at once; what was spent stays counted."""
    _done(access, lambda client: client.change_budget(budget_id, limit_usd=limit_usd, mode=mode))


def delete_budget(access: ApiAccess, budget_id: str) -> None:
    """Take a budget away, and what it has counted."""
    _done(access, lambda client: client.delete_budget(budget_id))


def create_key(access: ApiAccess, name: str, scopes: Sequence[Scope]) -> NewApiKey:
    """Make an API key; its secret is in the answer, and nowhere else."""
    return _done(access, lambda client: client.create_key(name, scopes=scopes))


def revoke_key(access: ApiAccess, key_id: str) -> None:
    """Take an API key back."""
    _done(access, lambda client: client.revoke_key(key_id))


def _done(access: ApiAccess, act: Callable[[Client], T]) -> T:
    """What came of it; what is shown afterwards is read anew."""
    who = access.acting
    with translate_errors(who):
        outcome = act(client(who))
    source.forget()
    return outcome
