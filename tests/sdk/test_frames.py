"""Frames of jobs and costs: their types don't depend on what is in them, money is exact, paging is bounded."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest

from onceq import BadRequestError, ConfigurationError, Job, _flows, frames
from onceq.wire import CostDimension, Costs
from tests.sdk.fake import FakeService, Seen, answer, job

ODD = 2**53 + 1
"""The first whole number that a float64 can't hold."""
ENDED: dict[str, Any] = {
    "cost": {"nano_usd": ODD}, "usage": {"input_tokens": 3, "output_tokens": 2}, "timings": {"ttft_s": 0.25},
    "finished_at": "2026-11-23T13:00:00.123456+01:00", "labels": {"prompt": "terse", "version": "2"},
}  # fmt: skip
DIMENSIONS = [name for name in get_args(CostDimension) if name != "labels"]


def job_number(number: int, status: str = "succeeded", text: str | None = "Yes", **more: Any) -> Job:
    return Job.model_validate(job(status, text, f"job_{number:032x}", **more))


def costs(*points: dict[str, Any]) -> Costs:
    base = {"since": "2026-11-22T00:00:00Z", "until": "2026-11-24T00:00:00Z", "interval": "day"}
    return Costs.model_validate({**base, "group_by": [*DIMENSIONS, "labels"], "points": points})


POINT: dict[str, Any] = {
    "at": "2026-11-23T00:00:00Z", "team": "blue", "totals": {
        "jobs": 2, "spent_nano_usd": ODD, "phases": {"queue": 1.5}, "verdicts": {"queue": 1}, "ttft": {"p50": 0.2}
    },
}  # fmt: skip


def test_types_are_the_same_for_no_job_an_open_one_and_an_ended_one() -> None:
    labels = ["prompt", "version"]
    made = [frames.jobs_frame(some, labels=labels) for some in ([], [job_number(1, "queued", None)])]
    whole = frames.jobs_frame([job_number(1, **ENDED), job_number(2, "failed", None)], labels=labels)
    for frame in made:
        pd.testing.assert_series_equal(frame.dtypes, whole.dtypes)
        assert frame.index.dtype == whole.index.dtype
    assert "object" not in {str(dtype) for dtype in whole.dtypes}
    pd.testing.assert_series_equal(frames.costs_frame(costs()).dtypes, frames.costs_frame(costs(POINT)).dtypes)


def test_money_is_exact_and_an_unknown_price_is_not_free() -> None:
    frame = frames.jobs_frame([job_number(1, **ENDED), job_number(2, cost={"nano_usd": None})])
    assert [int(frame["cost_nano_usd"].iloc[0]), frame["cost_nano_usd"].isna().tolist()] == [ODD, [False, True]]
    assert frame["cost_usd"].isna().tolist() == [False, True]
    assert int(frames.costs_frame(costs(POINT))["spent_nano_usd"].sum()) == ODD


def test_times_are_in_utc_and_keep_their_microseconds() -> None:
    (at,) = frames.jobs_frame([job_number(1, **ENDED)])["finished_at"]
    assert at == pd.Timestamp("2026-11-23 12:00:00.123456", tz="UTC")
    assert str(at.tz) == "UTC"


def test_rows_join_another_frame_by_job_or_by_its_own_index() -> None:
    reviews = pd.DataFrame({"review": ["bad", "good"], "job": [f"job_{2:032x}", f"job_{1:032x}"]}, index=[70, 50])
    jobs = [job_number(1, text="One"), job_number(2, text="Two")]
    by_id = reviews.join(frames.jobs_frame(jobs), on="job")
    assert by_id["text"].to_dict() == {70: "Two", 50: "One"}
    aligned = reviews.join(frames.jobs_frame(jobs, index=reviews.index))
    assert aligned["text"].to_dict() == {70: "One", 50: "Two"}


def test_labels_become_columns_those_that_occur_or_those_that_are_named() -> None:
    jobs = [job_number(1, **ENDED), job_number(2, labels={"run": "7"})]
    frame = frames.jobs_frame(jobs)
    assert list(frame.filter(like="label_")) == ["label_prompt", "label_run", "label_version"]
    assert frame["label_run"].isna().tolist() == [True, False]
    assert list(frames.jobs_frame(jobs, labels=["run"]).filter(like="label_")) == ["label_run"]


def test_costs_have_the_groups_that_were_asked_for_and_every_sum() -> None:
    frame = frames.costs_frame(costs(POINT))
    assert list(frame)[: 1 + len(DIMENSIONS)] == ["at", *DIMENSIONS]
    row = frame.iloc[0]
    assert (row["jobs"], row["queue_s"], row["stalls_s"], row["blamed_queue"], row["ttft_p50_s"]) == (2, 1.5, 0, 1, 0.2)
    whole = {name for name, value in costs(POINT).points[0].totals.model_dump().items() if isinstance(value, int)}
    assert whole <= set(frame)


def test_every_column_of_a_job_has_its_unit_in_the_docstring() -> None:
    assert [name for name in frames.JOB_COLUMNS if f"`{name}`" not in str(frames.jobs_frame.__doc__)] == []


def test_a_frame_goes_into_parquet_and_back(tmp_path: Path) -> None:
    frame = frames.jobs_frame([job_number(1, **ENDED), job_number(2, "queued", None)])
    frame.to_parquet(tmp_path / "jobs.parquet")
    assert int(pd.read_parquet(tmp_path / "jobs.parquet")["cost_nano_usd"].iloc[0]) == ODD


def pages(total: int) -> Any:
    """A list of that many jobs, in pages as asked for; the cursor is the number of the next."""

    def page(seen: Seen) -> Any:
        first, size = int(seen.query.get("cursor", "0")), int(seen.query["limit"])
        behind = min(first + size, total)
        jobs = [job(job_id=f"job_{n:032x}") for n in range(first, behind)]
        return answer({"jobs": jobs, "next_cursor": str(behind) if behind < total else None})

    return page


def test_a_limit_is_kept_in_as_few_pages_as_it_needs(fake: FakeService, client: Any) -> None:
    fake.on("GET /v1/jobs", pages(1000))
    frame = client.jobs_frame(limit=250, team="blue", status="queued")
    assert (len(frame), frame.index.is_unique) == (250, True)
    assert [(seen.query["limit"], seen.query["team"], seen.query["status"]) for seen in fake.seen] == [
        ("200", "blue", "queued"), ("50", "blue", "queued"),
    ]  # fmt: skip
    assert len(client.jobs_frame(limit=0)) == 0
    with pytest.raises(BadRequestError, match="limit is a number from 0 on"):
        client.jobs_frame(limit=-1)


def test_without_a_limit_what_is_left_out_is_said(
    fake: FakeService, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_flows, "FRAME_ROWS", 300)
    fake.on("GET /v1/jobs", pages(300))
    assert len(client.jobs_frame()) == 300
    fake.on("GET /v1/jobs", pages(301))
    with pytest.warns(UserWarning, match="newest 300 jobs of more"):
        assert len(client.jobs_frame()) == 300


def test_a_time_may_be_one_of_pandas(fake: FakeService, client: Any) -> None:
    fake.on("GET /v1/jobs", pages(1))
    for at in (pd.Timestamp("2026-11-23 10:00", tz="Europe/Berlin"), pd.Timestamp("2026-11-23 10:00")):
        client.jobs_frame(since=at)
    aware, local = (datetime.fromisoformat(seen.query["since"]) for seen in fake.seen)
    assert (aware, local) == (datetime(2026, 11, 23, 9, tzinfo=UTC), datetime(2026, 11, 23, 10).astimezone())


def test_costs_are_asked_for_as_costs_asks(fake: FakeService, client: Any) -> None:
    fake.on("GET /v1/costs", answer(costs(POINT).model_dump(mode="json")))
    assert client.costs_frame(interval="total", group_by=["team"])["team"].tolist() == ["blue"]
    client.costs_frame(group_by="team", interval="total")
    assert [(seen.query["interval"], seen.query["group_by"]) for seen in fake.seen] == [("total", "team")] * 2


def test_without_pandas_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigurationError, match=r"onceq\[notebook\]"):
        frames.jobs_frame([])
