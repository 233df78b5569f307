"""The notebooks run from top to bottom against the real service, found as a reader's would find it: by the folder."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.stack import Stack

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of the kernel's own packages, at import
    from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def read(path: Path) -> Any:
    reader: Any = nbformat  # it has no annotations
    return reader.read(path, as_version=4)


def printed(notebook: Any) -> str:
    """All that the cells have printed."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output["text"] for output in outputs if output["output_type"] == "stream")


def test_there_is_a_notebook() -> None:
    assert [path.name for path in NOTEBOOKS][:1] == ["01_first_stream.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert cells
    assert [cell.source for cell in cells if cell.outputs or cell.execution_count] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ONCEQ_BASE_URL", "ONCEQ_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    folder = tmp_path / ".onceq"
    folder.mkdir()
    (folder / "url").write_text(stack.url)
    (folder / "api-key").write_text(stack.key(tenant=f"reader-{path.stem}"))  # its bill is its own
    notebook = read(path)
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert "nothing missing, nothing twice" in printed(notebook)
    assert "bill amplification: 1.0" in printed(notebook)
