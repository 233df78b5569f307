"""A map in a process that is forked, and in an event loop that ends."""

from __future__ import annotations

from tests.sdk.program import said_by
from tests.stack import Stack


def test_a_map_that_was_begun_before_a_fork_goes_on_in_the_parent_alone(stack: Stack, key: str) -> None:
    program = """
        import os, onceq

        client = onceq.Client(model="openai/gpt-4o-mini")
        asked = [f"{n} [[sim tokens=5 tps=0 ttft_ms={n * 700}]]" for n in range(4)]
        rows = client.imap(asked, progress=False, on_interrupt="cancel")
        done = [next(rows).status]
        child = os.fork()
        try:
            done += [row.status for row in rows]
        except onceq.ConfigurationError:
            raise SystemExit(0 if not child else 1) from None
        print(os.waitpid(child, 0)[1], *done)
    """
    assert said_by(program, stack.url, api_key=key) == "0 succeeded succeeded succeeded succeeded\n"
