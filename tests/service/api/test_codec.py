"""The reader of plain requests takes none that pydantic refuses, and reads the others as pydantic does."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from onceq.wire import JobRequest
from onceq_service.api.catalog import Catalog
from onceq_service.api.defaults import Defaults
from onceq_service.api.submission import codec, max_cost
from onceq_service.api.submission.admission import admission
from onceq_service.pricing import Tariff
from onceq_service.settings import DEFAULT_PROVIDERS
from onceq_service.store import Admission, ApiKey, Hasher

CATALOG: Final = Catalog({}, DEFAULT_PROVIDERS)
TARIFF: Final = Tariff(DEFAULT_PROVIDERS)
KEY: Final = ApiKey("k", "t", "n", ("submit",), datetime.now(UTC))
DEFAULTS: Final = Defaults(3600.0, 3, 600, label_keys=("a",))
MODEL: Final = "openai/gpt-4o-mini"

ODD_TEXTS: Final = ("", "a\n", "\n", "\x7f", "\u2028", 'q"\\/', "\x00", "é")
ODD_NUMBERS: Final = (0, -0.0, 0.1, 1e-7, 1e16, 2.0, 1e300, 10**40)
TEXT = st.text(st.characters(), max_size=12) | st.sampled_from(ODD_TEXTS)
NUMBER = st.integers(-1, 25) | st.floats(allow_nan=True) | st.sampled_from(ODD_NUMBERS)
ODD = st.none() | st.booleans() | TEXT | NUMBER | st.lists(TEXT, max_size=2) | st.dictionaries(TEXT, TEXT, max_size=2)
TURN = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool", "x"]), "content": TEXT | ODD},
    optional={"tool_call_id": TEXT, "tool_calls": ODD, "name": TEXT},
)
LABELS = st.dictionaries(st.sampled_from(["a", "b", "_x.y-z", "1", "", "a\n", "é"]) | TEXT, TEXT, max_size=3)
OPTIONAL: dict[str, st.SearchStrategy[Any]] = {
    "prompt": TEXT, "messages": st.lists(TURN, max_size=3), "system": TEXT, "max_tokens": NUMBER, "temperature": NUMBER,
    "band": st.sampled_from(["interactive", "standard", "batch", "fast"]), "deadline_s": NUMBER, "max_calls": NUMBER,
    "max_cost_usd": NUMBER, "on_crash": st.sampled_from(["retry", "fail", "resume"]), "on_break": st.just("fail"),
    "disconnect_grace_s": NUMBER, "dedupe_window_s": NUMBER, "fresh": st.booleans(), "user": TEXT, "team": TEXT,
    "labels": LABELS, "stop": st.lists(TEXT, max_size=2), "tools": ODD, "params": ODD, "x": ODD, "timeouts": ODD,
}  # fmt: skip
REQUEST = st.fixed_dictionaries(
    {"model": st.sampled_from([MODEL, "openai/\n", "openai/a b"]) | st.lists(st.just(MODEL), max_size=2)},
    optional={name: values | ODD for name, values in OPTIONAL.items()},
)
GOOD: Final[tuple[dict[str, Any], ...]] = (
    {"model": MODEL, "prompt": "p"},
    {"model": MODEL, "messages": [{"role": "system", "content": ""}, {"role": "user", "content": "ü\u2028\x01"}]},
    {"model": MODEL, "prompt": "p", "temperature": 1, "max_tokens": 7, "labels": {}, "team": "a", "user": "b"},
    {"model": MODEL, "prompt": "p", "labels": {"b": "2", "a": "1"}, "max_cost_usd": 0.25, "fresh": True},
    {"model": MODEL, "prompt": "p", "deadline_s": 60, "band": "batch", "dedupe_window_s": 0, "on_break": "fail"},
    {"model": MODEL, "prompt": "p", "system": "s", "on_crash": "fail", "disconnect_grace_s": 1, "deadline_s": 0.5},
)


def read_by_pydantic(body: bytes) -> JobRequest | None:
    try:
        return JobRequest.model_validate_json(body)
    except ValidationError:
        return None


def admitted_as(request: JobRequest) -> Admission:
    """What the store is asked for, but for the job's id."""
    models = CATALOG.chain(request.models())
    bounded = max_cost.with_bounds(TARIFF, request, models, DEFAULTS.max_calls)
    asked = admission(bounded, KEY, "idem", models, Hasher(b"secret"), DEFAULTS)
    return msgspec.structs.replace(asked, id="")


def agree(body: bytes) -> bool:
    """Whether the plain reader takes a body; fails where it is not what pydantic says."""
    taken = codec.read(body)
    if taken is None:
        return False
    known = read_by_pydantic(body)
    assert known is not None, "taken, but refused by the contract"
    assert codec.dump(taken) == codec.dump(known)
    if known.models() == [MODEL]:
        assert admitted_as(taken) == admitted_as(known)
    return True


@pytest.mark.parametrize("request_", GOOD)
def test_common_requests_are_taken_and_mean_the_same(request_: dict[str, Any]) -> None:
    assert agree(json.dumps(request_).encode())
    assert agree(json.dumps(request_, ensure_ascii=False, indent=1).encode())


@settings(max_examples=400, deadline=None)
@given(REQUEST, st.booleans())
def test_whatever_is_sent_is_read_as_the_contract_says_or_left_to_it(sent: dict[str, Any], escaped: bool) -> None:
    agree(json.dumps(sent, ensure_ascii=escaped).encode("utf-8", "surrogatepass"))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(GOOD), st.sampled_from(sorted(OPTIONAL)), st.data())
def test_one_change_of_a_common_request_is_judged_alike(good: dict[str, Any], name: str, data: st.DataObject) -> None:
    value = data.draw(OPTIONAL[name] | ODD)
    agree(json.dumps(good | {name: value}).encode("utf-8", "surrogatepass"))
    twice = json.dumps(good)[:-1] + f', "{name}": {json.dumps(value)}' + "}"
    agree(twice.encode("utf-8", "surrogatepass"))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(GOOD), st.data())
def test_broken_bytes_are_left_to_the_contract_too(good: dict[str, Any], data: st.DataObject) -> None:
    body = bytearray(json.dumps(good, ensure_ascii=False).encode())
    at = data.draw(st.integers(0, len(body) - 1))
    body[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    agree(bytes(body))


@pytest.mark.parametrize("changes", [
    {"user": None}, {"tools": [{"name": "a"}]}, {"model": [MODEL]}, {"params": {}}, {"stop": ["x"]},
    {"on_crash": "resume"}, {"timeouts": {"call_s": 1}}, {"not_before": "2031-01-01T00:00:00Z"},
])  # fmt: skip
def test_what_is_not_plain_is_left_to_pydantic(changes: dict[str, Any]) -> None:
    body = json.dumps(GOOD[0] | changes).encode()
    assert codec.read(body) is None
    assert read_by_pydantic(body) is not None


@pytest.mark.parametrize("changes", [
    {"user": "a\n"}, {"team": "a\n"}, {"model": "openai/m\n"}, {"labels": {"a\n": "b"}}, {"labels": {"a": "b\n"}},
    {"max_tokens": 0}, {"max_tokens": 1.0}, {"temperature": 2.1}, {"deadline_s": 0}, {"fresh": 1}, {"prompt": ""},
    {"max_calls": 21}, {"labels": {f"l{n}": "x" for n in range(17)}}, {"x": 1}, {"messages": []}, {"user": "u" * 101},
])  # fmt: skip
def test_what_the_contract_refuses_is_never_taken(changes: dict[str, Any]) -> None:
    body = json.dumps(GOOD[0] | changes).encode()
    assert read_by_pydantic(body) is None
    assert codec.read(body) is None
