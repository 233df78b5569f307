"""One call, from its body to its row in the meter: read, plan, refuse or perform, misbehave where asked to.

`app.py` routes here; a dialect gives the words, `pacing.py` the time, `faults.py` the mischief.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from onceq_service.simulator.ask import RefusedError
from onceq_service.simulator.control import Control
from onceq_service.simulator.dialect import Dialect, Incoming, RawHeaders, Reply
from onceq_service.simulator.exchange import GoneError, TooLargeError, Wire, forever, read_body, while_connected
from onceq_service.simulator.faults import ERROR_EVENTS, MID_STREAM
from onceq_service.simulator.frames import Frame, split_at
from onceq_service.simulator.meter import Meter, Row
from onceq_service.simulator.pacing import Pacer, paced
from onceq_service.simulator.script import Script, plan


@dataclass(frozen=True, slots=True)
class SharedState:
    """What all calls of one server share."""

    control: Control
    meter: Meter


@dataclass(frozen=True, slots=True)
class Call:
    """One planned call on its way out."""

    script: Script
    dialect: Dialect
    row: Row
    meter: Meter
    headers: RawHeaders

    @property
    def pacer(self) -> Pacer:
        """A new time table that begins now."""
        return Pacer(self.script.ttft_s, self.script.tps, self.script.slow_s)


class CallEndpoint:
    """An ASGI application that answers one format."""

    def __init__(self, dialect: Dialect, state: SharedState) -> None:
        self.dialect = dialect
        self.state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one POST; every one has a row in the meter."""
        wire = Wire(scope, send)
        headers = Headers(scope=scope)
        path: dict[str, str] = scope.get("path_params", {})
        row = self.state.meter.open(self.dialect.provider, path.get("model", ""), headers.get("x-client-request-id"))
        try:
            body = await read_body(receive)
        except GoneError:
            self.state.meter.close(row, "refused", 499)
            return
        except TooLargeError:
            await self._refuse(RefusedError(413, "The request exceeds 32 MB."), row, wire)
            return
        incoming = Incoming(headers, body, path.get("model", ""), path.get("action", ""))
        await while_connected(self._answer(incoming, row, wire), receive)

    async def _answer(self, incoming: Incoming, row: Row, wire: Wire) -> None:
        try:
            call = self.prepare(incoming, row)
        except RefusedError as refused:
            await self._refuse(refused, row, wire)
            return
        await self.serve(call, wire)

    def prepare(self, incoming: Incoming, row: Row) -> Call:
        """Everything that is decided before the first byte. RefusedError when the answer is an error."""
        ask = self.dialect.read(incoming)
        row.model = ask.model
        knobs = self.state.control.knobs_for(ask)
        script = plan(ask, knobs)
        row.begin(script)
        if script.fault is not None and script.fault.status:
            raise script.fault.refusal()
        limits = self.state.control.spend(script, knobs)
        headers = self.dialect.headers(uuid.uuid4().hex, script, limits)
        return Call(script, self.dialect, row, self.state.meter, headers)

    async def serve(self, call: Call, wire: Wire) -> None:
        """Answer a call that was not refused; cancelled when the client goes away."""
        try:
            await perform(call, wire)
        finally:
            call.meter.close(call.row, "aborted")  # unless it has ended by itself

    async def _refuse(self, refused: RefusedError, row: Row, wire: Wire) -> None:
        self.state.meter.close(row, "refused", refused.status)
        await wire.reply(self.dialect.refuse(refused, uuid.uuid4().hex))


async def perform(call: Call, wire: Wire) -> None:
    """Send the answer at its pace, with its fault if it has one."""
    name = call.script.fault.name if call.script.fault else ""
    if name == "hang":
        await forever()
    elif name == "drop":
        call.meter.close(call.row, "dropped", 0)
        await wire.hang_up()
    elif not call.script.ask.stream:
        await _perform_whole(call, name, wire)
    else:
        await wire.start(200, stream_headers(call))
        await _perform_stream(call, name, wire)


def stream_headers(call: Call) -> RawHeaders:
    """Headers of a streamed answer."""
    return [(b"content-type", call.dialect.stream_type), (b"cache-control", b"no-cache"), *call.headers]


async def _perform_stream(call: Call, fault: str, wire: Wire) -> None:
    if fault == "half":
        await forever()
    frames = call.dialect.frames(call.script)
    if fault not in MID_STREAM:
        await _play(call, frames, wire)
        return
    before, after = split_at(frames, call.script.fault.after if call.script.fault else 0)
    pacer = call.pacer
    await _play(call, before, wire, pacer)
    await _misbehave(call, fault, wire, len(before))
    if fault == "garbage":
        await _play(call, after, wire, pacer)


async def _play(call: Call, frames: Iterable[Frame], wire: Wire, pacer: Pacer | None = None) -> None:
    async for batch in paced(frames, pacer or call.pacer):
        call.row.take(batch)
        last = batch[-1].last
        if last:  # before the bytes leave, so that whoever has read the end finds it in the meter
            call.meter.close(call.row, "completed")
        await wire.write(b"".join([frame.data for frame in batch]), more=not last)


async def _misbehave(call: Call, fault: str, wire: Wire, sent: int) -> None:
    match fault:
        case "cut":
            call.meter.close(call.row, "cut")
            await wire.hang_up()
        case "stall":
            await forever()
        case "end":
            call.meter.close(call.row, "ended")
            await wire.end()
        case "error" | "overload":
            call.meter.close(call.row, "error")
            await wire.write(call.dialect.error_event(fault, sent), more=False)
        case _:
            await wire.write(call.dialect.garbage())


async def _perform_whole(call: Call, fault: str, wire: Wire) -> None:
    """The answer in one piece, when a stream would have ended. A fault in mid-stream strikes in mid-body."""
    if fault == "half":
        await wire.start(200, _whole_headers(call, 1000))
        await forever()
    async for batch in paced(call.dialect.frames(call.script), call.pacer):
        call.row.take(batch)
    body = call.dialect.whole(call.script)
    if fault in MID_STREAM:
        await _spoil(call, fault, body, wire)
    else:
        call.meter.close(call.row, "completed")
        await wire.reply(Reply(200, _whole_headers(call), body))


async def _spoil(call: Call, fault: str, body: bytes, wire: Wire) -> None:
    if fault in ERROR_EVENTS:
        call.meter.close(call.row, "error", 500)
        await wire.reply(call.dialect.refuse(RefusedError(500, "The server had an error."), uuid.uuid4().hex))
        return
    half = body[: len(body) // 2]
    if fault in ("cut", "stall"):
        await wire.start(200, _whole_headers(call, len(body)))
        await wire.write(half)
        await _misbehave(call, fault, wire, 0)
    else:
        call.meter.close(call.row, "ended" if fault == "end" else "completed")
        await wire.reply(Reply(200, _whole_headers(call), half))


def _whole_headers(call: Call, length: int | None = None) -> RawHeaders:
    extra = [(b"content-length", str(length).encode())] if length is not None else []
    return [(b"content-type", b"application/json"), *call.headers, *extra]
