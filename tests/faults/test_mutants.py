"""The list of seeded defects fits the sources, and the few promises that no other test names have one here."""

from __future__ import annotations

import pytest

from onceq_service.store import Store
from onceq_service.store.engine import End, Receipt
from tests.faults.mutants import Mutant
from tests.faults.mutate import ALL, ROOT
from tests.service.store.driver import admission, claim_one, dispatch


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.breaks)
def test_a_seeded_defect_fits_its_source(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text("utf-8").count(mutant.old) == 1
    for test in mutant.found_by:
        path, _, name = test.partition("::")
        assert name.partition("[")[0] in (ROOT / path).read_text("utf-8")


def test_there_are_enough_of_them_and_each_breaks_another_sentence() -> None:
    assert len({mutant.breaks for mutant in ALL}) == len(ALL) >= 25


async def test_a_failed_job_does_not_block_an_equal_one(store: Store) -> None:
    made = await store.jobs.admit(admission(fp="f"))
    claim = await claim_one(store)
    await dispatch(store, claim)
    await store._pipe.command("SET", store.redis_keys("fp", "f"), made.id, "EX", 60)  # pyright: ignore[reportPrivateUsage]
    refused = Receipt("provider_bad_request", billed=False)
    await store.engine.finish(claim, End("failed", b"", b"", refused, kept=False, first_seq=0))
    await store._pipe.command("SET", store.redis_keys("fp", "f"), made.id, "EX", 60)  # pyright: ignore[reportPrivateUsage]
    again = await store.jobs.admit(admission(fp="f"))
    assert again.disposition == "created"
    await store.jobs.cancel(again.id, "t")


async def test_a_fence_can_not_be_guessed(store: Store) -> None:
    """Its number alone may come again when Redis is rolled back; the random part does not."""
    made = await store.jobs.admit(admission())
    claim = await claim_one(store)
    await store.engine.release(claim)
    await store._pipe.command("HINCRBY", store.redis_keys("turns"), "n", -1)  # pyright: ignore[reportPrivateUsage]
    again = await claim_one(store)
    assert again.fence != claim.fence
    assert again.fence.split("-")[0] == claim.fence.split("-")[0]
    await store.engine.release(again)
    await store.jobs.cancel(made.id, "t")


async def test_a_tenant_can_not_cancel_anothers_job(store: Store) -> None:
    made = await store.jobs.admit(admission())
    assert await store.jobs.cancel(made.id, "somebody else") == "unknown"
    assert await store.jobs.cancel(made.id, "t") == "cancelled"
