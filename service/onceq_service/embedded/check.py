"""What a look at one thing came to; `onceq doctor` shows each in a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `advice` is empty where all is well."""

    level: Level
    name: str
    says: str
    advice: str = ""
