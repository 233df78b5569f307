"""The environment of each child: its settings, and no secret that it does not need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from onceq_service.settings import Settings

Role = Literal["api", "worker", "dashboard", "simulator"]

PROVIDER_PREFIXES: Final = ("OPENAI_", "ANTHROPIC_", "AWS_", "AZURE_OPENAI_")
"""What the provider SDKs read by themselves: keys, and hosts that would win over ours."""

SUPERVISED: Final = "ONCEQ_SUPERVISED"
"""Set for our children: their standard input is our pipe, and its end means that we are gone."""


OF_THE_DASHBOARD: Final = frozenset({"ONCEQ_DASHBOARD_SECRETS", "ONCEQ_DASHBOARD_HOSTS"})
"""What the dashboard reads beside `Settings`."""


def child_environment(
    role: Role, settings: Settings, base: Mapping[str, str], keys: Iterable[str], extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What a child gets of `base`: provider `keys` reach real workers alone, and Redis the API and the workers.

    The secret that signs alerts reaches workers alone, simulated ones too.
    """
    secret, signs = frozenset(keys), settings.file().alerts.secret_env
    own = {"worker": frozenset({signs}), "dashboard": OF_THE_DASHBOARD}.get(role, frozenset[str]())
    kept = {name: value for name, value in base.items() if name in own or not name.startswith("ONCEQ_")}
    if role != "worker":
        kept.pop(signs, None)
    if role != "worker" or settings.simulator_url is not None:
        kept = {n: v for n, v in kept.items() if n not in secret and not n.startswith(PROVIDER_PREFIXES)}
    told = settings.environment()
    if role not in {"api", "worker"}:
        del told["ONCEQ_REDIS_URL"]
    return kept | told | {SUPERVISED: "1", "PYTHONUNBUFFERED": "1"} | dict(extra or {})
