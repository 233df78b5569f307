"""Posts that ask in the same way for other words, decided once: like a prepared statement and its parameters.

Why: of 95 us of Python that a post cost the API with everything hot, 40 went into finding out for each post again what
it shares with the one before (benchmarks/README.md). A preparation is made of the common way's own parts, and good for
FRESH_S; tests/service/api/test_prepared.py holds it to them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from onceq.wire import JobRequest
from onceq_service.api import bounds, plain, receipt
from onceq_service.api.admission import (
    admission,
    group_of,
    labels_of,
    likely_input_tokens,
    question,
    upper,
    whole,
)
from onceq_service.api.catalog import Resolved
from onceq_service.api.service import Service
from onceq_service.api.submit import receipt_form
from onceq_service.pricing import CallRule, call_rule, input_tokens
from onceq_service.store import ApiKey, Own, Pattern, Seal, new_job_id

FRESH_S: Final = 0.25
"""How old a preparation may be: it knows the lane's queue, the workers and the prices as they were then."""
MOST: Final = 1_000
"""Preparations that are kept."""


class Prepared(NamedTuple):
    """All that is known of a post before its words, its key, its user and its labels are."""

    pattern: Pattern
    form: receipt.Form
    """Of the 202's body."""
    until: float
    """On the monotonic clock."""
    seal: Seal
    idem: Seal
    body: Seal
    question: Seal
    models: Sequence[Resolved]
    rules: Sequence[CallRule]
    max_calls: int
    max_cost: int | None

    def own(self, request: JobRequest, idem_key: str | None) -> Own:
        """What this post has beside it; the request is one of plain.py."""
        body = plain.dump(request)
        return Own(
            id=new_job_id(),
            idem=self.idem(idem_key.encode()) if idem_key else "",
            body_hash=self.body(*whole(request, body, b"")) if idem_key else "",
            fp=self.question(*question(request, self.models, b"")) if self.pattern.asked.window_s else "",
            request=body,
            user=request.user or "",
            labels=labels_of(request),
            in_est=likely_input_tokens(body),
            call_bound=dearest(self.rules, input_tokens(request, body, self.rules[0].kind)),
        )

    def told(self, own: Own, created_ms: int) -> bytes:
        """The 202's body."""
        bound = None if own.call_bound is None else own.call_bound * self.max_calls
        return receipt.fill(self.form, own, created_ms, upper(bound, self.max_cost))


def dearest(rules: Sequence[CallRule], given: int) -> int | None:
    """nano-USD that no call of any of the models can pass, None where one has no bound.

    `given`: input tokens, which all kinds of providers count alike where there are no images.
    """
    if len(rules) == 1:
        return rules[0].nano_usd(given)
    found = [rule.nano_usd(given) for rule in rules]
    return None if None in found else max([nano for nano in found if nano is not None])


class Preparations:
    """Those of one API process."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._made: dict[tuple[object, ...], Prepared] = {}

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._made)

    def of(self, request: JobRequest, key: ApiKey, idem_key: str | None, seal: Seal) -> Prepared | None:
        """For posts like this one, which is one of plain.py; None where Redis has to be asked something first.

        Raises Refused for what the common way refuses.
        """
        alike = (
            key.id, idem_key is None, request.model, request.max_tokens, request.band, request.deadline_s,
            request.max_calls, request.max_cost_usd, request.on_crash, request.on_break, request.dedupe_window_s,
            request.fresh, request.team, group_of(request, self._service.defaults.label_keys),
        )  # fmt: skip
        known = self._made.get(alike)
        if known is not None and known.seal is seal and time.monotonic() < known.until:
            return known
        made = self._prepare(request, key, idem_key, seal)
        if made is not None:
            if len(self._made) >= MOST:
                self._made.clear()
            self._made[alike] = made
        return made

    def _prepare(self, request: JobRequest, key: ApiKey, idem_key: str | None, seal: Seal) -> Prepared | None:
        service = self._service
        models = service.catalog.chain(request.models())
        pace = service.known_pace(models[0].model)
        if pace is None or not all(service.served(model.provider) for model in models):
            return None
        wanted = bounds.wanted(service.tariff, request, models, service.defaults.max_calls)
        asked = admission(wanted, key, idem_key, models, seal, service.defaults)
        tenant = key.tenant.encode()
        return Prepared(
            pattern=service.store.jobs.pattern(asked),
            form=receipt_form(service, wanted, asked, pace),
            until=time.monotonic() + FRESH_S,
            seal=seal,
            idem=seal.after(b"idem", tenant),
            body=seal.after(b"body", tenant),
            question=seal.after(b"fp", tenant),
            models=models,
            rules=[call_rule(service.tariff, model.model, request) for model in models],
            max_calls=wanted.bounds.max_calls,
            max_cost=wanted.max_cost,
        )
