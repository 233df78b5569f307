"""Tells of budgets: in the log, and where the operator's configuration names a webhook, there too.

A POST is signed as Standard Webhooks has it (standardwebhooks.com): HMAC-SHA256 over id, time and body, so that a
receiver knows who speaks, and that it is not an old message. Each alert arrives at least once; `webhook-id` stays the
same when it is sent again.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import logging
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import httpx2

from onceq_service.settings import AlertsConfig
from onceq_service.store import StoreError
from onceq_service.store.alerts import Alert, Alerts
from onceq_service.store.periods import present, starts
from onceq_service.store.views import at, usd

log = logging.getLogger("onceq.worker")

LOOK_S: Final = 2.0
TIMEOUT_S: Final = 10.0
FIRST_RETRY_S: Final = 2.0
LAST_RETRY_S: Final = 3_600.0


class AlertSender:
    """Looks for alerts that are due, and delivers them; one a worker process."""

    def __init__(self, alerts: Alerts, config: AlertsConfig, env: Mapping[str, str]) -> None:
        self._alerts, self._url = alerts, config.webhook_url
        self._secret = env.get(config.secret_env, "")
        self.due: list[str] = []
        """Ids that the broker should make a task of."""
        if self._url and not self._secret:
            log.error("alerts go to the log alone: %s, which signs them, is not set", config.secret_env)
            self._url = None

    async def look(self) -> None:
        """For ever: what is due, every two seconds."""
        while True:
            with suppress(StoreError):
                self.due = await self._alerts.due()
            await asyncio.sleep(LOOK_S)

    async def deliver(self, alert_id: str) -> None:
        """Tells of one, if no other worker does."""
        alert = await self._alerts.take(alert_id)
        if alert is None:
            return
        if alert.tries == 1:
            log.warning("%s", sentence(alert))
        wrong = await self._post(self._url, alert) if self._url else None
        if wrong is None:
            await self._alerts.done(alert_id)
            return
        after_s = backoff_s(alert.tries)
        log.warning("alert %s was not delivered (%s), try %d, again in %.0f s", alert_id, wrong, alert.tries, after_s)
        await self._alerts.again(alert_id, after_s)

    async def _post(self, url: str, alert: Alert) -> str | None:
        """What went wrong, None when it has arrived. A redirect is not followed: the address is the operator's."""
        body = json.dumps(message(alert)).encode()
        headers = signature_headers(self._secret, alert.id, int(time.time()), body) | {
            "content-type": "application/json"
        }
        try:
            async with httpx2.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False) as client:
                answer = await client.post(url, content=body, headers=headers)
        except httpx2.HTTPError as exc:
            return type(exc).__name__
        return None if answer.is_success else f"status {answer.status_code}"


def backoff_s(tries: int) -> float:
    """Twice as long each time, up to an hour, with half of it left to chance."""
    most = min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** min(12, tries - 1))
    return random.uniform(most / 2, most)  # noqa: S311 - spreads retries, no secret


def signature_headers(secret: str, message_id: str, at_s: int, body: bytes) -> dict[str, str]:
    """The headers of a signed message. A secret that begins with `whsec_` is base64, any other is taken as it is."""
    mac = hmac.new(_key(secret), f"{message_id}.{at_s}.".encode() + body, hashlib.sha256)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": f"v1,{base64.b64encode(mac.digest()).decode()}",
    }


def _key(secret: str) -> bytes:
    if secret.startswith("whsec_"):
        with suppress(binascii.Error):
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    return secret.encode()


def message(alert: Alert) -> dict[str, object]:
    """The body: what happened to which budget, in nano-USD and RFC 3339."""
    budget = alert.budget
    _, renews_ms = present(starts(budget.period, budget.time_zone, alert.at_ms), alert.at_ms)
    return {
        "type": "budget.refused" if alert.share is None else "budget.spent",
        "timestamp": _rfc3339(alert.at_ms),
        "data": {
            "budget": {"id": budget.id, "name": budget.name, "tenant": budget.tenant, "period": budget.period,
                       "mode": budget.mode, "period_start": _rfc3339(alert.period_start_ms or None),
                       "renews_at": _rfc3339(renews_ms)},
            "share": alert.share, "spent_nano_usd": alert.spent, "limit_nano_usd": alert.limit,
            "simulated": alert.simulated, "text": sentence(alert),
        },
    }  # fmt: skip


def sentence(alert: Alert) -> str:
    """For people."""
    named = f"budget {alert.budget.name!r} of tenant {alert.budget.tenant}"
    money = f"{usd(alert.spent)} of {usd(alert.limit)} USD spent{' (simulated)' if alert.simulated else ''}"
    if alert.share is None:
        return f"{named} has no room for a call and refuses jobs: {money}"
    return f"{named} has passed {alert.share:.0%}: {money}"


def _rfc3339(ms: int | None) -> str | None:
    moment = at(ms)
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
