"""Providers that misbehave, through all three SDKs: the table of what they really do, and what it may cost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import pytest

from onceq_service.store.stats import ledger_rows
from tests.faults.deployment import LEASE_S
from tests.faults.run import Expect
from tests.faults.trial import MODELS, Trial

pytestmark = pytest.mark.faults

MIXED = Expect(statuses=frozenset({"succeeded", "failed"}), lease_s=LEASE_S)


@dataclass(frozen=True)
class Fault:
    """A misbehaviour, and what must come of the job: its state, the calls that it paid, what it booked first."""

    directive: str
    status: str
    calls: int
    first: str
    max_calls: int = 3


FAULTS = (
    Fault("fault=429 times=1 retry_after=0", "succeeded", 1, "provider_rate_limited"),
    Fault("fault=429 times=6 retry_after=0", "succeeded", 1, "provider_rate_limited"),
    Fault("fault=500 times=1", "succeeded", 1, "provider_error"),
    Fault("fault=503 times=1", "succeeded", 1, "provider_overloaded"),
    Fault("fault=hang times=1", "succeeded", 2, "provider_timeout"),
    Fault("fault=half times=1", "succeeded", 2, "provider_timeout"),
    Fault("fault=stall times=1 after=5", "succeeded", 2, "provider_stalled"),
    Fault("fault=garbage times=1 after=5", "succeeded", 2, "stream_garbage"),
    Fault("fault=cut times=1 after=5", "succeeded", 2, "stream_broken"),
    Fault("fault=end times=1 after=5", "succeeded", 2, "stream_ended_early"),
    Fault("fault=error times=1 after=5", "succeeded", 2, "provider_error"),
    Fault("fault=overload times=1 after=5", "succeeded", 2, "provider_overloaded"),
    Fault("fault=end after=5", "failed", 1, "stream_ended_early", max_calls=1),
    Fault("fault=cut after=5", "failed", 2, "stream_broken", max_calls=2),
    Fault("fault=400", "failed", 0, "provider_bad_request"),
    Fault("fault=401", "failed", 0, "provider_auth"),
    Fault("fault=413", "failed", 0, "provider_too_large"),
)


async def test_every_fault_of_every_sdk_ends_as_the_table_says(trial: Trial) -> None:
    cases = [(fault, model) for fault in FAULTS for model in MODELS]
    await asyncio.gather(*(check(trial, fault, model) for fault, model in cases))
    figures = await trial.judge(MIXED)
    assert figures.jobs == len(cases)


async def check(trial: Trial, fault: Fault, model: str) -> None:
    prompt = f"{fault.directive} of {model}: [[sim {fault.directive} tokens=12 tps=200 ttft_ms=10]]"
    job_id = await trial.ask(prompt, readers=1, model=model, max_calls=fault.max_calls)
    job, fields = await trial.store.jobs.get(job_id, trial.tenant), await trial.store.jobs.fields(job_id, trial.tenant)
    assert job is not None
    assert fields is not None
    outcome = ledger_rows(fields)[0].outcome
    case = f"{fault.directive} of {model}"
    assert (case, job.status, job.calls, outcome) == (case, fault.status, fault.calls, fault.first)


@pytest.mark.parametrize("hold", ["", "fault=hang", "fault=half", "fault=stall after=3"])
async def test_a_cancel_closes_upstream_at_once(trial: Trial, hold: str) -> None:
    """Before the first byte, between two, in the middle of the text: by the provider's own clock, in all three SDKs."""
    prompt = f"never mind [[sim {hold} tokens=3000 tps=50 ttft_ms=10]]"
    ids = await asyncio.gather(*(trial.post(f"{n} {prompt}", model=MODELS[n % 3]) for n in range(9)))
    reading = [asyncio.create_task(trial.read(job_id)) for job_id in ids]
    await trial.called(ids)
    await asyncio.gather(*(trial.cancel(job_id, api=n % 2) for n, job_id in enumerate(ids)))
    await asyncio.gather(*reading)
    await trial.judge(replace(MIXED, statuses=frozenset({"cancelled"}), cancel_s=0.25))
