"""POST /v1/jobs for most clients: from the HTTP parser to the store and back, without a task and ASGI's messages.

Why: of 100 us of CPU that a post cost the API, half went into uvicorn's cycle, the task, the door's coroutines and
pydantic (benchmarks/README.md). It decides nothing of its own and refuses nothing: a post that `_asked` does not know
everything about (an unusual header or body, a tenant with budgets, a key or lane not looked at just now, something to
refuse) is left to the common way of door.py and submit.py, whose parts it is made of.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from onceq_service.api import bounds, plain
from onceq_service.api.admission import Wanted, admission, idempotency_key
from onceq_service.api.body import Heads
from onceq_service.api.problems import answer_to
from onceq_service.api.replies import Reply
from onceq_service.api.service import Service
from onceq_service.api.submit import accepted, created, reply_of
from onceq_service.store import Admission, Admitted, ApiKey, CostTooHigh, Pace

PATH: Final = b"/v1/jobs"
MOST_BYTES: Final = 65_536
"""A larger body is not kept here: the common way reads it piece by piece."""
UNUSUAL: Final = frozenset({b"origin", b"content-encoding", b"transfer-encoding", b"x-api-key", b"expect", b"upgrade"})
_HEAD: Final = b"content-type: application/json\r\nlocation: /v1/jobs/%b\r\nidempotent-replayed: false"


class Connection(Protocol):
    """Where the answer goes."""

    def accept(self, rest: bytes) -> None:
        """Sends a 202: its headers, an empty line, its body."""
        ...

    def reply(self, reply: Reply) -> None:
        """Sends any reply."""
        ...


class _Asked(NamedTuple):
    wanted: Wanted
    admission: Admission
    pace: Pace


class Straight:
    """Posts under way on this short way."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._others: set[asyncio.Task[None]] = set()

    def take(self, heads: Heads, body: bytes, connection: Connection) -> bool:
        """Begins to answer a post; False where it has to go the common way, and nothing was done."""
        read_at = time.monotonic()
        try:
            asked = self._asked(heads, body)
        except Exception:  # noqa: BLE001 - nothing was done: the common way meets it again and says so
            return False
        if asked is None:
            return False
        made = self._service.store.jobs.admission(asked.admission, read_at)
        made.add_done_callback(lambda _: self._answer(asked, made, connection))
        return True

    def _asked(self, heads: Heads, body: bytes) -> _Asked | None:
        service, key = self._service, self._key(heads)
        seal = service.seal_at_hand()
        request = plain.read(body) if key is not None and seal is not None else None
        if key is None or seal is None or request is None:
            return None
        if service.book.of(key.tenant):
            return None
        models = service.catalog.chain(request.models())
        pace = service.known_pace(models[0].model)
        if pace is None or not all(service.served(model.provider) for model in models):
            return None
        wanted = bounds.wanted(service.tariff, request, models, service.defaults.max_calls)
        idem_key = idempotency_key(heads.get(b"idempotency-key"))
        return _Asked(wanted, admission(wanted, key, idem_key, models, seal, service.defaults), pace)

    def _key(self, heads: Heads) -> ApiKey | None:
        scheme, _, secret = heads.get(b"authorization", b"").partition(b" ")
        key = self._service.doorkeeper.remembered(secret) if scheme == b"Bearer" else None
        return key if key is not None and key.may("submit") else None

    def _answer(self, asked: _Asked, made: asyncio.Future[Admitted], connection: Connection) -> None:
        try:
            job = made.result()
            if job.disposition == "created":
                body = created(self._service, asked.wanted, asked.admission, asked.pace, job.created_ms)
                connection.accept(b"%b\r\ncontent-length: %d\r\n\r\n%b" % (_HEAD % job.id.encode(), len(body), body))
                return
        except BaseException:  # noqa: BLE001, S110 - told below
            pass
        other = asyncio.get_running_loop().create_task(self._otherwise(asked, made, connection))
        self._others.add(other)
        other.add_done_callback(self._others.discard)

    async def _otherwise(self, asked: _Asked, made: asyncio.Future[Admitted], connection: Connection) -> None:
        """A job that was there before, or trouble: as on the common way."""
        try:
            job = await made
            reply = reply_of(await accepted(self._service, asked.wanted, asked.admission, asked.pace, job))
        except CostTooHigh:
            reply = bounds.too_dear(asked.wanted).reply("/v1/jobs")
        except Exception as exc:  # noqa: BLE001 - whatever it is, the client is told
            reply = answer_to(exc, "POST /v1/jobs").reply("/v1/jobs")
        connection.reply(reply)


def may_take(heads: Mapping[bytes, bytes], sent: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether the headers of a post to PATH allow the short way; `heads` are those `sent` by name."""
    length = heads.get(b"content-length", b"")
    return (
        len(heads) == len(sent)
        and heads.get(b"content-type") == b"application/json"
        and length.isdigit()
        and len(length) <= 5
        and 0 < int(length) <= MOST_BYTES
        and UNUSUAL.isdisjoint(heads)
    )
