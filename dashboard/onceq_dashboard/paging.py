"""The pages of one walk through the jobs, newest first: forward by the API's cursor, back from memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from onceq.wire import JobPage

LOOKS: Final = 4
"""Requests that one step makes at most while it finds nothing: each looks at some thousand jobs."""

Read = Callable[[str | None], JobPage]
"""The page behind a cursor; None: the first."""


def look(read: Read, cursor: str | None) -> JobPage:
    """The first page from `cursor` on that holds a job, or where the looking ended after `LOOKS` requests."""
    page = read(cursor)
    for _ in range(LOOKS - 1):
        if page.jobs or page.next_cursor is None:
            break
        page = read(page.next_cursor)
    return page


class Pager:
    """Pages behind a first one. Those that were seen stay as they were seen; a step that fails may be made again."""

    def __init__(self, first: JobPage, read: Read) -> None:
        self._seen, self._read = [first], read

    def page(self, number: int) -> JobPage:
        """Page `number`, from 0; empty behind the last. Raises what `read` raises."""
        while len(self._seen) <= number:
            behind = self._seen[-1].next_cursor
            self._seen.append(look(self._read, behind) if behind else JobPage(jobs=[]))
        return self._seen[number]
