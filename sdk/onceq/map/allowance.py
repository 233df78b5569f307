"""How many rows a map may post now, so that its limit holds whatever they cost: by the service's own upper bounds."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from math import log
from typing import Any, Final, cast

from onceq._http import Backoff, Flow, exchange, read
from onceq._submission import Prompt, Submission, checked_request
from onceq.errors import BadRequestError, PaymentRequiredError
from onceq.map.asks import Ask, RequestTemplate
from onceq.map.money import MapBudget
from onceq.wire import MAX_BODY_BYTES, Problem, Quote

STEP: Final = 1.1
"""Requests of which none is longer than another by more than this are bounded by the longest of them."""
Class = tuple[int, int]
"""How many turns, and about how long."""


class Allowance:
    """Sets money aside for asks: what the service says that each may cost at most, or a longer one of its kind.

    The service's bound counts the request's bytes and its turns, so that it is asked for once a class of both. Nothing
    is known so of images, tool calls and characters that tokenizers write out: these requests are quoted one by one.
    """

    def __init__(self, template: RequestTemplate, budget: MapBudget, backoff: Backoff) -> None:
        self._template, self._budget = template, budget
        self.backoff = backoff
        """How patiently it asks."""
        self._known: dict[Class, tuple[int, int]] = {}
        """Bytes of the longest request of a class that was quoted, and its bound."""

    def admit(self, asks: Sequence[Ask], in_flight: int) -> Flow[int]:
        """How many of the asks, from the first, may be posted; their bounds are set aside.

        0 while so many others are in flight that waiting for some makes a larger post, and when the first ask does not
        fit by itself. Raises PaymentRequiredError where nothing bounds what an ask may cost.
        """
        if self._budget.limit is None:
            return len(asks)
        total, bounds = 0, list[int]()
        for n, ask in enumerate(asks):
            if ask.most is None:
                ask.most = yield from self._asked(ask, asks[n:])
            if total + ask.most > self._budget.free:
                break
            total += ask.most
            bounds.append(ask.most)
        if len(bounds) < min(len(asks), in_flight):
            return 0
        for ask, bound in zip(asks, bounds, strict=False):
            ask.bound = bound
        self._budget.reserve(total)
        return len(bounds)

    def _asked(self, ask: Ask, following: Sequence[Ask]) -> Flow[int]:
        body = _body(self._template, ask)
        if body is None:
            return 0  # it is refused before it is sent
        kind = _class_of(ask.prompt, body)
        if kind is None:
            return (yield from self._quoted(ask))
        if kind not in self._known or self._known[kind][0] < len(body):
            length, longest = max(self._alike(kind, following), key=lambda one: one[0])
            self._known[kind] = length, (yield from self._quoted(longest))
        return self._known[kind][1]

    def _alike(self, kind: Class, asks: Sequence[Ask]) -> Iterator[tuple[int, Ask]]:
        """The asks of a class, with their length."""
        for ask in asks:
            body = _body(self._template, ask)
            if body is not None and _class_of(ask.prompt, body) == kind:
                yield len(body), ask

    def _quoted(self, ask: Ask) -> Flow[int]:
        quote = yield from quote_of(self._template, ask, self.backoff)
        if quote.cost.upper_nano_usd is None:
            raise _unbounded(quote)
        return quote.cost.upper_nano_usd


def _body(template: RequestTemplate, ask: Ask) -> bytes | None:
    """The request; None where it can't be sent."""
    try:
        body = checked_request(template.request(ask))
    except BadRequestError:
        return None
    return body if len(body) < MAX_BODY_BYTES else None


def _class_of(prompt: Prompt, body: bytes) -> Class | None:
    """Within it the service's bound grows with the bytes of the body; None for a request that is like no other."""
    if not body.isascii() and not unicodedata.is_normalized("NFKC", body.decode()):
        return None
    if not isinstance(prompt, str) and not all(map(_is_text, prompt)):
        return None
    return 0 if isinstance(prompt, str) else len(prompt), int(log(len(body), STEP))


def _is_text(turn: Any) -> bool:
    def field(name: str) -> Any:
        return cast("Mapping[str, Any]", turn).get(name) if isinstance(turn, Mapping) else getattr(turn, name, None)

    return isinstance(field("content"), str) and not field("tool_calls")


def quote_of(template: RequestTemplate, ask: Ask, backoff: Backoff) -> Flow[Quote]:
    """What the service says that an ask may cost. Raises BadRequestError."""
    call = Submission(checked_request(template.request(ask)), "").quote_call
    return read(Quote.model_validate_json, (yield from exchange(call, backoff)))


def _unbounded(quote: Quote) -> PaymentRequiredError:
    why = quote.cost.unbounded or "Nothing is known to bound what a row may cost."
    detail = f"max_cost_usd needs to know what a row may cost at most. {why} Nothing was posted."
    return PaymentRequiredError(Problem(title="Unbounded cost", status=402, code="unbounded_cost", detail=detail))
