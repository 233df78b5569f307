"""Prompts and models side by side over the rows of a frame: which maps that are, and how they become one frame. No I/O.

`Client.compare` maps each side after the other, so that what `map` promises holds for each: paid once, come back to,
within the limit.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from onceq._http import refusal
from onceq._submission import MapOptions, Models
from onceq.map.rows import PromptSource

if TYPE_CHECKING:
    import pandas as pd

BETWEEN: Final = " · "
"""Stands between prompt and model in the name of a side that has both."""
SMALLEST_USD: Final = 1e-9
"""A limit that nothing is within, for the sides after the one that used it up: they give what is known already."""
_VERSIONED: Final = re.compile(r"(?P<prompt>.+?)\s+v(?P<version>\d\S*)")


@dataclass(frozen=True, slots=True)
class Side:
    """One map of a comparison."""

    name: str
    prompt: PromptSource | None
    model: Models | None
    labels: Mapping[str, str]
    """What tells its jobs from the others' in the dashboard."""

    def options(self, given: MapOptions) -> MapOptions:
        """The options of its map: the caller's own labels are kept, and win."""
        labels = {**self.labels, **(given.get("labels") or {})}
        return {**given, "labels": labels} if labels else given


def sides(
    prompts: PromptSource | Mapping[str, PromptSource] | None, models: Sequence[str] | None, model: Models | None
) -> list[Side]:
    """Each prompt with each model. Raises BadRequestError where there is nothing to compare."""
    named = cast("Mapping[str, PromptSource | None]", prompts if isinstance(prompts, Mapping) else {"": prompts})
    asked: Sequence[Models | None] = [model] if models is None else models
    if isinstance(models, str) or len(set(named)) * len(set(map(str, asked))) < 2:
        raise refusal(
            'compare takes two sides or more: a dict of prompts by name, {"terse v1": "...", "terse v2": "..."}, or '
            "models=[...], or both."
        )
    return [
        Side(_name(name, one if models else None), prompt, one, labels_of(name))
        for name, prompt in named.items()
        for one in asked
    ]


def _name(prompt: str, model: Models | None) -> str:
    return BETWEEN.join(part for part in (prompt, str(model or "")) if part)


def labels_of(name: str) -> dict[str, str]:
    """A prompt's name and version as labels: `terse v2` is `prompt: terse`, `version: 2`; no name, no label."""
    if not name:
        return {}
    found = _VERSIONED.fullmatch(name)
    return {"prompt": name} if found is None else found.groupdict()


def rows_again(rows: Any) -> Any:
    """The rows, for walking them once a side."""
    return list(cast("Iterator[Any]", rows)) if isinstance(rows, Iterator) else rows


def left_usd(limit_usd: float | None, done: Iterable[Any]) -> float | None:
    """What the sides before have left of a limit."""
    spent = sum(float(frame["cost_usd"].sum() or 0.0) for frame in done)
    return limit_usd if limit_usd is None or not spent else max(limit_usd - spent, SMALLEST_USD)


def side_by_side(made: Mapping[str, Any]) -> pd.DataFrame:
    """One frame on the rows' index: columns (side, field) for pandas, `side: field` for polars."""
    frames = list(made.values())
    if type(frames[0]).__module__.partition(".")[0] == "polars":
        polars: Any = sys.modules["polars"]
        named = [frame.rename({field: f"{side}: {field}" for field in frame.columns}) for side, frame in made.items()]
        return polars.concat(named, how="horizontal")
    pandas: Any = sys.modules["pandas"]
    return pandas.concat(made, axis="columns", names=["side", "field"])


def summary(compared: pd.DataFrame) -> pd.DataFrame:
    """One row a side of what `Client.compare` gave for pandas rows, the cheapest first.

    | columns | dtype | are |
    |---|---|---|
    | `rows`, `answered` | int64 | how many were asked, and how many have an answer |
    | `cost_usd` | float64 | US dollars, all of them |
    | `usd_per_1000_rows` | float64 | of a row with an answer, times 1,000; rows that share one answer count as one |
    | `tokens_mean` | float64 | input and output of a row with an answer |
    | `ttft_p50_s`, `ttft_p95_s` | float64 | seconds from the post to the first token, the wait in the queue included |

    Raises BadRequestError for another frame, such as one of polars.
    """
    pandas: Any = sys.modules.get("pandas")
    if pandas is None or not isinstance(compared, pandas.DataFrame) or "side" not in compared.columns.names:
        raise refusal(
            "summary takes what compare gave for pandas rows: give compare those, polars has rows.to_pandas()."
        )
    rows = {side: _summed(compared[side]) for side in compared.columns.unique(level="side")}
    made: pd.DataFrame = pandas.DataFrame.from_dict(rows, orient="index").rename_axis("side")
    return made.astype({"rows": "int64", "answered": "int64"}).sort_values("cost_usd", kind="stable")


def _summed(side: Any) -> dict[str, Any]:
    answered = side[side["status"] == "succeeded"]
    asked = answered["job_id"].nunique()
    return {
        "rows": len(side),
        "answered": len(answered),
        "cost_usd": side["cost_usd"].sum(),
        "usd_per_1000_rows": 1000 * answered["cost_usd"].sum() / asked if asked else float("nan"),
        "tokens_mean": answered["tokens"].astype("Float64").mean() if asked else float("nan"),
        "ttft_p50_s": answered["ttft_s"].median(),
        "ttft_p95_s": answered["ttft_s"].quantile(0.95),
    }
