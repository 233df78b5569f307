"""No name at the top of a module is there for nobody: something else in the repository says it too."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = ("sdk", "service", "dashboard")
READERS = (*CODE, "tests", "benchmarks", "docs", "notebooks", "deploy")
SUFFIXES = {".py", ".lua", ".md", ".ipynb", ".yml", ".toml"}
CALLED_BY_OTHERS = {"__dir__", "load_ipython_extension"}
"""By Python and by IPython."""


def names_of(module: Path) -> Iterator[str]:
    """What a module defines; not what a decorator hands to a framework."""
    for node in ast.parse(module.read_text("utf-8")).body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() if not node.decorator_list:
                yield node.name
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case _:
                pass


def test_every_name_of_a_module_is_used_or_told_somewhere() -> None:
    files = [path for folder in READERS for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    files += [path for path in ROOT.iterdir() if path.suffix in SUFFIXES]
    said = Counter(word for path in files for word in re.findall(r"\w+", path.read_text("utf-8")))
    modules = [path for path in files if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in CODE]
    names = {(name, path.name) for path in modules for name in names_of(path)}
    assert len(names) > 1_000
    assert {one for one in names if said[one[0]] == 1 and one[0] not in CALLED_BY_OTHERS} == set()
