"""Posts that ask in the same way for other words, decided once: like a prepared statement and its parameters.

Why: of 95 us of Python that a post cost the API with everything hot, 40 went into finding out for each post again what
it shares with the one before (benchmarks/README.md). A cached one is made of the common way's own parts, and good for
FRESH_S; tests/service/api/test_admission_cache.py holds it to them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Final, NamedTuple

from msgspec.structs import replace

from onceq.wire import JobRequest
from onceq_service.api.catalog import Resolved
from onceq_service.api.service import Service
from onceq_service.api.submission import codec, max_cost, receipt
from onceq_service.api.submission.admission import (
    BoundedRequest,
    admission,
    group_of,
    labels_of,
    likely_input_tokens,
    question,
    upper,
    whole,
)
from onceq_service.api.submission.allowance import Allowance, allowance, estimate, falls_under, with_budgets
from onceq_service.api.submission.quote import in_a_receipt
from onceq_service.api.submission.submit import created
from onceq_service.pricing import CallRule, Tariff, call_rule, input_tokens
from onceq_service.store import Admission, AdmissionTemplate, AdmissionValues, ApiKey, Hasher, Pace, new_job_id
from onceq_service.store.admission import values_of
from onceq_service.store.budgets import Budget

FRESH_S: Final = 0.25
"""How old a cached one may be: it knows the lane's queue, workers, prices, how durable a 202 is as they were then."""
MOST: Final = 1_000
"""Ways of asking that are remembered."""
CacheKey = tuple[object, ...]
"""All that a post says but what is its own: words, Idempotency-Key, user, and labels that nothing is counted by."""


class CachedAdmission(NamedTuple):
    """All that is known of a post before what is its own."""

    template: AdmissionTemplate
    form: receipt.Form
    """Of the 202's body."""
    until: float
    """On the monotonic clock."""
    hasher: Hasher
    idem: Hasher
    body: Hasher
    question: Hasher
    models: Sequence[Resolved]
    max_tokens: int | None
    rules: Sequence[CallRule]
    max_calls: int
    max_cost: int | None
    tariff: Tariff
    budgets: Sequence[Budget]
    """Its tenant's."""
    allowance: Allowance

    def values(self, request: JobRequest, idem_key: str | None) -> AdmissionValues:
        """What this post has beside it; the request is one of codec.py."""
        body = codec.dump(request)
        call_bound = highest_cost(self.rules, input_tokens(request, body, self.rules[0].kind))
        budgets, reserved = self._held(call_bound, body) if self.allowance.under else ("", 0)
        return AdmissionValues(
            id=new_job_id(),
            idem=self.idem(idem_key.encode()) if idem_key else "",
            body_hash=self.body(*whole(request, body, b"")) if idem_key else "",
            fp=self.question(*question(request, self.models, b"")) if self.template.asked.window_s else "",
            request=body,
            user=request.user or "",
            labels=labels_of(request),
            in_est=likely_input_tokens(body),
            call_bound=call_bound,
            budgets=budgets,
            reserved=reserved,
        )

    def _held(self, call_bound: int | None, body: bytes) -> tuple[str, int]:
        likely, asked = None, self.template.asked
        if self.allowance.soft:
            likely = estimate(self.tariff, asked.model, len(body), self.max_tokens)
        return self.allowance.of_post(call_bound, likely)

    def accepted_body(self, values: AdmissionValues, created_ms: int) -> bytes:
        """The 202's body."""
        bound = None if values.call_bound is None else values.call_bound * self.max_calls
        return receipt.fill(self.form, values, created_ms, upper(bound, self.max_cost))


def highest_cost(rules: Sequence[CallRule], given: int) -> int | None:
    """nano-USD that no call of any of the models can pass, None where one has no bound.

    `given`: input tokens, which all kinds of providers count alike where there are no images.
    """
    if len(rules) == 1:
        return rules[0].nano_usd(given)
    found = [rule.nano_usd(given) for rule in rules]
    return None if None in found else max([nano for nano in found if nano is not None])


class ReadyPost(NamedTuple):
    """A post that the store can take."""

    template: AdmissionTemplate
    values: AdmissionValues
    accepted_body: Callable[[int], bytes]
    """What its client is told when its job was created at a time (ms): the 202's body."""
    under: Sequence[Budget]
    """The budgets that it falls under."""


class AdmissionCache:
    """Those of one API process. The first post of its way is answered as if alone, the second within FRESH_S too, and
    is cached; so posts that have little in common cost no more than on their own.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._made: dict[CacheKey, CachedAdmission] = {}
        self._seen: dict[CacheKey, float] = {}
        """When it was last asked in ways that are not cached, on the monotonic clock."""

    def __len__(self) -> int:
        """How many ways of asking are remembered."""
        return len(self._seen)

    def ready(self, request: JobRequest, key: ApiKey, idem_key: str | None, hasher: Hasher) -> ReadyPost | None:
        """The request, one of codec.py's, as the common way would have it; None where Redis must be asked first.

        Raises Refused for what the common way refuses.
        """
        budget_cache, keys = self._service.budget_cache, self._service.defaults.label_keys
        budgets = budget_cache.of(key.tenant)
        cache_key = (
            key.id, idem_key is None, request.model, request.max_tokens, request.band, request.deadline_s,
            request.max_calls, request.max_cost_usd, request.on_crash, request.on_break, request.dedupe_window_s,
            request.fresh, request.team,
            group_of(request, (*keys, *budget_cache.labels(key.tenant)) if budgets else keys),
        )  # fmt: skip
        known = self._made.get(cache_key)
        if (
            known is None
            or known.hasher is not hasher
            or known.budgets is not budgets
            or time.monotonic() >= known.until
        ):
            return self._alone(cache_key, request, key, idem_key, hasher)
        values = known.values(request, idem_key)
        return ReadyPost(known.template, values, partial(known.accepted_body, values), known.allowance.under)

    def _alone(
        self, cache_key: CacheKey, request: JobRequest, key: ApiKey, idem_key: str | None, hasher: Hasher
    ) -> ReadyPost | None:
        service = self._service
        models = service.catalog.chain(request.models())
        pace = service.known_pace(models[0].model)
        if pace is None or not all(service.served(model.provider) for model in models):
            return None
        bounded = max_cost.with_bounds(service.tariff, request, models, service.defaults.max_calls)
        asked = admission(bounded, key, idem_key, models, hasher, service.defaults)
        under = falls_under(service.budget_cache.of(key.tenant), key.id, [model.model for model in models], bounded)
        if under:
            asked = with_budgets(service.tariff, under, asked, bounded, round(time.time() * 1000))
        if self._again(cache_key):
            self._made[cache_key] = cached_admission(service, bounded, asked, models, under, hasher, pace)
        told = partial(created, service, bounded, asked, pace)
        return ReadyPost(service.store.jobs.template(asked), values_of(asked), told, under)

    def _again(self, cache_key: CacheKey) -> bool:
        """Whether somebody asked in this way within FRESH_S."""
        now, before = time.monotonic(), self._seen.get(cache_key, -inf)
        if len(self._seen) >= MOST:
            self._seen.clear()
            self._made.clear()
        self._seen[cache_key] = now
        return now - before < FRESH_S


def cached_admission(
    service: Service, bounded: BoundedRequest, asked: Admission, models: Sequence[Resolved], under: Sequence[Budget],
    hasher: Hasher, pace: Pace,
) -> CachedAdmission:  # fmt: skip
    """What posts share that ask like this one."""
    tenant, quote = asked.tenant.encode(), in_a_receipt(bounded, pace, service.free_slots(asked.provider))
    wordless = replace(asked, request=b"", user="", labels=b"{}")  # which are not kept for longer than their post is
    return CachedAdmission(
        template=service.store.jobs.template(wordless),
        form=receipt.form(asked, service.store.jobs.durability, quote),
        until=time.monotonic() + FRESH_S,
        hasher=hasher,
        idem=hasher.with_prefix(b"idem", tenant),
        body=hasher.with_prefix(b"body", tenant),
        question=hasher.with_prefix(b"fp", tenant),
        models=models,
        max_tokens=bounded.request.max_tokens,
        rules=[call_rule(service.tariff, model.model, bounded.request) for model in models],
        max_calls=bounded.bounds.max_calls,
        max_cost=bounded.max_cost,
        tariff=service.tariff,
        budgets=service.budget_cache.of(asked.tenant),
        allowance=allowance(under, round(time.time() * 1000)),
    )
