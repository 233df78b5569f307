"""Settings: read once at the door (environment and `onceq.toml`), then handed down; never a module global.

Provider keys are not settings: they are named here (`key_env`) and read from the environment by worker processes only.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_origin
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from onceq.errors import ConfigurationError
from onceq.wire import BudgetRequest, LabelKey, TenantName
from onceq_service.addresses import http_address, origin, redis_address

DEFAULT_TENANT = "default"
"""Whose a budget of the file is that names no tenant: that of `onceq up` and of `onceq keys create`."""
ProviderKind = Literal["openai", "anthropic", "bedrock"]
HttpUrl = Annotated[str, Field(pattern=r"^https?://[^\s/]\S*$", max_length=2_000), AfterValidator(http_address)]


class ProviderConfig(BaseModel):
    """One `[providers.<name>]` table. `key_env` names the variable that holds the key; Bedrock uses AWS's own chain.

    `region` is Bedrock's; left out, a worker takes AWS_REGION, else AWS_DEFAULT_REGION, else us-east-1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: ProviderKind
    base_url: HttpUrl | None = None
    key_env: str | None = None
    region: str | None = Field(default=None, pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$")
    simulated: bool = False
    first_byte_s: float = Field(default=120.0, gt=0)
    between_bytes_s: float = Field(default=60.0, gt=0)
    responses_api: bool | None = None
    """Whether this OpenAI-compatible server has OpenAI's Responses API; by default only OpenAI's own host has."""

    @property
    def can_resume(self) -> bool:
        """Whether jobs may ask for `on_crash: resume` here."""
        own_host = self.base_url is None or self.simulated
        return self.kind == "openai" and (own_host if self.responses_api is None else self.responses_api)


DEFAULT_PROVIDERS: dict[str, ProviderConfig] = {
    "openai": ProviderConfig(kind="openai", key_env="OPENAI_API_KEY"),
    "anthropic": ProviderConfig(kind="anthropic", key_env="ANTHROPIC_API_KEY"),
    "bedrock": ProviderConfig(kind="bedrock"),
}


class LaneLimits(BaseModel):
    """One `[lanes."<provider>/<model>"]` table (or `"<provider>/*"`, `"*"`): what all workers together may do; 0 = any.

    The minute is a sliding one of 60 s in steps of a second.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_minute: int = Field(default=0, ge=0)
    input_tokens_per_minute: int = Field(default=0, ge=0)
    output_tokens_per_minute: int = Field(default=0, ge=0)
    concurrency: int = Field(default=0, ge=0)

    def packed(self) -> str:
        """As the scripts keep it; empty without any limit."""
        numbers = (
            self.requests_per_minute, self.input_tokens_per_minute, self.output_tokens_per_minute, self.concurrency,
        )  # fmt: skip
        return ",".join(map(str, numbers)) if any(numbers) else ""


class TenantConfig(BaseModel):
    """One `[tenants.<name>]` table. Tenants start jobs in proportion to their weights, whatever models they ask."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(default=1.0, ge=0.001, le=1_000)
    """Turns are 1 / weight apart and counted for ever: with steps of millions the others' would be lost in rounding."""


class PriceConfig(BaseModel):
    """One `[[prices]]` table: what a model costs from a day on (UTC), in USD for a million tokens, before all tables.

    `cached` and `cache_write` are those kinds of input; left out, they cost as much as other input.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(pattern=r"^[^/\s]+/\S+$")]
    since: date = Field(alias="from")
    input: Decimal = Field(ge=0, le=1_000_000, max_digits=16, decimal_places=9)
    output: Decimal = Field(ge=0, le=1_000_000, max_digits=16, decimal_places=9)
    cached: Decimal | None = Field(default=None, ge=0, le=1_000_000, max_digits=16, decimal_places=9)
    cache_write: Decimal | None = Field(default=None, ge=0, le=1_000_000, max_digits=16, decimal_places=9)

    @property
    def version(self) -> str:
        """As stored beside what it priced."""
        return f"local:{self.since.isoformat()}"


class AlertsConfig(BaseModel):
    """The `[alerts]` table: where budgets' alerts are posted, and which variable holds the secret that signs them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    webhook_url: HttpUrl | None = None
    secret_env: str = "ONCEQ_WEBHOOK_SECRET"  # noqa: S105 - a name


class FileConfig(BaseModel):
    """`onceq.toml`: providers by name, aliases for models (one, or a list of fallbacks), lanes, tenants, own prices,
    budgets, and where their alerts go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    providers: dict[str, ProviderConfig] = Field(default_factory=dict[str, ProviderConfig])
    aliases: dict[str, str | Annotated[list[str], Field(min_length=1, max_length=8)]] = Field(
        default_factory=dict[str, str | list[str]]
    )
    lanes: dict[str, LaneLimits] = Field(default_factory=dict[str, LaneLimits])
    tenants: dict[TenantName, TenantConfig] = Field(default_factory=dict[TenantName, TenantConfig])
    prices: list[PriceConfig] = Field(default_factory=list[PriceConfig])
    budgets: list[BudgetRequest] = Field(default_factory=list[BudgetRequest], max_length=1_000)
    alerts: AlertsConfig = AlertsConfig()

    @model_validator(mode="after")
    def one_price_a_day(self) -> Self:
        """Two prices of one model from one day would leave open which one holds."""
        named = [(price.model, price.since) for price in self.prices]
        twice = next((name for name in named if named.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"[[prices]] has two prices of {twice[0]} from {twice[1]}: leave one")
        return self

    @model_validator(mode="after")
    def usable_budgets(self) -> Self:
        """A budget is known by its tenant and name, and its days begin in a zone that exists."""
        named = [(budget.tenant or DEFAULT_TENANT, budget.name) for budget in self.budgets]
        twice = next((name for name in named if named.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"[[budgets]] has two of tenant {twice[0]} named {twice[1]!r}: rename one")
        for budget in self.budgets:
            zone(budget.time_zone)
        return self


class Settings(BaseSettings):
    """Everything a process of onceq needs to know, from `ONCEQ_*` variables; durations are seconds.

    An empty variable is as one that is not set.
    """

    model_config = SettingsConfigDict(env_prefix="ONCEQ_", env_ignore_empty=True, extra="ignore", frozen=True)

    redis_url: Annotated[str, AfterValidator(redis_address)] = "redis://127.0.0.1:6379/0"
    queue: str = Field(default="main", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    config: Path | None = None
    data_dir: Path = Path(".onceq")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    dashboard_port: int = Field(default=8501, ge=0, le=65535)
    api_processes: int = Field(default=1, ge=1, le=64)
    worker_processes: int = Field(default=2, ge=1, le=64)
    worker_concurrency: int = Field(default=32, ge=1, le=10_000)
    drain_s: float = Field(default=110.0, ge=0)
    simulator_url: HttpUrl | None = None
    lease_s: float = Field(default=15.0, ge=1, allow_inf_nan=False)
    deadline_s: float = Field(default=86_400.0, gt=0, allow_inf_nan=False)
    max_calls: int = Field(default=3, ge=1)
    max_tries: int = Field(default=20, ge=1)
    result_ttl_s: int = Field(default=86_400, ge=1)
    events_ttl_s: int = Field(default=3_600, ge=1)
    idempotency_ttl_s: int = Field(default=86_400, ge=1)
    dedupe_window_s: int = Field(default=600, ge=0)
    keep_alive_s: float = Field(default=15.0, gt=0)
    flush_ms: float = Field(default=20.0, ge=0)
    """Longest time between two flushes of a worker's events, where many calls share them."""
    lanes: dict[str, LaneLimits] = Field(default_factory=dict[str, LaneLimits])
    """Limits of lanes, before those of the file: `ONCEQ_LANES='{"openai/*": {"requests_per_minute": 50}}'`."""
    tenants: dict[TenantName, TenantConfig] = Field(default_factory=dict[TenantName, TenantConfig])
    """Weights of tenants, before those of the file: `ONCEQ_TENANTS='{"acme": {"weight": 3}}'`."""
    label_keys: list[LabelKey] = Field(default=["prompt", "version"], max_length=4)
    """Labels by which costs are summed up, beside team, model, band and key: `ONCEQ_LABEL_KEYS='["project"]'`."""
    cors_origins: list[Annotated[str, AfterValidator(origin)]] = Field(default_factory=list[str])
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_json: bool = False

    @model_validator(mode="after")
    def results_outlive_what_finds_them(self) -> Self:
        """A key or question whose job's result is gone would make a second job, and a second bill."""
        found_by = {"ONCEQ_IDEMPOTENCY_TTL_S": self.idempotency_ttl_s, "ONCEQ_DEDUPE_WINDOW_S": self.dedupe_window_s}
        longer = {name: seconds for name, seconds in found_by.items() if seconds > self.result_ttl_s}
        if longer:
            names = " and ".join(f"{name} ({seconds})" for name, seconds in longer.items())
            raise ValueError(
                f"ONCEQ_RESULT_TTL_S ({self.result_ttl_s}) is less than {names}, so a request that is sent again could "
                f"be paid for twice: raise it to {max(longer.values())} or more, or lower what is above it"
            )
        return self

    def environment(self) -> dict[str, str]:
        """The variables from which a child reads the same settings; defaults too, which win over what it inherits."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {f"ONCEQ_{name.upper()}": v if isinstance(v, str) else json.dumps(v) for name, v in values.items()}

    def file(self) -> FileConfig:
        """Reads `onceq.toml` (ONCEQ_CONFIG, else ./onceq.toml if there); raises ConfigurationError."""
        return read_config(self.config)

    def providers(self) -> dict[str, ProviderConfig]:
        """The configured providers by name; all of them on the simulator when there is a `simulator_url`."""
        providers = DEFAULT_PROVIDERS | self.file().providers
        if self.simulator_url is None:
            return providers
        return {name: on_simulator(p, self.simulator_url) for name, p in providers.items()}


def zone(name: str) -> ZoneInfo:
    """A time zone by its IANA name; raises ValueError where there is none of that name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise ValueError(f"there is no time zone {name!r}: use a name like UTC or Europe/Berlin") from exc


def limits_of(lane: str, lanes: Mapping[str, LaneLimits]) -> LaneLimits | None:
    """The limits that fit a lane best: its own, its provider's (`openai/*`), those of all (`*`); None without any."""
    names = (lane, f"{lane.partition('/')[0]}/*", "*")
    return next((lanes[name] for name in names if name in lanes), None)


SIMULATOR_PATHS: dict[ProviderKind, str] = {"openai": "/openai/v1", "anthropic": "/anthropic", "bedrock": "/bedrock"}


def on_simulator(provider: ProviderConfig, url: str) -> ProviderConfig:
    """The same provider, spoken to at the simulator: no key, and everything it does marked `simulated`."""
    return provider.model_copy(
        update={"base_url": url.rstrip("/") + SIMULATOR_PATHS[provider.kind], "simulated": True, "key_env": None}
    )


def read_config(path: Path | None) -> FileConfig:
    """The configuration file; an empty one when none is named and ./onceq.toml does not exist."""
    found = path or Path("onceq.toml")
    if path is None and not found.exists():
        return FileConfig()
    try:
        return FileConfig.model_validate(tomllib.loads(found.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigurationError(f"{found} can't be used: {exc}. Mend the file, then start again.") from exc
    except ValidationError as exc:
        wrong = "; ".join(_told(".".join(map(str, e["loc"])), e) for e in exc.errors())
        raise ConfigurationError(f"{found} can't be used: {wrong}. Mend the file, then start again.") from exc


def _told(where: str, error: ErrorDetails) -> str:
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment, with overrides from the command line; raises ConfigurationError."""
    try:
        return Settings(**{k: v for k, v in overrides.items() if v is not None})
    except ValidationError as exc:
        lines = "; ".join(_told(f"ONCEQ_{str(e['loc'][0]).upper()}" if e["loc"] else "", e) for e in exc.errors())
        raise ConfigurationError(f"a setting is not usable: {lines}.") from exc
    except SettingsError as exc:
        raise ConfigurationError(f"a setting is not usable: {_not_json(exc)}.") from exc


def _not_json(exc: SettingsError) -> str:
    """pydantic-settings names the field of a value that is not JSON in its words alone."""
    named = re.search(r'field "(\w+)"', str(exc))
    if named is None or named[1] not in Settings.model_fields:
        return str(exc)
    a_list = get_origin(Settings.model_fields[named[1]].annotation) is list
    kind = """a JSON list like '["a", "b"]'""" if a_list else """a JSON object like '{"name": {...}}'"""
    return f"ONCEQ_{named[1].upper()}: write {kind}"
