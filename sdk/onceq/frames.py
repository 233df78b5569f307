"""Jobs and costs as pandas frames whose columns and dtypes don't depend on what is in them.

`Client.jobs_frame` and `Client.costs_frame` ask the service and end here; the functions also take what a script has at
hand. Money is exact in the `*_nano_usd` columns (Int64); `*_usd` is the same as float64, for plots. Text is `string`,
counts are Int64 or int64, seconds float64, times `datetime64[us, UTC]`; what is not known is NA, NaN or NaT. No column
holds Python objects, so that a frame goes into Parquet as it is, and into polars by
`polars.from_pandas(frame.reset_index())`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from onceq.errors import ConfigurationError
from onceq.wire import NANO, PHASES, VERDICTS, CostPoint, Costs, Job, Totals, Verdict

if TYPE_CHECKING:
    import pandas as pd

Row = TypeVar("Row")
Labelled = Job | CostPoint
TEXT, WHOLE, COUNT, REAL, FLAG, MAYBE, TIME = (
    "string", "Int64", "int64", "float64", "bool", "boolean", "datetime64[us, UTC]",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """A column's dtype, and its value in a row."""

    dtype: str
    value: Callable[[Row], Any]


def _usd(nano: int | None) -> float | None:
    return None if nano is None else nano / NANO


def _phase(name: str) -> Callable[[CostPoint], float]:
    return lambda point: point.totals.phases.get(name, 0.0)


def _blamed(name: Verdict) -> Callable[[CostPoint], int]:
    return lambda point: point.totals.verdicts.get(name, 0)


JOB_COLUMNS: Final[Mapping[str, Column[Job]]] = {
    "job_id": Column(TEXT, lambda j: j.id),
    "status": Column(TEXT, lambda j: j.status),
    "model": Column(TEXT, lambda j: j.model),
    "provider": Column(TEXT, lambda j: j.provider),
    "band": Column(TEXT, lambda j: j.band),
    "team": Column(TEXT, lambda j: j.team),
    "user": Column(TEXT, lambda j: j.user),
    "simulated": Column(FLAG, lambda j: j.simulated),
    "text": Column(TEXT, lambda j: j.output.text if j.output else None),
    "finish_reason": Column(TEXT, lambda j: j.output.finish_reason if j.output else None),
    "error_code": Column(TEXT, lambda j: j.error.code if j.error else None),
    "error": Column(TEXT, lambda j: j.error.message if j.error else None),
    "cost_nano_usd": Column(WHOLE, lambda j: j.cost.nano_usd),
    "cost_usd": Column(REAL, lambda j: _usd(j.cost.nano_usd)),
    "wasted_nano_usd": Column(COUNT, lambda j: j.cost.wasted_nano_usd),
    "input_tokens": Column(WHOLE, lambda j: j.usage.input_tokens if j.usage else None),
    "output_tokens": Column(WHOLE, lambda j: j.usage.output_tokens if j.usage else None),
    "cached_tokens": Column(WHOLE, lambda j: j.usage.cached_tokens if j.usage else None),
    "reasoning_tokens": Column(WHOLE, lambda j: j.usage.reasoning_tokens if j.usage else None),
    "estimated": Column(MAYBE, lambda j: j.usage.estimated if j.usage else None),
    "calls": Column(COUNT, lambda j: j.calls),
    "tries": Column(COUNT, lambda j: j.tries),
    "queue_s": Column(REAL, lambda j: j.timings.queue_s),
    "ttft_s": Column(REAL, lambda j: j.timings.ttft_s),
    "provider_ttft_s": Column(REAL, lambda j: j.timings.provider_ttft_s),
    "generation_s": Column(REAL, lambda j: j.timings.generation_s),
    "total_s": Column(REAL, lambda j: j.timings.total_s),
    "verdict": Column(TEXT, lambda j: j.timings.verdict),
    "created_at": Column(TIME, lambda j: j.created_at),
    "started_at": Column(TIME, lambda j: j.started_at),
    "first_token_at": Column(TIME, lambda j: j.first_token_at),
    "finished_at": Column(TIME, lambda j: j.finished_at),
    "retry_of": Column(TEXT, lambda j: j.retry_of),
}
"""By name, in order; `label_<key>` columns follow."""

_COUNTS: Final = [name for name, field in Totals.model_fields.items() if field.annotation is int]
COST_COLUMNS: Final[Mapping[str, Column[CostPoint]]] = {
    "simulated": Column(FLAG, lambda p: p.simulated),
    **{name: Column(COUNT, attrgetter(f"totals.{name}")) for name in _COUNTS},
    "restated_nano_usd": Column(WHOLE, lambda p: p.restated_nano_usd),
    "spent_usd": Column(REAL, lambda p: _usd(p.totals.spent_nano_usd)),
    "wasted_usd": Column(REAL, lambda p: _usd(p.totals.wasted_nano_usd)),
    "avoided_usd": Column(REAL, lambda p: _usd(p.totals.avoided_nano_usd)),
    "restated_usd": Column(REAL, lambda p: _usd(p.restated_nano_usd)),
    "bill_amplification": Column(REAL, lambda p: p.totals.bill_amplification),
    "ttft_p50_s": Column(REAL, lambda p: p.totals.ttft.p50),
    "ttft_p95_s": Column(REAL, lambda p: p.totals.ttft.p95),
    "total_p50_s": Column(REAL, lambda p: p.totals.total.p50),
    "total_p95_s": Column(REAL, lambda p: p.totals.total.p95),
    **{f"{name}_s": Column(REAL, _phase(name)) for name in PHASES},
    **{f"blamed_{name}": Column(COUNT, _blamed(name)) for name in VERDICTS},
}
"""By name, in order, behind `at` and the dimensions that were asked for."""


def jobs_frame(
    jobs: Iterable[Job], *, index: pd.Index[Any] | None = None, labels: Sequence[str] | None = None
) -> pd.DataFrame:
    """One row a job, in the order given: the columns of `JOB_COLUMNS`, and one (`string`) for each label.

    Rows are under their `job_id`, so that `frame.join(jobs, on="job_id")` puts them beside another frame's; with an
    `index` of the same length they are under that, and `job_id` is a column. `labels` names the labels that become
    columns; None takes those that occur, by name.

    | columns | dtype | are |
    |---|---|---|
    | `job_id`, `status`, `model`, `provider`, `band`, `team`, `user`, `retry_of` | string | as in `Job` |
    | `simulated` | bool | the simulator answered: the money is not real |
    | `text`, `finish_reason` | string | the answer, or what has arrived of it |
    | `error_code`, `error` | string | why there is none |
    | `cost_nano_usd`, `wasted_nano_usd` | Int64, int64 | exact, of all calls; the cost includes waste; NA: unpriced |
    | `cost_usd` | float64 | `cost_nano_usd` in US dollars, rounded |
    | `input_tokens`, `output_tokens`, `cached_tokens`, `reasoning_tokens` | Int64 | of the answer's call |
    | `estimated` | boolean | the tokens were counted by onceq, not told by the provider |
    | `calls`, `tries` | int64 | requests that may be billed, and all |
    | `queue_s`, `ttft_s`, `provider_ttft_s`, `generation_s`, `total_s` | float64 | seconds, as in `Timings` |
    | `verdict` | string | who made it slow or failed |
    | `created_at`, `started_at`, `first_token_at`, `finished_at` | datetime64[us, UTC] | |
    | `label_<key>` | string | NA where the job has no such label |

    Raises ConfigurationError without pandas.
    """
    rows = list(jobs)
    columns = {**JOB_COLUMNS, **_label_columns(rows, labels)}
    frame = _frame(rows, columns)
    return frame.set_index("job_id") if index is None else frame.set_axis(index, axis="index")


def costs_frame(costs: Costs) -> pd.DataFrame:
    """One row for each hour or day (`at`, its beginning in UTC) and group, as `Client.costs` gave them.

    Columns are `at`, the dimensions that were asked for (of `labels` each that occurs, as `label_<key>`), and these.
    Simulated work has rows of its own: don't sum over both.

    | columns | dtype | are |
    |---|---|---|
    | `simulated` | bool | the simulator answered: the money is not real |
    | `jobs`, `joined`, `replayed`, `calls`, `*_tokens`, `unpriced_calls`, ... | int64 | the counts of `Totals` |
    | `spent_nano_usd`, `wasted_nano_usd`, `avoided_nano_usd` | int64 | exact; waste is a part of what was spent |
    | `estimated_nano_usd` | int64 | the part of what was spent that rests on estimates |
    | `restated_nano_usd` | Int64 | at the prices of `restated_at`; NA: not asked for, or a model had none |
    | `spent_usd`, `wasted_usd`, `avoided_usd`, `restated_usd` | float64 | the same in US dollars, rounded |
    | `bill_amplification` | float64 | billed calls by jobs; NaN without a job |
    | `ttft_p50_s`, `ttft_p95_s`, `total_p50_s`, `total_p95_s` | float64 | seconds, within 19 %; NaN without data |
    | `queue_s`, `generation_s`, ... (one a phase) | float64 | seconds, summed over the jobs that ended |
    | `blamed_<verdict>` | int64 | how many of them have that verdict |

    Raises ConfigurationError without pandas.
    """
    at: dict[str, Column[CostPoint]] = {"at": Column(TIME, attrgetter("at"))}
    return _frame(costs.points, {**at, **_dimensions(costs), **COST_COLUMNS})


def _dimensions(costs: Costs) -> dict[str, Column[CostPoint]]:
    """A team that was not given is an empty text here, as in the answer: groups by it are then not lost."""
    plain: dict[str, Column[CostPoint]] = {
        name: Column(TEXT, attrgetter(name)) for name in costs.group_by if name != "labels"
    }
    return {**plain, **_label_columns(costs.points, None)}


def _label_columns(rows: Sequence[Labelled], wanted: Sequence[str] | None) -> dict[str, Column[Any]]:
    names = sorted({name for row in rows for name in row.labels}) if wanted is None else wanted
    return {f"label_{name}": Column(TEXT, _label(name)) for name in names}


def _label(name: str) -> Callable[[Labelled], str | None]:
    return lambda row: row.labels.get(name)


def _frame(rows: Sequence[Row], columns: Mapping[str, Column[Row]]) -> pd.DataFrame:
    pandas = _pandas()
    series = {name: pandas.Series([c.value(row) for row in rows], dtype=c.dtype) for name, c in columns.items()}
    return pandas.DataFrame(series)


def _pandas() -> Any:
    try:
        return import_module("pandas")
    except ImportError as exc:
        raise ConfigurationError("data frames need pandas: pip install 'onceq[notebook]'.") from exc
