"""docs/operations.md has every setting, with the default that it has."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pydantic_core import to_jsonable_python

from onceq_service.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
WITHOUT = {"config": "./onceq.toml", "simulator_url": ""}
"""What is said of settings whose default is none."""


def test_the_table_has_each_setting_once_with_its_default() -> None:
    rows = re.findall(r"^\| `ONCEQ_(\w+)` \| (.*?) ?\| .+ \| .+ \|$", PAGE, flags=re.MULTILINE)
    assert rows
    assert dict(rows) == {name.upper(): told(name) for name in Settings.model_fields}
    assert len(rows) == len(Settings.model_fields)


def told(name: str) -> str:
    """A default as the page writes it."""
    default = to_jsonable_python(Settings.model_fields[name].get_default(call_default_factory=True))
    if default is None:
        return WITHOUT[name]
    if isinstance(default, float):
        return f"{default:g}"
    return default if isinstance(default, str) else json.dumps(default)
