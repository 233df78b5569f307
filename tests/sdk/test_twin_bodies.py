"""The two clients are one inside, too: what is mended in one twin is mended in the other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SDK = Path(__file__).parents[2] / "sdk/onceq"
TWINS = {"_client.py": "_async_client.py", "_handles.py": "_async_handles.py"} | {
    f"_blocking/{path.name}": f"_awaiting/{path.name}"
    for path in sorted((SDK / "_blocking").glob("[!_]*.py"))
    if path.stem != "base"  # which has no functions
}
ALIKE = (
    (r"\b(async|await) ", ""),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\b(_*)a(?=(closing|close|next|enter__|exit__|iter__|show)\b)", r"\1"),
    (r"\bamap\b", "imap"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\bawaited=True", "awaited=False"),
    (r"\bINTERRUPTS\b", "KeyboardInterrupt"),
    (r"\*LEFT, ", ""),
    (r"\bLEFT\b", "GeneratorExit"),
    (r"\bInner\(", "("),  # an async generator that another one closes
    (r"\bbegun_here\((.+), forked_map_error\(\)\)$", r"\1"),  # a child that is forked has no loop to go on in
    (r"\bfor (\w+) in (.+):\n +yield \1$", r"yield from \2"),
    (r"\[(\w+) for \1 in (.+)\]$", r"list(\2)"),
)
"""What awaiting changes in the words of a function, and what they are where nothing awaits."""
DIFFER = {
    "JobStream._walk": "`yield from` closes the generator within, which awaiting has to do by itself",
    "JobStream._ipython_display_": "a cell's value can't be awaited: it shows itself in the background",
    "Batches.follow_batch": "hands out the driver's generator, which awaiting wraps to close it",
    "Batches._followed": "that wrapping",
}
"""Functions that are not alike, and why."""


def functions(module: str) -> dict[str, str]:
    """The code of each function without its help, by its name in its class."""
    text = ast.unparse(ast.parse((SDK / module).read_text("utf-8")))
    for pattern, word in ALIKE:
        text = re.sub(pattern, word, text, flags=re.MULTILINE)
    kinds = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    members = [(kind, node) for kind in kinds for node in kind.body if isinstance(node, ast.FunctionDef)]
    return {f"{kind.name}.{node.name}": without_help(node) for kind, node in members}


def without_help(node: ast.FunctionDef) -> str:
    if ast.get_docstring(node):
        del node.body[0]
    return ast.unparse(node)


@pytest.mark.parametrize(("one", "other"), TWINS.items())
def test_a_twin_does_what_the_other_does(one: str, other: str) -> None:
    blocking, awaiting = functions(one), functions(other)
    names = blocking.keys() | awaiting.keys()
    assert names
    assert {name for name in names if blocking.get(name) != awaiting.get(name)} == names & DIFFER.keys()
