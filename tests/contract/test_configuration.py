"""docs/configuration.md has every variable and every key of onceq.toml, with the default that it has, and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from onceq.wire import BudgetRequest
from onceq_service.names import ELSEWHERE, unknown_names
from onceq_service.settings import (
    AlertsConfig,
    FileConfig,
    LaneLimits,
    PriceConfig,
    ProviderConfig,
    Settings,
    TenantConfig,
    read_config,
)

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text("utf-8")
WITHOUT = {
    "config": "./onceq.toml", "simulator_url": "", "base_url": "the provider's own", "key_env": "see below",
    "region": "see below", "responses_api": "see below", "cached": "as `input`", "cache_write": "as `input`",
    "team": "any", "key": "any", "model": "any", "labels": "any", "tenant": "default", "webhook_url": "none",
}  # fmt: skip
"""What is said of those whose default depends on other things, or is none."""
TABLES: dict[str, type[BaseModel]] = {
    "[providers.NAME]": ProviderConfig, '[lanes."PATTERN"]': LaneLimits, "[tenants.NAME]": TenantConfig,
    "[[prices]]": PriceConfig, "[[budgets]]": BudgetRequest, "[alerts]": AlertsConfig,
}  # fmt: skip


def test_the_table_has_each_setting_once_with_its_default() -> None:
    rows = re.findall(r"^\| `ONCEQ_(\w+)` \| (.*?) ?\| .+ \| .+ \|$", PAGE, flags=re.MULTILINE)
    assert rows
    assert dict(rows) == {name.upper(): told(name, field) for name, field in Settings.model_fields.items()}
    assert len(rows) == len(Settings.model_fields)


def test_what_others_read_is_there_too() -> None:
    rows = re.findall(r"^\| `(ONCEQ_\w+)` \| [^|]+ \| [^|]+ \|$", PAGE, flags=re.MULTILINE)
    assert sorted(rows) == sorted({*ELSEWHERE, AlertsConfig().secret_env})


def test_each_table_of_the_file_has_a_part() -> None:
    parts = re.findall(r"^### `(\[.+\])`$", PAGE, flags=re.MULTILINE)
    assert [re.sub(r"\W*(\w+).*", r"\1", part) for part in parts] == list(FileConfig.model_fields)
    assert [part for part in parts if part not in TABLES] == ["[aliases]"]


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_each_key_once_with_its_default(table: str) -> None:
    part = PAGE.partition(f"### `{table}`\n")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| `(\w+)` \| .+? \| (.+?) \| .+ \|$", part, flags=re.MULTILINE)
    fields = TABLES[table].model_fields
    assert dict(rows) == {field.alias or name: told(name, field) for name, field in fields.items()}
    assert len(rows) == len(fields)


def test_the_example_is_accepted_and_has_every_key(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "onceq.toml").write_text(text, "utf-8")
    file = read_config(tmp_path / "onceq.toml")
    assert list(unknown_names(file, [])) == []
    said: dict[type[BaseModel], set[str]] = {}
    for part in parts_of(file):
        said.setdefault(type(part), set()).update(part.model_fields_set)
    assert said == {table: set(table.model_fields) for table in (FileConfig, *TABLES.values())}


def parts_of(file: FileConfig) -> Iterator[BaseModel]:
    yield from (file, *file.providers.values(), *file.lanes.values(), *file.tenants.values())
    yield from (*file.prices, *file.budgets, file.alerts)


def told(name: str, field: FieldInfo) -> str:
    """A default as the page writes it."""
    if field.is_required():
        return "needed"
    default = to_jsonable_python(field.get_default(call_default_factory=True))
    if name in WITHOUT:
        return WITHOUT[name]
    if isinstance(default, float):
        return f"{default:g}"
    return default if isinstance(default, str) else json.dumps(default)
