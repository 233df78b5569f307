"""The ready dashboard and alerts in deploy/ ask only for what /metrics has, with labels and values that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast, get_args

import pytest
import yaml

from onceq.wire import Band, Disposition, Status
from tests.service.api.kit import Http, ask

ROOT: Final = Path(__file__).parents[3]
DEPLOY: Final = ROOT / "deploy"
RULES: Final = DEPLOY / "prometheus" / "onceq.rules.yml"
BOARD: Final = cast("dict[str, Any]", json.loads((DEPLOY / "grafana" / "onceq.json").read_text("utf-8")))
ALERTS: Final = cast(
    "list[dict[str, Any]]", [r for g in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for r in g["rules"]]
)
SERIES: Final = {"counter": ("_total",), "gauge": ("",), "histogram": ("", "_bucket", "_sum", "_count")}
"""How the series of a family end; a page may name a histogram by its family."""
VALUES: Final[dict[str, tuple[str, ...]]] = {
    "band": get_args(Band), "state": get_args(Status), "disposition": get_args(Disposition),
    "simulated": ("true", "false", "$simulated"),
}  # fmt: skip
PROMTOOL: Final = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool here (Debian: apt install prometheus)")


def questions() -> list[str]:
    """Every expression of the dashboard and the alerts."""
    asked = [target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", ())]
    return [*asked, *(alert["expr"] for alert in ALERTS)]


def matchers(question: str) -> Iterator[tuple[str, str]]:
    """The labels that an expression selects by, with their values."""
    for selector in re.findall(r"\{([^}]*)\}", question):
        yield from re.findall(r'(\w+)="([^"]*)"', selector)


def exposed(client: Http) -> tuple[set[str], set[str]]:
    """The names of all series that a scrape has or will have, and the labels that some have."""
    client.done(ask())
    text = client.get("/metrics").text
    kinds = re.findall(r"^# TYPE (\w+) (\w+)$", text, flags=re.MULTILINE)
    names = {name.removesuffix("_total") + end for name, kind in kinds for end in SERIES[kind]}
    return names, set(re.findall(r'(\w+)="', text)) | {"code"}


def test_every_metric_that_is_asked_for_is_exposed(client: Http) -> None:
    names, _ = exposed(client)
    page = (ROOT / "docs" / "observability.md").read_text("utf-8")
    asked = {name for text in (*questions(), page) for name in re.findall(r"\bonceq_[a-z_]+\b", text)}
    assert len(asked) > 25
    assert asked <= names


def test_every_metric_that_is_exposed_is_told_of(client: Http) -> None:
    page = (ROOT / "docs" / "observability.md").read_text("utf-8")
    names, _ = exposed(client)
    assert not [name for name in names if re.sub("_(bucket|sum|count)$", "", name) not in page]


def test_every_label_and_value_that_is_asked_for_exists(client: Http) -> None:
    _, labels = exposed(client)
    for question in questions():
        grouped = [name.strip() for names in re.findall(r"by \(([^)]*)\)", question) for name in names.split(",")]
        assert {*grouped, *(name for name, _ in matchers(question))} <= labels, question
        assert all(value in VALUES[name] for name, value in matchers(question)), question


def test_real_money_is_never_summed_with_simulated(client: Http) -> None:
    counters = re.compile(r"\bonceq_[a-z_]+_(?:total|bucket)\b(\{[^}]*\})?")
    found = [m for question in questions() for m in counters.finditer(question)]
    assert len(found) > 20
    assert all("simulated=" in (m[1] or "") for m in found)


def test_an_alert_says_what_is_wrong_how_bad_it_is_and_what_to_do() -> None:
    names = [alert["alert"] for alert in ALERTS]
    assert len(set(names)) == len(names)
    assert {
        "OnceqQueueOld", "OnceqDeadLetters", "OnceqNoWorkers", "OnceqDurabilityRelaxed", "OnceqRedisFull",
        "OnceqProviderBraked", "OnceqNotScraped",
    } <= set(names)  # fmt: skip
    for alert in ALERTS:
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert alert["annotations"].keys() == {"summary", "action"}


def test_the_dashboard_can_be_imported_as_it_is() -> None:
    panels = BOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert taken.isdisjoint(cells)
        taken |= cells
    for panel in (panel for panel in panels if panel["type"] != "row"):
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${source}"}


def promtool(*args: str, cwd: Path = RULES.parent, told: bytes = b"") -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *args], cwd=cwd, input=told, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


@needs_promtool
def test_prometheus_takes_the_rules_and_they_alert_when_they_should(tmp_path: Path) -> None:
    promtool("check", "rules", RULES.name)
    shutil.copy(RULES, tmp_path)
    shutil.copy(Path(__file__).with_name("rules_test.yml"), tmp_path)
    promtool("test", "rules", "rules_test.yml", cwd=tmp_path)


@needs_promtool
def test_prometheus_takes_the_configuration_and_finds_nothing_to_say_of_a_scrape(client: Http, tmp_path: Path) -> None:
    for file in RULES.parent.iterdir():
        shutil.copy(file, tmp_path)
    (tmp_path / "onceq.key").touch()
    promtool("check", "config", "prometheus.yml", cwd=tmp_path)
    promtool("check", "metrics", told=client.get("/metrics").content)
