"""What one call came to: its end marker or its error, its usage, its time to the first token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onceq.wire import FinishReason
from onceq_service.providers.base import CallStream, ProviderError


@dataclass(slots=True)
class CallResult:
    """Filled in by the child task while the call goes on; whole or not, it is what the settlement has to go by."""

    begun: bool = False
    """Whether the request may have left this machine."""
    finish_reason: FinishReason | None = None
    error: ProviderError | None = None
    first_s: float | None = None
    usage: Mapping[str, object] | None = None
    early_usage: Mapping[str, object] | None = None
    price_context: Mapping[str, str] | None = None
    response: str | None = None
    """The id of its background response."""
    api_flavor: str | None = None

    @property
    def complete(self) -> bool:
        """Whether the end marker was seen: only then is there an answer."""
        return self.finish_reason is not None and self.error is None

    def note(self, stream: CallStream) -> None:
        """Takes over what the stream knows of its end and usage by now."""
        self.usage, self.early_usage, self.price_context = stream.usage, stream.early_usage, stream.price_context
        self.api_flavor = stream.api_flavor
        if stream.answered:
            self.finish_reason = stream.finish_reason
