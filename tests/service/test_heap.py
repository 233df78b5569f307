"""What the garbage collector still has to do in a process that has begun."""

from __future__ import annotations

import subprocess
import sys

import pytest

from onceq_service.heap import YOUNG

PROCESS = """
import gc, sys
from onceq_service import heap
old = [[n] for n in range(20_000)]
heap.set_aside()
passes = []
gc.callbacks.append(lambda phase, _: passes.append(phase))
left = [[n] for n in range(int(sys.argv[1]))]
print(len(passes) // 2, len(gc.get_objects()) < 20_000 + len(left))
"""


@pytest.mark.parametrize(("left", "passes"), [(5_000, 0), (15_000, 1)])
def test_a_moments_objects_are_not_looked_at_nor_what_was_there_before(left: int, passes: int) -> None:
    done = subprocess.run([sys.executable, "-c", PROCESS, str(left)], check=True, capture_output=True, text=True)
    assert done.stdout.split() == [str(passes), "True"]


API = """
import asyncio, gc
from onceq_service.api.service import Service
from onceq_service.settings import Settings

async def begin():
    service = Service(Settings(redis_url="redis://127.0.0.1:1/0"))
    async with service.running():
        await service.prices()
        print(gc.get_freeze_count() > 20_000, gc.get_threshold()[0])

asyncio.run(begin())
"""


def test_an_api_process_sets_its_price_tables_aside() -> None:
    done = subprocess.run([sys.executable, "-c", API], check=True, capture_output=True, text=True)
    said = done.stdout.splitlines()[-1]  # before it the log, in which Redis is away
    assert said.split() == ["True", str(YOUNG)]
