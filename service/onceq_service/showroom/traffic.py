"""A little live traffic on the showroom, through the API as anybody would: so that its numbers move."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

from onceq import Client, OnceqError
from onceq_service.showroom.people import APPS
from onceq_service.showroom.plan import one_post

EVERY_S: Final = 2.5
"""Between two posts, on average."""
FAULTS: Final = ("500", "cut after=20", "429 retry_after=4", "refusal")
FAULTY: Final = 0.03
"""Of the posts, those that ask the simulator for a fault, in their prompt."""


class Traffic:
    """Posts from the background while its block runs; `secrets` are the API keys of the applications."""

    def __init__(self, base_url: str, secrets: Mapping[str, str]) -> None:
        self._base_url, self._secrets = base_url, secrets
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="showroom-traffic", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(5)

    def _run(self) -> None:
        rng = random.Random()  # noqa: S311 - made-up traffic
        with ExitStack() as stack:
            clients = {
                name: stack.enter_context(Client(self._base_url, secret)) for name, secret in self._secrets.items()
            }
            while not self._over.wait(rng.expovariate(1 / EVERY_S)):
                self._post(clients, rng)

    def _post(self, clients: Mapping[str, Client], rng: random.Random) -> None:
        app = rng.choices(APPS, [app.share for app in APPS])[0]
        asked = one_post(app, datetime.now(UTC), rng).request
        if rng.random() < FAULTY:
            fault = f"\n\n[[sim fault={rng.choice(FAULTS)} times=1]]"
            asked = asked.model_copy(update={"prompt": (asked.prompt or "") + fault})
        try:
            clients[app.name].submit_batch([asked])
        except OnceqError:
            self._over.wait(EVERY_S)  # it is restarting, or stopping: the next one may get through
