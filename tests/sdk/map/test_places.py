"""A map in a process that is forked, and in an event loop that ends."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

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


@pytest.mark.parametrize("options", [(), ("-X", "dev")])
@pytest.mark.parametrize("on_interrupt", ["detach", "cancel"])
@pytest.mark.parametrize("holder", ["here", "globals()"])
def test_a_map_may_be_left_where_its_loop_ends_and_says_what_goes_on(
    stack: Stack, key: str, options: Sequence[str], on_interrupt: str, holder: str
) -> None:
    program = f"""
        import asyncio, onceq

        client = onceq.AsyncClient(model="openai/gpt-4o-mini")

        async def main():
            here = {{}}
            held = {holder}
            asked = [f"{{n}} [[sim tokens=5 tps=0 ttft_ms={{n * 5000}}]]" for n in range(3)]
            held["rows"] = client.amap(asked, progress=False, on_interrupt="{on_interrupt}")
            async for row in held["rows"]:
                break

        asyncio.run(main())
    """
    said = said_by(program, stack.url, *options, api_key=key)
    assert said.startswith("The loop was left: 1 of 3 rows are here; ")
