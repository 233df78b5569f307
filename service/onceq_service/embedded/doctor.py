"""What is wrong with this installation: each check a line, with what to do about it. `onceq doctor` shows them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import onceq
from onceq import AuthenticationError, Client, OnceqError
from onceq.errors import ConfigurationError
from onceq_service.embedded.check import Check, Level
from onceq_service.embedded.credentials import KEY_FILE, URL_FILE
from onceq_service.embedded.memory import MIB
from onceq_service.embedded.mode import Mode, ProviderMode, choose_mode
from onceq_service.embedded.name_checks import name_checks, variable_checks
from onceq_service.embedded.ping import ask_redis
from onceq_service.embedded.ports import claim_port
from onceq_service.embedded.redis_binary import OLDEST, find_redis
from onceq_service.embedded.redis_server import redis_url, socket_path
from onceq_service.embedded.specs import answers, local_url
from onceq_service.pricing import Tariff
from onceq_service.settings import DEFAULT_PROVIDERS, DEFAULT_TENANT, FileConfig, PriceConfig, Settings

if TYPE_CHECKING:
    from onceq.wire import WorkerInfo
    from onceq_service.store import ServerFacts

CLOCK_MS: Final = 1000
"""Redis's clock decides about leases and deadlines; an offset beyond this makes times hard to read together."""

EXTRAS: Final = {
    "service": ("fastapi", "taskiq", "redis", "openai", "anthropic", "boto3"),
    "dashboard": ("streamlit",),
    "notebook": ("pandas", "tqdm", "ipykernel"),
}


def examine(settings: Settings, env: Mapping[str, str]) -> Iterator[Check]:
    """All checks, in the order in which things depend on each other; changes nothing."""
    yield Check("ok", "onceq", onceq.__version__)
    yield from _extras()
    yield _folder(settings.data_dir)
    queue = _queue(settings)
    if isinstance(queue, Check):
        yield queue
    else:
        yield from _redis(settings, queue)
    workers = [] if isinstance(queue, Check) else queue.workers
    yield from _providers(settings, env, workers)
    yield from _service(settings)


def redis_checks(facts: ServerFacts) -> Iterator[Check]:
    """What the server's facts mean for what a 202 promises."""
    old = _version(facts.version) < OLDEST
    yield Check("fail" if old else "ok", "redis version", facts.version, "Redis 7.0 or newer is needed" if old else "")
    if facts.replica:
        yield Check("fail", "redis role", "a replica: each post is refused", "connect to its primary: ONCEQ_REDIS_URL")
    yield _persistence(facts)
    yield _eviction(facts.maxmemory_policy)
    yield _memory(facts)
    if facts.shared:
        yield Check("warn", "redis database", "others keep keys in it, and may fill the memory that jobs need",
                    "give onceq a Redis of its own, or a database that nothing else uses: ONCEQ_REDIS_URL")  # fmt: skip
    yield _clock(facts.clock_offset_ms)


def _persistence(facts: ServerFacts) -> Check:
    name, fsync = "persistence", facts.appendfsync
    if facts.appendonly is None:
        return Check("warn", name, "Redis does not say whether appendonly is yes", "ask its host: jobs need it")
    if not facts.appendonly:
        advice = "a restart of Redis loses every job: CONFIG SET appendonly yes, and in its configuration"
        return Check("fail", name, "appendonly no", advice)
    if fsync is None:
        says = "appendonly yes, appendfsync unknown: this Redis user may not CONFIG GET appendfsync"
        advice = "grant it +config|get, or ask the host of this Redis; until then each 202 says durability relaxed"
        return Check("warn", name, says, advice)
    if fsync != "always":
        advice = "a crash may lose accepted jobs, so each 202 says durability relaxed: set appendfsync always"
        return Check("warn", name, f"appendonly yes, appendfsync {fsync}", advice)
    return Check("ok", name, "appendonly yes, appendfsync always")


def _eviction(policy: str | None) -> Check:
    if policy is None:
        advice = "grant it +config|get, or ask the host of this Redis: it must be noeviction"
        return Check("warn", "eviction", "unknown: this Redis user may not CONFIG GET maxmemory-policy", advice)
    if policy != "noeviction":
        advice = "Redis would drop jobs when its memory is full: CONFIG SET maxmemory-policy noeviction"
        return Check("fail", "eviction", policy, advice)
    return Check("ok", "eviction", policy)


def _memory(facts: ServerFacts) -> Check:
    used = f"{facts.used_memory / MIB:.1f} MB used"
    if not facts.maxmemory:
        advice = "Redis may grow until the machine is full: set maxmemory, so that new work is shed in time"
        return Check("warn", "memory", f"{used}, no maxmemory", advice)
    says = f"{used} of {facts.maxmemory / MIB:.0f} MB"
    if facts.full:
        mend = "raise maxmemory, or shorten ONCEQ_RESULT_TTL_S and ONCEQ_IDEMPOTENCY_TTL_S"
        return Check("fail", "memory", says, f"new jobs are refused: {mend}")
    return Check("ok", "memory", says)


def _clock(offset_ms: int) -> Check:
    if abs(offset_ms) < CLOCK_MS:
        return Check("ok", "clock", f"Redis's clock differs by {abs(offset_ms)} ms")
    ahead = "ahead of" if offset_ms > 0 else "behind"
    return Check("warn", "clock", f"Redis is {abs(offset_ms) / 1000:.1f} s {ahead} this machine", "run NTP on both")


@dataclass(frozen=True, slots=True)
class Queue:
    """What a Redis that answers says of itself and of the queue's live workers."""

    url: str
    facts: ServerFacts
    workers: list[WorkerInfo]


def _queue(settings: Settings) -> Queue | Check:
    """The queue, or why there is none."""
    url = settings.redis_url if "redis_url" in settings.model_fields_set else None
    socket = socket_path(settings.data_dir.absolute())
    if url is None and ask_redis(socket, "PING"):
        url = redis_url(socket)
    if url is None:
        return _would_start()
    try:
        return asyncio.run(_inspect(url, settings.queue))
    except (OnceqError, ValueError) as exc:
        return Check("fail", "redis", f"can't be used: {exc}", "start it, or mend ONCEQ_REDIS_URL")


async def _inspect(url: str, queue: str) -> Queue:
    from onceq_service.store import open_store  # half of the time that `onceq ask` takes to start, and not used by it

    async with open_store(url, queue) as store:
        return Queue(url, await store.inspect(), await store.stats.workers())


def _redis(settings: Settings, queue: Queue) -> Iterator[Check]:
    external = queue.url == settings.redis_url
    yield Check("ok", "redis", "external, by ONCEQ_REDIS_URL" if external else "embedded, running")
    yield from redis_checks(queue.facts)
    yield _workers(queue.workers)


def _workers(workers: list[WorkerInfo]) -> Check:
    if not workers:
        return Check("warn", "workers", "none is running: jobs wait", "start `onceq worker`, or `onceq up`")
    slots = sum(worker.capacity for worker in workers)
    return Check("ok", "workers", f"{len(workers)} running, {slots} jobs at once")


def _would_start() -> Check:
    try:
        return Check("ok", "redis", f"not running; `onceq up` starts {find_redis()}")
    except ConfigurationError as exc:
        return Check("fail", "redis", "none", str(exc))


def _extras() -> Iterator[Check]:
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if find_spec(name) is None]
        if missing:
            yield Check("warn", f"extra {extra}", f"without {', '.join(missing)}", f"pip install 'onceq[{extra}]'")
        else:
            yield Check("ok", f"extra {extra}", "installed")


def _folder(folder: Path) -> Check:
    nearest = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        return Check("fail", "data folder", f"{nearest} can't be written to", "mend it, or set ONCEQ_DATA_DIR")
    key = folder / KEY_FILE
    if key.exists() and key.stat().st_mode & 0o077:
        return Check("warn", "data folder", f"others can read {key}", f"chmod 600 {key}")
    return Check("ok", "data folder", f"{folder.absolute()}" + ("" if folder.exists() else " (not made yet)"))


def _providers(settings: Settings, env: Mapping[str, str], workers: list[WorkerInfo]) -> Iterator[Check]:
    """By the workers that run, which hold the keys; while none does, by what one started from here would find."""
    try:
        file = settings.file()
    except ConfigurationError as exc:
        yield Check("fail", "configuration", "onceq.toml", str(exc))
        return
    providers = DEFAULT_PROVIDERS | file.providers
    yield from variable_checks(env, file)
    yield from name_checks(file, settings.lanes)
    yield from price_checks(file.prices, set(providers), datetime.now(UTC))
    yield from budget_checks(file, set(providers), env)
    mode = choose_mode(providers, env, simulate=settings.simulator_url is not None)
    served = {name for worker in workers for name in worker.providers}
    up = settings.simulator_url is not None or "redis_url" not in settings.model_fields_set
    yield from (_served(p.name, served) if workers else _provider(mode, p, simulates=up) for p in mode.providers)


def price_checks(prices: list[PriceConfig], providers: set[str], now: datetime) -> Iterator[Check]:
    """One line for each model with prices of its own: which one holds now, and whether its provider exists."""
    tariff = Tariff({}, prices)
    for model in dict.fromkeys(price.model for price in prices):
        name, held = f"price {model}", tariff.local(model, now)
        if model.partition("/")[0] not in providers:
            advice = f"no provider has that name; there are {', '.join(sorted(providers))}"
            yield Check("fail", name, "is never used", advice)
        elif held is None:
            first = min(price.since for price in prices if price.model == model)
            yield Check("ok", name, f"from {first} on; the tables until then")
        else:
            yield Check("ok", name, f"{held.version}: {held.input} USD in, {held.output} USD out, by the million")


def budget_checks(file: FileConfig, providers: set[str], env: Mapping[str, str]) -> Iterator[Check]:
    """One line for each budget of the file, and one for where their alerts go."""
    for budget in file.budgets:
        name, provider = f"budget {budget.name}", (budget.model or "").partition("/")[0]
        if budget.model and provider not in providers:
            advice = f"no provider is named {provider!r}; there are {', '.join(sorted(providers))}"
            yield Check("fail", name, f"counts nothing: its model is {budget.model}", advice)
        else:
            span = "in all" if budget.period == "total" else f"a {budget.period}"
            says = f"{budget.mode}, {budget.limit_usd:g} USD {span}, tenant {budget.tenant or DEFAULT_TENANT}"
            yield Check("ok", name, says)
    alerts = file.alerts
    if alerts.webhook_url and not env.get(alerts.secret_env):
        advice = f"set {alerts.secret_env} in the workers' environment; until then alerts are in their log alone"
        yield Check("warn", "alerts", f"{alerts.secret_env}, which signs them, is not set here", advice)
    elif alerts.webhook_url:
        yield Check("ok", "alerts", "to the webhook of onceq.toml, signed")


def _served(name: str, served: set[str]) -> Check:
    if name in served:
        return Check("ok", f"provider {name}", "served by the running workers")
    return Check(
        "warn",
        f"provider {name}",
        "no running worker has its key: its jobs are refused",
        "give the key to the workers and restart them",
    )


def _provider(mode: Mode, provider: ProviderMode, *, simulates: bool) -> Check:
    """`simulates`: the simulator stands in for what has no key, which `onceq up` does and `onceq worker` does not."""
    name = f"provider {provider.name}"
    if provider.how == "no key":
        return Check("warn", name, "no key: its jobs fail with a clear error", provider.because)
    if mode.simulated and not simulates:
        return Check("warn", name, f"{provider.because}: its jobs fail", "give the key to the workers")
    if mode.simulated:
        return Check("ok", name, f"simulated, because {provider.because}")
    return Check("ok", name, f"{provider.how}, {provider.because}")


def _service(settings: Settings) -> Iterator[Check]:
    """The running service where the folder names one, else whether its ports are free."""
    url = settings.data_dir / URL_FILE
    if url.exists():
        yield _api(url.read_text("utf-8").strip(), settings.data_dir / KEY_FILE)
        return
    yield _port(settings.host, settings.port, "API", "--port", "/livez")
    yield _port(settings.host, settings.dashboard_port, "dashboard", "--dashboard-port", "/_stcore/health")


def _port(host: str, port: int, what: str, option: str, path: str) -> Check:
    """Whether it is free; where it is taken, by whom: one that answers at `path` is ours, and no fault."""
    try:
        claim_port(host, port, what, option).release()
    except ConfigurationError as exc:
        if answers(f"{local_url(host, port)}{path}")():
            return Check("ok", f"port {port}", f"the {what} runs there")
        return Check("fail", f"port {port}", f"not free for the {what}", str(exc))
    return Check("ok", f"port {port}", f"free for the {what}")


def _api(url: str, key: Path) -> Check:
    try:
        with Client(url, key.read_text("utf-8").strip(), max_retries=0) as client:
            health = client.health()
            client.stats()
    except AuthenticationError:
        return Check("fail", "service", f"{url} refuses the key in {key}", "restart `onceq up`, it makes a new one")
    except (OnceqError, OSError) as exc:
        return Check("fail", "service", f"{url} does not answer: {exc}", "start `onceq up`, or see its logs")
    level: Level = "ok" if health.status == "ok" else "warn" if health.status == "degraded" else "fail"
    return Check(level, "service", f"{url} is {health.status}", "; ".join(health.problems))


def _version(text: str) -> tuple[int, int]:
    major, _, rest = text.partition(".")
    minor = rest.partition(".")[0]
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)
