"""The errors themselves: each one survives a process pool."""

from __future__ import annotations

import copy
import pickle
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import ModuleType
from typing import Any

import pytest

import onceq
from onceq import errors
from onceq.wire import Problem
from tests.sdk.fake import job

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


def made(kind: Any) -> onceq.OnceqError:
    """An error of this kind as onceq raises it."""
    if issubclass(kind, onceq.APIError):
        return kind(Problem(title="No", status=422, code="unknown_model", detail="No such model."), 1.5)
    if issubclass(kind, onceq.JobError):
        why = {"code": "provider_auth", "message": "The provider refused the key."}
        return kind(onceq.Job.model_validate(job("failed", "part", error=why)))
    return kind("what happened")


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_comes_out_of_a_pickle_and_a_copy_as_it_went_in(kind: type[onceq.OnceqError]) -> None:
    error = made(kind)
    error.add_note("a note")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is kind
        assert str(again) == str(error)
        assert vars(again) == vars(error)
        assert again.code == error.code


def test_pythons_own_words_for_it_catch_them_too() -> None:
    assert issubclass(onceq.ConnectionFailed, ConnectionError)
    assert issubclass(onceq.WaitTimeout, TimeoutError)


def fail() -> None:
    raise made(onceq.JobFailed)


def test_a_process_pool_hands_on_why_a_job_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    # a child runs the parent's main file again, and a page that was tested in this process may stand in its place
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(onceq.JobFailed, match="key") as e,
    ):
        pool.submit(fail).result(timeout=60)
    assert e.value.job.text == "part"


def test_a_job_s_error_names_the_job_once() -> None:
    ended = job("expired")
    why = {"code": "deadline_exceeded", "message": f"job {ended['id']} had no answer at its deadline; post it again"}
    error = onceq.JobExpired(onceq.Job.model_validate(ended | {"error": why}))
    said = f"job {ended['id']} expired: it had no answer at its deadline; post it again [deadline_exceeded]"
    assert str(error) == said
