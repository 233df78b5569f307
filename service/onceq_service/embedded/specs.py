"""How each child of `onceq up` is started, and by what it shows that it is ready."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable

import httpx2

from onceq import Client
from onceq_service.embedded.child import ProcessSpec
from onceq_service.embedded.environment import Role, child_environment
from onceq_service.embedded.mode import key_variables
from onceq_service.settings import DEFAULT_PROVIDERS, Settings


class ProcessSpecs:
    """Recipes for one stack; `settings` are final here: the Redis, the ports and the simulator's URL are known."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._keys = key_variables(DEFAULT_PROVIDERS | settings.file().providers)

    def simulator(self, url: str) -> ProcessSpec:
        """The three providers' stand-in."""
        host, _, port = url.removeprefix("http://").rpartition(":")
        ready = answers(f"{url}/livez")
        return self._spec("simulator", ("simulator", "--host", host, "--port", port), ready)

    def api(self, base_url: str) -> ProcessSpec:
        """The API; ready when it reaches Redis, be it with remarks."""
        return self._spec("api", ("api",), answers(f"{base_url}/readyz"))

    def worker(self, base_url: str, api_key: str) -> ProcessSpec:
        """The worker processes with their manager; ready when the API has heard of all of them."""
        count = self.settings.worker_processes

        def ready() -> bool:
            with Client(base_url, api_key) as client:
                return len(client.stats().workers) >= count

        return self._spec("worker", ("worker",), ready)

    def dashboard(self, base_url: str, api_key: str) -> ProcessSpec:
        """The dashboard, which knows nothing but the API; who sits at this machine is asked for no key."""
        url = local_url(self.settings.host, self.settings.dashboard_port)
        extra = {"ONCEQ_BASE_URL": base_url, "ONCEQ_API_KEY": api_key}
        return self._spec("dashboard", ("dashboard", "--open"), answers(f"{url}/_stcore/health"), extra)

    def _spec(
        self, role: Role, arguments: tuple[str, ...], ready: Callable[[], bool], extra: dict[str, str] | None = None
    ) -> ProcessSpec:
        env = child_environment(role, self.settings, os.environ, self._keys, extra)
        return ProcessSpec(role, arguments, env, ready)


def answers(url: str) -> Callable[[], bool]:
    """Asks whether there is a 200 at the URL now, which is this machine's."""
    no_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # or each look would read whom to trust: 30 ms of CPU

    def ask() -> bool:
        try:
            return httpx2.get(url, timeout=5.0, trust_env=False, verify=no_tls).status_code == 200
        except httpx2.TransportError:
            return False

    return ask


def local_url(host: str, port: int) -> str:
    """The URL by which this machine reaches what listens on `host`."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - compared, not bound
    return f"http://{name}:{port}"
