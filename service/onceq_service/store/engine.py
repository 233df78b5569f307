"""What workers (and the API's tending) do with jobs: claim, dispatch, append, finish, requeue, release.

Each is one script that checks state and fence. A reply lost after its effect is harmless: the same call again answers
the same. Raises StoreUnavailable while Redis is away, LeaseLost when the job is no longer the caller's.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

from onceq.wire import Output
from onceq_service.store import scripts
from onceq_service.store._lua import Script
from onceq_service.store._pipe import Arg, Pipe
from onceq_service.store.budgets import periods_of
from onceq_service.store.errors import LeaseLost
from onceq_service.store.events import text_in_log
from onceq_service.store.keys import Keys
from onceq_service.store.retention import Retention
from onceq_service.store.views import Fields, fields_of

EndState = Literal["succeeded", "failed", "cancelled", "expired"]
SUSPECT_AT = 2
"""Lost workers after which a job runs alone; as `enqueue` in lua/_waiting.lua."""
MayCall = Literal["ok", "resume", "cancel", "deadline", "max_calls", "max_cost", "budget_wait", "budget"]
Fallback = Literal["", "next", "drop"]
"""Go on with the next of a job's models; `drop`: and never come back to this one."""
Amended = Literal["ok", "known", "open", "gone"]
"""`known`: there was no more to book. `open`: the call goes on, and who took it up books it. `gone`: its job lapsed."""
FOLDS = 16
"""Texts of ended jobs that one round of housekeeping reads from their logs."""
BLOCK_S = 1.0
"""Longest single block on the wake key; shorter than an answer may take, or the connection would be cut."""
NUDGE_S = 0.001
"""How long after the end of a block Redis is woken to see it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that this worker holds until its lease ends, and the fence that proves it."""

    id: str
    fence: str
    now_ms: int
    fields: dict[str, bytes]

    def take_request(self) -> bytes:
        """The request as JSON; once, so that a prompt is not held as long as its answer takes."""
        return self.fields.pop("request")

    def text(self, name: str) -> str:
        """A field as text, empty when it is not set."""
        return self.fields.get(name, b"").decode()

    def number(self, name: str) -> int:
        """A field as a number, 0 when it is not set."""
        return int(self.fields.get(name, 0))

    @property
    def alone(self) -> bool:
        """Whether its workers died twice: nothing else may run beside it."""
        return self.number("crashes") >= SUSPECT_AT


@dataclass(frozen=True, slots=True)
class Dispatched:
    """The answer of `dispatch`: go, go on with the call that is under way (`resume`), or why not.

    Times are Redis's, in ms; `seq` is the log's last number. `why` is of a budget without room, as in BudgetRefused;
    with `budget_wait` it has `at` (ms), until when the job should wait.
    """

    word: MayCall
    now_ms: int
    seq: int
    call: int
    deadline_ms: int
    why: Fields = field(default_factory=dict[str, bytes])


@dataclass(frozen=True, slots=True)
class CallPrices:
    """nano-USD for a million tokens, None where the model has no known price."""

    input: int | None = None
    output: int | None = None
    version: str = ""


class Frame(NamedTuple):
    """One frame for a job's log, encoded as readers get it."""

    id: str
    fence: str
    seq: int
    out_bytes: int
    """UTF-8 bytes of this call's text so far."""
    data: bytes
    cursor: int = -1
    """The number of the provider's event that it ends with, where the call can be taken up again behind it."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one try came to. `spent_nano_usd` None: the provider may charge, but the price is not known."""

    outcome: str
    billed: bool
    estimated: bool = False
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    spent_nano_usd: int | None = 0
    cache_write_tokens: int = 0
    """Of the input, those written to the provider's cache; not in `argv`, the scripts take them last."""

    def argv(self) -> list[Arg]:
        """As the scripts take it."""
        spent = "" if self.spent_nano_usd is None else self.spent_nano_usd
        counts = (self.input_tokens, self.output_tokens, self.cached_tokens, self.reasoning_tokens)
        return [self.outcome, int(self.billed), int(self.estimated), *counts, spent]


@dataclass(frozen=True, slots=True)
class End:
    """How a job ends: `rest` is JSON members of the terminal event, a comma before each, `output` JSON or empty."""

    state: EndState
    rest: bytes
    output: bytes
    receipt: Receipt | None
    kept: bool
    """Whether the last try's output is the job's answer; if not, what it cost is waste."""
    first_seq: int
    frames: Sequence[bytes] = ()
    out_bytes: int = 0
    provider_ttft_ms: int | None = None
    measured: str = ""
    """The call's time as its worker measured it (worker/stopwatch.py); empty where none was made."""
    brake_s: float = 0.0
    """How long the whole lane is held back for all workers, by what its last call was told."""
    trips: bool = True
    """Whether a failure counts for the lane's breaker."""


class Engine:
    """The transitions of jobs."""

    def __init__(self, pipe: Pipe, keys: Keys, retention: Retention, blocking: Pipe) -> None:
        self._pipe, self._keys, self._retention, self._blocking = pipe, keys, retention, blocking
        self._nonce = secrets.token_hex(8)

    async def claim(
        self, worker: str, want: int, providers: Sequence[str], *, running: int = 0
    ) -> tuple[list[Claim], float]:
        """Up to `want` jobs that may start now, and the seconds until asking again makes sense if there is none.

        A worker that runs nothing may get a job that has to run alone (`Claim.alone`). When Redis fails in between,
        the next call repeats the nonce, and gets what the lost reply had claimed.
        """
        r = self._retention
        argv = [
            worker,
            self._nonce,
            want,
            running,
            r.lease_ms,
            secrets.token_hex(4),
            r.result_s,
            r.events_s,
            ",".join(providers),
        ]
        wait_ms, now_ms, *rows = await self._run(scripts.NEXT, argv)
        self._nonce = secrets.token_hex(8)
        return [_claim(row, int(now_ms)) for row in rows], wait_ms / 1000

    @property
    def listens(self) -> bool:
        """Whether word of new work would be heard at once: `wait_for_work` has asked, and Redis has not answered."""
        return self._blocking.waits

    async def wait_for_work(self, providers: Sequence[str], timeout_s: float) -> None:
        """Returns when a job of one of these may have come in, or after `timeout_s` (at most one second).

        Redis looks at timeouts when it wakes: at a command, or up to 1/hz later. So it is sent one in time.
        """
        for_s = max(0.01, min(timeout_s, BLOCK_S))
        if not providers:
            await asyncio.sleep(for_s)
            return
        nudge = asyncio.get_running_loop().call_later(for_s + NUDGE_S, self._nudge)
        try:
            await self._blocking.command("BLPOP", *(self._keys("wake", name) for name in providers), for_s)
        finally:
            nudge.cancel()

    def _nudge(self) -> None:
        asyncio.ensure_future(self._pipe.command("PING")).add_done_callback(_heard)

    async def dispatch(self, claim: Claim, try_no: int, in_bytes: int, prices: CallPrices) -> Dispatched:
        """Records the call before its first byte leaves, its money held in the job's budgets. Not `ok`: do not call."""
        topped_up = "budgets" in claim.fields and "holds" not in claim.fields
        periods = periods_of(claim.text("budgets"), claim.now_ms) if topped_up else ""
        price_in, price_out = ("" if p is None else p for p in (prices.input, prices.output))
        argv: list[Arg] = [claim.id, claim.fence, try_no, self._retention.lease_ms, in_bytes]
        argv += [price_in, price_out, prices.version, periods]
        word, now, seq, call, deadline, *why = await self._run(scripts.DISPATCH, argv)
        said = cast("MayCall", _held(claim, word).decode())
        return Dispatched(said, int(now), int(seq), int(call), int(deadline), fields_of(why[0]) if why else {})

    async def defer(self, claim: Claim, at_ms: int) -> bool:
        """Queues a job again whose further call has no room in a budget, not before `at_ms`; False as `requeue`."""
        return _held(claim, await self._run(scripts.DEFER, [claim.id, claim.fence, at_ms])) == b"ok"

    async def append(self, frames: Sequence[Frame]) -> list[tuple[str, int]]:
        """Writes frames of many jobs; for each frame ('ok' | 'cancel' | 'lost' | 'gap', its log's last number)."""
        return await self.append_now(frames)

    def append_now(self, frames: Sequence[Frame]) -> Awaitable[list[tuple[str, int]]]:
        """Appends as `append` does, and leaves before anybody waits for the answer.

        While thousands of tokens come in a turn of the event loop takes milliseconds, and tasks and shared writes would
        cost three of them (benchmarks/README.md).
        """
        argv: list[Arg] = [self._retention.lease_ms]
        for f in frames:
            argv += (f.id, f.fence, f.seq, f.out_bytes, f.cursor if f.cursor >= 0 else "", f.data)
        reply = self._run(scripts.APPEND, argv)
        self._pipe.flush()
        return _appended(reply)

    async def attach(self, claim: Claim, response: str) -> None:
        """Writes down the id of the job's background response."""
        _held(claim, await self._run(scripts.ATTACH, [claim.id, claim.fence, response]))

    async def hand_over(self, claim: Claim, *, delay_s: float, reason: str, measured: str = "") -> bool:
        """Queues the job again while its background response goes on, to be taken up by the next; nothing is booked.

        False, and nothing has changed, when the job was cancelled meanwhile.
        """
        argv: list[Arg] = [claim.id, claim.fence, round(delay_s * 1000), reason, measured]
        return _held(claim, await self._run(scripts.HANDOVER, argv)) == b"ok"

    async def saved_output(self, claim: Claim) -> Output:
        """What readers have of the call that is under way."""
        return await text_in_log(self._pipe, self._keys, claim.id) or Output()

    async def finish(self, claim: Claim, end: End) -> tuple[str, int]:
        """Ends the job: ('ok', its last number), or ('gap', the number after which frames are missing)."""
        r, receipt = self._retention, end.receipt or Receipt("", billed=False)
        ttft = "" if end.provider_ttft_ms is None else end.provider_ttft_ms
        reason = "" if end.kept else receipt.outcome
        argv: list[Arg] = [claim.id, claim.fence, end.state, end.first_seq, len(end.frames), end.rest, end.output]
        argv += [*receipt.argv(), int(end.kept), reason, ttft, int(end.receipt is not None)]
        argv += [r.result_s, r.events_s, end.out_bytes, end.measured, receipt.cache_write_tokens]
        argv += [round(end.brake_s * 1000), int(end.trips), *end.frames]
        word, last = await self._run(scripts.FINISH, argv)
        return _held(claim, word).decode(), int(last)

    async def requeue(
        self, claim: Claim, receipt: Receipt, *, delay_s: float, reason: str, brake_s: float = 0,
        fallback: Fallback = "", measured: str = "", trips: bool = True,
    ) -> bool:  # fmt: skip
        """Books the try and queues the job again after a delay; `brake_s` and `trips` as in End.

        False, and nothing has changed, when the job was cancelled meanwhile.
        """
        argv: list[Arg] = [claim.id, claim.fence, round(delay_s * 1000), reason, round(brake_s * 1000), fallback]
        argv += [*receipt.argv(), measured, receipt.cache_write_tokens, int(trips)]
        word, _not_before = await self._run(scripts.REQUEUE, argv)
        return _held(claim, word) == b"ok"

    async def amend(self, claim: Claim, try_no: int, receipt: Receipt) -> Amended:
        """Books what a worker that lost the job knows of its call beyond what was booked without it; once a try."""
        _, _, *counts = receipt.argv()
        argv: list[Arg] = [claim.id, try_no, *counts, receipt.cache_write_tokens]
        return cast("Amended", cast("bytes", await self._run(scripts.AMEND, argv)).decode())

    async def release(self, claim: Claim) -> None:
        """Hands back a job that was not dispatched; nothing happens when it is no longer ours."""
        r = self._retention
        await self._run(scripts.RELEASE, [claim.id, claim.fence, r.result_s, r.events_s])

    async def tend(self) -> None:
        """Promotes what is due, reaps expired leases, expires deadlines: a bounded number a script, until none is left.

        So the jobs of however many workers that died together are back in time (G8).
        """
        r = self._retention
        while await self._run(scripts.TEND, [r.lease_ms, r.result_s, r.events_s]) == 1:
            pass
        for job_id in cast("list[bytes]", await self._pipe.command("ZRANGE", self._keys("unfolded"), 0, FOLDS - 1)):
            await self._fold(job_id.decode())

    async def _fold(self, job_id: str) -> None:
        """Writes down the text that an ended job has in its log alone, so that the log may go before the result."""
        output = await text_in_log(self._pipe, self._keys, job_id) or Output()
        await self._run(scripts.FOLD, [job_id, output.model_dump_json(), self._retention.events_s])

    def _run(self, script: Script, argv: Sequence[Arg]) -> Awaitable[Any]:
        """The reply, as the header of the script tells it (`Returns`)."""
        return self._pipe.script(script, self._keys.root, argv)


def _held(claim: Claim, word: bytes) -> bytes:
    """A script's word on the job of a claim; raises LeaseLost where it says that another has it."""
    if word == b"lost":
        raise LeaseLost(f"job {claim.id} is no longer held by this worker")
    return word


def _heard(answer: asyncio.Future[object]) -> None:
    """Nobody waits for it; an error that nobody takes would be logged."""
    if not answer.cancelled():
        answer.exception()


async def _appended(reply: Awaitable[list[tuple[bytes, int]]]) -> list[tuple[str, int]]:
    return [(word.decode(), int(last)) for word, last in await reply]


def _claim(row: tuple[bytes, bytes, list[bytes]], now_ms: int) -> Claim:
    job_id, fence, flat = row
    return Claim(job_id.decode(), fence.decode(), now_ms, fields_of(flat))
