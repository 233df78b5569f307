"""Ids of jobs: by age, and never twice."""

from __future__ import annotations

import subprocess
import sys
import threading

from onceq_service.store import new_job_id

FORKED = """
import os
from onceq_service.store import new_job_id
new_job_id()
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, new_job_id()[-20:].encode())
    os._exit(0)
os.wait()
print(new_job_id()[-20:] != os.read(read, 20).decode())
"""


def test_ids_sort_by_age_and_end_in_80_random_bits() -> None:
    made = [new_job_id() for _ in range(1_000)]
    assert [one[:16] for one in made] == sorted(one[:16] for one in made)
    assert len({one[-20:] for one in made}) == 1_000
    assert {len(one) for one in made} == {36}


def test_a_forked_process_makes_other_ids_than_its_parent() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "True"


def test_threads_make_no_id_twice() -> None:
    made: list[str] = []

    def make() -> None:
        made.extend([new_job_id()[-20:] for _ in range(5_000)])

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8 * 5_000
