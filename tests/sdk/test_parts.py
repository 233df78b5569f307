"""The parts that decide: backoff, Retry-After, where the service is, how things look, how quick the import is."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

import onceq
from onceq._config import Config, discover
from onceq._display import footer, job_html
from onceq._http import PATIENT, Backoff, error_of, is_retryable, retry_after_s
from tests.sdk.fake import job


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without any configuration around it."""
    monkeypatch.delenv("ONCEQ_BASE_URL", raising=False)
    monkeypatch.delenv("ONCEQ_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_folder(where: Path, url: str | None, key: str | None) -> None:
    (where / ".onceq").mkdir(parents=True)
    for name, value in (("url", url), ("api-key", key)):
        if value is not None:
            (where / ".onceq" / name).write_text(value + "\n")


def test_arguments_come_before_the_environment_before_the_folder(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(bare, "http://127.0.0.1:1", "oq_folder")
    assert discover() == Config("http://127.0.0.1:1", "oq_folder")
    monkeypatch.setenv("ONCEQ_BASE_URL", "http://env:2/")
    monkeypatch.setenv("ONCEQ_API_KEY", "oq_env")
    assert discover() == Config("http://env:2", "oq_env")
    assert discover("https://arg/prefix/", "oq_arg") == Config("https://arg/prefix", "oq_arg")


def test_the_nearest_folder_upwards_is_used(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(bare, "http://127.0.0.1:1", "oq_far")
    write_folder(bare / "a", "http://127.0.0.1:2", "oq_near")
    deep = bare / "a" / "b" / "c"
    (deep / ".onceq").mkdir(parents=True)  # an empty one, as a test run may leave, is not configuration
    monkeypatch.chdir(deep)
    assert discover().api_key == "oq_near"


def test_without_a_url_it_is_this_machine(bare: Path) -> None:
    assert discover(api_key="oq_x").base_url == "http://127.0.0.1:8000"


def test_a_folder_cannot_send_someones_own_key_away(bare: Path) -> None:
    write_folder(bare, "http://collector.example", None)
    with pytest.raises(onceq.ConfigurationError, match="ONCEQ_BASE_URL"):
        discover(api_key="oq_mine")
    assert discover("http://collector.example", "oq_mine").base_url == "http://collector.example"


@pytest.mark.parametrize(
    ("folders", "url", "own"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1", True),
        ("http://127.0.0.1:8000", "http://localhost:8000", True),
        ("https://onceq.example", "https://onceq.example:443/", True),
        (None, "http://localhost:9000", True),
        (None, "http://onceq.example", False),
        ("http://127.0.0.1:8000", "http://onceq.example", False),
        ("http://127.0.0.1:8000", "http://127.0.0.1.onceq.example:8000", False),
        ("http://127.0.0.1:8000", "http://127.0.0.1:9000", False),
        ("https://onceq.example", "http://onceq.example", False),
    ],
)
def test_a_folders_key_goes_to_the_folders_service_alone(
    bare: Path, monkeypatch: pytest.MonkeyPatch, folders: str | None, url: str, own: bool
) -> None:
    write_folder(bare, folders, "oq_folder")
    monkeypatch.setenv("ONCEQ_BASE_URL", url)
    if own:
        assert discover().api_key == discover(url).api_key == "oq_folder"
        return
    with pytest.raises(onceq.ConfigurationError, match="api_key"):
        discover()
    assert discover(url, "oq_mine").api_key == "oq_mine"


def test_an_empty_key_is_refused_where_it_is_passed_and_none_where_it_is_a_variable(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(bare, "http://127.0.0.1:1", "oq_folder")
    monkeypatch.setenv("ONCEQ_API_KEY", "")
    assert discover().api_key == "oq_folder"
    monkeypatch.setenv("ONCEQ_API_KEY", "oq_env")
    with pytest.raises(onceq.ConfigurationError, match="no API key"):
        discover(api_key="")


@pytest.mark.parametrize("url", ["http://x/v1", "http://x/v1/", "http://x"])
def test_a_base_url_may_end_as_those_of_others_do(bare: Path, url: str) -> None:
    assert discover(url, "oq_x").base_url == "http://x"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://", "http://user:pw@x", "http://x:y"])
def test_a_base_url_that_cannot_work_is_refused(bare: Path, url: str) -> None:
    with pytest.raises(onceq.ConfigurationError):
        discover(url, "oq_x")


@pytest.mark.parametrize("key", [None, "", "  ", "two words", "schlüssel", "a\nb"])
def test_a_missing_or_mangled_key_is_refused_and_not_repeated(bare: Path, key: str | None) -> None:
    with pytest.raises(onceq.ConfigurationError) as caught:
        onceq.Client(api_key=key)
    assert not (key or "").strip() or str(key) not in str(caught.value)


def test_the_key_is_in_no_repr(bare: Path) -> None:
    assert "oq_secret" not in repr(discover(api_key="oq_secret"))


@given(st.integers(1, 40), st.none() | st.floats(0, 120))
def test_pauses_are_bounded_and_honour_what_was_asked(retry: int, asked_s: float | None) -> None:
    backoff = Backoff(max_retries=10)
    pause_s = backoff.pause_s(retry, asked_s)
    if retry > 10 or (asked_s or 0) > 60:
        assert pause_s is None
    else:
        assert pause_s is not None
        assert (asked_s or 0) <= pause_s <= (asked_s or 0) + 8
        assert pause_s <= 0.25 * 2 ** (retry - 1) or asked_s is not None


@pytest.mark.parametrize(("backoff", "at_most_s"), [(Backoff(), 7.75), (PATIENT, 63.75)])
def test_all_pauses_together_are_as_long_as_the_docstrings_say(backoff: Backoff, at_most_s: float) -> None:
    retries = range(1, backoff.max_retries + 1)
    longest = [max(backoff.pause_s(retry) or 0.0 for _ in range(2_000)) for retry in retries]
    assert at_most_s * 0.95 < sum(longest) < at_most_s


@pytest.mark.parametrize(
    ("raw", "wait_s"),
    [(None, None), ("7", 7.0), ("0", 0.0), ("soon", None), ("-1", None), ("Wed, 21 Oct 2015 07:28:00", None)],
)
def test_retry_after_is_read_where_it_makes_sense(raw: str | None, wait_s: float | None) -> None:
    assert retry_after_s(httpx2.Response(503, headers={} if raw is None else {"retry-after": raw})) == wait_s


def test_retry_after_may_be_a_date() -> None:
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    asked_s = retry_after_s(httpx2.Response(503, headers={"retry-after": then}))
    assert asked_s is not None
    assert 27 < asked_s <= 30
    assert retry_after_s(httpx2.Response(503, headers={"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"})) == 0


@given(st.integers(400, 599))
def test_every_error_status_has_an_error_class(status: int) -> None:
    request = httpx2.Request("GET", "http://onceq.test/v1/jobs?team=x")
    error = error_of(httpx2.Response(status, request=request))
    assert isinstance(error, onceq.APIError)
    assert error.status == status
    assert is_retryable(httpx2.Response(status)) == (status in {408, 429, 500, 502, 503, 504})


def a_job(**more: Any) -> onceq.Job:
    return onceq.Job.model_validate(job("succeeded", "<b>&</b>", **more))


def test_what_is_shown_is_escaped() -> None:
    nasty = a_job(error={"code": "x", "message": "<script>"}, simulated=True)
    shown_in_a_cell = getattr(nasty, "_repr_html_")()  # noqa: B009 - as IPython calls it; a type checker calls it private
    for html in (job_html(nasty), shown_in_a_cell):
        assert "<b>&</b>" not in html
        assert "&lt;b&gt;&amp;" in html
        assert "<script>" not in html


def test_the_footer_tells_what_is_known() -> None:
    full = a_job(
        usage={"input_tokens": 3, "output_tokens": 4, "estimated": True}, calls=1, cost={"usd": "0.0012"},
        timings={"ttft_s": 0.25}, simulated=True,
    )  # fmt: skip
    assert footer(full) == (
        f"openai/gpt-4o-mini · succeeded · ≈3 + ≈4 tokens · $0.0012 · ttft 0.25 s · {full.id} · simulated"
    )
    assert footer(a_job()) == f"openai/gpt-4o-mini · succeeded · {full.id}"
    assert "cost unknown" in footer(a_job(calls=1, cost={"usd": None}))


def test_the_import_is_light() -> None:
    heavy = ["pandas", "numpy", "IPython", "fastapi", "redis", "openai", "httpx", "onceq_service"]
    check = f"import sys; from onceq import *; print(Client.__name__, [m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "Client []"


@pytest.mark.parametrize("part", ["", ".errors", ".wire"])
def test_who_needs_no_client_does_not_wait_for_one(part: str) -> None:
    clients = ["httpx2", "onceq._http", "onceq._client", "onceq._async_client"]
    check = f"import sys, onceq{part}; print([m for m in {clients} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_each_name_is_the_one_that_a_type_checker_is_told() -> None:
    told = [node for node in ast.walk(ast.parse(inspect.getsource(onceq))) if isinstance(node, ast.ImportFrom)]
    homes = {name.name: node.module for node in told for name in node.names if name.name in onceq.__all__}
    assert {*homes, "__version__"} == {*onceq.__all__}
    for name, home in homes.items():
        assert getattr(onceq, name) is getattr(import_module(str(home)), name), name


@pytest.mark.parametrize("part", ["compare", "errors", "export", "frames", "testing", "wire"])
def test_what_the_documents_name_is_there_after_the_one_import(part: str) -> None:
    check = f"import onceq; print(onceq.{part}.__name__, {part!r} in dir(onceq))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"onceq.{part} True"


def test_nothing_but_what_is_offered_is_listed() -> None:
    offered = {*onceq.__all__, "compare", "errors", "export", "frames", "testing", "wire"}
    assert {name for name in dir(onceq) if not name.startswith("__")} <= offered
    assert not hasattr(onceq, "nothing_like_that")
    found: Any = import_module("jedi").Interpreter("onceq.", [{"onceq": onceq}]).complete()
    assert {"Any", "version", "import_module"}.isdisjoint(one.name for one in found)
    assert "Client" in {one.name for one in found}
