"""`client.compare`: prompts and models side by side, each row and side paid once, told apart by labels."""

from __future__ import annotations

import importlib
from typing import Any

import pandas as pd
import pytest

from onceq import BadRequestError, Client
from onceq.compare import labels_of, left_usd, side_by_side, sides, summary
from tests.sdk.map.kit import billed, texts
from tests.stack import Stack

MINI, HAIKU = "openai/gpt-4o-mini", "anthropic/claude-haiku-4-5"
PROMPTS = {"terse v1": "Short: {text}", "terse v2": "In five words: {text}"}


def test_prompts_lie_side_by_side_on_the_rows_index_and_sum_up_by_version(stack: Stack, either: Any) -> None:
    rows = pd.Series(texts(4), index=pd.Index(list("dcba"), name="review"))
    made = either.compare(rows, PROMPTS, progress=False, labels={"run": "7"})
    assert made.index.equals(rows.index)
    assert made.columns.names == ["side", "field"]
    assert set(made.xs("status", axis=1, level="field").to_numpy().ravel()) == {"succeeded"}
    job = either.get(made["terse v2", "job_id"].loc["c"])
    assert job.text == made["terse v2", "text"].loc["c"]
    assert job.labels == {"prompt": "terse", "version": "2", "run": "7"}
    assert len(billed(stack, either)) == 8
    pd.testing.assert_frame_equal(either.compare(rows, PROMPTS, progress=False), made)
    assert sum(billed(stack, either).values()) == 8

    booked = either.costs_frame(group_by=["labels"], interval="total").set_index("label_version")
    spent = made.xs("cost_usd", axis=1, level="field").sum()
    assert booked["spent_usd"].to_dict() == pytest.approx({"1": spent["terse v1"], "2": spent["terse v2"]})


def test_models_lie_side_by_side_and_a_limit_is_for_all_of_them(client: Client) -> None:
    rows = texts(6)
    whole = client.compare(rows, models=[MINI, HAIKU], progress=False, max_tokens=20)
    assert list(whole.columns.unique("side")) == [MINI, HAIKU]
    told = summary(whole)
    assert told.index.tolist() == [MINI, HAIKU]
    assert told["answered"].tolist() == [6, 6]
    assert told.loc[HAIKU, "usd_per_1000_rows"] == pytest.approx(whole[HAIKU, "cost_usd"].mean() * 1000)

    limit = float(whole.xs("cost_usd", axis=1, level="field").to_numpy().sum())
    bound = client.compare(texts(6), models=[MINI, HAIKU], progress=False, max_tokens=20, max_cost_usd=limit / 2)
    assert bound.xs("cost_usd", axis=1, level="field").to_numpy(na_value=0.0).sum() <= limit / 2
    assert "not_posted" in bound[HAIKU, "status"].to_list()


def test_each_prompt_meets_each_model_and_names_both() -> None:
    assert [side.name for side in sides(PROMPTS, ["a/b", "c/d"], None)] == [
        "terse v1 · a/b", "terse v1 · c/d", "terse v2 · a/b", "terse v2 · c/d",
    ]  # fmt: skip
    assert [(side.name, side.model) for side in sides(PROMPTS, None, "a/b")] == [
        ("terse v1", "a/b"), ("terse v2", "a/b"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("prompts", "models"), [("One", None), ({"one": "One"}, None), ("One", ["a/b"]), ("One", ["a/b", "a/b"]),
    ("One", "a/b"), ({}, ["a/b", "c/d"]), (None, [])],
)  # fmt: skip
def test_less_than_two_sides_are_refused_before_anything_is_sent(prompts: Any, models: Any) -> None:
    with pytest.raises(BadRequestError, match="two sides or more"):
        sides(prompts, models, "a/b")


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("terse v2", {"prompt": "terse", "version": "2"}),
        ("very terse v2.1-rc", {"prompt": "very terse", "version": "2.1-rc"}),
        ("terse", {"prompt": "terse"}),
        ("vivid v", {"prompt": "vivid v"}),
        ("", {}),
    ],
)
def test_a_name_tells_prompt_and_version(name: str, labels: dict[str, str]) -> None:
    assert labels_of(name) == labels


def test_what_sides_before_have_spent_is_taken_from_the_limit() -> None:
    done = [pd.DataFrame({"cost_usd": [0.25, float("nan")]}), pd.DataFrame({"cost_usd": [0.5]})]
    assert left_usd(None, done) is None
    assert left_usd(1.0, done) == 0.25
    assert left_usd(0.5, done) == 1e-9


@pytest.mark.parametrize("limit", ["1", -5, float("nan")], ids=repr)
def test_a_limit_that_is_none_is_refused_as_a_maps_is(client: Client, limit: Any) -> None:
    with pytest.raises(BadRequestError, match="max_cost_usd is dollars, above 0"):
        client.compare(["a"], PROMPTS, progress=False, max_cost_usd=limit)
    assert list(client.list()) == []


def test_polars_stays_polars() -> None:
    polars = pytest.importorskip("polars")
    made = side_by_side({name: polars.DataFrame({"text": [name], "cost_usd": [0.1]}) for name in PROMPTS})
    assert made.columns == ["terse v1: text", "terse v1: cost_usd", "terse v2: text", "terse v2: cost_usd"]


@pytest.mark.parametrize("kind", ["polars", "pandas"])
def test_a_summary_of_another_frame_is_one_sentence(kind: str) -> None:
    library: Any = pytest.importorskip(kind)
    with pytest.raises(BadRequestError, match=r"summary takes what compare gave for pandas rows.*to_pandas"):
        summary(library.DataFrame({"terse v1: status": ["succeeded"]}))


def test_the_accessor_maps_and_compares_what_it_stands_on(client: Client) -> None:
    importlib.import_module("onceq.accessor")
    frame: Any = pd.DataFrame({"text": texts(2)}, index=[7, 9])
    mapped = frame.onceq.map("Short: {text}", client=client, progress=False)
    assert mapped.index.tolist() == [7, 9]
    sided = frame["text"].onceq.compare(PROMPTS, client=client, progress=False)
    assert sided["terse v1", "job_id"].tolist() == mapped["job_id"].tolist()
