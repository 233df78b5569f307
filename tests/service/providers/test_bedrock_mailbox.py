"""A thread that reads faster than the worker waits, with a bounded number of bytes in hand."""

from __future__ import annotations

import asyncio

from onceq_service.providers._bedrock_mailbox import MOST_BYTES, Mailbox
from tests.waiting import until

CHUNK = b"x" * 65_536
CHUNKS = 3 * MOST_BYTES // len(CHUNK)


async def test_the_thread_waits_while_nobody_reads_and_nothing_is_lost() -> None:
    mailbox, posted = Mailbox(asyncio.get_running_loop()), 0

    def work() -> None:
        nonlocal posted
        for _ in range(CHUNKS):
            mailbox.post(CHUNK)
            posted += len(CHUNK)
        mailbox.post_end(None)

    async def full() -> bool:
        return posted >= MOST_BYTES

    working = asyncio.create_task(asyncio.to_thread(work))
    await until(full, "the mailbox to be full")
    await asyncio.sleep(0.2)
    assert posted == MOST_BYTES
    read = 0
    by = asyncio.get_running_loop().time() + 30
    while (chunk := await mailbox.read(by)) is not None:
        read += len(chunk)
    assert read == CHUNKS * len(CHUNK)
    await working


async def test_a_thread_that_waits_ends_when_its_call_is_left() -> None:
    mailbox = Mailbox(asyncio.get_running_loop())
    loop = asyncio.get_running_loop()
    working = loop.run_in_executor(None, lambda: [mailbox.post(CHUNK) for _ in range(CHUNKS)])
    await asyncio.sleep(0.1)
    mailbox.close()
    await working
