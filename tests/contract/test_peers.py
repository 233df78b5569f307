"""onceq beside its peers: what is measured of each, what is drawn, what is said of those that are not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from xml.etree import ElementTree

import pytest
from benchmarks import beside, peers
from benchmarks.beside import ALWAYS, CPU, DIRECT, MOST, NODE, ONCEQ, Contestant, chart, contestants
from benchmarks.deployment import Deployment
from benchmarks.figures import Report
from benchmarks.streaming import StreamError

from onceq_service.embedded.redis_binary import find_redis

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[2]

STREAMED = {"ttft_1_readers_p50_ms": 104.0, "ttft_64_readers_p50_ms": 110.0, MOST: 9_000.0, "foreign_cores": 0.02}
QUEUED = {"posts_per_s": 8_000.0, "p50_ms": 5.0, "p99_ms": 12.0, "cpu_us_per_post": 180.0, CPU: 150.0, **STREAMED}


@pytest.fixture
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Peers that are looked for in an empty folder, which is returned."""
    monkeypatch.setattr(peers, "NODE_STACK", tmp_path)
    monkeypatch.setattr(peers, "LITELLM", tmp_path / "venv" / "bin" / "litellm")
    return tmp_path


@pytest.mark.usefixtures("nothing_installed")
def test_a_peer_that_is_not_installed_is_left_out_with_a_sentence_that_says_how(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert list(contestants()) == [DIRECT, ONCEQ, ALWAYS]
    said = capsys.readouterr().err
    assert "LiteLLM is left out; to install it: python3 -m venv build/litellm" in said
    assert "The Node stack is left out; to install it: npm install --prefix benchmarks/node_stack" in said


def test_peers_are_found_with_their_versions_where_they_are_installed(
    nothing_installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = nothing_installed / "node_modules" / "bullmq" / "package.json"
    package.parent.mkdir(parents=True)
    package.write_text(json.dumps({"version": "6.7.0"}), "utf-8")
    (nothing_installed / "venv" / "bin").mkdir(parents=True)
    (nothing_installed / "venv" / "bin" / "litellm").touch()
    (nothing_installed / "venv" / "lib" / "python3.11" / "site-packages" / "litellm-1.2.3.dist-info").mkdir(
        parents=True
    )
    monkeypatch.setenv("PATH", str(nothing_installed))
    (nothing_installed / "node").touch(mode=0o755)
    assert (peers.node_version(), peers.litellm_version()) == ("6.7.0", "1.2.3")
    assert list(contestants()) == [DIRECT, beside.LITELLM, NODE, ONCEQ, ALWAYS]


def test_a_queue_is_measured_by_its_posts_its_first_tokens_and_its_tokens() -> None:
    run = beside.measured(contestants()[ONCEQ], 0.5, 3)
    assert all(run[name] > 0 for name in QUEUED if name != "foreign_cores")
    assert run["ttft_1_readers_p50_ms"] > 100, "the provider's own wait is part of it"


@pytest.mark.usefixtures("nothing_installed")
def test_the_chart_shows_each_contestant_and_names_machine_versions_and_settings() -> None:
    report = Report(beside.PEERS, {DIRECT: [STREAMED], NODE: [QUEUED], ONCEQ: [QUEUED | {CPU: 75.0}]})
    root = ElementTree.fromstring(chart(report).svg())
    written = " ".join(text.text or "" for text in root.findall("{http://www.w3.org/2000/svg}text"))
    assert all(name in written for name in (DIRECT, NODE, ONCEQ))
    assert "CPU of the stack, 1,000 tokens at 2,000/s ms, less is better none 150 75" in written
    assert "medians of 1; others used up to 0.02 cores" in written
    redis = find_redis()
    assert f"{redis.name} {'.'.join(map(str, redis.version))}" in written
    assert "AOF" in written
    assert beside.told(report).ratios["CPU of the stack, 1,000 tokens at 2,000/s: onceq / Node stack"] == 0.5


def test_a_call_that_a_proxy_loses_is_told_and_asked_again_and_one_that_a_queue_loses_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment = Deployment("http://127.0.0.1:1", "http://127.0.0.1:1", "", {}, 0, "")
    asked: list[float] = []

    def lose_the_first(*_: object) -> dict[str, float]:
        asked.append(0)
        if len(asked) % 2:
            raise StreamError("Connection error")
        return {MOST: 7.0}

    monkeypatch.setattr(beside, "relayed", lose_the_first)
    assert beside.flat_out(Contestant("proxy", lambda _: nullcontext(deployment)), deployment, 1.0) == {MOST: 7.0}
    assert "a stream of the proxy failed, once more: Connection error" in capsys.readouterr().err
    with pytest.raises(StreamError):
        beside.flat_out(Contestant("queue", lambda _: nullcontext(deployment)), deployment, 1.0)


def test_a_chart_of_what_is_not_measured_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "posts", "--chart", str(tmp_path / "chart.svg")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "name peers among the metrics" in done.stderr
