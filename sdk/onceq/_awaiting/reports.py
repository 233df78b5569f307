"""What `AsyncClient` tells of the queue and of money: sums, the ledger, frames. The twin of `_blocking/reports.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Unpack

from onceq import _flows, frames
from onceq._arguments import JobRef, job_id_of
from onceq._awaiting.base import Connection
from onceq._filters import JobFilters, query
from onceq._flows import Ledger
from onceq.wire import CostDimension, Costs, LedgerEntry, LedgerPage, Stats

if TYPE_CHECKING:
    import pandas as pd


class Reports(Connection):
    """Figures, ledger and frames."""

    async def ledger(self, job_id: JobRef) -> Ledger:
        """What was booked for the job: one row a try, oldest first. Raises NotFoundError."""
        return await self._driver.run(_flows.ledger(job_id_of(job_id), self._backoff))

    async def ledger_pages(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        restated_at: datetime | None = None,
        page_size: int | None = None,
    ) -> AsyncIterator[LedgerPage]:
        """Iterate your tenant's ledger in pages of at most 1,000 rows, oldest first, as it was when you began.

        `since` and `until` are times of booking (the latter excluded; None: now), `after` the id of a row that you have
        already. `restated_at` adds what the tokens would cost at the prices of that time. A page's `kept_since` says
        what has left the ledger. A page that a broken connection lost is fetched again.
        """
        query, cursor = _flows.ledger_query(since, until, restated_at, page_size), after
        while True:
            page = await self._driver.run(_flows.ledger_page(query, cursor, self._backoff))
            yield page
            cursor, query["until"] = page.next_cursor, page.until.isoformat()
            if cursor is None:
                return

    async def ledger_rows(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        restated_at: datetime | None = None,
    ) -> AsyncIterator[LedgerEntry]:
        """Iterate your tenant's ledger, a row a try, oldest first; takes what `ledger_pages` takes."""
        async for page in self.ledger_pages(since=since, until=until, after=after, restated_at=restated_at):
            for entry in page.entries:
                yield entry

    async def stats(self) -> Stats:
        """The queue now and the last 24 hours of your tenant."""
        return await self._driver.run(_flows.stats(self._backoff))

    async def costs(
        self,
        *,
        group_by: CostDimension | Sequence[CostDimension] = (),
        interval: Literal["hour", "day", "total"] = "day",
        since: datetime | None = None,
        until: datetime | None = None,
        restated_at: datetime | None = None,
    ) -> Costs:
        """What your tenant spent, wasted and avoided, by hour or day (UTC) and group.

        Without `since` it is the last 30 days, or 24 hours by hour. `labels` groups by the labels that the service
        sums up (`ONCEQ_LABEL_KEYS`). `restated_at` adds what the tokens would cost at the prices of that time. Times
        without a zone are local time.
        """
        query = _flows.cost_query(group_by, interval, since, until, restated_at)
        return await self._driver.run(_flows.costs(query, self._backoff))

    async def jobs_frame(
        self, *, labels: Sequence[str] | None = None, limit: int | None = None, **where: Unpack[JobFilters]
    ) -> pd.DataFrame:
        """Your tenant's jobs as a frame, newest first, one row a job under its id; takes the filters of `list`.

        Columns, dtypes and units: `onceq.frames.jobs_frame`, the same for no job at all. `labels` names the labels
        that become columns (`label_<key>`; None: those that occur). At most `limit` jobs, 10,000 without one, and then
        a warning says where there are more. Only what the service still keeps is there (24 h after its end, as a rule).
        """
        wanted = query(where)
        return frames.jobs_frame(await self._driver.run(_flows.newest(wanted, limit, self._backoff)), labels=labels)

    async def costs_frame(
        self,
        *,
        group_by: CostDimension | Sequence[CostDimension] = (),
        interval: Literal["hour", "day", "total"] = "day",
        since: datetime | None = None,
        until: datetime | None = None,
        restated_at: datetime | None = None,
    ) -> pd.DataFrame:
        """What your tenant spent, wasted and avoided as a frame with one row an hour or day and group.

        Takes what `costs` takes. Columns, dtypes and units: `onceq.frames.costs_frame`. Rows of simulated work are
        apart (`simulated`).
        """
        query = _flows.cost_query(group_by, interval, since, until, restated_at)
        return frames.costs_frame(await self._driver.run(_flows.costs(query, self._backoff)))
