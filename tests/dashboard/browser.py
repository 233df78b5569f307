"""A real browser in front of a real `onceq dashboard`: Debian's chromium, and the process that people start."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import httpx2
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from onceq_service.embedded.ports import claim_port
from tests.stack import Process, start
from tests.waiting import wait_until

WAIT_MS = 30_000
"""How long a page may take on a busy machine; nothing is measured by it."""
PROBES = re.compile(r"/(jobs|failures|latency|cost|budgets|keys)/_stcore/(health|host-config)$")
"""Streamlit's page looks for its server below the page's own path first: a 404 that it expects."""
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Mobile/15E148 Safari"
Scheme = Literal["light", "dark"]


@dataclass
class Dashboard:
    """The running process."""

    url: str
    process: Process

    def complaints(self) -> list[str]:
        """Lines of its log that tell of an error or a warning."""
        return [line for line in self.process.text().splitlines() if re.search(r"Traceback|Error|Warning|WARN", line)]


@dataclass
class Seen:
    """What a page did that nobody may overlook."""

    errors: list[str] = field(default_factory=list[str])
    foreign: list[str] = field(default_factory=list[str])

    def watch(self, page: Page, home: str) -> None:
        """Notes each error of the console, and each request to anywhere but `home`."""

        def on_console(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"} and not PROBES.search(message.location["url"]):
                self.errors.append(message.text)

        def on_request(request: Request) -> None:
            if not request.url.startswith((home, "data:", "blob:")):
                self.foreign.append(request.url)

        page.on("console", on_console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", on_request)


@contextmanager
def chromium() -> Generator[Browser]:
    """The browser; a machine without it skips, unless it is CI's (`.ci/run` installs it there)."""
    path = shutil.which("chromium")
    if path is None:
        assert not os.environ.get("CI"), "CI has no chromium: .ci/run installs it"
        pytest.skip("needs chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def running_dashboard(
    api: str, key: str, folder: Path, host: str = "127.0.0.1", secrets: Callable[[str], str] | None = None,
    options: Sequence[str] = ("--open",), **settings: str,
) -> Generator[Dashboard]:  # fmt: skip
    """`onceq dashboard` on a free port of `host`, until the end of the block; `secrets` makes its file for its URL.

    `settings` are ONCEQ_* variables without their prefix.
    """
    claimed = claim_port(host, 0, "dashboard", "--dashboard-port")  # or another process is given it before it listens
    port = claimed.number
    env = {"ONCEQ_BASE_URL": api, "ONCEQ_API_KEY": key, "ONCEQ_HOST": host}
    command = [sys.executable, "-m", "onceq_service", "dashboard", "--dashboard-port", str(port), *options]
    env |= {f"ONCEQ_{name.upper()}": value for name, value in settings.items()}
    if secrets:
        (folder / "secrets.toml").write_text(secrets(f"http://{host}:{port}"))
        env["ONCEQ_DASHBOARD_SECRETS"] = str(folder / "secrets.toml")
    process = start(command, env, folder / f"dashboard-{port}.log")
    url = f"http://{host}:{port}"
    try:
        wait_until(lambda: _healthy(process, url), f"{url} to be ready", timeout_s=90)
        yield Dashboard(url, process)
    finally:
        process.stop()
        claimed.release()


def _healthy(process: Process, url: str) -> bool:
    assert process.popen.poll() is None, process.text()
    try:
        return httpx2.get(f"{url}/_stcore/health").status_code == 200
    except httpx2.TransportError:
        return False


@contextmanager
def opened(browser: Browser, home: str, *, width: int = 1280, scheme: Scheme = "light") -> Generator[tuple[Page, Seen]]:
    """A page of its own session, and what it did."""
    phone = width < 500
    context = browser.new_context(
        viewport={"width": width, "height": 844 if phone else 900}, color_scheme=scheme, is_mobile=phone,
        has_touch=phone, user_agent=PHONE if phone else None, timezone_id="America/New_York", locale="en-US",
    )  # fmt: skip
    context.set_default_timeout(WAIT_MS)
    expect.set_options(timeout=WAIT_MS)
    page, seen = context.new_page(), Seen()
    seen.watch(page, home)
    try:
        yield page, seen
    finally:
        context.close()


def tile(page: Page, label: str) -> str:
    """The value of a number on the page."""
    metric = page.get_by_test_id("stMetric").filter(has=page.get_by_text(label, exact=True))
    return metric.get_by_test_id("stMetricValue").inner_text()
