"""What the fake API may know: an empty queue, a busy day, trouble, simulated work, hostile words. Wire models only."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, overload

from onceq.wire import (
    ApiKeyInfo,
    BudgetStatus,
    BudgetUse,
    Cost,
    CostPoint,
    Depth,
    Fleet,
    Health,
    Job,
    JobError,
    LaneInfo,
    Lanes,
    LedgerEntry,
    Output,
    Quantiles,
    Stats,
    Status,
    Timings,
    Totals,
    Urls,
    Usage,
    WorkerInfo,
)
from onceq.wire.phases import Phases
from onceq_dashboard.quantiles import mixed
from tests.dashboard.fake_api import World

MODELS = ("openai/gpt-4o-mini", "anthropic/claude-haiku-4-5", "bedrock/amazon.nova-lite-v1:0")
TEAMS = ("search", "support", "")
STATUSES: tuple[Status, ...] = ("running", "queued", "succeeded", "failed", "succeeded", "cancelled", "succeeded")
HOSTILE = (
    "<script>document.title='hacked'</script> ![p](https://evil.example/p.png) [l](https://evil.example) "
    "<img src=https://evil.example/i.png onerror=alert(1)> $\\frac{1}{2}$ :red[red] **bold** `code` # head "
    ":tada: :material/bolt: :blue-badge[b] a -> b <- c www.evil.example a@evil.example &amp; ~~gone~~ [^1]"
)
OK = Health(status="ok", durability="strict", version="0.1.0")


PHASE_S = {
    "accept": 0.002, "queue": 0.3, "limiter": 0.2, "backoff": 0.1, "worker": 0.01, "connect": 0.05,
    "provider_ttft": 0.7, "generation": 6.9, "stalls": 0.12, "delivery": 0.018,
}  # fmt: skip


def now() -> datetime:
    return datetime.now(UTC)


def job_id(n: int) -> str:
    return f"job_{n:032x}"


def make_job(n: int = 1, status: Status = "succeeded", **update: Any) -> Job:
    """A job that was created `n` minutes ago, with times, usage and cost that fit its state."""
    created = now() - timedelta(minutes=n)
    ended, began = status not in {"queued", "running"}, status != "queued"
    error = JobError(code="provider_overloaded", message="The provider is overloaded (529).", retryable=True)
    fields: dict[str, Any] = {
        "id": job_id(n), "status": status, "model": MODELS[n % 3], "team": TEAMS[n % 3] or None, "created_at": created,
        "started_at": created + timedelta(seconds=0.4) if began else None,
        "finished_at": created + timedelta(seconds=8.4) if ended else None,
        "output": Output(text=f"The answer of job {n}.", finish_reason="stop") if status == "succeeded" else None,
        "usage": Usage(input_tokens=812, output_tokens=304, cached_tokens=128) if status == "succeeded" else None,
        "cost": Cost(nano_usd=304_350, usd="0.00030435") if ended else Cost(),
        "timings": Timings(queue_s=0.4, ttft_s=1.12, provider_ttft_s=0.72, generation_s=7.28, total_s=8.4,
                           phases=Phases(**{f"{n}_s": s for n, s in PHASE_S.items()}), verdict="provider_slow")
        if ended else Timings(queue_s=0.4 if began else None),
        "calls": int(began), "tries": int(began) + (n % 4 == 0), "error": error if status == "failed" else None,
        "urls": Urls(self=f"/v1/jobs/{job_id(n)}", events="/e", cancel="/c"), "labels": {"step": "summary"},
    }  # fmt: skip
    return Job(**fields | update)


def make_row(job: Job, **update: Any) -> LedgerEntry:
    fields: dict[str, Any] = {
        "at": job.created_at, "job": job.id, "try_no": 1, "call": 1, "model": job.model, "outcome": "ok",
        "billed": True, "estimated": False, "input_tokens": 812, "output_tokens": 304, "cached_tokens": 128,
        "reasoning_tokens": 0, "spent_nano_usd": 304_350, "wasted_nano_usd": 0, "waste_reason": None,
        "price_version": "2026-11-01", "simulated": job.simulated,
    }  # fmt: skip
    return LedgerEntry(**fields | update)


def make_totals(jobs: int = 100, scale: float = 1.0, **update: Any) -> Totals:
    """Believable sums for a number of jobs; `scale` makes them slower and dearer."""
    failed, cancelled = jobs // 40, jobs // 60
    fields: dict[str, Any] = {
        "jobs": jobs, "joined": jobs // 9, "replayed": jobs // 6, "succeeded": jobs - failed - cancelled,
        "failed": failed, "cancelled": cancelled, "calls": jobs, "tries": jobs + jobs // 20, "retries": jobs // 20,
        "input_tokens": 812 * jobs, "output_tokens": 304 * jobs, "cached_tokens": 128 * jobs,
        "spent_nano_usd": int(3_043_500 * scale) * jobs, "wasted_nano_usd": int(40_000 * scale) * jobs,
        "avoided_nano_usd": int(3_043_500 * scale) * (jobs // 4), "bill_amplification": 1.0 if jobs else None,
        "causes": {"provider_overloaded": failed // 2, "stream_broken": failed - failed // 2, "cancelled": cancelled},
        "ttft": Quantiles(p50=round(0.6 * scale, 3), p95=round(2.1 * scale, 3), count=jobs),
        "phases": {n: round(s * scale * jobs, 3) for n, s in PHASE_S.items()},
        "verdicts": {"provider_slow": jobs // 12, "queue": jobs // 20, "provider_throttled": failed},
        "wasted_by_reason": {"stream_broken": int(30_000 * scale) * jobs, "cancelled": int(10_000 * scale) * jobs},
        "job_costs": {1_000_000: jobs // 2, 4_000_000: jobs - jobs // 2 - jobs // 10, 30_000_000: jobs // 10},
        "total": Quantiles(p50=round(7.1 * scale, 3), p95=round(31.0 * scale, 3), count=jobs),
    }  # fmt: skip
    return Totals(**fields | update)


def add(points: list[CostPoint]) -> Totals:
    """The sums of points, and quantiles that fit them."""
    names = [n for n, f in Totals.model_fields.items() if f.annotation is int]
    sums: dict[str, Any] = {n: sum(getattr(p.totals, n) for p in points) for n in names}
    codes = {code for p in points for code in p.totals.causes}
    for name in ("phases", "verdicts", "wasted_by_reason", "job_costs"):
        sums[name] = summed(getattr(p.totals, name) for p in points)
    sums["causes"] = {code: sum(p.totals.causes.get(code, 0) for p in points) for code in codes}
    if not points:
        return Totals()
    amplification = sums["calls"] / sums["jobs"] if sums["jobs"] else None
    ttft, total = together([p.totals.ttft for p in points]), together([p.totals.total for p in points])
    return Totals.model_validate(sums | {"bill_amplification": amplification, "ttft": ttft, "total": total})


def summed(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    sums = Counter[str]()
    for part in parts:
        sums.update(part)  # pyright: ignore[reportArgumentType] - a Counter of seconds
    return dict(sums)


def together(groups: list[Quantiles]) -> Quantiles:
    return Quantiles(p50=mixed(groups, 0.5), p95=mixed(groups, 0.95), count=sum(g.count for g in groups))


def make_hours(at: datetime, hours: int = 24, *, simulated: bool = False, seed: int = 7) -> list[CostPoint]:
    """A day's points: three models, three teams, busier in its middle."""
    dice, points = random.Random(seed), list[CostPoint]()
    last = at.replace(minute=0, second=0, microsecond=0)
    for n in range(hours):
        for m, model in enumerate(MODELS):
            jobs = int((14 - abs(n % 28 - 14)) * dice.uniform(2, 6)) + 5
            totals = make_totals(jobs, dice.uniform(0.8, 1.4) * (m + 1))
            hour = last - timedelta(hours=hours - 1 - n)
            points.append(CostPoint(
                at=hour, team=TEAMS[m], model=model, provider=model.partition("/")[0], band="standard", key="key_1",
                labels={"prompt": f"v{m}"}, simulated=simulated, totals=totals,
            ))  # fmt: skip
    return points


def make_worker(n: int = 1, running: int = 6) -> WorkerInfo:
    return WorkerInfo(
        id=f"w{n}", pid=4000 + n, host="node-1", running=running, capacity=32, providers=["anthropic", "openai"],
        seen_at=now(),
    )  # fmt: skip


def make_fleet(n: int) -> Fleet:
    return Fleet(processes=n, running=6 * n, capacity=32 * n, providers=["anthropic", "openai"] if n else [])


def make_stats(points: list[CostPoint], at: datetime | None = None, **update: Any) -> Stats:
    at = at or now()
    hour_ago = at.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    real, simulated = [p for p in points if not p.simulated], [p for p in points if p.simulated]
    fields: dict[str, Any] = {
        "at": at, "durability": "strict", "depth": Depth(), "last_hour": add([p for p in real if p.at >= hour_ago]),
        "last_24h": add(real), "last_24h_simulated": add(simulated), "hours": points,
        "workers": [make_worker(1), make_worker(2)], "fleet": make_fleet(2),
    }  # fmt: skip
    return Stats(**fields | update)


def make_budget(
    name: str = "monthly", limit_usd: float = 100.0, spent_usd: float = 31.5, **update: Any
) -> BudgetStatus:
    """A budget for a month, in the middle of it, with two dollars reserved."""
    nano, spent = round(limit_usd * 1e9), round(spent_usd * 1e9)
    use = BudgetUse(spent_nano_usd=spent, reserved_nano_usd=2 * 10**9, left_nano_usd=nano - spent - 2 * 10**9,
                    forecast_nano_usd=2 * spent)  # fmt: skip
    fields: dict[str, Any] = {
        "id": f"bud_{sum(name.encode()):020x}", "name": name, "tenant": "acme", "source": "api", "mode": "hard",
        "period": "month", "time_zone": "UTC", "limit_nano_usd": nano, "limit_usd": str(limit_usd),
        "renews_at": now() + timedelta(days=15), "use": use, "alerts": [0.8],
    }  # fmt: skip
    return BudgetStatus(**fields | update)


def make_key(name: str = "the notebooks'", key_id: str = "key_2") -> ApiKeyInfo:
    return ApiKeyInfo(id=key_id, tenant="acme", name=name, scopes=["submit", "read"], created_at=now())


def empty() -> World:
    return World(make_stats([]), OK)


def busy(jobs: int = 60) -> World:
    at = now()
    made = [make_job(n, STATUSES[n % 7]) for n in range(1, jobs + 1)]
    depth = Depth(queued=17, running=12, succeeded=1_204, failed=9, cancelled=3)
    stats = make_stats(
        make_hours(at), at, depth=depth, waiting_retry=2, oldest_queued_s=4.2, dead_letters=4,
        oldest_dead_letter_s=7_300.0,
    )  # fmt: skip
    lanes = Lanes(lanes=[LaneInfo(lane=model, running=4, limits={"requests_per_minute": 500}) for model in MODELS])
    budgets = [
        make_budget(), make_budget("search", 20, 19.1, team="search", mode="soft"),
        make_budget("day", 5, 0.4, period="day", model="openai/*", source="file"),
    ]  # fmt: skip
    rows = {j.id: [make_row(j)] for j in made if j.calls}
    return World(stats, OK, made, rows, lanes, make_days(at, 60), budgets, [make_key()])


def make_days(at: datetime, days: int) -> list[CostPoint]:
    """A point a day (UTC) and model."""
    points, midnight = make_hours(at, days, seed=11), at.replace(hour=0, minute=0, second=0, microsecond=0)
    last = max(p.at for p in points)
    return [p.model_copy(update={"at": midnight - (last - p.at) * 24}) for p in points]


CAUSES = ("provider_rate_limited", "provider_timeout", "stream_broken", "provider_bad_request", "worker_lost")


def make_letters(number: int = 23) -> list[Job]:
    """Dead letters of five causes, three models, three teams."""

    def error(n: int) -> JobError:
        return JobError(code=CAUSES[min(n % 9, 4)], message="It did not work out.", retryable=n % 9 != 3)

    return [make_job(n, "failed", error=error(n)) for n in range(1, number + 1)]


def failing(number: int = 23) -> World:
    """A busy day with dead letters in it."""
    world = busy()
    letters = make_letters(number)
    ended = [j for j in world.jobs if j.status != "failed" and j.id not in {one.id for one in letters}]
    world.jobs = [*letters, *ended]
    world.stats = world.stats.model_copy(update={"dead_letters": number})
    return world


class ManyJobs(Sequence[Job]):
    """Jobs that are made as they are looked at."""

    def __init__(self, length: int) -> None:
        self._numbers = range(1, length + 1)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, at: int) -> Job: ...
    @overload
    def __getitem__(self, at: slice) -> list[Job]: ...
    def __getitem__(self, at: int | slice) -> Job | list[Job]:
        numbers = self._numbers[at]
        return make_job(numbers) if isinstance(numbers, int) else [make_job(n) for n in numbers]


def crowded() -> World:
    """A hundred thousand jobs."""
    world = busy(0)
    world.jobs = ManyJobs(100_000)
    world.stats = world.stats.model_copy(update={"depth": Depth(queued=100_000, running=64, succeeded=2_000_000)})
    return world


def degraded() -> World:
    world = busy()
    problems = ["appendfsync is not always: a crash of Redis may lose accepted jobs; set appendfsync always"]
    world.health = Health(status="degraded", durability="relaxed", problems=problems)
    last_hour = make_totals(80, failed=30)
    update = {"durability": "relaxed", "last_hour": last_hour, "oldest_queued_s": 1_900.0}
    world.stats = world.stats.model_copy(update=update)
    until = world.stats.at + timedelta(seconds=42)
    held = LaneInfo(lane=MODELS[0], braked_until=until, brake_reason="provider_rate_limited", failures_in_row=3)
    world.lanes = Lanes(lanes=[held, LaneInfo(lane=MODELS[1], paused=True)], paused_bands=["batch"])
    return world


def simulated() -> World:
    at = now()
    points = make_hours(at, 3, simulated=True)
    made = [make_job(n, "succeeded", simulated=True) for n in range(1, 8)]
    return World(make_stats(points, at, simulated=True), OK, made, {j.id: [make_row(j)] for j in made})


def hostile() -> World:
    """Every word that comes from outside is an attack."""
    at = now()
    error = JobError(code="provider_error", message=HOSTILE)
    made = make_job(
        1, "failed", output=Output(text=HOSTILE, reasoning=HOSTILE), error=error, team=HOSTILE[:90], user=HOSTILE[:90],
        labels={"a": HOSTILE[:90]}, model="openai/<b>x</b>",
    )  # fmt: skip
    points = [CostPoint(at=at.replace(minute=0, second=0, microsecond=0), team="=HYPERLINK(1)", model="<b>x</b>",
                        totals=make_totals(5))]  # fmt: skip
    health = Health(status="degraded", durability="strict", problems=[HOSTILE])
    return World(make_stats(points, at), health, [made], {made.id: [make_row(made, outcome=HOSTILE)]})
