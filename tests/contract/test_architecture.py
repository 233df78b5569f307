"""ARCHITECTURE.md says what the code does: its tables are generated from it, and its paths exist."""

from __future__ import annotations

import re
from pathlib import Path

from onceq_service.store import scripts
from onceq_service.store.keys import KEYS, Keys, lua_builders, shard

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "ARCHITECTURE.md").read_text("utf-8")


def key_table() -> list[str]:
    return [f"| `{k.pattern}` | {k.kind} | {k.holds} | {k.lives} |" for k in KEYS.values()]


def test_the_key_table_is_the_one_in_the_code() -> None:
    rows = [
        line for line in PAGE.split("## Redis keys")[1].split("## States")[0].splitlines() if line.startswith("| `")
    ]
    assert rows == key_table()


def test_every_script_is_named() -> None:
    named = re.findall(r"`(\w+)`", PAGE.split("takes its time from Redis:")[1].split("## States")[0])
    assert named == [script.name for script in scripts.ALL]


def test_every_file_that_the_page_names_exists() -> None:
    service = ROOT / "service" / "onceq_service"
    named = set(re.findall(r"`([\w/]+\.(?:py|lua|toml))`", PAGE))
    assert len(named) > 10
    homes = [ROOT, service, service / "store", service / "store" / "lua", ROOT / "sdk" / "onceq",
             ROOT / "dashboard" / "onceq_dashboard"]  # fmt: skip
    missing = [name for name in named if not any((home / name).exists() for home in homes)]
    assert not missing


def test_keys_are_spelt_only_in_keys_py() -> None:
    """A Lua script builds a key only through the builders, and no Python file but keys.py spells the root."""
    for path in (ROOT / "service" / "onceq_service" / "store" / "lua").glob("*.lua"):
        assert not re.search(r"onceq:|P \.\. '|KEYS\[[^1]", path.read_text("utf-8")), path.name
    for folder in ("service", "sdk", "dashboard"):
        for path in (ROOT / folder).rglob("*.py"):
            spelt = re.search(r"onceq:\{", path.read_text("utf-8"))
            assert spelt is None or path.name == "keys.py", path


def test_the_lua_builders_make_the_same_keys_as_python() -> None:
    keys = Keys("q")
    built = {m[1]: m[2] for m in re.finditer(r"local function k_(\w+)\(.*?\) return (.*) end", lua_builders())}
    assert set(built) == set(KEYS)
    as_python = built["wait"].replace("..", "+").replace("P", repr(keys.root), 1)
    assert eval(as_python, {"a0": "b", "a1": "l", "a2": "t"}) == keys("wait", "b", "l", "t")


def test_a_job_is_on_one_of_64_channels() -> None:
    assert {shard(f"job_{n:032x}") for n in range(256)} == set(range(64))
