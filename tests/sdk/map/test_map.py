"""`client.map` against the real service: frames in, frames out, each distinct row paid once."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pandas as pd
import pytest
from pydantic import BaseModel

from onceq import BadRequestError, Client, ConfigurationError, MapRow
from tests.sdk.map.kit import asked, billed, mapped, texts
from tests.stack import Stack

COLUMNS = ["text", "status", "cost_usd", "ttft_s", "tokens", "job_id", "error"]


def pick(row: dict[str, str]) -> str:
    return row["a"]


def kinds(frame: pd.DataFrame) -> dict[str, str]:
    return {str(name): str(frame[name].dtype) for name in frame.columns}


def test_a_column_becomes_a_frame_on_the_same_index_in_the_same_order(stack: Stack, key: str, either: Any) -> None:
    index = pd.Index([f"r{n}" for n in range(12)], name="review")
    rows = pd.Series(texts(12), index=index, name="review_text")
    frame = mapped(either, rows, "Summarise: {review_text}")
    assert frame.index.equals(index)
    assert list(frame.columns) == COLUMNS
    assert frame["status"].unique().tolist() == ["succeeded"]
    for row in frame.assign(asked=rows).itertuples():
        line: Any = row
        job = either.get(line.job_id)
        assert (job.text, job.timings.ttft_s) == (line.text, line.ttft_s)
        assert job.cost.nano_usd == round(line.cost_usd * 1e9)
        assert line.asked in asked(stack, key, line.job_id)
    assert sum(billed(stack, either).values()) == 12


def test_the_columns_have_types(client: Client) -> None:
    frame = mapped(client, texts(3))
    assert kinds(frame) == {
        "text": "string", "status": "string", "cost_usd": "float64", "ttft_s": "float64", "tokens": "Int64",
        "job_id": "string", "error": "string",
    }  # fmt: skip
    assert frame["tokens"].min() > 6


def test_run_again_a_map_returns_the_same_frame_and_pays_nothing(stack: Stack, client: Client) -> None:
    rows = texts(20)
    first = mapped(client, rows, "Summarise: {text}")
    again = mapped(client, rows, "Summarise: {text}")
    elsewhere = mapped(client, rows, "Summarise: {text}", cache=False)
    pd.testing.assert_frame_equal(first, again)
    pd.testing.assert_frame_equal(first, elsewhere)
    assert sum(billed(stack, client).values()) == 20


def test_another_prompt_model_or_sample_makes_new_rows_and_a_label_does_not(stack: Stack, client: Client) -> None:
    rows = texts(3)
    mapped(client, rows, "A: {text}", max_tokens=20)
    mapped(client, rows, "A: {text}", max_tokens=20, labels={"run": "2"}, band="batch")
    assert sum(billed(stack, client).values()) == 3
    mapped(client, rows, "B: {text}", max_tokens=20)
    mapped(client, rows, "A: {text}", max_tokens=20, model="anthropic/claude-haiku-4-5")
    mapped(client, rows, "A: {text}", max_tokens=20, fresh=True)
    assert sum(billed(stack, client).values()) == 12
    newest = mapped(client, rows, "A: {text}", max_tokens=20, fresh=True)
    pd.testing.assert_frame_equal(mapped(client, rows, "A: {text}", max_tokens=20), newest)


def test_rows_keep_their_order_however_they_end(client: Client) -> None:
    rows = [*texts(1, ttft_ms=900), *texts(1, ttft_ms=400), *texts(4)]
    frame = mapped(client, [*rows, rows[0]])
    assert [client.request(job).prompt for job in frame["job_id"]] == [*rows, rows[0]]


def test_a_name_makes_rows_of_its_own(client: Client) -> None:
    rows = texts(2)
    first, second = (mapped(client, rows, name=name, fresh=True) for name in ("first", "second"))
    assert set(first["job_id"]).isdisjoint(second["job_id"])
    pd.testing.assert_frame_equal(first, mapped(client, rows, name="first"))
    pd.testing.assert_frame_equal(second, mapped(client, rows, name="second"))


def test_equal_rows_are_asked_once_and_the_first_has_the_cost(stack: Stack, client: Client) -> None:
    one, two = texts(2)
    frame = mapped(client, [one, two, one, one])
    assert frame["text"][0] == frame["text"][2] == frame["text"][3] != frame["text"][1]
    assert (frame["cost_usd"] > 0).tolist() == [True, True, False, False]
    assert frame["job_id"].nunique() == 2
    assert sum(billed(stack, client).values()) == 2


def test_n_gives_several_answers_a_row_and_equal_rows_share_them(stack: Stack, client: Client) -> None:
    one, two = texts(2)
    frame = mapped(client, pd.Series([one, two, one], index=["a", "b", "c"]), n=3)
    assert frame.index.tolist() == ["a"] * 3 + ["b"] * 3 + ["c"] * 3
    assert frame["sample"].tolist() == [0, 1, 2] * 3
    assert frame["job_id"].nunique() == 6
    assert list(frame["job_id"][:3]) == list(frame["job_id"][6:])
    assert sum(billed(stack, client).values()) == 6
    two_rows = pd.Series([one, two], index=["a", "b"])
    pd.testing.assert_frame_equal(frame.loc[["a", "b"]], mapped(client, two_rows, n=3))
    elsewhere = mapped(client, two_rows, n=3, cache=False)  # samples join no equal question: their keys alone find them
    pd.testing.assert_frame_equal(frame.loc[["a", "b"]], elsewhere)
    assert sum(billed(stack, client).values()) == 6


def test_a_rows_trouble_stays_in_its_row(client: Client) -> None:
    good, bad = texts(1)[0], texts(1, fault="400")[0]
    frame = mapped(client, pd.Series([good, bad, None, float("nan"), ""]))
    assert frame["status"].tolist() == ["succeeded", "failed", "skipped", "skipped", "skipped"]
    assert frame["error"].isna().tolist() == [True, False, False, False, False]
    assert "provider_bad_request" in frame["error"][1]
    columns = mapped(client, pd.DataFrame({"a": [good, None]}), "Go: {a}")
    assert columns["error"][1] == "a is missing in this row"
    called = mapped(client, [{"a": good}, {}], pick)
    assert called["error"][1] == "the prompt's function failed: KeyError: 'a'"


def test_a_failed_row_is_tried_again_by_the_next_run_alone(stack: Stack, client: Client) -> None:
    good, bad = texts(1)[0], texts(1, fault="400")[0]
    first = mapped(client, [good, bad])
    kept = mapped(client, [good, bad], retry_failed=False)
    assert first["job_id"].tolist() == kept["job_id"].tolist()
    again = mapped(client, [good, bad])
    elsewhere = mapped(client, [good, bad], cache=False)
    assert again["job_id"][0] == first["job_id"][0]
    assert len({first["job_id"][1], again["job_id"][1], elsewhere["job_id"][1]}) == 3
    assert max(billed(stack, client).values()) == 1


class Mood(BaseModel):
    mood: str
    stars: int
    sure: bool | None


class Visit(BaseModel):
    day: date
    at: datetime
    guests: int
    paid: bool


@pytest.mark.parametrize("output", [Mood, Mood.model_json_schema()], ids=["model", "schema"])
def test_an_output_becomes_typed_columns(client: Client, output: Any) -> None:
    good, prose = texts(1)[0], texts(1, text="prose")[0]
    frame = mapped(client, [good, prose], output=output, max_tokens=200)
    assert list(frame.columns)[:3] == ["mood", "stars", "sure"]
    assert kinds(frame)["stars"] == "Int64"
    assert frame["status"].tolist() == ["succeeded", "invalid"]
    assert frame["stars"].isna().tolist() == [False, True]
    assert "does not fit" in frame["error"][1]
    assert frame["cost_usd"][1] > 0


def test_rows_come_one_by_one_as_they_are_done(either: Any) -> None:
    rows = texts(1, ttft_ms=4000) + texts(3)
    walk = either.imap if hasattr(either, "imap") else either.amap
    seen: list[MapRow] = list(walk(iter(rows), progress=False))
    assert sorted(row.position for row in seen) == [0, 1, 2, 3]
    assert seen[-1].position == 0
    assert all(row.value == row.text and row.text for row in seen)


def test_polars_gives_polars(client: Client) -> None:
    polars: Any = pytest.importorskip("polars")
    asked = polars.DataFrame({"text": [*texts(2), None], "n": [1, 2, 3]})
    frame: Any = mapped(client, asked, "Go: {text}")
    assert isinstance(frame, polars.DataFrame)
    kinds = {"cost_usd": polars.Float64, "ttft_s": polars.Float64, "tokens": polars.Int64}
    assert frame.schema == {name: kinds.get(name, polars.String) for name in COLUMNS}
    assert frame["status"].to_list() == ["succeeded", "succeeded", "skipped"]
    assert asked.hstack(frame.drop("text"))["n"].to_list() == [1, 2, 3]
    nothing: Any = mapped(client, polars.Series("review", [None, None], dtype=polars.String), output=Visit)
    assert nothing.schema == {
        "day": polars.Date, "at": polars.Datetime("us", "UTC"), "guests": polars.Int64, "paid": polars.Boolean,
        **{name: kind for name, kind in frame.schema.items() if name != "text"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        ("one text", {}, "For one prompt there is submit"),
        (7, {}, "not int"),
        (pd.DataFrame({"a": ["x"]}), {}, "a frame needs a prompt"),
        (pd.DataFrame({"a": ["x"]}), {"prompt": "{b}"}, "the prompt uses b"),
        (pd.DataFrame({"a": ["x"]}), {"prompt": "Say hello."}, "every row would ask the same"),
        (pd.DataFrame([["x", "y"]], columns=["a", "a"]), {"prompt": "{a}"}, "several columns that are called a"),
        (pd.Series(["x"], name="a"), {"prompt": "{b}"}, "uses b, and there is text, value, a"),
        (["x"], {"prompt": "Say hello."}, "every row would ask the same"),
        (["x"], {"prompt": 7}, "a prompt is a text with {column} in it, or a function of the row, not int"),
        (pd.DataFrame({"price": [1.0]}), {"prompt": "{price:.2f}"}, "names alone are filled in"),
        (["x"], {"prompt": "{text} {value.real}"}, "names alone are filled in"),
        (["x"], {"n": 0}, "n is how many"),
        (["x"], {"n": 2.5}, "n is how many"),
        (["x"], {"sample": 0}, "sample is how many"),
        (["x"], {"sample": 1.5}, "sample is how many"),
        (["x"], {"max_cost_usd": 0}, "max_cost_usd is dollars"),
        (["x"], {"max_cost_usd": "5"}, "max_cost_usd is dollars"),
        (["x"], {"model": 5}, "model"),
        (["x"], {"output": {"type": "nonsense"}}, "no JSON Schema"),
        (["x"], {"output": int}, "output is a pydantic model"),
        (["x"], {"temperature": 7}, "temperature"),
        (["x"], {"name": ""}, "needs a name"),
        (["x"], {"fresh": "no"}, "fresh is True or False, not 'no'"),
        (["x"], {"retry_failed": 0}, "retry_failed is True or False"),
        (["x"], {"on_interrupt": "Cancel"}, "on_interrupt is 'detach' or 'cancel', not 'Cancel'"),
    ],
)
def test_what_can_be_no_map_is_refused_before_anything_is_sent(
    client: Client, rows: Any, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(BadRequestError, match=says):
        mapped(client, rows, **options)
    assert list(client.list()) == []


def test_what_is_wrong_with_every_row_is_raised(client: Client) -> None:
    with pytest.raises(BadRequestError, match="unknown_model"):
        mapped(client, texts(3), model="nobody/nothing")


def test_a_cache_that_is_none_is_told(client: Client, tmp_path: Any) -> None:
    (tmp_path / "notes.txt").write_text("not a database " * 100)
    for wrong in ("notes.txt", "no/such/folder.sqlite"):
        with pytest.raises(ConfigurationError, match="cache"):
            mapped(client, texts(1), cache=wrong)
    assert list(client.list()) == []
