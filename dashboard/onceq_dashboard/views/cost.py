"""Cost: where the money of a period went, what was wasted and saved, what jobs cost, and what the month comes to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Literal

import pandas as pd
import streamlit as st

from onceq.wire import CostPoint, Totals
from onceq_dashboard import answers, budgets, charts, export, forecast, frames, money, money_charts, periods, source
from onceq_dashboard.access import ApiAccess, SourceError
from onceq_dashboard.format import DASH, change, count, factor, shortened, some, usd
from onceq_dashboard.money import GroupBy
from onceq_dashboard.views import parts, start
from onceq_dashboard.views.parts import MarkColour, Tile

PERIODS: Final[dict[str, periods.Name]] = {name: name for name in periods.NAMES}
GROUPS: Final[dict[str, GroupBy]] = {
    "Model": "model", "Team": "team", "Provider": "provider", "Band": "band", "API key": "key", "Labels": "labels",
}  # fmt: skip
MONEY: Final = {
    "spent_usd": "Spent, $", "before_usd": "Before, $", "wasted_usd": "Wasted, $", "avoided_usd": "Avoided, $",
    "per_job_usd": "Per job, $",
}  # fmt: skip
COUNTS: Final = {
    "jobs": "Jobs",
    "succeeded": "Succeeded",
    "failed": "Failed",
    "calls": "Calls",
    "input_tokens": "Tokens in",
    "output_tokens": "Tokens out",
    "unpriced_calls": "Unpriced calls",
}
_CHANGE: Final = st.column_config.NumberColumn("Change, %", format="%+.1f")


@dataclass(frozen=True, slots=True)
class Shown:
    """What of which period the page shows."""

    name: periods.Name
    title: str
    by: GroupBy
    simulated: bool

    @property
    def group(self) -> str:
        """What it is split by, in the middle of a sentence."""
        return self.title if self.title == "API key" else self.title.lower()

    @property
    def interval(self) -> Literal["hour", "day"]:
        """What one bar stands for."""
        return periods.current(self.name, datetime.now(UTC)).interval

    @property
    def mark(self) -> str:
        """Says so where the money is simulated."""
        return ", simulated" if self.simulated else ""

    @property
    def file(self) -> str:
        """What a file with its numbers is called after."""
        return f"{self.name} by {self.group}{' simulated' if self.simulated else ''}"

    @property
    def about(self) -> str:
        """The unit and the time, below a chart's title."""
        return f"US dollars, {periods.words(self.name)}{self.mark}"


def show(access: ApiAccess) -> None:
    """The page; read when it is opened and at each click."""
    st.title("Cost", anchor=False)
    with st.grid(2, min_column_width=450, width=920):  # as wide as "By" is: it was cut off
        picked = st.segmented_control(
            "Period", list(PERIODS), default="24 hours", required=True, key="cost_period", bind="query-params"
        )
        name = PERIODS[picked]
        title = st.segmented_control(
            "By", list(GROUPS), default="Model", required=True, key="cost_by", bind="query-params"
        )
    of_it = {"name": name, "by": GROUPS[title]}
    source.ahead(
        access, source.stats, partial(source.costs, **of_it), partial(source.costs_before, **of_it), source.recent_days,
        source.budgets,
    )  # fmt: skip
    with parts.show_errors():
        assumed, found = source.stats(access).simulated, source.costs(access, name, GROUPS[title])
    simulated = parts.pick_kind(
        real=any(not p.simulated for p in found), simulated=any(p.simulated for p in found), otherwise=assumed,
        key="cost_kind",
    )  # fmt: skip
    if GROUPS[title] == "key":
        with parts.show_errors():
            found = source.named_keys(access, found)
    points, shown = frames.of_kind(found, simulated=simulated), Shown(name, title, GROUPS[title], simulated)
    if points:
        _filled(access, points, shown)
    else:
        with parts.show_errors():
            start.first_job(access, name.lower())


def _filled(access: ApiAccess, points: list[CostPoint], shown: Shown) -> None:
    with parts.show_errors():
        then = source.costs_before(access, shown.name, shown.by)
        then = source.named_keys(access, then) if shown.by == "key" else then
        earlier = frames.of_kind(then, simulated=shown.simulated)
        if not periods.covers([p.at for p in earlier], periods.before(shown.name, datetime.now(UTC))):
            earlier = []  # the work began within it: "3,455×" would say how late, and not how much more was spent
        days = frames.of_kind(source.recent_days(access), simulated=shown.simulated)
        known = source.budgets(access)
    now, totals = datetime.now(UTC), frames.added(points)
    expected = forecast.forecast(days, now)
    st.subheader(_heading(shown), anchor=False)
    if shown.simulated:
        parts.simulated_note()
    parts.tiles(_sums(totals, frames.added(earlier), shown))
    if totals.unpriced_calls:
        st.caption(money.unpriced(totals.unpriced_calls))
    if totals.estimated_nano_usd:
        st.caption(money.estimated(totals).replace("$", r"\$"))
    month = answers.month(expected, budgets.month_limits(known))
    parts.answers([answers.where(points), answers.wasted(totals), answers.saved(totals), month], "cost_answers", 4)
    with st.grid(2, min_column_width=400):
        _over_time(points, shown)
        _groups(points, earlier, shown)
        _parts(points, shown)
        _waste(totals, shown)
        _jobs(totals, shown)
        _forecast(expected, budgets.limits(known), now, shown)
    _table(points, earlier, shown)
    if shown.interval == "day":  # sums at other prices are of whole days: under 24 hours they would say another sum
        _restated(access, shown)
    _download(access, shown)


def _heading(shown: Shown) -> str:
    words = periods.words(shown.name)
    days = " :gray[· whole days in UTC, today included]" if shown.interval == "day" else ""
    return f"{words[:1].upper()}{words[1:]}{shown.mark}{days}"


def _sums(totals: Totals, before: Totals, shown: Shown) -> list[Tile]:
    per_job = money.per_job(totals)
    against = f" Below: compared with {periods.before_words(shown.name)}, which were whole."
    return [
        _tile("Spent", totals, before, "spent_nano_usd", "What the providers' calls cost, wasted ones included."
              + against, shown),
        Tile("Cost per job", DASH if per_job is None else usd(per_job), "Spent ÷ jobs of known price." + against,
             *_mark(per_job, money.per_job(before), shown)),
        _tile("Wasted", totals, before, "wasted_nano_usd", "Part of what was spent: calls whose output is in no answer."
              + against, shown),
        _tile("Avoided", totals, before, "avoided_nano_usd", "What posts that made no new job would have cost."
              + against, shown, "green"),
        Tile("Jobs", count(totals.jobs), "Unique jobs that were accepted." + against,
             change(totals.jobs, before.jobs), "gray"),
        Tile("Bill amplification", factor(totals.bill_amplification), "Calls that may be billed ÷ unique jobs."),
    ]  # fmt: skip


def _tile(
    label: str, totals: Totals, before: Totals, name: str, about: str, shown: Shown, colour: MarkColour = "gray"
) -> Tile:
    now = getattr(totals, name)
    known = now if money.is_priced([totals]) else None
    return Tile(label, money.amount(now, totals), about, *_mark(known, getattr(before, name), shown, colour))


def _mark(
    now: int | None, before: int | None, shown: Shown, colour: MarkColour = "gray"
) -> tuple[str | None, MarkColour]:
    """What stands below an amount: the change first, as a narrow tile cuts off what comes last."""
    more = None if now is None else change(now, before or 0)
    marks = [mark for mark in (more, parts.money_mark(simulated=shown.simulated)) if mark]
    return " · ".join(marks) or None, "orange" if shown.simulated else colour


def _over_time(points: list[CostPoint], shown: Shown) -> None:
    starts = periods.current(shown.name, datetime.now(UTC)).starts()
    frame = money.over_time(points, starts, shown.by)
    with parts.card(f"Spent by {shown.interval} and {shown.group}", shown.about):
        drawn = money_charts.over_time(frame, shown.title, shown.interval)
        parts.chart(drawn, "chart_over_time", f"US dollars by {shown.interval} and {shown.group}")
        parts.as_data(_timed(frame, shown), "data_spent_over_time", about=shown.file)


def _timed(frame: pd.DataFrame, shown: Shown) -> pd.DataFrame:
    """Hours are told in the reader's zone; days are those of UTC, and stay so: elsewhere the date would be another."""
    return frame.rename(columns={"at": shown.interval})


def _groups(points: list[CostPoint], earlier: list[CostPoint], shown: Shown) -> None:
    frame = money.costs(points, shown.by, earlier)
    top = f", the {charts.TOP_GROUPS} most expensive" if len(frame) > charts.TOP_GROUPS else ""
    with parts.card(f"Spent by {shown.group}", f"{shown.about}{top}"):
        parts.chart(money_charts.by_group(frame, shown.title), "chart_groups", f"US dollars by {shown.group}")
        told = frame[["group", "spent_usd", "wasted_usd"]]
        parts.as_data(told, f"data_spent_by_{shown.by}", _columns(shown, frame), shown.file)


def _parts(points: list[CostPoint], shown: Shown) -> None:
    starts = periods.current(shown.name, datetime.now(UTC)).starts()
    frame = money.parts_over_time(points, starts)
    with parts.card("Paid, wasted and avoided", f"{shown.about}; the whole bar is the bill without the queue"):
        drawn = money_charts.parts_over_time(frame, shown.interval)
        parts.chart(drawn, "chart_parts", f"US dollars by {shown.interval}: in answers, wasted, avoided")
        parts.as_data(_timed(frame, shown), "data_paid_wasted_avoided", about=shown.file)


def _waste(totals: Totals, shown: Shown) -> None:
    frame = money.waste(totals)
    with parts.card("Wasted, by reason", f"{shown.about}; calls whose output is in no answer"):
        if frame.empty:
            st.caption("Nothing was wasted: every call that was paid for is in an answer.")
            return
        parts.chart(money_charts.waste(frame), "chart_waste", "Wasted US dollars by reason")
        parts.as_data(frame, "data_wasted_by_reason", about=shown.file)


def _jobs(totals: Totals, shown: Shown) -> None:
    frame, spread = money.job_costs(totals), money.spread(totals)
    with parts.card("What a job costs", f"jobs by US dollars, {periods.words(shown.name)}{shown.mark}"):
        if frame.empty or spread is None:
            st.caption("No job of known cost ended in this time.")
            return
        marks = {"median": spread.p50 / 1e9, "95th percentile": spread.p95 / 1e9}
        parts.chart(money_charts.job_costs(frame, marks), "chart_job_costs", "Jobs by what they cost")
        free = f" {some(spread.free, 'job')} cost nothing." if spread.free else ""
        said = (
            f"Half of the jobs cost at most {usd(spread.p50)}, 19 of 20 at most {usd(spread.p95)}. The dearest 5 % "
            f"make {100 * spread.dear_share:.0f} % of the bill.{free}"
        )
        st.caption(said.replace("$", r"\$"))
        parts.as_data(frame, "data_job_costs", about=shown.file)


def _forecast(expected: forecast.Forecast, limits: pd.DataFrame, now: datetime, shown: Shown) -> None:
    frame = forecast.lines(expected, now)
    with parts.card("This month, in sum", f"US dollars by day (UTC){shown.mark}"):
        parts.chart(money_charts.forecast(frame, limits), "chart_forecast", "US dollars since the month began")
        st.caption(forecast.HOW if expected.end is not None else f"{answers.month(expected, {}).words}")
        parts.as_data(frame, "data_forecast", about="simulated" if shown.simulated else "")


def _columns(shown: Shown, frame: pd.DataFrame) -> dict[str, parts.ColumnConfig]:
    columns: dict[str, parts.ColumnConfig] = {"group": parts.names(shown.title, frame["group"])}
    columns |= {name: st.column_config.NumberColumn(label, format="%.6f") for name, label in MONEY.items()}
    columns["change"] = _CHANGE
    columns |= {name: st.column_config.NumberColumn(label, format="localized") for name, label in COUNTS.items()}
    return columns


def _table(points: list[CostPoint], earlier: list[CostPoint], shown: Shown) -> None:
    frame = money.costs(points, shown.by, earlier)
    st.subheader(f"By {shown.group}{shown.mark} :gray[· before: {periods.before_words(shown.name)}]", anchor=False)
    unpriced = ["unpriced_calls"] if frame["unpriced_calls"].any() else []  # then beside the sum that it is not in
    order = list(dict.fromkeys(["group", *unpriced, "spent_usd", "before_usd", "change", *list(MONEY)[2:], *COUNTS]))
    parts.table(_for_the_eye(frame[order]), "cost_table", _columns(shown, frame))
    if shown.by == "labels":
        st.caption("By `prompt` and `version`, unless other labels were chosen in the API's `ONCEQ_LABEL_KEYS`.")
    if frame["unpriced_calls"].any():
        st.caption("Where calls are unpriced, sums are those of the others: at least so much. A dash: no known price.")


def _for_the_eye(frame: pd.DataFrame) -> pd.DataFrame:
    """Names whose ends can be told apart, and changes in per cent: Streamlit's own format for those has as many
    decimals as each number happens to have."""
    long = int(frame["group"].str.len().max() or 0) > parts.LONG
    names = [shortened(name, parts.NAME_LETTERS) for name in frame["group"]] if long else frame["group"]
    return frame.assign(change=100 * frame["change"], group=names)


def _restated(access: ApiAccess, shown: Shown) -> None:
    with st.expander("At another day's prices", key="cost_restated", on_change="rerun") as opened:
        if not opened.open:
            return
        today = datetime.now(UTC).date()
        st.write(
            "What the same tokens would cost at the prices of a day. What was booked stays as it is: a price that "
            "changes later changes no bill."
        )
        day = st.date_input("Prices of", today, max_value=today, key="cost_prices_of", width=200)
        at = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=23, minutes=59)
        try:
            found = source.restated(access, shown.name, shown.by, at)
        except SourceError as exc:
            parts.trouble(exc.trouble)
            return
        frame = money.restated(frames.of_kind(found, simulated=shown.simulated), shown.by)
        _restated_table(frame, shown)


def _restated_table(frame: pd.DataFrame, shown: Shown) -> None:
    mark = " simulated" if shown.simulated else ""
    columns = {
        "group": parts.names(shown.title, frame["group"]),
        "booked_usd": st.column_config.NumberColumn("Booked, $" + mark, format="%.6f"),
        "restated_usd": st.column_config.NumberColumn("At those prices, $" + mark, format="%.6f"),
        "change": _CHANGE,
    }
    parts.table(_for_the_eye(frame), "restated_table", columns)
    st.caption(
        "A dash: a model of the group had no price then. Whole days (UTC), by each model's price for short prompts."
    )
    parts.download(frame, "data_restated", about=shown.file)


def _download(access: ApiAccess, shown: Shown) -> None:
    def made() -> bytes:
        points = frames.of_kind(source.all_costs(access, shown.name), simulated=shown.simulated)
        return export.csv_bytes(money.cost_rows(points), money.COST_COLUMNS)

    name = f"onceq-cost-{shown.name.lower().replace(' ', '-')}{'-simulated' if shown.simulated else ''}"
    st.download_button(
        "Download CSV", made, f"{name}-{datetime.now(UTC):%Y-%m-%dT%H%M}Z.csv", "text/csv", key="cost_download",
        icon=":material/download:", on_click="ignore",
        help=f"One row {'an' if shown.interval == 'hour' else 'a'} {shown.interval} and combination of team, model, "
        "band, key and labels; US dollars to the nano-dollar.",
    )  # fmt: skip
