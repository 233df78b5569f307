"""What a test reads off a page that AppTest ran."""

from __future__ import annotations

import re

import pandas as pd
from streamlit.testing.v1 import AppTest


def tiles(page: AppTest) -> dict[str, str]:
    """Label to value, as shown."""
    return {metric.label: metric.value.replace("\\$", "$") for metric in page.metric}


def marks(page: AppTest) -> dict[str, str]:
    """Label to what stands below the value."""
    return {metric.label: metric.delta for metric in page.metric}


def tables(page: AppTest) -> list[pd.DataFrame]:
    """The data of its tables."""
    return [frame.value for frame in page.dataframe]


def callouts(page: AppTest) -> list[str]:
    """All callouts, the worst first, in Markdown."""
    return [c.value for part in (page.error, page.warning, page.info, page.success) for c in part]


def markdown(page: AppTest) -> list[str]:
    """Every text of the page that is read as Markdown."""
    parts = (page.markdown, page.caption, page.title, page.subheader, page.error, page.warning, page.info, page.success)
    labels = [metric.label for metric in page.metric] + [metric.value for metric in page.metric]
    return [str(part.value) for group in parts for part in group] + labels


def rendered(text: str) -> str:
    """What is left of Markdown that could be markup: without escaped signs and code spans."""
    return re.sub(r"(`+) ?.*? ?\1", "", re.sub(r"\\[!-/:-@\[-`{-~]", "", text))
