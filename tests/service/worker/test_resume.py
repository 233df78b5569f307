"""A background call that can't be reached any more: it ends the job, and never becomes a second bill."""

from __future__ import annotations

import random

import pytest

from onceq_service.providers import open_providers
from onceq_service.providers.base import ProviderError
from onceq_service.settings import ProviderConfig
from onceq_service.store import Store
from onceq_service.worker import attempt
from onceq_service.worker.claimed import ClaimedJobs
from onceq_service.worker.limits import RateLimitReporter
from onceq_service.worker.relay import Relay
from onceq_service.worker.retry import CAP_S, take_up_after_s
from onceq_service.worker.run import Runner
from tests.service.store.driver import admission, claim_one, dispatch, text_frame

NOBODY = ProviderConfig(kind="openai", base_url="http://127.0.0.1:9/v1", key_env="NOBODY_KEY", responses_api=True)


async def test_a_host_that_stays_away_ends_the_job_with_its_text_and_its_bill(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "MOST_TAKEOVERS", 2)
    configs = {"openai": NOBODY}
    providers = open_providers(configs, {"NOBODY_KEY": "not-needed"})
    claimed = ClaimedJobs(1)
    runner = Runner(
        20,
        store.engine,
        Relay(store.engine, 0.0),
        RateLimitReporter(store.lanes),
        claimed,
        providers,
        configs,
        _AtOnce(),
    )
    made = await store.jobs.admit(admission(on_crash="resume", model="openai/gpt-4o-mini"))
    claim = await claim_one(store)
    sent = await dispatch(store, claim)
    await store.engine.attach(claim, "resp_1")
    await store.engine.append([text_frame(claim, sent.seq + 1, "half ")._replace(cursor=7)])
    await store.engine.hand_over(claim, delay_s=0, reason="worker_lost")
    for _ in range(2):
        await store.engine.tend()
        await runner.run(claimed.add(await claim_one(store)))
    await providers["openai"].close()
    job = await store.jobs.get(made.id, "t")
    assert job is not None
    assert job.error is not None
    assert (job.status, job.error.code, job.error.retryable) == ("failed", "provider_unreachable", True)
    assert (job.calls, job.text) == (1, "half ")
    assert job.cost.wasted_nano_usd == job.cost.nano_usd
    assert job.usage is not None
    assert job.usage.estimated


def test_a_takeover_is_at_once_and_then_later_and_later() -> None:
    error = ProviderError("provider_unreachable", "away", cause="refused")
    rng = random.Random(7)
    assert take_up_after_s(error, 0, rng) == 0
    assert [take_up_after_s(error, n, _Latest()) for n in range(1, 7)] == [2, 4, 8, 16, 32, CAP_S]
    told = ProviderError("provider_rate_limited", "later", cause="refused", retry_after_s=9)
    assert take_up_after_s(told, 3, rng) >= 9


class _AtOnce(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return a


class _Latest(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return b
