"""One deployment for all fault tests; each gets a run of its own. `-m "faults or faults_full"` is the whole matrix."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest

from tests.faults.deployment import Deployment, running_deployment
from tests.faults.report import TABLE, lines
from tests.faults.trial import Trial, new_tenant, running_trial

SEED = int(os.environ.get("ONCEQ_FAULTS_SEED") or random.SystemRandom().randrange(10**6))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "faults: a row of the fault matrix, quick enough for every run")
    config.addinivalue_line("markers", "faults_full: the long rows; run by `make faults`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long rows run only when they are asked for."""
    if "faults_full" in config.option.markexpr:
        return
    long = [item for item in items if item.get_closest_marker("faults_full")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of figures."""
    if TABLE:
        terminalreporter.section(f"faults, seed {SEED} (ONCEQ_FAULTS_SEED repeats it)")
        for line in lines(TABLE):
            terminalreporter.write_line(line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A row that failed shows what its processes said last."""
    report = yield
    deployment = getattr(item, "funcargs", {}).get("deployment")
    if report.when == "call" and report.failed and isinstance(deployment, Deployment):
        report.sections += [(node.name, node.said()) for node in (*deployment.apis, *deployment.workers)]
    return report


@pytest.fixture(scope="session")
def _deployment() -> Generator[Deployment]:
    place = tempfile.TemporaryDirectory(prefix="oq-faults-", ignore_cleanup_errors=True)
    with place as folder, running_deployment(Path(folder), SEED) as running:
        yield running


@pytest.fixture
def deployment(_deployment: Deployment) -> Deployment:
    """The deployment, whole again after whatever happened before."""
    _deployment.mend()
    return _deployment


@pytest.fixture
def new_run(deployment: Deployment) -> tuple[str, str]:
    """A tenant of its own and its API key."""
    tenant = new_tenant()
    return tenant, deployment.key(tenant)


@pytest.fixture
async def trial(
    deployment: Deployment, new_run: tuple[str, str], request: pytest.FixtureRequest
) -> AsyncGenerator[Trial]:
    """A run named after its test."""
    tenant, key = new_run
    name = request.node.name.removeprefix("test_").replace("_", " ")
    async with running_trial(deployment, name, key, tenant) as opened:
        yield opened
