"""An upgrade with old jobs in Redis: this version does what the one before has queued, begun and delayed."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.before.restore import put_back
from tests.faults.collect import meter_rows
from tests.faults.deployment import LEASE_S, Deployment
from tests.faults.run import Expect
from tests.faults.trial import Trial
from tests.waiting import until

pytestmark = pytest.mark.faults

ENDED = ("succeeded", "failed", "cancelled", "expired")
BEGUN = {"dispatched", "streaming", "delayed", "in a full lane"}
"""Called once by the version before, and lost: this one calls again."""
UNTOLD = frozenset({"ledger_is_met", "money_adds_up", "text_is_what_was_sent"})
"""The meter and the rollups of those days are not there to be compared."""


async def test_jobs_that_the_version_before_left_in_redis_are_done(trial: Trial, deployment: Deployment) -> None:
    ids = await put_back(deployment.redis.url, deployment.queue, trial.tenant)
    for was, job_id in ids.items():
        trial.history.write("post", "ok", who="before", key=was, job=job_id, status="created", note="strict")
    reading = [asyncio.create_task(trial.read(job_id)) for job_id in ids.values() for _ in range(2)]
    paused = await trial.store.jobs.get(ids["in a paused lane"], trial.tenant)
    assert paused is not None
    assert paused.waiting is not None
    assert paused.waiting.reason == "lane_paused"
    await trial.store.lanes.switch_lane(paused.model, "resume")
    await asyncio.gather(*reading)

    await until(trial.quiet, "every old job to end")
    jobs = {was: await trial.store.jobs.get(job_id, trial.tenant) for was, job_id in ids.items()}
    failed = {"failed", "streaming and on_crash fail"}
    for was, job in jobs.items():
        assert job is not None
        expected = was if was in ENDED else "cancelled" if was == "cancel requested" else "succeeded"
        assert (was, job.status) == (was, "failed" if was in failed else expected)
        assert job.calls == (2 if was in BEGUN else was not in ("failed", "cancelled", "expired"))
    rows = {row.job: row for row in await meter_rows(deployment, set(ids.values()))}
    assert len(rows) == len(ids) - len({*ENDED, *failed, "cancel requested"})
    for job in jobs.values():
        assert job is not None
        assert job.id not in rows or job.text == rows[job.id].text
    lane = await trial.store.lanes.get("openai/full-before")
    assert (lane.running, lane.limits) == (0, {"concurrency": 1})
    statuses = frozenset(ENDED)
    await trial.judge(Expect(statuses=statuses, lease_s=LEASE_S, unjudged=UNTOLD))
