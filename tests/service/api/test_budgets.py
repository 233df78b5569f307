"""Budgets through the API: listed for readers, made and changed by admins, those of the file read only."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import Generator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx2
import pytest

from onceq import AsyncClient, BadRequestError, Client, ConflictError, NotFoundError, PermissionDeniedError
from onceq.errors import ConfigurationError
from onceq.wire import BudgetStatus, JobRequest
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.pricing import Tariff, call_bound
from onceq_service.settings import DEFAULT_PROVIDERS, read_config
from tests.service.api.kit import JOBS, MODEL, Http, ask, http, own_lane, problem_of, switch
from tests.stack import API, Stack, running_stack, start, url_printed_by
from tests.waiting import wait_until

FILE = """
[[budgets]]
name = "everything"
limit_usd = 500
time_zone = "Europe/Berlin"

[[budgets]]
name = "search by hour"
tenant = "acme"
team = "search"
period = "hour"
mode = "soft"
limit_usd = 0.5
alerts = [0.9]
"""
PATH = "/v1/budgets"


@pytest.fixture(scope="module")
def stack(redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Generator[Stack]:
    file = tmp_path_factory.mktemp("config") / "onceq.toml"
    file.write_text(FILE)
    with running_stack(redis_server, workers=1, config=str(file)) as running:
        yield running


@pytest.fixture(scope="module")
def admin(stack: Stack) -> Generator[Client]:
    with Client(base_url=stack.url, api_key=stack.key("acme", "admin", "read")) as client:
        yield client


def named(budgets: Any) -> dict[str, BudgetStatus]:
    return {budget.name: budget for budget in budgets}


def test_a_tenant_sees_its_budgets_of_the_file_and_no_others(stack: Stack, admin: Client) -> None:
    found = named(admin.budgets())["search by hour"]
    assert (found.source, found.mode, found.period, found.team) == ("file", "soft", "hour", "search")
    assert (found.limit_nano_usd, found.limit_usd, found.alerts) == (500_000_000, "0.5", [0.9])
    assert found.use.left_nano_usd == found.limit_nano_usd
    assert "everything" not in named(admin.budgets())
    with Client(base_url=stack.url, api_key=stack.key("default", "read")) as client:
        mine = named(client.budgets())
    assert list(mine) == ["everything"]
    assert mine["everything"].period_start is not None
    assert mine["everything"].period_start.utcoffset() is not None
    assert mine["everything"].period_start.hour in (22, 23), "midnight in Berlin, said in UTC"


def test_an_operator_sees_those_of_all_tenants(stack: Stack) -> None:
    with Client(base_url=stack.url, api_key=stack.key("default", "operator")) as client:
        assert {"everything", "search by hour"} <= set(named(client.budgets()))


def test_a_budget_is_made_changed_and_taken_away(admin: Client) -> None:
    made = admin.create_budget("nightly", 12.5, period="day", team="search", labels={"project": "x"}, alerts=[1, 0.5])
    assert (made.source, made.tenant, made.limit_nano_usd, made.alerts) == ("api", "acme", 12_500_000_000, [0.5, 1.0])
    assert_same(admin.budget(made.id), made)
    changed = admin.change_budget(made.id, limit_usd=20, mode="soft")
    assert (changed.limit_usd, changed.mode, changed.alerts, changed.team) == ("20", "soft", [0.5, 1.0], "search")
    assert_same(named(admin.budgets())["nightly"], changed)
    admin.delete_budget(made.id)
    assert "nightly" not in named(admin.budgets())
    for gone in (admin.budget, admin.delete_budget):
        with pytest.raises(NotFoundError, match="/v1/budgets"):
            gone(made.id)


def assert_same(later: BudgetStatus, before: BudgetStatus) -> None:
    """The same budget, though its period may have ended since, and the next begun."""
    of_the_period = {"period_start", "renews_at"}
    assert later.model_dump(exclude=of_the_period) == before.model_dump(exclude=of_the_period)
    assert later.period_start in (before.period_start, before.renews_at)
    assert (later.renews_at == before.renews_at) is (later.period_start == before.period_start)


async def test_the_async_client_makes_shows_changes_and_deletes_a_budget(stack: Stack) -> None:
    key = await asyncio.to_thread(stack.key, "async-budgets", "read", "submit", "admin")
    async with AsyncClient(stack.url, key) as client:
        made = await client.create_budget("b", 5, period="day", mode="soft", time_zone="Europe/Berlin", team="search",
                                          labels={"step": "a"}, alerts=[0.9])  # fmt: skip
        assert (made.limit_nano_usd, made.period, made.mode, made.team) == (5 * 10**9, "day", "soft", "search")
        assert (made.labels, made.alerts, made.time_zone) == ({"step": "a"}, [0.9], "Europe/Berlin")
        assert [one.id for one in await client.budgets()] == [made.id]
        changed = await client.change_budget(made.id, limit_usd=7, mode="hard", alerts=[0.5, 1.0])
        assert (changed.limit_nano_usd, changed.mode, changed.alerts) == (7 * 10**9, "hard", [0.5, 1.0])
        assert_same(await client.budget(made.id), changed)
        await client.delete_budget(made.id)
        assert await client.budgets() == []
        with pytest.raises(NotFoundError):
            await client.budget(made.id)


def test_a_name_is_taken_once_in_a_tenant(admin: Client, stack: Stack) -> None:
    made = admin.create_budget("one of a kind", 1)
    for name in ("one of a kind", "search by hour"):
        with pytest.raises(ConflictError) as refused:
            admin.create_budget(name, 1)
        assert refused.value.code == "budget_exists"
    with Client(base_url=stack.url, api_key=stack.key("other", "admin")) as client:
        assert client.create_budget("one of a kind", 1).id != made.id


def test_a_budget_of_the_file_is_changed_in_the_file(admin: Client) -> None:
    fixed = named(admin.budgets())["search by hour"]
    with pytest.raises(ConflictError, match=r"onceq\.toml") as refused:
        admin.change_budget(fixed.id, limit_usd=1)
    assert refused.value.code == "budget_read_only"
    with pytest.raises(ConflictError, match=r"onceq\.toml"):
        admin.delete_budget(fixed.id)


def test_a_reader_changes_nothing_and_nobody_reaches_another_tenants_budget(stack: Stack, admin: Client) -> None:
    made = admin.create_budget("behind a wall", 1)
    with Client(base_url=stack.url, api_key=stack.key("acme", "read", "submit")) as reader:
        assert reader.budget(made.id).id == made.id
        for change in (lambda: reader.change_budget(made.id, limit_usd=9), lambda: reader.delete_budget(made.id)):
            with pytest.raises(PermissionDeniedError, match="scope admin"):
                change()
        with pytest.raises(PermissionDeniedError, match="scope admin"):
            reader.create_budget("mine", 1)
    with Client(base_url=stack.url, api_key=stack.key("other", "admin")) as stranger:
        for reach in (stranger.budget, stranger.delete_budget):
            with pytest.raises(NotFoundError):
                reach(made.id)
        with pytest.raises(NotFoundError):
            stranger.change_budget(made.id, limit_usd=9)
        with pytest.raises(PermissionDeniedError, match="operator"):
            stranger.create_budget("theirs", 1, tenant="acme")
    assert admin.budget(made.id).limit_usd == "1"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"limit_usd": 1}, "name"),
    ({"name": "x"}, "limit_usd"),
    ({"name": "x", "limit_usd": 0}, "limit_usd"),
    ({"name": "x", "limit_usd": -1}, "limit_usd"),
    ({"name": "x", "limit_usd": 1e12}, "limit_usd"),
    ({"name": "x", "limit_usd": "1"}, "limit_usd"),
    ({"name": "x", "limit_usd": 1, "period": "week"}, "period"),
    ({"name": "x", "limit_usd": 1, "mode": "firm"}, "mode"),
    ({"name": "x", "limit_usd": 1, "time_zone": "Mars/Olympus"}, "time_zone"),
    ({"name": "x", "limit_usd": 1, "time_zone": "../../etc/passwd"}, "time_zone"),
    ({"name": "x", "limit_usd": 1, "alerts": [0]}, "alerts"),
    ({"name": "x", "limit_usd": 1, "labels": {"1": "y"}}, "labels"),
    ({"name": "x\n", "limit_usd": 1}, "name"),
    ({"name": "x", "limit_usd": 1, "webhook_url": "https://example.com"}, "webhook_url"),
]


@pytest.fixture(scope="module")
def client(stack: Stack) -> Generator[Http]:
    with http(stack, "acme", "admin") as found:
        yield found


@pytest.mark.parametrize(("body", "where"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_budget_is_refused_with_the_place(client: Http, body: dict[str, Any], where: str) -> None:
    before = client.get(PATH).json()["budgets"]
    problem = problem_of(client.post(PATH, json=body), 422, "invalid_request")
    assert any(where in error.loc for error in problem.errors or []), problem
    assert len(client.get(PATH).json()["budgets"]) == len(before)


def test_infinite_money_and_a_change_of_nothing_are_refused(client: Http, admin: Client) -> None:
    answer = client.post(PATH, content=b'{"name":"x","limit_usd":1e999}', headers={"content-type": "application/json"})
    problem_of(answer, 422, "invalid_request")
    made = admin.create_budget("unchanged", 1)
    with pytest.raises(BadRequestError, match="limit_usd, mode or alerts"):
        admin.change_budget(made.id)
    problem_of(client.patch(f"{PATH}/{made.id}", json={"name": "other"}), 422, "invalid_request")


def test_a_budget_that_is_made_says_where_it_is(client: Http) -> None:
    answer = client.post(PATH, json={"name": "located", "limit_usd": 1})
    assert answer.status_code == 201
    assert client.get(answer.headers["location"]).json()["id"] == answer.json()["id"]


@pytest.mark.parametrize("tail", ["bud_" + "0" * 20, "x", "%00", "{}", "x" * 4_000])
def test_a_budget_that_is_not_there_is_a_404(client: Http, tail: str) -> None:
    for method in ("GET", "DELETE"):
        problem_of(client.request(method, f"{PATH}/{tail}"), 404, "not_found")


def test_the_file_is_refused_at_the_start_when_a_budget_in_it_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "onceq.toml"
    for text, says in (
        ('[[budgets]]\nname="a"\nlimit_usd=1\n[[budgets]]\nname="a"\nlimit_usd=2\n', "two of tenant default named 'a'"),
        ('[[budgets]]\nname="a"\nlimit_usd=1\ntime_zone="Nowhere/Land"\n', "no time zone"),
        ('[[budgets]]\nname="a"\n', "limit_usd"),
        ('[alerts]\nwebhook_url="ftp://x"\n', "webhook_url"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigurationError, match=says):
            read_config(file)


def test_no_route_of_budgets_is_open_without_a_key(stack: Stack) -> None:
    for method, path in (("GET", PATH), ("POST", PATH), ("PATCH", f"{PATH}/x"), ("DELETE", f"{PATH}/x")):
        problem_of(httpx2.request(method, stack.url + path), 401, "unauthorized")


def bound_nano(body: dict[str, Any]) -> int:
    """What a call of this post may cost at most."""
    request = JobRequest.model_validate(body)
    stored = request.model_dump_json(exclude_none=True).encode()
    nano = call_bound(Tariff(DEFAULT_PROVIDERS), body["model"], request, stored).nano_usd
    assert nano is not None
    return nano


@pytest.fixture(scope="module")
def replica(stack: Stack) -> Generator[str]:
    """A second API process on the same queue."""
    process = start([sys.executable, "-c", API], stack.env, stack.folder / "replica.log")
    yield url_printed_by(process)
    process.stop()
    assert "Traceback" not in process.text()


async def posts(urls: list[str], key: str, bodies: list[dict[str, Any]]) -> list[httpx2.Response]:
    """All of them at once, in turn to each of the replicas."""
    headers = {"authorization": f"Bearer {key}"}
    async with contextlib.AsyncExitStack() as opened:
        clients = [
            await opened.enter_async_context(httpx2.AsyncClient(base_url=url, headers=headers, timeout=60))
            for url in urls
        ]
        return await asyncio.gather(*(clients[n % len(clients)].post(JOBS, json=body) for n, body in enumerate(bodies)))


def whose_day_goes_on() -> str:
    """A time zone whose day, and so its month, does not end within the hour."""
    return next(zone for zone in ("America/New_York", "Asia/Tokyo") if datetime.now(ZoneInfo(zone)).hour < 23)


def test_of_200_posts_at_once_over_two_replicas_a_budget_for_ten_admits_exactly_ten(stack: Stack, replica: str) -> None:
    bodies = [ask() | {"max_tokens": 50} for _ in range(200)]
    [most] = {bound_nano(body) for body in bodies}
    with Client(base_url=stack.url, api_key=stack.key("ten", "admin", "operator")) as boss:
        boss.pause(lane=MODEL)  # a job that ends among the posts gives back what it has not cost, and makes room
        made = boss.create_budget("ten", (10 * most + most // 2) / 1e9, time_zone=whose_day_goes_on())
        with Client(base_url=replica, api_key=stack.key("ten", "read")) as other:
            wait_until(lambda: other.budgets(), "the other replica to know the budget")
        answers = asyncio.run(posts([stack.url, replica], stack.key("ten"), bodies))
        boss.resume(lane=MODEL)
        assert Counter(answer.status_code for answer in answers) == {202: 10, 402: 190}
        for answer in answers:
            if answer.status_code == 402:
                problem = problem_of(answer, 402, "budget_exceeded")
                assert problem.budget is not None
                assert (problem.budget.id, problem.budget.name) == (made.id, "ten")
                assert problem.budget.left_nano_usd < problem.budget.needed_nano_usd == most
                assert problem.budget.renews_at == made.renews_at
                assert made.renews_at is not None
                assert made.renews_at.strftime("%Y-%m-%dT%H:%M:%SZ") in problem.detail.replace(".000", "")
        ids = {answer.json()["id"] for answer in answers if answer.status_code == 202}
        assert len(ids) == 10
        jobs = [boss.wait(job_id, 60) for job_id in ids]
        assert {job.status for job in jobs} == {"succeeded"}
        use = boss.budget(made.id).simulated_use
    assert (use.reserved_nano_usd, use.unsure_nano_usd) == (0, 0)
    assert use.spent_nano_usd == sum(call["nano_usd"] for job in jobs for call in stack.meter(job.id))


def test_a_job_shows_what_is_held_for_it_and_a_joined_post_is_not_refused(stack: Stack) -> None:
    of_red = {"max_tokens": 50, "team": "red"} | own_lane("held")
    body = ask() | of_red
    most = bound_nano(body)
    with Client(base_url=stack.url, api_key=stack.key("held", "admin")) as boss, http(stack, "held") as poster:
        made = boss.create_budget("held", 1.5 * most / 1e9, team="red", period="total")
        switch(poster, "pause", body)
        first = poster.submit(body)
        assert first["cost"]["reserved_nano_usd"] == most
        assert poster.job(first["id"]).cost.reserved_nano_usd == most
        assert poster.submit(body)["disposition"] == "joined"
        problem_of(poster.post_json(ask() | of_red), 402, "budget_exceeded")
        assert poster.submit(ask() | {"max_tokens": 50})["disposition"] == "created", "another team's money"
        switch(poster, "resume", body)
        done = poster.job(first["id"], wait=30)
        assert (done.status, done.cost.reserved_nano_usd) == ("succeeded", 0)
        assert boss.budget(made.id).simulated_use.spent_nano_usd == done.cost.nano_usd


def test_a_hard_budget_refuses_what_has_no_bound_and_a_soft_one_does_not(stack: Stack) -> None:
    with Client(base_url=stack.url, api_key=stack.key("bounds", "admin")) as boss, http(stack, "bounds") as poster:
        made = boss.create_budget("strict", 100)
        problem_of(
            poster.post_json(ask() | {"model": "openai/nobody-knows-me", "max_tokens": 5}), 402, "unpriced_model"
        )
        strange: dict[str, Any] = ask() | {"params": {"web_search_options": dict[str, Any]()}, "max_tokens": 5}
        assert "'strict'" in problem_of(poster.post_json(strange), 402, "unbounded_cost").detail
        boss.change_budget(made.id, mode="soft")
        assert poster.done(strange).status == "succeeded"
        items = [{"job": ask()}, {"job": ask() | {"model": "openai/nobody-knows-me", "max_tokens": 5}}]
        boss.change_budget(made.id, mode="hard")
        outcomes = poster.post(f"{JOBS}/batch", json={"items": items}).json()["items"]
        assert outcomes[0]["job"]["status"] == "queued"
        assert outcomes[1]["problem"]["code"] == "unpriced_model"


def test_a_job_of_an_unlucky_call_fails_with_the_budget_named_where_nothing_can_help(stack: Stack) -> None:
    body = ask(tokens=30, fault="cut", after=9, times=1) | {"max_tokens": 2_000}
    with Client(base_url=stack.url, api_key=stack.key("short", "admin")) as boss, http(stack, "short") as poster:
        made = boss.create_budget("short", 1.5 * bound_nano(body) / 1e9, period="total")
        job = poster.done(body)
        assert job.status == "failed"
        assert job.error is not None
        assert (job.error.code, job.calls, job.timings.verdict) == ("budget_exceeded", 1, "budget")
        assert made.id in job.error.message
        assert job.text, "what was paid for is kept"
        use = boss.budget(made.id).simulated_use
        assert use.reserved_nano_usd == 0
        assert use.spent_nano_usd + use.unsure_nano_usd == bound_nano(body)
        [row] = poster.get(f"{JOBS}/{job.id}/ledger").json()
        assert row["reserved_nano_usd"] == bound_nano(body)


def test_metrics_tell_an_operator_of_each_budget(stack: Stack) -> None:
    with Client(base_url=stack.url, api_key=stack.key("metered", "admin")) as boss:
        boss.create_budget("metered", 3)
    with http(stack, "default", "operator") as operator:
        text = operator.get("/metrics").text
    labels = '{budget="metered",mode="hard",simulated="false",tenant="metered"}'
    assert f"onceq_budget_limit_usd{labels} 3.0" in text
    assert f"onceq_budget_spent_usd{labels} 0.0" in text


def test_a_quote_says_that_a_post_would_be_refused_for_a_budget(stack: Stack) -> None:
    body = ask() | {"max_tokens": 50}
    with Client(base_url=stack.url, api_key=stack.key("quoted", "admin")) as boss, http(stack, "quoted") as poster:
        made = boss.create_budget("quoted", 0.5 * bound_nano(body) / 1e9)
        assert poster.post("/v1/quote", json=body).json()["refused"] == "budget_exceeded"
        boss.change_budget(made.id, limit_usd=1.5 * bound_nano(body) / 1e9)
        assert poster.post("/v1/quote", json=body).json()["refused"] is None
        unpriced = body | {"model": "openai/nobody-knows-me"}
        assert poster.post("/v1/quote", json=unpriced).json()["refused"] == "unpriced_model"
