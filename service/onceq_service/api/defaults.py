"""What a request gets where it says nothing; from the settings, once a process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from onceq_service.settings import LaneLimits


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a request gets where it says nothing (seconds and counts); lanes' limits; labels to sum costs by."""

    deadline_s: float
    max_calls: int
    dedupe_window_s: int
    lanes: Mapping[str, LaneLimits] = field(default_factory=dict[str, LaneLimits])
    label_keys: Sequence[str] = ()
