"""Alerts of budgets: once a threshold and period, signed, tried again until they arrive, by a task of their own."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from onceq import Client
from onceq.wire import BudgetRequest
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.settings import AlertsConfig
from onceq_service.store import BudgetRefused, Store
from onceq_service.store.budgets import Budget, budget_of
from onceq_service.worker import alerts
from onceq_service.worker.alerts import AlertSender, backoff_s, signature_headers
from tests.service.store.driver import admission, budget_line, claim_one, dispatch, success
from tests.service.store.test_budgets import paid
from tests.stack import running_stack
from tests.waiting import wait_until

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two characters").decode()


@dataclass
class Hook:
    """A receiver; `answers` are the statuses that it gives, then 204."""

    answers: list[int] = field(default_factory=list[int])
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list[tuple[dict[str, str], bytes]])
    url: str = ""

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]


@pytest.fixture
def hook() -> Generator[Hook]:
    found = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(found.answers.pop(0) if found.answers else 204)
            self.send_header("location", found.url)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


async def told(store: Store, limit: int = 10_000, **fields: Any) -> Budget:
    """A budget of the file that every process knows."""
    wanted = {"name": "b", "limit_usd": limit / 1e9, "alerts": [0.5, 1.0]} | fields
    b = budget_of(BudgetRequest.model_validate(wanted), "t", "file")
    await store.budgets.tell({b.id: b}, {})
    return b


async def spend(store: Store, b: Budget, nano: int, bound: int | None = None) -> None:
    now_ms = await store.stats.now_ms()
    await store.jobs.admit(admission(budgets=budget_line(b, bound or nano, now_ms)))
    claim = await claim_one(store)
    await dispatch(store, claim)
    await store.engine.finish(claim, success(receipt=paid(nano)))


def sender(store: Store, hook: Hook | None, env: dict[str, str] | None = None) -> AlertSender:
    config = AlertsConfig(webhook_url=hook.url) if hook else AlertsConfig()
    return AlertSender(store.alerts, config, {"ONCEQ_WEBHOOK_SECRET": SECRET} if env is None else env)


async def deliver_due(store: Store, by: AlertSender) -> list[str]:
    due = await store.alerts.due()
    for alert_id in due:
        await by.deliver(alert_id)
    return due


async def test_a_threshold_is_told_once_with_a_signature_that_a_receiver_can_check(store: Store, hook: Hook) -> None:
    b = await told(store)
    await spend(store, b, 4_999)
    assert await store.alerts.due() == []
    await spend(store, b, 1)
    await spend(store, b, 10)
    [alert_id] = await deliver_due(store, sender(store, hook))
    assert await store.alerts.due() == []
    [(headers, body)] = hook.got
    said = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    mac = hmac.new(b"a secret of thirty-two characters", said, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(mac).decode()}"
    assert headers["webhook-id"] == alert_id
    [message] = hook.bodies()
    assert message["type"] == "budget.spent"
    data = message["data"]
    assert (data["budget"]["name"], data["budget"]["tenant"], data["budget"]["id"]) == ("b", "t", b.id)
    assert (data["share"], data["spent_nano_usd"], data["limit_nano_usd"]) == (0.5, 5_000, 10_000)
    assert data["budget"]["renews_at"] is not None


async def test_a_budget_that_refuses_says_so_once(store: Store, hook: Hook) -> None:
    b = await told(store, 5_000)
    for _ in range(3):
        with pytest.raises(BudgetRefused):
            await spend(store, b, 1, bound=6_000)
    await deliver_due(store, sender(store, hook))
    [message] = hook.bodies()
    assert (message["type"], message["data"]["share"]) == ("budget.refused", None)
    assert "refuses jobs" in message["data"]["text"]


async def test_one_that_does_not_arrive_is_sent_again_with_the_same_id_and_a_redirect_is_not_followed(
    store: Store, hook: Hook, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "FIRST_RETRY_S", 3_600.0)  # it is not due again however slow this process is
    hook.answers = [500, 302]
    await spend(store, await told(store), 6_000)
    by = sender(store, hook)
    [alert_id] = await deliver_due(store, by)
    assert await store.alerts.due() == []
    for _ in range(2):
        await store.alerts.again(alert_id, 0)
        await by.deliver(alert_id)
    assert len({headers["webhook-id"] for headers, _ in hook.got}) == 1
    assert len(hook.got) == 3
    assert "status 500" in caplog.text
    assert "status 302" in caplog.text
    await store.alerts.again(alert_id, 0)
    assert await store.alerts.due() == [], "delivered"


async def test_of_two_workers_one_tells_of_it(store: Store, hook: Hook) -> None:
    await spend(store, await told(store), 6_000)
    [alert_id] = await store.alerts.due()
    await asyncio.gather(*(sender(store, hook).deliver(alert_id) for _ in range(5)))
    assert len(hook.got) == 1


async def test_without_a_webhook_or_its_secret_the_log_tells_and_nothing_is_sent(
    store: Store, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    await spend(store, await told(store), 10_000)
    await deliver_due(store, sender(store, None))
    with caplog.at_level(logging.WARNING):
        await spend(store, await told(store, name="other"), 6_000)
        await deliver_due(store, sender(store, hook, env={}))
    assert hook.got == []
    assert "budget 'b' of tenant t has passed 100%: 0.00001 of 0.00001 USD spent" in caplog.text
    assert "budget 'other'" in caplog.text
    assert "ONCEQ_WEBHOOK_SECRET" in caplog.text
    assert await store.alerts.due() == []


async def test_a_budget_that_is_gone_is_not_spoken_of(store: Store, hook: Hook) -> None:
    await spend(store, await told(store), 6_000)
    await store.budgets.tell({}, await store.budgets.made())
    await deliver_due(store, sender(store, hook))
    assert hook.got == []
    assert await store.alerts.due() == []


def test_a_secret_that_is_no_base64_is_taken_as_it_is() -> None:
    headers = signature_headers("plain", "id", 7, b"{}")
    mac = hmac.new(b"plain", b"id.7.{}", hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(mac).decode()}"


def test_retries_wait_longer_each_time_up_to_an_hour() -> None:
    assert all(1 <= backoff_s(1) <= 2 for _ in range(50))
    assert all(1_800 <= backoff_s(tries) <= 3_600 for tries in (12, 13, 200))


def test_a_worker_process_delivers_what_its_jobs_have_caused(
    redis_server: EmbeddedRedis, hook: Hook, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("config") / "onceq.toml"
    file.write_text(
        f'[alerts]\nwebhook_url = "{hook.url}"\n[[budgets]]\nname = "watched"\nmode = "soft"\nlimit_usd = 0.000001\n'
    )
    hook.answers = [503]
    with running_stack(redis_server, workers=1, config=str(file), webhook_secret=SECRET) as stack:
        with Client(base_url=stack.url, api_key=stack.api_key, model="openai/gpt-4o-mini") as client:
            client.submit("alert me [[sim tokens=5 tps=0 ttft_ms=0]]").result(timeout_s=30)
        wait_until(lambda: len({m["data"]["share"] for m in hook.bodies()}) == 3, "three thresholds", timeout_s=30)
        wait_until(lambda: len(hook.got) >= 4, "the one that was refused, again", timeout_s=30)
        assert all(message["data"]["simulated"] for message in hook.bodies())
        assert SECRET not in stack.worker.text() + stack.api.text()
        assert "budget 'watched' of tenant default has passed 50%" in stack.worker.text()
