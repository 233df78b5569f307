"""What `onceq up` says when everything runs, and what each provider is."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

from onceq.wire import Health
from onceq_service.embedded.mode import Mode, ProviderMode
from onceq_service.embedded.stack import Stack, key_path

SIMULATED: Final = (
    "SIMULATED: {why}, so a simulator answers for all of them. Nothing is billed, and everything it does is "
    "marked simulated."
)
REAL: Final = "REAL: calls go to the providers and cost money."


def banner(stack: Stack, health: Health, seconds: float) -> list[str]:
    """The lines to print; `health` is what /readyz says."""
    rows = [
        ("API", f"{stack.base_url}  (reference: {stack.base_url}/docs)"),
        *([("Dashboard", stack.dashboard_url)] if stack.dashboard_url else []),
        ("API key", f"{stack.api_key}  (in {key_path(stack.settings)})"),
        ("Data", f"{stack.settings.data_dir}  ({durability(health)})"),
    ]
    return [
        f"onceq {health.version} is up, {seconds:.1f} s.".replace("  ", " "),
        "",
        *(f"  {name:<10} {value}" for name, value in rows),
        "",
        *(f"  {line}" for line in mode_lines(stack.mode)),
        *(f"  ! {problem}" for problem in health.problems),
        "",
        f'  Try `{command()} ask "Why is the sky blue?"` in another terminal. Ctrl-C stops it all; no job is lost.',
    ]


def mode_lines(mode: Mode) -> list[str]:
    """Which answers are real, and why; one line per provider."""
    return [headline(mode), *(f"  {p.name:<12} {_word(p)}" for p in mode.providers)]


def headline(mode: Mode) -> str:
    """Real or simulated, in one sentence."""
    if not mode.simulated:
        return REAL
    return SIMULATED.format(why=mode.providers[0].because if mode.providers else "no provider is configured")


def command() -> str:
    """What to type for onceq: its path where the shell does not find it, as after `make up`."""
    called = sys.argv[0]
    return called if shutil.which("onceq") is None and Path(called).name == "onceq" else "onceq"


def durability(health: Health) -> str:
    """What a 202 promises, in words."""
    return "every accepted job is on the disk" if health.durability == "strict" else "durability relaxed: see below"


def _word(provider: ProviderMode) -> str:
    return f"{provider.how} ({provider.because})" if provider.how != "simulated" else "simulated"
