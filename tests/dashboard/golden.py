"""Frames that must stay as they are: each is kept as a file that a person has read.

`ONCEQ_GOLDEN=write pytest tests/dashboard` writes them anew; the difference is then to be read in the commit.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).with_name("golden")


def check(name: str, frame: pd.DataFrame) -> None:
    """The frame, its columns' types included, is the one in `golden/<name>.csv`."""
    assert len(frame), "an empty frame proves nothing"
    check_text(f"{name}.csv", as_text(frame))


def check_text(name: str, text: str) -> None:
    """The text is the one in the file of that name."""
    path = FOLDER / name
    if os.environ.get("ONCEQ_GOLDEN") == "write":
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def as_text(frame: pd.DataFrame) -> str:
    """A line of the columns' types, then CSV."""
    kinds = " ".join(f"{column}:{kind}" for column, kind in frame.dtypes.items())
    return f"# {kinds}\n{frame.to_csv(index=False, na_rep='NaN', lineterminator=chr(10))}"
