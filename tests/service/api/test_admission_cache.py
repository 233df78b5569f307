"""What is cached for posts that ask alike says of each of them what the common way says of it alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import msgspec
import pytest

from onceq.wire import BudgetChange, BudgetRequest, JobRequest
from onceq_service import heap
from onceq_service.api import auth
from onceq_service.api import service as service_module
from onceq_service.api.http.replies import Reply
from onceq_service.api.service import Service
from onceq_service.api.submission import admission_cache, codec, max_cost
from onceq_service.api.submission.admission import admission
from onceq_service.api.submission.admission_cache import AdmissionCache
from onceq_service.api.submission.allowance import falls_under, with_budgets
from onceq_service.api.submission.codec import FastJobRequest
from onceq_service.api.submission.fast_path import FastPath
from onceq_service.api.submission.submit import created
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.settings import LaneLimits, Settings
from onceq_service.store import Admission, AdmissionTemplate, ApiKey, Hasher
from onceq_service.store.budgets import budget_of

MODEL: Final = "openai/gpt-4o-mini"
NOW_MS: Final = 1_764_000_000_123
BASE: Final[dict[str, Any]] = {"model": MODEL, "prompt": "a question"}
SAYS: Final[dict[str, Sequence[Any]]] = {
    "model": ["openai/gpt-4.1", "openai/unpriced%s", "either", "anthropic/claude-haiku-4-5"],
    "prompt": ["another question, which is longer", "é" * 4_000],
    "messages": [[{"role": "user", "content": "a question"}], [{"role": "user", "content": "b"}] * 3],
    "system": ["Be brief.", "Be 100% brief."],
    "max_tokens": [7, 8],
    "temperature": [0.0, 1.0],
    "band": ["batch", "interactive"],
    "deadline_s": [60.0, 61.5],
    "max_calls": [1, 2],
    "max_cost_usd": [0.5, 0.000001],
    "on_crash": ["fail", "retry"],
    "on_break": ["fail", "retry"],
    "disconnect_grace_s": [1.0, 2.0],
    "dedupe_window_s": [0, 5],
    "fresh": [True],
    "user": ["u", "50%"],
    "team": ["t", "50%"],
    "labels": [{"nobody": "asks"}, {"p": "q"}, {"p": "r"}, {"p": "r", "other": "100%"}, {"other": "100%"}, {}],
}
BODIES: Final = [BASE] + [
    {k: v for k, v in BASE.items() if (name, k) != ("messages", "prompt")} | {name: value}
    for name, values in SAYS.items()
    for value in values
]
CONFIG: Final = f"""
[aliases]
either = ["{MODEL}", "anthropic/claude-haiku-4-5"]
""" + "".join(
    f'[[budgets]]\ntenant = "u"\nlimit_usd = 100\n{said}\n'
    for said in (
        'name = "hard"\nperiod = "day"\ntime_zone = "Europe/Berlin"',
        'name = "soft"\nmode = "soft"\nalerts = [0.5]',
        'name = "of a team"\nteam = "t"\nperiod = "total"',
        'name = "of a label"\nlabels = {other = "100%"}\nperiod = "hour"',
        'name = "of a model"\nmodel = "anthropic/*"',
    )
)


@asynccontextmanager
async def running(redis: EmbeddedRedis, queue: str, folder: Path) -> AsyncGenerator[tuple[Service, Hasher]]:
    """An API's own parts on a real Redis; one model has limits, one name stands for two, the tenant `u` has budgets."""
    config = folder / "onceq.toml"
    config.write_text(CONFIG, "utf-8")
    limits = {"openai/gpt-4.1": LaneLimits(concurrency=5)}
    service = Service(Settings(redis_url=redis.url, queue=queue, config=config, label_keys=["p"], lanes=limits))
    async with service.running():
        await service.prices()
        hasher = await service.hasher()
        for body in BODIES:
            await service.pace(service.catalog.chain([body["model"]])[0].model)
        yield service, hasher


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was looked at stays known, however slow the machine is; the heap of all tests is left alone."""
    monkeypatch.setattr(service_module, "PACE_S", 600.0)
    monkeypatch.setattr(auth, "CACHE_S", 600.0)
    monkeypatch.setattr(admission_cache, "FRESH_S", 600.0)
    monkeypatch.setattr(heap, "set_aside", lambda: None)
    monkeypatch.setattr(admission_cache, "time", SimpleNamespace(monotonic=lambda: 0.0, time=lambda: NOW_MS / 1000))


def read(body: dict[str, Any]) -> JobRequest:
    request = codec.read(json.dumps(body).encode())
    assert request is not None, body
    return request


def alone(
    service: Service, hasher: Hasher, request: JobRequest, key: ApiKey, idem_key: str | None
) -> tuple[Admission, bytes]:
    """What the common way makes of a request: for the store, and for the client; without its id."""
    models = service.catalog.chain(request.models())
    pace = service.known_pace(models[0].model)
    bounded = max_cost.with_bounds(service.tariff, request, models, service.defaults.max_calls)
    asked = msgspec.structs.replace(admission(bounded, key, idem_key, models, hasher, service.defaults), id="job_alone")
    under = falls_under(service.budget_cache.of(key.tenant), key.id, [model.model for model in models], bounded)
    if under:
        asked = with_budgets(service.tariff, under, asked, bounded, NOW_MS)
    assert pace is not None
    return asked, created(service, bounded, asked, pace, NOW_MS)


def test_every_field_of_a_plain_request_is_tried_here() -> None:
    assert set(SAYS) == {*FastJobRequest.__struct_fields__}


async def test_each_post_is_what_it_would_be_alone_whatever_was_asked_before(
    redis_server: EmbeddedRedis, queue: str, tmp_path: Path
) -> None:
    """In a memory that all share, and three times: as the first of its way, as the one that is prepared from, and as
    one that is prepared.
    """
    async with running(redis_server, queue, tmp_path) as (service, hasher):
        made = [await service.store.api_keys.create(tenant=tenant, name="n", scopes=["submit"]) for tenant in "ttu"]
        cache = AdmissionCache(service)
        for _, (key, _), idem_key, request in product(range(3), made, (None, "k", "other"), map(read, BODIES)):
            ready = cache.ready(request, key, idem_key, hasher)
            assert ready is not None
            values = ready.values._replace(id="job_alone")
            asked, told = alone(service, hasher, request, key, idem_key)
            assert ready.template.whole(values) == asked
            assert len(ready.under) == len(asked.budgets.splitlines())
            assert ready.accepted_body(NOW_MS) == told.replace(b"job_alone", ready.values.id.encode())


async def template_of(
    cache: AdmissionCache, key: ApiKey, hasher: Hasher, *, times: int, **says: Any
) -> AdmissionTemplate:
    """What the store is told of such a post when it comes for the last of so many times."""
    found = [cache.ready(read(BASE | says), key, "k", hasher) for _ in range(times)]
    assert found[-1] is not None
    return found[-1].template


async def test_what_comes_again_is_prepared_for_other_words_and_for_no_longer_than_it_is_fresh(
    redis_server: EmbeddedRedis, queue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(redis_server, queue, tmp_path) as (service, hasher):
        key, _ = await service.store.api_keys.create(tenant="t", name="n", scopes=["submit"])
        of = partial(template_of, AdmissionCache(service), key)
        assert await of(hasher, times=1) is not (first := await of(hasher, times=2))
        other = {"prompt": "other", "user": "other", "labels": {"x": "y"}, "temperature": 0.5}
        assert await of(hasher, times=1, **other) is first
        assert await of(Hasher(b"replaced"), times=1) is not first
        monkeypatch.setattr(admission_cache, "FRESH_S", 0.0)
        assert await of(hasher, times=3, max_tokens=5) is not await of(hasher, times=1, max_tokens=5)


async def test_nothing_of_a_posts_words_is_kept(redis_server: EmbeddedRedis, queue: str, tmp_path: Path) -> None:
    async with running(redis_server, queue, tmp_path) as (service, hasher):
        key, _ = await service.store.api_keys.create(tenant="t", name="n", scopes=["submit"])
        words = {"prompt": "secret words", "system": "secret words", "user": "secret", "labels": {"x": "secret"}}
        found = await template_of(AdmissionCache(service), key, hasher, times=3, **words)
    assert "secret" not in repr(found)


async def test_a_preparation_of_a_seal_that_was_replaced_is_not_used(
    redis_server: EmbeddedRedis, queue: str, tmp_path: Path
) -> None:
    async with running(redis_server, queue, tmp_path) as (service, hasher):
        key, _ = await service.store.api_keys.create(tenant="t", name="n", scopes=["submit"])
        cache, new = AdmissionCache(service), Hasher(b"new")
        await template_of(cache, key, hasher, times=3)
        found = cache.ready(read(BASE), key, "k", new)
        assert found is not None
        assert found.values.idem == new(b"idem", b"t", b"k")


async def test_labels_that_no_budget_asks_for_are_a_posts_own(
    redis_server: EmbeddedRedis, queue: str, tmp_path: Path
) -> None:
    async with running(redis_server, queue, tmp_path) as (service, hasher):
        key, _ = await service.store.api_keys.create(tenant="u", name="n", scopes=["submit"])
        of = partial(template_of, AdmissionCache(service), key, hasher)
        first = await of(times=3, labels={"row": "1"})
        assert await of(times=1, labels={"row": "2"}) is first
        assert await of(times=1, labels={"row": "2", "other": "100%"}) is not first


async def test_a_preparation_ends_where_the_tenants_budgets_change(
    redis_server: EmbeddedRedis, queue: str, tmp_path: Path
) -> None:
    async with running(redis_server, queue, tmp_path) as (service, hasher):
        key, _ = await service.store.api_keys.create(tenant="t", name="n", scopes=["submit"])
        cache = AdmissionCache(service)
        for name, posts in (("old", 3), ("new", 0)):
            asked = BudgetRequest(name=name, limit_usd=1)
            assert await service.store.budgets.put(budget_of(asked, "t", "api"), None)
            await service.see_budgets()
            for _ in range(posts):
                cache.ready(read(BASE), key, "k", hasher)
        found = cache.ready(read(BASE), key, "k", hasher)
        assert found is not None
        assert [budget.name for budget in found.under] == ["new", "old"]
        assert len(found.values.budgets.splitlines()) == 2


async def test_a_preparation_is_as_old_as_its_prices(
    redis_server: EmbeddedRedis, queue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends by the clock, not by the last post that used it."""
    clock = cast("SimpleNamespace", admission_cache.time)
    async with running(redis_server, queue, tmp_path) as (service, hasher):
        key, _ = await service.store.api_keys.create(tenant="t", name="n", scopes=["submit"])
        cache, found = AdmissionCache(service), list[AdmissionTemplate]()
        for now in (0, 100, 400, 699, 701, 702, 703, 704):
            clock.monotonic = partial(int, now)
            found.append(await template_of(cache, key, hasher, times=1))
        assert [one is next_ for one, next_ in pairwise(found)] == [False, False, True, False, False, False, True]


async def test_ways_of_asking_do_not_pile_up(
    redis_server: EmbeddedRedis, queue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission_cache, "MOST", 10)
    async with running(redis_server, queue, tmp_path) as (service, hasher):
        key, _ = await service.store.api_keys.create(tenant="t", name="n", scopes=["submit"])
        cache = AdmissionCache(service)
        for n in range(1, 36):
            await template_of(cache, key, hasher, times=2, max_tokens=n)
            assert len(cache) <= 10


class Client:
    """A connection that notes what it is sent; one that is `gone` takes no 202."""

    def __init__(self, *, gone: bool = False) -> None:
        self.gone, self.answered = gone, asyncio.Event()
        self.reply_ = Reply(0, b"")

    def accept(self, rest: bytes) -> None:
        """A 202."""
        if self.gone:
            raise RuntimeError("the connection broke")
        self.reply(Reply(202, rest))

    def reply(self, reply: Reply) -> None:
        """Any other reply."""
        self.reply_ = reply
        self.answered.set()


async def answers(service: Service, clients: Sequence[Client], body: dict[str, Any]) -> Sequence[Client]:
    """What clients are told who post in one turn, each a question of its own."""
    _, secret = await service.store.api_keys.create(tenant="t", name="n", scopes=["submit"])
    heads, fast_path = {b"authorization": f"Bearer {secret}".encode()}, FastPath(service)
    await service.authenticator.identify(heads)
    for n, client in enumerate(clients):
        assert fast_path.take(heads, json.dumps(body | {"user": f"user {n}"}).encode(), client)
    await asyncio.wait_for(asyncio.gather(*(client.answered.wait() for client in clients)), 30)
    return clients


async def test_a_client_that_is_gone_keeps_nobody_else_from_an_answer(
    redis_server: EmbeddedRedis, queue: str, tmp_path: Path
) -> None:
    async with running(redis_server, queue, tmp_path) as (service, _):
        told = await answers(service, [Client(), Client(gone=True), Client()], BASE)
    assert [client.reply_.status for client in told] == [202, 500, 202]


@pytest.mark.parametrize("left", ["changed", "removed"])
async def test_a_post_that_was_told_of_an_older_budget_is_put_again(
    redis_server: EmbeddedRedis, queue: str, tmp_path: Path, left: str
) -> None:
    """Another API process has changed it, or taken it away, since this one looked."""
    async with running(redis_server, queue, tmp_path) as (service, _):
        budgets, budget = service.store.budgets, budget_of(BudgetRequest(name="b", limit_usd=1e-9), "t", "api")
        changed = budget.changed(BudgetChange(limit_usd=50))
        assert await budgets.put(budget, None)
        await service.see_budgets()
        assert await (budgets.put(changed, budget) if left == "changed" else budgets.remove(budget))
        told = await answers(service, [Client() for _ in range(5)], BASE)
        (status,) = await budgets.status([changed], NOW_MS)
    bodies = [json.loads(client.reply_.body.rpartition(b"\r\n\r\n")[2]) for client in told]
    held = sum(body["cost"]["reserved_nano_usd"] for body in bodies)
    assert [client.reply_.status for client in told] == [202] * 5
    assert (status.use.refused_posts, held > 0) == (0, left == "changed")


async def test_a_post_that_has_no_room_in_a_budget_is_refused_and_counted_once(
    redis_server: EmbeddedRedis, queue: str, tmp_path: Path
) -> None:
    async with running(redis_server, queue, tmp_path) as (service, _):
        budget = budget_of(BudgetRequest(name="b", limit_usd=1e-9, period="total"), "t", "api")
        assert await service.store.budgets.put(budget, None)
        await service.see_budgets()
        told = await answers(service, [Client() for _ in range(5)], BASE)
        (status,) = await service.store.budgets.status([budget], NOW_MS)
    problems = [json.loads(client.reply_.body) for client in told]
    assert [client.reply_.status for client in told] == [402] * 5
    assert {(problem["code"], problem["budget"]["name"]) for problem in problems} == {("budget_exceeded", "b")}
    assert status.use.refused_posts == 5
