"""The flow of a map without a socket: how many rows it takes, how it posts them, and that a limit binds each post."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onceq._config import Config
from onceq._follow import StreamEvent
from onceq._http import Backoff, Call
from onceq.errors import BadRequestError
from onceq.map.plan import MapArguments, Plan
from onceq.map.run import WINDOW
from onceq.map.scope import Contact
from onceq.wire import MAX_BATCH, Event, JobRequest
from onceq_service.pricing import Tariff, cost_bounds
from onceq_service.settings import DEFAULT_PROVIDERS

MODEL = "openai/gpt-4o-mini"
TARIFF = Tariff(DEFAULT_PROVIDERS)
ABOUT: dict[str, Any] = {
    "/v1/keys/self": {"id": "k", "tenant": "t", "name": "k", "scopes": [], "created_at": "2026-01-01T00:00:00Z"},
    "/v1/models": {"providers": [], "aliases": []},
}
PIXEL = "iVBORw0KGgoA" + "A" * 400


class Service:
    """Answers a flow's calls as the service does, and ends the jobs one by one in the order of their posts."""

    def __init__(self, share: float = 0.0) -> None:
        self.share = share
        """Of its bound that a job costs in the end."""
        self.waiting: deque[tuple[str, int]] = deque()
        self.posts: list[int] = []
        self.streams = set[int]()
        self.most_waiting = self.most_owed = self.spent = self.told = self.quotes = 0

    def run(self, plan: Plan) -> int:
        """Drives the map to its end; how many rows came."""
        running = plan.start()
        steps, answer, rows = running.run.steps(), None, 0
        while True:
            try:
                step = steps.send(answer)
            except StopIteration:
                running.close()
                return rows
            answer = None
            if isinstance(step, Call):
                answer = self.answer(step)
            elif isinstance(step, list):
                rows += len(step)
            else:
                self.streams.add(id(step))
                answer = self.ended()

    def answer(self, call: Call) -> httpx2.Response:
        if call.method == "GET":
            return httpx2.Response(200, json=ABOUT[call.path], request=httpx2.Request("GET", "http://onceq"))
        asked = json.loads(call.content or b"")
        self.quotes += call.path == "/v1/quote"
        body: Any = quote(bound_of(asked)) if call.path == "/v1/quote" else {"items": self.taken(asked["items"])}
        return httpx2.Response(200, json=body, request=httpx2.Request("POST", f"http://onceq{call.path}"))

    def taken(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self.posts.append(len(items))
        made: list[dict[str, Any]] = []
        for item in items:
            self.told += 1
            bound, job = bound_of(item["job"]), f"job_{self.told:032x}"
            self.waiting.append((job, bound))
            urls = {"self": "/j", "events": "/e", "cancel": "/c"}
            about = {"id": job, "status": "queued", "model": "a/b", "created_at": "2026-01-01T00:00:00Z", "urls": urls}
            made.append({"job": {**about, "disposition": "created", "quote": quote(bound)}})
        self.most_waiting = max(self.most_waiting, len(self.waiting))
        self.most_owed = max(self.most_owed, self.spent + sum(bound for _, bound in self.waiting))
        return made

    def ended(self) -> StreamEvent | None:
        if not self.waiting:
            return None
        job, bound = self.waiting.popleft()
        cost = int(bound * self.share)
        self.spent += cost
        data = {"job": job, "status": "succeeded", "output": {"text": "Yes"}, "cost": {"nano_usd": cost}}
        return StreamEvent("succeeded", 1, Event.model_validate(data))


def bound_of(job: dict[str, Any]) -> int:
    """As the service bounds it."""
    request = JobRequest.model_validate(job)
    body = request.model_dump_json(exclude_none=True, by_alias=True).encode()
    return cost_bounds(TARIFF, [MODEL], request, body, request.max_calls or 3).nano_usd or 0


def quote(bound: int) -> dict[str, Any]:
    return {"cost": {"upper_nano_usd": bound, "upper_usd": str(bound / 1e9)}}


def plan(rows: Any, **more: Any) -> Plan:
    asked: dict[str, Any] = {
        "prompt": None, "model": MODEL, "output": None, "name": "map", "n": 1, "fresh": False, "retry_failed": True,
        "sample": None, "max_cost_usd": None, "cache": False, "progress": False,
        "on_interrupt": "detach", "options": {"max_tokens": 20},
    }  # fmt: skip
    contact = Contact(Config("http://onceq", "oq_test"), Backoff())
    return Plan(MapArguments(rows=rows, **(asked | more)), contact, frames=False)


def counted(total: int, walked: Callable[[int], None]) -> Iterator[str]:
    for n in range(total):
        walked(n)
        yield f"row {n}"


def test_an_endless_iterator_is_walked_no_further_than_the_window_and_posted_in_packs() -> None:
    service, ahead = Service(), list[int]()
    rows = WINDOW + 3 * MAX_BATCH
    done = service.run(plan(counted(rows, lambda n: ahead.append(n - service.told + len(service.waiting)))))
    assert done == rows
    assert service.most_waiting <= WINDOW
    assert max(ahead) <= WINDOW + MAX_BATCH
    assert max(service.posts) <= MAX_BATCH
    assert len(service.posts) <= 2 * rows / MAX_BATCH, "packs, not rows"
    assert len(service.streams) == 1, "one stream tells the ends of all"


@pytest.mark.parametrize("endless", [count(), iter(["a row"]), (f"row {n}" for n in range(3))])
def test_a_limit_is_refused_for_an_iterator_instead_of_reading_on_for_ever(endless: Iterator[Any]) -> None:
    with pytest.raises(BadRequestError, match=r"max_cost_usd .*: pass a list of the rows\. Nothing was sent"):
        plan(map(str, endless), max_cost_usd=1)


def test_a_limit_is_kept_for_an_iterator_that_a_sample_has_read_to_its_end() -> None:
    service = Service(1.0)
    assert service.run(plan(counted(50, lambda _: None), max_cost_usd=1, sample=5)) == 50
    assert service.told == 5


def turns(*contents: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content} for content in contents]


WORDS = st.sampled_from(["a ", "two words ", '"', "\n", "\x01", "é", "水", "ﷺ", "Ａ", "e\u0301"])
PICTURE = {"type": "image", "data": PIXEL, "media_type": "image/png"}
TEXTS = st.builds(str.__mul__, WORDS, st.integers(1, 400))
ROWS = st.one_of(
    TEXTS,
    st.lists(TEXTS, min_size=1, max_size=6).map(lambda texts: turns(*texts)),
    st.integers(1, 3).map(lambda count: turns([{"type": "text", "text": "What is it?"}, *[PICTURE] * count])),
    st.just([{"role": "nobody", "content": "which no service takes"}]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=40), st.floats(0.0001, 0.1), st.floats(0, 1))
def test_whatever_is_asked_what_is_spent_and_may_still_be_spent_is_within_the_limit_at_every_moment(
    rows: list[Any], limit: float, share: float
) -> None:
    service = Service(share)
    assert service.run(plan(rows, max_cost_usd=limit)) == len(rows)
    assert service.most_owed <= limit * 1e9


@pytest.mark.parametrize("dear", ["ﷺ" * 400, turns([{"type": "text", "text": "?" * 700}, PICTURE]), "a" * 9000])
def test_a_request_that_costs_more_than_its_like_has_a_bound_of_its_own(dear: Any) -> None:
    rows: list[Any] = [turns("a" * 1200) if isinstance(dear, list) else "a" * 1200, *[dear] * 8]
    asked: dict[str, Any] = {"prompt" if isinstance(dear, str) else "messages": dear, "model": MODEL, "max_tokens": 20}
    service, limit = Service(1.0), 3.5 * bound_of(asked) / 1e9
    service.run(plan(rows, max_cost_usd=limit, n=4))
    assert 4 < service.told < 4 * 2
    assert service.most_owed <= limit * 1e9


def test_what_later_rows_have_cost_before_counts_against_the_limit_too(tmp_path: Path) -> None:
    rows = [f"row {n}" for n in range(2 * MAX_BATCH)]
    paid, service = Service(0.9), Service(0.9)
    paid.run(plan(rows[-MAX_BATCH // 2 :], cache=tmp_path / "map.sqlite"))
    limit = paid.spent * 1.2 / 1e9
    service.run(plan(rows, cache=tmp_path / "map.sqlite", max_cost_usd=limit))
    assert 0 < service.told < MAX_BATCH // 2
    assert paid.spent + service.most_owed <= limit * 1e9


def test_near_its_limit_a_map_posts_packs_while_more_than_one_row_is_affordable() -> None:
    rows = [f"{n} {'long ' * (200 if n % 50 == 7 else 4)}" for n in range(2000)]
    service = Service(0.02)
    service.run(plan(rows, max_cost_usd=0.005))
    assert 500 < service.told < len(rows), "the limit ended it"
    assert len(service.posts) < service.told / 4
    assert service.posts.count(1) < service.told / 20
    assert service.quotes < 10
    left = 0.005e9 - service.spent
    assert left < bound_of({"model": MODEL, "prompt": max(rows, key=len), "max_tokens": 20})
