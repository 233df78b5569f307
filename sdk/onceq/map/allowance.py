"""How many rows a map may post now, so that its limit holds whatever they cost: by the service's own upper bounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from onceq._http import PATIENT, Flow, exchange, read
from onceq._submission import Submission, checked_request
from onceq.errors import PaymentRequiredError
from onceq.map.asks import Ask, Template
from onceq.map.money import Purse
from onceq.wire import Problem, Quote

MOST_QUOTES: Final = 20
"""Quotes that a whole map is judged by before it runs."""


class Allowance:
    """Sets money aside for asks. A bound grows with a request's bytes, so that of the longest holds for the others."""

    def __init__(self, template: Template, purse: Purse) -> None:
        self._template, self._purse = template, purse
        self._quoted: tuple[bytes, int] = (b"", 0)

    def admit(self, asks: Sequence[Ask], in_flight: int) -> Flow[int]:
        """How many of the asks, from the first, may be posted; their bounds are set aside.

        0 while others in flight bind more than is free, and when the next one does not fit by itself.
        """
        if self._purse.limit is None:
            return len(asks)
        bound = yield from self.bound_of(asks)
        fits = min(len(asks), self._purse.fits(bound))
        if fits < len(asks) and in_flight > fits:
            return 0  # more comes free as those end
        if fits == 0:
            bound = yield from self.bound_of(asks[:1])
            fits = min(1, self._purse.fits(bound))
        for ask in asks[:fits]:
            ask.bound = bound
            self._purse.reserve(bound)
        return fits

    def bound_of(self, asks: Sequence[Ask]) -> Flow[int]:
        """nano-USD that none of these can pass. Raises PaymentRequiredError where nothing bounds them."""
        longest = max(asks, key=lambda ask: len(str(ask.prompt).encode()))
        if self._quoted[0] != longest.key:
            quote = yield from quote_of(self._template, longest)
            if quote.cost.upper_nano_usd is None:
                raise _unbounded(quote)
            self._quoted = (longest.key, quote.cost.upper_nano_usd)
        return self._quoted[1]


def quote_of(template: Template, ask: Ask) -> Flow[Quote]:
    """What the service says that an ask may cost. Raises BadRequestError."""
    call = Submission(checked_request(template.request(ask)), "").quote_call
    return read(Quote.model_validate_json, (yield from exchange(call, PATIENT)))


def _unbounded(quote: Quote) -> PaymentRequiredError:
    why = quote.cost.unbounded or "Nothing is known to bound what a row may cost."
    detail = f"max_cost_usd needs to know what a row may cost at most. {why} Nothing was posted."
    return PaymentRequiredError(Problem(title="Unbounded cost", status=402, code="unbounded_cost", detail=detail))
