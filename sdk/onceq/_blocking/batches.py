"""What `Client` does with many jobs together. The twin of `_awaiting/batches.py`, line for line."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Unpack

from onceq import _flows
from onceq._arguments import checked_after, checked_batch
from onceq._batch import BatchEnds
from onceq._blocking.base import Connection
from onceq._follow import StreamEvent
from onceq._handles import JobHandle
from onceq._submission import Item, JobOptions, Models, prepare_batch
from onceq.errors import OnceqError
from onceq.wire import BatchCancelled, SubmittedJob

Submitted = list[JobHandle | OnceqError]
"""What became of the items of a batch, in order."""


class Batches(Connection):
    """Batches of jobs."""

    def submit_batch(
        self,
        items: Iterable[Item],
        *,
        model: Models | None = None,
        batch: str | None = None,
        **options: Unpack[JobOptions],
    ) -> Submitted:
        """Submit many jobs in few requests; one handle or error per item, in order.

        An item is a prompt, a `JobRequest`, a `BatchItem`, or a dict of request fields; `model` and `options` fill
        what an item leaves out. All are checked before any is sent: BadRequestError names the wrong one
        (`items.7.prompt`).

        `batch` is an id of your choice within your tenant, of 1 to 64 letters, digits, _ and -. The jobs of all posts
        that name it, made or found, are in it: `follow_batch` tells their ends, `cancel_batch` cancels them.
        """
        packs = prepare_batch(items, self._model if model is None else model, options, batch)
        answers = self._driver.run(_flows.submit_batch(packs, self._backoff))
        return [JobHandle(self._driver, a) if isinstance(a, SubmittedJob) else a for a in answers]

    def follow_batch(self, batch: str, *, after: int = 0) -> Generator[StreamEvent]:
        """Iterate the ends of a batch's jobs as they come, each once, over one connection, however many jobs it has.

        Of an end `name` is the job's status, `seq` its number in the batch, from 1 on, and `data` the `Event`: `job`
        (the id), `output`, `usage`, `cost`, `timings`, `error`; of a job whose result has lapsed the id and status
        alone. `after=` a number goes on after that end, in any process. A lost connection is taken up again after the
        last end.

        The loop ends when all jobs have ended that are in the batch by then; how they ended is told, not raised. Leave
        it whenever you like: the jobs go on. Raises NotFoundError where no job was accepted into the batch, or where it
        has lapsed, some time after its last end (24 h, as a rule), and StreamLost when the connection can't be
        restored.
        """
        return self._driver.read(BatchEnds(checked_batch(batch), checked_after(after)))

    def cancel_batch(self, batch: str) -> BatchCancelled:
        """Cancel the jobs of a batch (an interrupted map names its own) that have not ended. Raises NotFoundError."""
        return self._driver.run(_flows.cancel_batch(batch, self._backoff))
