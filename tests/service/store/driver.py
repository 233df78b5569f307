"""A worker without a provider: drives the engine's transitions by hand."""

from __future__ import annotations

from typing import Any

from onceq.wire import JobRequest
from onceq_service.providers.base import Delta
from onceq_service.store import Admission, Store, new_job_id
from onceq_service.store.budgets import Budget, amount_in, line_around
from onceq_service.store.engine import CallPrices, Claim, Dispatched, End, Frame, Receipt
from onceq_service.worker.frames import delta_frame

PRICES = CallPrices(input=1_000_000_000, output=2_000_000_000, version="test")
PAID = Receipt("ok", billed=True, input_tokens=3, output_tokens=2, spent_nano_usd=7_000)


def admission(prompt: str = "hello", **changes: Any) -> Admission:
    """An admission of tenant `t` on one lane, with neither key nor fingerprint unless given."""
    request = JobRequest(model="openai/m", prompt=prompt)
    body = request.model_dump_json(exclude_none=True).encode()
    fields: dict[str, Any] = {
        "id": new_job_id(), "tenant": "t", "key_id": "k", "request": body,
        "model": "openai/m", "provider": "openai", "lane": "openai/m", "band": "standard", "idem": "", "body_hash": "b",
        "fp": "", "window_s": 600, "fresh": False, "deadline_s": 3600.0, "max_calls": 3, "on_crash": "retry",
        "on_break": "retry", "simulated": False,
    }  # fmt: skip
    return Admission(**(fields | changes))


def budget_line(budget: Budget, amount: int | None, now_ms: int) -> str:
    """What the store is told of a budget for a job whose call may cost that much."""
    return amount_in(line_around(budget, now_ms), amount)


async def claim_one(store: Store, worker: str = "w1") -> Claim:
    """The next job; fails when there is none."""
    claims, wait_s = await store.engine.claim(worker, 1, ["openai"])
    assert len(claims) == 1, f"nothing to claim, wait {wait_s}"
    return claims[0]


async def dispatch(store: Store, claim: Claim, try_no: int = 1) -> Dispatched:
    sent = await store.engine.dispatch(claim, try_no, 100, PRICES)
    assert sent.word == "ok"
    return sent


def text_frame(claim: Claim, seq: int, text: str, call: int = 1) -> Frame:
    return Frame(claim.id, claim.fence, seq, len(text), delta_frame(claim.id.encode(), seq, call, Delta("text", text)))


def success(first_seq: int = 0, *frames: bytes, text: str = "hi", receipt: Receipt = PAID) -> End:
    output = b'{"text":"%b","reasoning":"","tool_calls":[],"finish_reason":"stop"}' % text.encode()
    return End(
        state="succeeded", rest=b',"finish_reason":"stop"', output=output, receipt=receipt, kept=True,
        first_seq=first_seq, frames=frames, out_bytes=len(text),
    )  # fmt: skip


async def read_log(store: Store, job_id: str, after: int = 0) -> list[bytes]:
    """All frames of an ended job's log behind a number."""
    data = b"".join([chunk async for chunk in store.events.follow(job_id, after)])
    return [frame + b"\n\n" for frame in data.split(b"\n\n") if frame]


def names(frames: list[bytes]) -> list[str]:
    return [f.split(b"event: ")[1].split(b"\n")[0].decode() for f in frames]
