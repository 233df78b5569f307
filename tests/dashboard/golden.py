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
    path = FOLDER / f"{name}.csv"
    kinds = " ".join(f"{column}:{kind}" for column, kind in frame.dtypes.items())
    text = f"# {kinds}\n{frame.to_csv(index=False, na_rep='NaN', lineterminator=chr(10))}"
    if os.environ.get("ONCEQ_GOLDEN") == "write":
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text)
    assert len(frame), "an empty frame proves nothing"
    assert text == path.read_text()
