"""The showroom's own folder: what is in it, whether it can be used again, and how it is emptied."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

import msgspec

from onceq.errors import ConfigurationError
from onceq_service.embedded.credentials import write_private
from onceq_service.embedded.lock import make_folder

NOTE: Final = "showroom.json"
CONFIG: Final = "onceq.toml"
OTHERS: Final = frozenset({"lock"})
"""What may be in a folder that is as good as empty."""
TOML: Final = """\
# The showroom's configuration: what limits each model, and prices as they were, from a day on (UTC).
[aliases]
small = "openai/gpt-4o-mini"
careful = ["anthropic/claude-sonnet-4-5", "bedrock/amazon.nova-pro-v1:0"]

[lanes."openai/gpt-4o-mini"]
requests_per_minute = 5000
output_tokens_per_minute = 400_000

[lanes."openai/gpt-4o"]
requests_per_minute = 500
input_tokens_per_minute = 450_000

[lanes."openai/gpt-5"]
requests_per_minute = 500

[lanes."anthropic/*"]
requests_per_minute = 1000
output_tokens_per_minute = 90_000

[lanes."bedrock/*"]
requests_per_minute = 800
concurrency = 40

[[prices]]
model = "openai/gpt-4o-mini"
from = {first}
input = 0.15
cached = 0.075
output = 0.60

[[prices]]      # a better contract
model = "openai/gpt-4o-mini"
from = {second}
input = 0.12
cached = 0.06
output = 0.50
"""


@dataclass(frozen=True, slots=True)
class Note:
    """What was put there; `secrets` are the API keys of its applications, for the live traffic."""

    state: Literal["filling", "filled"]
    jobs: int
    seed: int
    until: datetime
    posts: int = 0
    secrets: dict[str, str] = field(default_factory=dict[str, str])


_decode = msgspec.json.Decoder(Note).decode


def read(folder: Path) -> Note | None:
    """The note of what is there, None for a folder that is empty or not there.

    Raises ConfigurationError for a folder that holds something else: nothing is ever removed from such a one.
    """
    note = folder / NOTE
    if note.is_file():
        try:
            return _decode(note.read_bytes())
        except msgspec.MsgspecError as exc:
            raise ConfigurationError(f"{note} can't be read: remove {folder}, then start again.") from exc
    if folder.is_dir() and {path.name for path in folder.iterdir()} - OTHERS:
        raise ConfigurationError(
            f"{folder} holds something that is no showroom: choose another folder with --data-dir. Nothing was touched."
        )
    return None


def write(folder: Path, note: Note) -> None:
    """Puts the note there, for its owner alone: it has keys in it."""
    write_private(folder / NOTE, json.dumps(msgspec.to_builtins(note), indent=1) + "\n")


def prepare(folder: Path, note: Note) -> Path:
    """An empty folder with its note and configuration; the latter's path."""
    make_folder(folder)
    write(folder, note)
    path = folder / CONFIG
    month = note.until.astimezone(UTC)
    path.write_text(
        TOML.format(first=(month - timedelta(days=60)).date(), second=(month - timedelta(days=12)).date()), "utf-8"
    )
    return path


def empty(folder: Path) -> None:
    """Removes a showroom with all that is in it; raises ConfigurationError for a folder that is none."""
    if read(folder) is not None:
        shutil.rmtree(folder)
