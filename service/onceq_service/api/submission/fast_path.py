"""POST /v1/jobs for most clients: from the HTTP parser to the store and back, without a task and ASGI's messages.

Why: of 100 us of CPU that a post cost the API, half went into uvicorn's cycle, the task, the middleware's
coroutines and pydantic (benchmarks/README.md). It decides nothing of its own: a post that `_ready` does not know
everything about (an unusual header or body, a key or lane not looked at just now, something wrong) is left to the
common way of middleware.py and submit.py, whose parts it is made of. What many posts have in common is found out once
for all (admission_cache.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, Protocol, cast

from msgspec.structs import replace

from onceq.wire import JobRequest
from onceq_service.api.http.body import Heads, parse
from onceq_service.api.http.problems import Refused, answer_to
from onceq_service.api.http.replies import Reply
from onceq_service.api.service import Service
from onceq_service.api.submission import codec, max_cost
from onceq_service.api.submission.admission import BoundedRequest, idempotency_key
from onceq_service.api.submission.admission_cache import AdmissionCache, ReadyPost
from onceq_service.api.submission.allowance import put, refused
from onceq_service.api.submission.submit import Accepted, accepted, reply_of
from onceq_service.logs import told_once
from onceq_service.store import Admitted, ApiKey, BudgetRefused, CostTooHigh

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


class FastPath:
    """Posts under way on this fast path."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._cache = AdmissionCache(service)
        self._others: set[asyncio.Task[None]] = set()

    def take(self, heads: Heads, body: bytes, connection: Connection) -> bool:
        """Begins to answer a post; False where it has to go the common way, and nothing was done."""
        try:
            ready = self._ready(heads, body)
        except Refused:  # nothing was done: the common way meets it again and says so
            return False
        except Exception as exc:  # noqa: BLE001 - nothing was done either, and the common way may not meet it
            told_once("a post is not taken on the short way", exc)
            return False
        if ready is None:
            return False
        tell = partial(self._answer, ready, connection)
        self._service.store.jobs.admit_from_template(ready.template, ready.values, tell)
        return True

    def _ready(self, heads: Heads, body: bytes) -> ReadyPost | None:
        service, key = self._service, self._key(heads)
        hasher = service.ready_hasher()
        request = codec.read(body) if key is not None and hasher is not None else None
        if key is None or hasher is None or request is None:
            return None
        idem_key = idempotency_key(heads.get(b"idempotency-key"))
        return self._cache.ready(request, key, idem_key, hasher)

    def _key(self, heads: Heads) -> ApiKey | None:
        scheme, _, secret = heads.get(b"authorization", b"").partition(b" ")
        key = self._service.authenticator.remembered(secret) if scheme == b"Bearer" else None
        return key if key is not None and key.may("submit") else None

    def _answer(self, ready: ReadyPost, connection: Connection, said: object) -> None:
        """Raises nothing: others wait behind it for what became of theirs."""
        try:
            if isinstance(said, Admitted) and said.disposition == "created":
                body = ready.accepted_body(said.created_ms)
                head = _HEAD % said.id.encode()
                connection.accept(b"%b\r\ncontent-length: %d\r\n\r\n%b" % (head, len(body), body))
                return
        except BaseException as exc:  # noqa: BLE001 - told below
            said = exc
        other = asyncio.get_running_loop().create_task(self._otherwise(ready, connection, said))
        self._others.add(other)
        other.add_done_callback(self._others.discard)

    async def _otherwise(self, ready: ReadyPost, connection: Connection, said: object) -> None:
        """A job that was there before, or trouble: as on the common way."""
        try:
            reply = await self._known(ready, said)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the client is told
            reply = answer_to(exc, "POST /v1/jobs").reply("/v1/jobs")
        connection.reply(reply)

    async def _known(self, ready: ReadyPost, said: object) -> Reply:
        """Raises what it comes to where no job was there."""
        if isinstance(said, BudgetRefused):
            return await self._over_budget(ready, said)
        if isinstance(said, CostTooHigh):
            raise max_cost.too_expensive(self._bounded(ready.values.request))
        if not isinstance(said, Admitted):
            raise cast("BaseException", said)
        known = await self._service.store.jobs.submitted(said)
        return reply_of(Accepted(known.id, known.disposition, known.model_dump_json().encode()))

    async def _over_budget(self, ready: ReadyPost, said: BudgetRefused) -> Reply:
        """Put once more where a budget has changed since it was looked at; raises Refused for all others."""
        service, bounded = self._service, self._bounded(ready.values.request)
        if said.word != "stale":
            raise refused(said, ready.under, bounded)
        await service.see_budgets()
        asked, pace = ready.template.whole(ready.values), await service.pace(ready.template.asked.model)
        told, made = await put(service, replace(asked, budgets="", reserved=0), bounded, time.monotonic())
        return reply_of(await accepted(service, bounded, told, pace, made))

    def _bounded(self, body: bytes) -> BoundedRequest:
        service, request = self._service, parse(JobRequest, body)
        return max_cost.with_bounds(
            service.tariff, request, service.catalog.chain(request.models()), service.defaults.max_calls
        )


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
