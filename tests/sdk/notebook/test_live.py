"""A stream in a cell is live Markdown with a quiet footer, in a real kernel; interrupting it leaves the job alone."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from onceq import Client
from tests.sdk.notebook.kernel import Kernel, html, run, running_kernel
from tests.stack import Stack

SLOW = "[[sim tokens=400 tps=20 ttft_ms=0]]"
QUICK = "[[sim tokens=30 tps=300 ttft_ms=0]]"


def test_a_stream_as_a_cells_last_value_is_shown_with_model_tokens_cost_ttft_and_id(home: Path) -> None:
    [outputs] = run(home, f"plain.stream('One. {QUICK}')")
    shown = html(outputs)
    for part in (
        r"openai/gpt-4o-mini",
        r"\d+ \+ 30 tokens",
        r"\$0\.\d+",
        r"ttft \d+\.\d\d s",
        r"job_[0-9a-f]{32}",
        "simulated",
    ):
        assert re.search(part, shown), part
    assert len(outputs) == 1, "one output that was replaced in place, not one a token"


def test_a_stream_is_shown_in_a_running_loop_awaited_and_in_the_background(home: Path) -> None:
    awaited, left, later = run(
        home,
        f"await client.stream('Two. {QUICK}').show()",
        f"behind = client.stream('Three. {QUICK}')\nbehind",
        "import asyncio\nwhile behind.job is None or behind.job.status != 'succeeded': await asyncio.sleep(0.05)\n"
        "await asyncio.sleep(0.3); print('ended')",
    )
    assert "30 tokens" in html(awaited)
    assert "30 tokens" in html(left), "the cell that has ended is filled while another runs"
    assert [output["text"] for output in later] == ["ended\n"]


def test_a_cell_is_updated_while_the_text_is_written(home: Path, stack: Stack) -> None:
    with running_kernel(home) as kernel:
        shown = interrupted(kernel, f"plain.stream('Four. {SLOW}')", 4)
    texts = above(shown)
    assert len(set(texts)) > 3
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    [job_id] = set(re.findall(r"job_[0-9a-f]{32}", shown[-1]))
    with reader(home, stack) as client:
        client.cancel(job_id)


@pytest.mark.parametrize(
    ("source", "back"),
    [
        (f"plain.stream('Five. {SLOW}')", "client.follow"),
        (f"await client.stream('Six. {SLOW}').show()", "await client.follow"),
    ],
    ids=["blocking", "awaiting"],
)
def test_an_interrupted_cell_says_how_to_come_back_and_its_job_goes_on(
    home: Path, stack: Stack, source: str, back: str
) -> None:
    with running_kernel(home) as kernel:
        shown = interrupted(kernel, source)[-1]
    [job_id] = set(re.findall(r"job_[0-9a-f]{32}", shown))
    assert f"{back}('{job_id}').show()" in shown
    assert f"client.cancel('{job_id}')" in shown
    with reader(home, stack) as client:
        assert client.get(job_id).status == "running"
        client.cancel(job_id)
        client.wait(job_id)


def interrupted(kernel: Kernel, source: str, texts: int = 1) -> list[str]:
    """Starts the cell, interrupts it when so many different texts have come; all that it shows."""
    kernel.start(source)
    asked, shown, errors = False, list[str](), list[dict[str, Any]]()
    for kind, content in kernel.messages():
        if "display_data" in kind:
            shown.append(content["data"]["text/plain"])
            if len(set(above(shown))) >= texts and not asked:
                kernel.manager.interrupt_kernel()
                asked = True
        elif kind == "error":
            errors.append(content)
    assert [error["ename"] in ("KeyboardInterrupt", "CancelledError") for error in errors] == [True]
    return shown


def above(shown: list[str]) -> list[str]:
    """The texts above the quiet footers, where there was one."""
    return [text for text in (one.rpartition("\n")[0] for one in shown) if text]


def reader(home: Path, stack: Stack) -> Client:
    """A client of the tenant whose folder it is."""
    return Client(stack.url, (home / ".onceq" / "api-key").read_text())


def test_a_job_that_failed_says_why_below_what_had_come(home: Path) -> None:
    [outputs] = run(home, "plain.stream('No. [[sim fault=400]]').show()")
    assert "[provider_bad_request]" in html(outputs)
    assert "failed" in html(outputs)
    assert [output["output_type"] for output in outputs] == ["display_data"], "told, not raised"


def test_a_stream_that_has_ended_is_shown_again_without_a_new_post(home: Path, stack: Stack) -> None:
    first, again = run(home, f"stream = plain.stream('Seven. {QUICK}')\nstream", "stream")
    assert html(first) == html(again)
    [job_id] = set(re.findall(r"job_[0-9a-f]{32}", html(first)))
    assert len(stack.meter(job_id)) == 1
