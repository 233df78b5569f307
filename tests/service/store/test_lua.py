"""How a script is put together: what it uses and no more, and what it seldom uses when it is called."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from onceq_service.api.routes.costs import KEPT
from onceq_service.store import Store, scripts
from onceq_service.store._lua import Script, assembled
from onceq_service.store.engine import SUSPECT_AT
from onceq_service.store.jobs import UNKNOWN_MS
from onceq_service.store.keys import CHANNELS
from onceq_service.store.lanes import WINDOW_S

SHARED = """\
local built = {}
local function made(name) built[#built + 1] = name return name end
local TABLE = made('table')
local function often() return 'often' end
local function helper() return often() .. TABLE end
local function seldom_used(word) return word .. helper() end
local function unused() return made('unused') end
"""


async def run(store: Store, body: str, *seldom: str) -> list[str]:
    text = assembled(SHARED, body, seldom)
    said: list[bytes] = await store._pipe.command("EVAL", text, 0)  # pyright: ignore[reportPrivateUsage]
    return [word.decode() for word in said]


async def test_what_is_seldom_used_is_built_when_it_is_called(store: Store) -> None:
    body = "if {} then made(seldom_used('x')) made(seldom_used('y')) end made(often()) return built"
    assert await run(store, body.format("false")) == ["table", "often"]
    assert await run(store, body.format("false"), "seldom_used") == ["often"]
    assert await run(store, body.format("true"), "seldom_used") == ["table", "xoftentable", "yoftentable", "often"]


def test_what_is_named_as_seldom_used_is_used() -> None:
    with pytest.raises(RuntimeError, match="never uses: unused"):
        assembled(SHARED, "return seldom_used('x')", ["unused"])


def test_a_script_reads_of_a_job_what_it_knows_by_name() -> None:
    shared = "local JOB = {'state', 'fence',\n  'model'}\n\nlocal function job_of() return JOB end\n"
    text = assembled(shared, "local job = job_of() -- job.state\nreturn job.model == 'job.fence'", [])
    assert "local JOB = {'model'}\n" in text
    assert "'batches'" in scripts.FINISH.text
    assert "'batches'" not in scripts.DISPATCH.text


def test_no_script_asks_a_job_for_a_field_that_it_does_not_spell() -> None:
    """It would get none: `job_of` reads what the script spells as `job.name` alone."""
    asked = re.compile(r"\bjob\[(?:[^][]|\[[^][]*\])*\](?!\s*=[^=])|pairs\(job\)")
    texts = {name: one.text for name, one in vars(scripts).items() if isinstance(one, Script)}
    read = {name: asked.findall(re.sub("--.*", "", text)) for name, text in texts.items() if "local JOB" in text}
    assert len(read) >= 10
    assert {name: found for name, found in read.items() if found} == {}


SAID_TWICE = {
    "_base": f"% {CHANNELS} end",
    "_lanes": f"local WINDOW = {WINDOW_S} -- seconds",
    "_money": f"local HOUR_TTL, DAY_TTL = {KEPT['h'].days} * 86400, {KEPT['d'].days} * 86400",
    "_waiting": f"(tonumber(job.crashes) or 0) >= {SUSPECT_AT} and k_suspects()",
}


@pytest.mark.parametrize("part", SAID_TWICE)
def test_python_and_lua_say_the_same_of_what_both_have_to_know(part: str) -> None:
    assert SAID_TWICE[part] in (files("onceq_service.store") / "lua" / f"{part}.lua").read_text("utf-8")


def test_a_lane_is_put_aside_until_the_same_far_time_in_python_and_lua() -> None:
    far = re.findall(r"return (1e\d+)", (files("onceq_service.store") / "lua/_lanes.lua").read_text("utf-8"))
    assert {float(one) for one in far} == {UNKNOWN_MS}
