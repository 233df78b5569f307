"""The showroom's posts as admissions: through the API's own thinking, with an id of their own time."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from onceq.wire import JobRequest
from onceq_service.api.catalog import Catalog
from onceq_service.api.defaults import Defaults
from onceq_service.api.submission.admission import admission
from onceq_service.api.submission.allowance import falls_under, with_budgets
from onceq_service.api.submission.max_cost import with_bounds
from onceq_service.pricing import Tariff
from onceq_service.showroom.plan import Post
from onceq_service.store import Admission, ApiKey, Hasher
from onceq_service.store.budgets import Budget


@dataclass(frozen=True, slots=True)
class AdmissionBuilder:
    """What the API knows when a post comes; `keys` by the application that has them."""

    catalog: Catalog
    tariff: Tariff
    defaults: Defaults
    hasher: Hasher
    keys: Mapping[str, ApiKey]
    rng: random.Random
    budgets: Sequence[Budget] = ()

    def admission(self, post: Post, at_ms: int) -> Admission:
        """The post as the store takes it."""
        return self._admission(post.request, self.keys[post.app.name], at_ms, "")

    def replay(self, job_id: str, post: Post, at_ms: int) -> Admission:
        """Asks the question of a job that failed again."""
        fresh = post.request.model_copy(update={"fresh": True})
        return self._admission(fresh, self.keys[post.app.name], at_ms, job_id)

    def _admission(self, request: JobRequest, key: ApiKey, at_ms: int, retry_of: str) -> Admission:
        models = self.catalog.chain(request.models())
        known = with_bounds(self.tariff, request, models, self.defaults.max_calls)
        asked = admission(known, key, None, models, self.hasher, self.defaults, retry_of)
        named = msgspec.structs.replace(asked, id=f"job_{at_ms:012x}{self.rng.getrandbits(80):020x}")
        under = falls_under(self.budgets, key.id, [model.model for model in models], known)
        return with_budgets(self.tariff, under, named, known, at_ms) if under else named
