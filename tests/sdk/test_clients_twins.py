"""The two clients are one: the same methods, parameters, help and completions."""

from __future__ import annotations

import inspect
import json
import pydoc
from typing import Any

import jedi
import pytest

import onceq
from onceq import AsyncClient, AsyncJobHandle, AsyncJobStream, Client, JobHandle, JobOptions, JobRequest, JobStream
from tests.sdk.fake import FakeService, accepted

SUBMIT = "POST /v1/jobs"


RENAMED = {"amap": "imap"}
"""Methods whose names say how they are iterated."""


@pytest.mark.parametrize(
    ("one", "other"), [(Client, AsyncClient), (JobHandle, AsyncJobHandle), (JobStream, AsyncJobStream)]
)
def test_the_twins_have_the_same_methods_and_parameters(one: type, other: type) -> None:
    def surface(kind: type) -> dict[str, list[str]]:
        members = inspect.getmembers(kind, callable)
        named = ((RENAMED.get(n, n), m) for n, m in members if not n.startswith("_"))
        return {n: list(inspect.signature(m).parameters) for n, m in named}

    assert surface(one)
    assert surface(one) == surface(other)


@pytest.mark.parametrize("told", [Client.stream, AsyncClient.stream, JobStream, AsyncJobStream])
def test_what_streams_says_where_its_whole_answer_is(told: Any) -> None:
    assert "`stream.text`" in str(told.__doc__)


def test_a_loop_that_is_to_cancel_is_told_what_closes_its_iterator() -> None:
    assert "aclosing(client.amap(...))" in str(AsyncClient.amap.__doc__)


def test_the_keyword_arguments_are_the_fields_of_the_request() -> None:
    assert set(JobOptions.__annotations__) | {"model", "prompt", "messages"} == set(JobRequest.model_fields)


@pytest.mark.parametrize("options", [JobOptions, onceq.MapOptions])
def test_help_says_what_each_keyword_is(options: Any) -> None:
    for name in options.__annotations__:
        said = JobRequest.model_fields[name].description
        assert said
        assert f"{name}: {said}" in options.__doc__


def test_the_public_surface_is_what_is_listed() -> None:
    missing = [name for name in onceq.__all__ if not hasattr(onceq, name)]
    assert missing == []
    assert sorted(onceq.__all__) == sorted(set(onceq.__all__))
    assert json.dumps(onceq.__version__)


def test_a_notebook_completes_what_the_clients_hand_out(fake: FakeService, client: Any) -> None:
    fake.on(SUBMIT, accepted())
    made = (client, client.stream("Hi"), client.submit("Hi"))
    completer: Any = jedi
    for value in [getattr(one, "_inner", one) for one in made]:
        offered = [found.name for found in completer.Interpreter("value.", [{"value": value}]).complete()]
        missing = [name for name in dir(value) if not name.startswith("_") and name not in offered]
        assert missing == []


TAKES: dict[str, Any] = {
    **dict.fromkeys(("submit", "submit_batch", "quote", "stream"), JobOptions),
    **dict.fromkeys(("map", "compare"), onceq.MapOptions),
    **dict.fromkeys(("list", "list_page", "jobs_frame"), onceq.JobFilters),
}


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(("name", "options"), [*TAKES.items(), ("imap", onceq.MapOptions)])
def test_a_signature_names_each_option_and_its_default(kind: Any, name: str, options: Any) -> None:
    method = getattr(kind, "amap" if name == "imap" and kind is AsyncClient else name)
    there = inspect.signature(method).parameters
    assert set(options.__annotations__) < set(there)
    assert not [one for one in there.values() if one.kind is inspect.Parameter.VAR_KEYWORD]
    assert {there[option].kind for option in options.__annotations__} == {inspect.Parameter.KEYWORD_ONLY}
    assert there["band"].default == (None if options is onceq.JobFilters else "standard")
    assert "max_tokens" in pydoc.render_doc(method) or options is onceq.JobFilters


def test_a_notebook_completes_the_options(client: Any) -> None:
    completer: Any = jedi
    value = getattr(client, "_inner", client)
    for begun, wanted in (
        ("submit('Hi', max_t", "max_tokens="),
        ("list(ver", "verdict="),
        ("map([], dead", "deadline_s="),
    ):
        found = completer.Interpreter(f"value.{begun}", [{"value": value}]).complete()
        assert wanted in [one.name for one in found]
