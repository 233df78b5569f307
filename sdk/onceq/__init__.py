"""onceq: LLM calls behind a queue, each one paid for once.

`Client` for code that blocks, `AsyncClient` for code that awaits; both submit jobs, stream their text, and wait for
their results. The values they hand out are in `onceq.wire`, the errors they raise in `onceq.errors`.
"""

import typing as _typing
from importlib import import_module as _import_module

if _typing.TYPE_CHECKING:
    from onceq import compare as compare
    from onceq import errors as errors
    from onceq import export as export
    from onceq import frames as frames
    from onceq import testing as testing
    from onceq import wire as wire
    from onceq._async_client import AsyncClient
    from onceq._async_handles import AsyncJobHandle, AsyncJobStream
    from onceq._client import Client
    from onceq._filters import JobFilters
    from onceq._follow import StreamEvent
    from onceq._handles import JobHandle, JobStream
    from onceq._stream import Reset
    from onceq._submission import JobOptions, MapOptions
    from onceq.errors import (
        APIError,
        AuthenticationError,
        BadRequestError,
        ConfigurationError,
        ConflictError,
        ConnectionFailed,
        IdempotencyKeyReused,
        JobCancelled,
        JobError,
        JobExpired,
        JobFailed,
        NotFoundError,
        OnceqError,
        PaymentRequiredError,
        PermissionDeniedError,
        RateLimitError,
        ServiceUnavailableError,
        StreamLost,
        WaitTimeout,
    )
    from onceq.map import MapQuote, MapRow
    from onceq.wire import (
        BatchItem,
        Cost,
        Event,
        Health,
        Job,
        JobRequest,
        LedgerEntry,
        Message,
        Output,
        Quote,
        ResponseFormat,
        Stats,
        Timings,
        Tool,
        ToolCall,
        ToolChoice,
        Usage,
    )

    __version__: str

_PARTS = ("compare", "errors", "export", "frames", "testing", "wire")
"""Modules that are there as `onceq.<name>`."""
_HOMES = (
    "errors",
    "wire",
    "map",
    "_filters",
    "_follow",
    "_stream",
    "_submission",
    "_handles",
    "_client",
    "_async_handles",
    "_async_client",
)
"""Where names come from: the first of these that has it. Each is imported when a name is first asked for, since the
service's processes begin with the wire contract and the errors, and would wait for the clients for nothing."""


def _found(name: str) -> object:
    if name in _PARTS:
        return _import_module(f"onceq.{name}")
    if name == "__version__":
        return _import_module("importlib.metadata").version("onceq")
    for home in _HOMES if name in __all__ else ():
        found = getattr(_import_module(f"onceq.{home}"), name, None)
        if found is not None:
            return found
    raise AttributeError(f"module 'onceq' has no attribute {name!r}")


if not _typing.TYPE_CHECKING:  # or a type checker would believe in any name

    def __getattr__(name: str) -> object:
        globals()[name] = found = _found(name)
        return found


def __dir__() -> list[str]:
    return sorted({*__all__, *_PARTS, *(name for name in globals() if name.startswith("__"))})


def load_ipython_extension(shell: _typing.Any) -> None:
    """What `%load_ext onceq` calls: adds the magics `%llm` and `%%llm` to the notebook."""
    from onceq.notebook.magics import register

    register(shell)


__all__ = [
    "APIError",
    "AsyncClient",
    "AsyncJobHandle",
    "AsyncJobStream",
    "AuthenticationError",
    "BadRequestError",
    "BatchItem",
    "Client",
    "ConfigurationError",
    "ConflictError",
    "ConnectionFailed",
    "Cost",
    "Event",
    "Health",
    "IdempotencyKeyReused",
    "Job",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobFilters",
    "JobHandle",
    "JobOptions",
    "JobRequest",
    "JobStream",
    "LedgerEntry",
    "MapOptions",
    "MapQuote",
    "MapRow",
    "Message",
    "NotFoundError",
    "OnceqError",
    "Output",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "Quote",
    "RateLimitError",
    "Reset",
    "ResponseFormat",
    "ServiceUnavailableError",
    "Stats",
    "StreamEvent",
    "StreamLost",
    "Timings",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "Usage",
    "WaitTimeout",
    "__version__",
]
