"""What is answered, without a server: words, JSON and pacing are pure."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceq_service.simulator.frames import Frame, split_at
from onceq_service.simulator.jsonmaker import make_json
from onceq_service.simulator.knobs import Knobs, read_directive
from onceq_service.simulator.pacing import Pacer, paced
from onceq_service.simulator.words import split, text_pieces


@given(st.integers(), st.integers(0, 300), st.integers(0, 300))
def test_fewer_pieces_are_the_beginning_of_more(seed: int, few: int, more: int) -> None:
    few, more = sorted((few, more))
    pieces = text_pieces(seed, more)
    assert len(pieces) == more
    assert all(pieces)
    assert text_pieces(seed, few) == pieces[:few]


@given(st.text())
def test_split_text_joins_again(text: str) -> None:
    assert "".join(split(text)) == text


def test_long_texts_have_lines_and_characters_beyond_ascii() -> None:
    text = "".join(text_pieces(1, 2000))
    assert "\n" in text
    assert "🚀" in text
    assert "é" in text


@pytest.mark.parametrize("seed", range(20))
def test_json_keeps_the_schemas_ranges(seed: int) -> None:
    schema: dict[str, object] = {
        "type": "object",
        "properties": {
            "whole": {"type": "integer", "minimum": 3, "maximum": 4},
            "part": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            "few": {"type": "array", "items": {"type": "boolean"}, "minItems": 3, "maxItems": 3},
            "word": {"type": "string", "minLength": 30, "maxLength": 31},
            "either": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "fixed": {"const": 7},
            "maybe": {"type": ["string", "null"]},
        },
    }
    value = json.loads(make_json(schema, seed))
    assert value["whole"] in (3, 4)
    assert 0 < value["part"] < 1
    assert len(value["few"]) == 3
    assert 30 <= len(value["word"]) <= 31
    assert isinstance(value["either"], int)
    assert value["fixed"] == 7


def test_a_schema_that_refers_to_itself_ends() -> None:
    node: dict[str, object] = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}
    assert json.loads(make_json({"$ref": "#/$defs/node", "$defs": {"node": node}}, 1))
    json.loads(make_json({"$ref": "#"}, 1))


def test_a_directive_takes_quoted_values_and_json() -> None:
    knobs = read_directive(["""[[sim text="two words" args={"a":1} tps=2.5]]"""])
    assert knobs == Knobs(text="two words", args='{"a":1}', tps=2.5)
    assert read_directive(["no directive", "[[simple]]"]) == Knobs()


def test_a_stream_is_split_before_its_end_whatever_is_asked_for() -> None:
    frames = [Frame(b"start"), Frame(b"a", 1), Frame(b"b", 1), Frame(b"stop"), Frame(b"end", last=True)]
    assert [frame.data for frame in split_at(frames, 0)[0]] == [b"start"]
    assert [frame.data for frame in split_at(frames, 1)[0]] == [b"start", b"a"]
    assert [frame.data for frame in split_at(frames, 99)[0]] == [b"start", b"a", b"b"]
    assert [frame.data for frame in split_at([Frame(b"start"), Frame(b"end", last=True)], 5)[0]] == [b"start"]


@pytest.mark.parametrize("tps", [0, 5000])
async def test_pacing_keeps_every_frame_in_order(tps: float) -> None:
    frames = [Frame(b"%d" % n, n % 3 and 1) for n in range(300)]
    batches = [batch async for batch in paced(frames, Pacer(0, tps))]
    assert [frame for batch in batches for frame in batch] == frames
    assert len(batches) > 1
