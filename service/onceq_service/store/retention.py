"""How long things live in Redis; handed to the scripts that end jobs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retention:
    """Seconds. Results and events count from the job's end, idempotency keys from the job's deadline."""

    result_s: int = 86_400
    events_s: int = 3_600
    idempotency_s: int = 86_400
    lease_s: float = 15.0

    @property
    def lease_ms(self) -> int:
        """The lease in milliseconds, as the scripts take it."""
        return round(self.lease_s * 1000)
