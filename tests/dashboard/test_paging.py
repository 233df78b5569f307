"""Pages of one walk."""

from __future__ import annotations

from collections.abc import Iterator

from onceq import Job
from onceq_dashboard.paging import Walk
from tests.dashboard.worlds import job_id, make_job


def walked(number: int, taken: list[str]) -> Iterator[Job]:
    for n in range(number):
        job = make_job(n)
        taken.append(job.id)
        yield job


def ids(jobs: list[Job]) -> list[str]:
    return [j.id for j in jobs]


def test_pages_go_forth_and_back_and_each_job_is_read_once() -> None:
    taken: list[str] = []
    walk = Walk(walked(60, taken), 25)
    first = ids(walk.page(0))
    assert first == [job_id(n) for n in range(25)]
    assert ids(walk.page(2)) == [job_id(n) for n in range(50, 60)]
    assert ids(walk.page(0)) == first
    assert len(taken) == len(set(taken)) == 60


def test_only_one_job_is_read_ahead() -> None:
    taken: list[str] = []
    Walk(walked(60, taken), 25).page(0)
    assert len(taken) == 26


def test_a_full_last_page_has_no_page_behind_it() -> None:
    walk = Walk(walked(50, []), 25)
    walk.page(1)
    assert not walk.has_page(2)
    assert walk.page(2) == []
    assert walk.has_page(1)
