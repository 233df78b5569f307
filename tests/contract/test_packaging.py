"""What is installed, is pinned and checked; and nothing in the pins tells whose machine wrote them."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
ALL, RUN = ROOT / "requirements.lock", ROOT / "requirements-run.lock"


def pins(lock: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Name and marker -> version and hashes."""
    text = re.sub(r"^\s*#.*\n", "", lock.read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for line in text.splitlines():
        pin = re.match(r"(?P<name>[\w.-]+)==(?P<version>\S+)\s*(?P<marker>;[^-]*(?:-(?!-)[^-]*)*)?", line)
        assert pin, f"{lock.name} has a line that is not a pin: {line[:80]}"
        hashes = frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
        found[pin["name"] + (pin["marker"] or "").strip()] = (pin["version"], hashes)
    return found


def test_every_pin_has_hashes() -> None:
    for lock in (ALL, RUN):
        found = pins(lock)
        assert len(found) > 50
        assert [name for name, (_, hashes) in found.items() if not hashes] == []


def test_what_running_needs_is_a_part_of_what_the_tests_need() -> None:
    everything = pins(ALL)
    assert [
        pin for pin, what in pins(RUN).items() if what not in (everything.get(pin), everywhere(pin, everything))
    ] == []


def everywhere(pin: str, found: dict[str, tuple[str, frozenset[str]]]) -> tuple[str, frozenset[str]] | None:
    """The pin without its marker: what is pinned for every machine is pinned for those that the marker names."""
    return found.get(pin.partition(";")[0])


def test_the_pins_name_no_host_no_index_and_no_folder() -> None:
    for lock in (ALL, RUN):
        told = re.findall(r"://|--(?!hash=)[a-z-]+|@ |/(?:home|root|opt|tmp|work|usr)/", lock.read_text("utf-8"))
        assert told == []


def test_what_is_installed_here_is_what_is_pinned() -> None:
    for name in ("fastapi", "pydantic", "httpx2", "redis", "taskiq", "openai", "anthropic", "boto3", "streamlit"):
        assert version(name) == pins(ALL)[name][0]
