"""Variables of our prefix that nobody reads: most often a setting with a typo, which would be ignored in silence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Final

from onceq_service.settings import FileConfig, Settings

PREFIX: Final = "ONCEQ_"
ELSEWHERE: Final = frozenset({
    "ONCEQ_BASE_URL", "ONCEQ_API_KEY",  # the SDK
    "ONCEQ_DASHBOARD_HOST", "ONCEQ_DASHBOARD_HOSTS", "ONCEQ_DASHBOARD_SECRETS",  # the dashboard
    "ONCEQ_SUPERVISED",  # children of `onceq up`
    "ONCEQ_REDIS_MAXMEMORY",  # docker-compose.yml
})  # fmt: skip
"""What is no setting, and read by others."""
_BY_KUBERNETES: Final = re.compile(r"_SERVICE_(HOST|PORT)(_\w+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$")
"""What pods are told of a Service whose name begins with onceq."""


def unread(env: Mapping[str, str], file: FileConfig) -> Iterator[tuple[str, str | None]]:
    """Each variable that nothing reads, and the one that may be meant."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | ELSEWHERE
    known |= {file.alerts.secret_env, *(p.key_env for p in file.providers.values() if p.key_env)}
    for name, value in env.items():
        ours = name.upper().startswith(PREFIX) and name not in known and name.upper() not in known
        if ours and not _BY_KUBERNETES.search(name) and not value.startswith(("tcp://", "udp://", "sctp://")):
            yield name, next(iter(get_close_matches(name.upper(), known, n=1, cutoff=0.75)), None)


def meant(name: str | None) -> str:
    """A question about what a typo stands for; empty without a guess."""
    return f"is {name} meant?" if name else ""
