"""The notebooks run from top to bottom against the real service, found as a reader's would find it: by the folder.

One after the other for one reader, so that each keeps its word after those before it too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import nbformat
import pytest

from tests.sdk.notebook.kernel import executed, reader_folder
from tests.stack import Stack

NOTEBOOKS = sorted((Path(__file__).parents[3] / "notebooks").glob("*.ipynb"))
PRINTED = {
    "01_first_stream": ("nothing missing, nothing twice", "bill amplification: 1.0"),
    "02_map_a_frame": (
        "120 rows. 120 requests would be posted: at most $",
        "20 of 120 rows, $",
        "120 rows, 120 answered, 120 jobs",
        "0 new jobs for running it again",
        "3 new jobs for three corrected rows",
        "{'mood': 'string', 'stars': 'Int64', 'would_return': 'boolean'}",
        "{'succeeded': 36, 'failed': 4}",
        "12 lines for 4 rows",
        "10 rows came",
        "211 answers in this notebook, 211 billed calls",
    ),
    "03_resume_cancel_crash": ("asked twice, 1 billed call", "nothing missing, nothing twice", "of which wasted"),
    "04_costs": ("60 jobs, 60 billed calls", "{'replayed': 60}", "bill amplification: 1.0"),
    "05_compare_models": ("36 answers", "asked twice: 36 jobs, 36 billed calls"),
}
"""What a reader is shown at the points where a notebook keeps its word."""
PLOTS = {"02_map_a_frame": 2, "03_resume_cancel_crash": 2, "04_costs": 1, "05_compare_models": 1}


@pytest.fixture(scope="module")
def reader(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of somebody who goes through all of them."""
    return reader_folder(stack, tmp_path_factory.mktemp("reader"), f"reader-{uuid4().hex[:8]}")


def read(path: Path) -> Any:
    reader: Any = nbformat  # it has no annotations
    return reader.read(path, as_version=4)


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def printed(notebook: Any) -> str:
    """All that the cells have printed."""
    return "".join(output["text"] for output in outputs(notebook) if output["output_type"] == "stream")


def plots(notebook: Any) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


def test_every_notebook_has_a_word_to_keep() -> None:
    assert {path.stem for path in NOTEBOOKS} == PRINTED.keys()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert cells
    assert [cell.source for cell in cells if cell.outputs or cell.execution_count] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_says(path: Path, reader: Path) -> None:
    notebook = executed(read(path), reader)
    for words in PRINTED[path.stem]:
        assert words in printed(notebook)
    assert plots(notebook) == PLOTS.get(path.stem, 0)
    warned = [o["text"] for o in outputs(notebook) if o["output_type"] == "stream" and o["name"] == "stderr"]
    assert warned == []
