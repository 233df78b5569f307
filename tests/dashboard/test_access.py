"""Who gets in at a real `onceq dashboard`: nobody by accident, and under a proxy's name who the proxy sends."""

from __future__ import annotations

import base64
import socket
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.dashboard.browser import Dashboard, chromium, opened, running_dashboard
from tests.dashboard.fake_api import KEY, FakeApi
from tests.stack import clean_environment

pytestmark = pytest.mark.browser

PUBLIC = "onceq.example.com"


@pytest.fixture(scope="module")
def plain(fake: FakeApi, tmp_path_factory: pytest.TempPathFactory) -> Generator[Dashboard]:
    """As it is started behind a proxy: on loopback, with a key of its own, and told the proxy's name."""
    folder = tmp_path_factory.mktemp("plain")
    with running_dashboard(fake.url, KEY, folder, options=(), dashboard_hosts=f"{PUBLIC}, www.{PUBLIC}") as running:
        yield running
        assert not running.complaints()


def test_it_asks_for_a_key_whatever_key_it_has_itself(plain: Dashboard) -> None:
    with chromium() as browser, opened(browser, plain.url) as (page, seen):
        page.goto(plain.url)
        expect(page.get_by_label("API key")).to_be_visible()
        assert page.get_by_test_id("stMetric").count() == 0
        page.get_by_label("API key").fill(KEY)
        page.get_by_test_id("stFormSubmitButton").get_by_role("button").click()
        expect(page.get_by_text("All is well.")).to_be_visible()
        assert not seen.errors


@pytest.mark.parametrize(("host", "status"), [(PUBLIC, 101), (f"www.{PUBLIC}:8443", 101), ("evil.example", 403)])
def test_it_answers_under_the_names_that_it_was_told_and_under_no_other(
    plain: Dashboard, host: str, status: int
) -> None:
    assert handshake(plain.url, host) == status


def handshake(url: str, host: str) -> int:
    """What a browser's WebSocket is answered that comes to `url` under the name of `host`: 101 lets it in."""
    lines = (
        "GET /_stcore/stream HTTP/1.1", f"Host: {host}", f"Origin: https://{host}", "Upgrade: websocket",
        "Connection: Upgrade", "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}",
    )  # fmt: skip
    place = urlsplit(url)
    with socket.create_connection((str(place.hostname), place.port or 0), timeout=30) as connection:
        connection.sendall("\r\n".join((*lines, "", "")).encode())
        return int(connection.recv(64).split()[1])


@pytest.mark.parametrize(
    ("file", "hosts", "said"),
    [
        (None, "", "secrets.toml, which can't be used (No such file or directory)"),
        ("[auth\n", "", "secrets.toml, which can't be used (Expected ']'"),
        ("", f"https://{PUBLIC}", "write the host's name alone"),
    ],
)
def test_what_the_sign_in_needs_and_can_t_be_used_ends_the_start_in_a_sentence(
    tmp_path: Path, file: str | None, hosts: str, said: str
) -> None:
    path = tmp_path / "secrets.toml"
    if file is not None:
        path.write_text(file)
    env = {"ONCEQ_DASHBOARD_SECRETS": str(path), "ONCEQ_DASHBOARD_HOSTS": hosts, "ONCEQ_API_KEY": KEY}
    command = [sys.executable, "-m", "onceq_service", "dashboard", "--dashboard-port", "0"]
    done = subprocess.run(
        command, env=clean_environment() | env, cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_can_t_be_used_is_told_before_seconds_of_imports(tmp_path: Path) -> None:
    hide = "import sys; sys.modules['streamlit'] = None; from onceq_dashboard.__main__ import main; sys.exit(main())"
    env = clean_environment() | {"ONCEQ_DASHBOARD_SECRETS": "/nowhere/secrets.toml"}
    done = subprocess.run(
        [sys.executable, "-c", hide, "--port", "0"], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=90,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "/nowhere/secrets.toml, which can't be used" in done.stderr
