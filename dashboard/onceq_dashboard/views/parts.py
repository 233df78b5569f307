"""What the pages have in common: tiles, callouts, the switch between real and simulated work."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import tzinfo
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pandas as pd
import streamlit as st

from onceq import Stats
from onceq_dashboard.source import SourceError, Trouble

if TYPE_CHECKING:
    from streamlit.elements.lib.column_types import ColumnConfig

Columns = Mapping[str, "ColumnConfig"]

SIMULATED_NOTE: Final = (
    "**SIMULATED.** These answers come from the built-in simulator, and these costs are what they would have been. "
    "Nobody was billed."
)


class Tile(NamedTuple):
    """One number with its unit, and what it means."""

    label: str
    value: str
    help: str


def tiles(row: Sequence[Tile], columns: int = 6) -> None:
    """Numbers side by side, as many as the screen has room for, two on a phone."""
    with st.grid(columns, min_column_width=148):
        for tile in row:
            st.metric(tile.label, tile.value.replace("$", r"\$"), help=tile.help, border=True, height="stretch")


@contextmanager
def told() -> Generator[None]:
    """Turn a reading that failed into a callout, and end this run of the page (or of its live part)."""
    try:
        yield
    except SourceError as exc:
        trouble(exc.trouble)
        st.stop()


def trouble(why: Trouble) -> None:
    """A callout that says what happened."""
    icon = {"away": "🔌", "unavailable": "🔌", "key": "🔑", "scope": "🔑", "missing": "🔍"}.get(why.kind, "⚠️")
    show = st.info if why.kind == "missing" else st.error
    show(why.sentence, icon=icon)


def simulated_chosen(stats: Stats, key: str) -> bool:
    """Whether the page shows simulated work: asked where there are both kinds, else what there is."""
    real, simulated = bool(stats.last_24h.jobs), bool(stats.last_24h_simulated.jobs)
    if real and simulated:
        kinds = ["Real", "Simulated"]
        picked = st.segmented_control("Which work", kinds, default="Real", required=True, key=key)
        return picked == "Simulated"
    return simulated or (stats.simulated and not real)


def simulated_note() -> None:
    """The mark that nobody can overlook."""
    st.warning(SIMULATED_NOTE, icon="🧪")


def as_data(frame: pd.DataFrame, key: str) -> None:
    """The numbers behind a chart."""
    with st.expander("As data"):
        table(frame, key, height=260)


def table(
    frame: pd.DataFrame,
    key: str,
    columns: Columns | None = None,
    height: int | Literal["auto"] = "auto",
) -> None:
    """A frame as it is; its texts are shown as text."""
    st.dataframe(frame, hide_index=True, key=key, column_config=columns, height=height)  # pyright: ignore[reportUnknownMemberType] - Streamlit names a type of a library that is not installed


def selectable(frame: pd.DataFrame, key: str, columns: Columns, on_select: Callable[[], None]) -> None:
    """A frame of which one row can be picked."""
    st.dataframe(  # pyright: ignore[reportUnknownMemberType] - as in `table`
        frame, hide_index=True, key=key, column_config=columns, on_select=on_select, selection_mode="single-row"
    )


def zone() -> tzinfo | None:
    """The reader's time zone; None (UTC) where the browser does not tell."""
    try:
        return ZoneInfo(st.context.timezone) if st.context.timezone else None
    except (ZoneInfoNotFoundError, ValueError):
        return None
