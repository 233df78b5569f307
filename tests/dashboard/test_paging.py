"""Pages of one walk."""

from __future__ import annotations

import pytest

from onceq.wire import JobPage
from onceq_dashboard.paging import LOOKS, Pager
from tests.dashboard.worlds import job_id, make_job


class Shelf:
    """Pages of one job each, but for the empty ones; the cursor is a page's number."""

    def __init__(self, length: int, empty: range = range(0)) -> None:
        self.length, self.empty, self.asked = length, empty, list[int]()

    def read(self, cursor: str | None) -> JobPage:
        number = int(cursor or "0")
        self.asked.append(number)
        behind = str(number + 1) if number + 1 < self.length else None
        return JobPage(jobs=[] if number in self.empty else [make_job(number)], next_cursor=behind)


def ids(page: JobPage) -> list[str]:
    return [job.id for job in page.jobs]


def test_pages_go_forth_and_back_and_each_is_read_once() -> None:
    shelf = Shelf(4)
    pager = Pager(shelf.read(None), shelf.read)
    assert ids(pager.page(3)) == [job_id(3)]
    assert ids(pager.page(1)) == [job_id(1)]
    assert shelf.asked == [0, 1, 2, 3]
    assert pager.page(4).jobs == []
    assert shelf.asked == [0, 1, 2, 3]


def test_a_step_over_empty_pages_ends_at_the_next_job_or_after_a_bounded_number_of_requests() -> None:
    shelf = Shelf(20, range(1, 8))
    pager = Pager(shelf.read(None), shelf.read)
    found = pager.page(1)
    assert (found.jobs, found.next_cursor, len(shelf.asked)) == ([], str(1 + LOOKS), 1 + LOOKS)
    assert ids(pager.page(2)) == [job_id(8)]


def test_a_step_that_fails_may_be_made_again() -> None:
    shelf = Shelf(3)
    broken = [True]

    def read(cursor: str | None) -> JobPage:
        if broken.pop() if broken else False:
            raise OSError("away")
        return shelf.read(cursor)

    pager = Pager(shelf.read(None), read)
    with pytest.raises(OSError, match="away"):
        pager.page(1)
    assert ids(pager.page(1)) == [job_id(1)]
