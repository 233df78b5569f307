"""The pages of one walk through the jobs, newest first: forward by the API's cursor, back from memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from onceq import Job


class Walk:
    """Cuts an iterator of jobs into pages of `size`.

    Pages that were seen stay as they were seen; one job is read ahead, to know whether there is a next page.
    """

    def __init__(self, jobs: Iterator[Job], size: int) -> None:
        self._jobs, self._size = jobs, size
        self._seen: list[Job] = []

    def page(self, number: int) -> list[Job]:
        """Page `number`, from 0; empty behind the last."""
        self._read_to((number + 1) * self._size + 1)
        return self._seen[number * self._size : (number + 1) * self._size]

    def has_page(self, number: int) -> bool:
        """Whether there is a page `number`, as far as has been read."""
        return len(self._seen) > number * self._size

    def _read_to(self, length: int) -> None:
        self._seen.extend(islice(self._jobs, max(0, length - len(self._seen))))
