"""What the pages have in common: tiles, cards, callouts, the switch between real and simulated work."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, NoReturn
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import altair as alt
import pandas as pd
import streamlit as st
from streamlit.runtime.scriptrunner import StopException

from onceq import Stats
from onceq.wire import Scope
from onceq_dashboard import export, job_filters
from onceq_dashboard.access import ApiAccess, SourceError, Trouble
from onceq_dashboard.answers import Answer
from onceq_dashboard.format import DASH

if TYPE_CHECKING:
    from streamlit.elements.lib.column_types import ColumnConfig

Columns = Mapping[str, "ColumnConfig"]
Act = Callable[[], object]
MarkColour = Literal["orange", "gray", "green", "red"]

_TILE_PX, _MARK_PX, ROW_PX = 94, 26, 35
"""How high things are that the browser draws late: a number, the mark below it, a row of a table."""
LONG, _NAME_PX, NAME_LETTERS = 32, 210, 26
"""Letters of a name that are many, how wide a column of such names is, and how many of their letters it shows."""
HOW_TO_OPEN: Final = "Click a job to open it, or press Shift+Space in its row."
SIMULATED_NOTE: Final = (
    "**SIMULATED.** These answers come from the built-in simulator, and these costs are what they would have been. "
    "Nobody was billed."
)
_ICONS: Final = {
    "away": ":material/cloud_off:",
    "unavailable": ":material/cloud_off:",
    "key": ":material/key_off:",
    "scope": ":material/key_off:",
    "missing": ":material/search_off:",
}


class Tile(NamedTuple):
    """One number with its unit, and what it means. `mark` stands below it, for what must not be overlooked."""

    label: str
    value: str
    help: str
    mark: str | None = None
    colour: MarkColour = "orange"


def tiles(row: Sequence[Tile], columns: int = 6, *, live: bool = False) -> None:
    """Numbers side by side, as many as the screen has room for, two on a phone; live ones have room for a mark."""
    height = _TILE_PX + (_MARK_PX if live or any(tile.mark for tile in row) else 0)
    with st.grid(columns, min_column_width=140):
        for tile in row:
            st.metric(
                tile.label, tile.value.replace("$", r"\$"), tile.mark, tile.colour, delta_arrow="off", help=tile.help,
                border=True, height=height,
            )  # fmt: skip


def answers(found: Sequence[Answer], key: str, columns: int = 3) -> None:
    """Questions and their answers side by side; what somebody should look at has a mark."""
    with st.grid(columns, min_column_width=280, key=key):
        for one in found:
            with st.container(border=True, height="stretch", gap="xxsmall"):
                st.caption(f":orange[:material/flag:] {one.question}" if one.look else one.question)
                st.markdown(one.words)


def money_mark(*, simulated: bool) -> str | None:
    """What stands below an amount that nobody was billed."""
    return "simulated" if simulated else None


@contextmanager
def card(title: str, about: str) -> Generator[None]:
    """A frame around a chart: what is counted, and over which time."""
    with st.container(border=True, height="stretch"):
        st.markdown(f"**{title}** :gray[· {about}]")
        yield


def chart(drawn: alt.Chart | alt.LayerChart, key: str, alt_text: str) -> None:
    """A chart as wide as its place, which is as high before it is drawn; `alt_text` is what a screen reader says."""
    height = getattr(drawn, "height", None)
    st.altair_chart(drawn, key=key, alt=alt_text, height=height if isinstance(height, int) else "content")


@contextmanager
def show_errors() -> Generator[None]:
    """Turn a reading that failed into a callout, and end this run of the page (or of its live part)."""
    try:
        yield
    except SourceError as exc:
        trouble(exc.trouble)
        if exc.trouble.kind in {"away", "unavailable"}:
            st.button("Try again", icon=":material/refresh:")  # a click runs the page once more
        stop()


def stop() -> NoReturn:
    """Ends this run of the page, or of its live part; `st.stop` would forbid the foot of the page too."""
    raise StopException


def trouble(why: Trouble) -> None:
    """A callout that says what happened."""
    show = st.info if why.kind == "missing" else st.error
    show(why.sentence, icon=_ICONS.get(why.kind, ":material/error:"))


def not_allowed(access: ApiAccess, scope: Scope, what: str) -> None:
    """Why an action is not offered, and what to do."""
    who = access.key_name[:1].upper() + access.key_name[1:]
    st.caption(
        f":material/lock: {who} lacks the scope `{scope}`, so it can't {what}. Sign in with one that has it: an admin "
        f"makes it with `onceq keys create --scope {scope}`."
    )


def simulated_chosen(stats: Stats, key: str) -> bool:
    """Whether the page shows simulated work: asked where there are both kinds, else what there is."""
    return pick_kind(
        real=bool(stats.last_24h.jobs),
        simulated=bool(stats.last_24h_simulated.jobs),
        otherwise=stats.simulated,
        key=key,
    )


def pick_kind(*, real: bool, simulated: bool, otherwise: bool, key: str) -> bool:
    """Whether simulated work is shown: asked where there are both kinds, `otherwise` where there is none."""
    if real and simulated:
        picked = st.segmented_control(
            "Which work", ["Real", "Simulated"], default="Real", required=True, key=key, bind="query-params"
        )
        return picked == "Simulated"
    return simulated if real or simulated else otherwise


def simulated_note() -> None:
    """The mark that nobody can overlook."""
    st.warning(SIMULATED_NOTE, icon=":material/science:")


def as_data(frame: pd.DataFrame, key: str, columns: Columns | None = None, about: str = "") -> None:
    """The numbers behind a chart, to read and to take away. Made when somebody opens it.

    `key` names the file too, and `about` says of which time, grouping and work they are.
    """
    with st.expander("As data", key=f"{key}_open", on_change="rerun") as box:
        if not box.open:
            return
        st.dataframe(  # pyright: ignore[reportUnknownMemberType] - as in `table`
            frame, hide_index=True, key=key, column_config=_of_charts() | dict(columns or {}), height=260,
            placeholder=DASH,
        )  # fmt: skip
        download(frame, key, about)


def _of_charts() -> dict[str, ColumnConfig]:
    """What the columns of charts' frames are called."""
    return {
        "hour": st.column_config.DatetimeColumn("Hour from", format="YYYY-MM-DD HH:mm", timezone=zone_name()),
        "at": st.column_config.DatetimeColumn("From", format="YYYY-MM-DD HH:mm", timezone=zone_name()),
        "day": st.column_config.DatetimeColumn("Day (UTC)", format="YYYY-MM-DD", timezone="UTC"),
        "usd": st.column_config.NumberColumn("US dollars", format="%.6f"),
        "over_usd": st.column_config.NumberColumn("Over, $", format="%.6f"),
        "up_to_usd": st.column_config.NumberColumn("Up to, $", format="%.6f"),
        **{name: st.column_config.Column(words) for name, words in _WORDS.items()},
    }


_WORDS: Final = {
    "group": "Of", "part": "Part", "code": "Error", "blame": "Whom to ask", "line": "Line", "outcome": "Outcome",
    "jobs": "Jobs", "verdict": "Who is to blame", "phase": "Phase", "seconds": "Seconds", "from_s": "From, s",
    "to_s": "Until, s", "p50_s": "p50, s", "p95_s": "p95, s", "tokens_seen": "Jobs with a token", "groups": "Groups",
    "ttft_p50_s": "ttft p50, s", "ttft_p95_s": "ttft p95, s", "total_p50_s": "Total p50, s",
    "total_p95_s": "Total p95, s",
}  # fmt: skip
"""What other columns of charts' frames are called; a file has their own names."""


def download(frame: pd.DataFrame, key: str, about: str = "") -> None:
    """A button that gives a frame as a file; it is made when somebody clicks."""
    st.download_button(
        "Download CSV", lambda: export.frame_bytes(frame), file_name(key, about), "text/csv", key=f"{key}_csv",
        icon=":material/download:", on_click="ignore",
    )  # fmt: skip


def file_name(key: str, about: str) -> str:
    """What a file of these numbers is called: what, of which time, grouping and work, made on which day."""
    words = f"{key.removeprefix('data_')} {about}".replace("_", " ").lower().split()
    return f"onceq-{'-'.join(words)}-{datetime.now(UTC):%Y-%m-%d}.csv"


def table(
    frame: pd.DataFrame, key: str, columns: Columns | None = None, height: int | Literal["content"] = "content"
) -> None:
    """A frame, all of its rows unless a height is given; its texts are shown as text, what is missing as a dash."""
    st.dataframe(  # pyright: ignore[reportUnknownMemberType] - Streamlit names a type of a library that is not installed
        frame, hide_index=True, key=key, column_config=columns, height=_high(frame, height), placeholder=DASH
    )


def jobs_table(
    frame: pd.DataFrame,
    key: str,
    columns: Columns,
    on_open: Callable[[int], None],
    height: int | Literal["content"] = "content",
) -> None:
    """A table of jobs, walked with the arrow keys. A click on a `job` opens it, or Shift and Space, which pick a row.

    Not a selection of cells: the first arrow key would pick a cell, and so open another row.
    """

    def clicked() -> None:
        on_open(int(st.session_state[f"{key}_open"]["row"]))

    def picked() -> None:
        for row in st.session_state[key]["selection"]["rows"]:
            on_open(int(row))

    button = st.column_config.ButtonColumn(
        "Job", width=100, pinned=True, help="The end of its id", type="tertiary", on_click=clicked, key=f"{key}_open"
    )
    st.dataframe(  # pyright: ignore[reportUnknownMemberType] - as in `table`
        frame, hide_index=True, key=key, column_config={"job": button, **columns}, on_select=picked,
        selection_mode="single-row", height=_high(frame, height), placeholder=DASH,
    )  # fmt: skip


def _high(frame: pd.DataFrame, height: int | Literal["content"]) -> int:
    """In pixels, so that its place is as high before its rows are drawn: nothing below it moves."""
    return _all_of(frame) if height == "content" else height


def at_most(height: int, frame: pd.DataFrame) -> int:
    """As high as the rows are, up to a bound: few leave no empty rows, many don't push the rest of the page away."""
    return min(height, _all_of(frame))


def _all_of(frame: pd.DataFrame) -> int:
    return rows_px(len(frame))


def rows_px(rows: int) -> int:
    """How high a table of so many rows is, their heading included."""
    return ROW_PX * (rows + 1) + 2


def complete(key: str, options: Mapping[str, str]) -> None:
    """After a part of an option was typed into the field: have it say the whole; `options` are by what they mean."""
    typed: str | None = st.session_state.get(key)
    if typed:
        st.session_state[key] = job_filters.complete_option(typed, options)


def names(title: str, of: pd.Series[str]) -> ColumnConfig:
    """A first column that stays where the others are scrolled away: long names must leave a phone room for those."""
    long = int(of.str.len().max() or 0) > LONG
    return st.column_config.TextColumn(title, pinned=True, width=_NAME_PX if long else None)


def zone_name() -> str:
    """The reader's time zone for a table; UTC where the browser does not tell."""
    return str(zone() or "UTC")


def zone() -> tzinfo | None:
    """The reader's time zone; None (UTC) where the browser does not tell."""
    try:
        return ZoneInfo(st.context.timezone) if st.context.timezone else None
    except (ZoneInfoNotFoundError, ValueError):
        return None
