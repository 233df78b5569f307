"""The JSON that a job ends with: members of its terminal event, and its output; pure."""

from __future__ import annotations

import msgspec

from onceq.wire import CancelReceipt, FinishReason, JobError, Output, Usage

_json = msgspec.json.encode


def terminal_members(
    *,
    usage: Usage | None = None,
    finish_reason: FinishReason | None = None,
    error: JobError | None = None,
    receipt: CancelReceipt | None = None,
) -> bytes:
    """Members of the terminal event that only the worker knows, each with a comma before it."""
    members = b""
    if finish_reason is not None:
        members += b',"finish_reason":' + _json(finish_reason)
    if usage is not None:
        members += b',"usage":' + usage.model_dump_json().encode()
    if error is not None:
        members += b',"error":' + error.model_dump_json().encode()
    if receipt is not None:
        members += b',"receipt":' + receipt.model_dump_json().encode()
    return members


def output_json(output: Output) -> bytes:
    """The job's output as it is stored; empty when nothing arrived."""
    if not (output.text or output.reasoning or output.tool_calls or output.finish_reason):
        return b""
    return output.model_dump_json().encode()
