"""The API reference is built from the docstrings without a network, strictly, and lists every public name."""

from __future__ import annotations

import re
import subprocess
import sys
import zlib
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OFFLINE = """
import socket, sys
def refuse(*args): raise OSError("the reference is built without a network")
socket.socket.connect = socket.getaddrinfo = refuse
from mkdocs.__main__ import cli
cli(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def described(site: Path) -> set[str]:
    """Every name that has a place in the reference."""
    lines = zlib.decompress((site / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode().splitlines()
    return {line.split(" ", 1)[0] for line in lines}


@pytest.mark.parametrize("module", ["onceq", "onceq.wire", "onceq.testing"])
def test_every_public_name_is_in_the_reference(module: str, described: set[str]) -> None:
    names: list[str] = import_module(module).__all__
    assert len(names) > 1
    places = {name.rpartition(".")[2] for name in described}
    assert [name for name in names if name not in places and name != "__version__"] == []


def test_every_method_of_a_client_is_in_the_reference(described: set[str]) -> None:
    for kind in ("Client", "AsyncClient"):
        methods = [name for name in dir(getattr(import_module("onceq"), kind)) if not name.startswith("_")]
        assert len(methods) > 20
        assert [name for name in methods if f"onceq.{kind}.{name}" not in described] == []


def test_every_error_is_in_the_reference(described: set[str]) -> None:
    tree = import_module("onceq.errors")
    errors = [name for name, value in vars(tree).items() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(errors) > 10
    assert [name for name in errors if f"onceq.errors.{name}" not in described] == []


def test_the_tree_of_errors_is_shown_as_it_is_drawn(site: Path) -> None:
    assert "<code>OnceqError  " in (site / "errors.html").read_text("utf-8")


def test_an_exception_is_not_among_the_values() -> None:
    listed = re.findall(r"^::: ([\w.]+)\.(\w+)$", (ROOT / "docs/sdk/values.md").read_text("utf-8"), re.MULTILINE)
    assert len(listed) > 10
    values = {name: getattr(import_module(module), name) for module, name in listed}
    wrong = [name for name, value in values.items() if isinstance(value, type) and issubclass(value, Exception)]
    assert wrong == []


def test_a_page_fetches_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.glob("*.html"))
    assert len(pages) > 5
    for page in pages:
        fetched = re.findall(r'<(?:script|img|iframe|link rel="(?:stylesheet|icon|preconnect)")[^>]*', page.read_text())
        assert [tag for tag in fetched if re.search(r'(?:src|href)="?(?:https?:)?//', tag)] == []
