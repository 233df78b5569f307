"""The benchmarks run, and count what they say they count. How fast anything is, is not asserted here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from benchmarks.__main__ import tell
from benchmarks.check import ALONE, BACKLOG, BARE, BOUNDS, DIRECT, POSTS, RELAY
from benchmarks.cpu import Meter
from benchmarks.figures import Report, latency_ms, quantile
from benchmarks.posting import whole
from benchmarks.ratios import Bound, Part, Ratio, judged
from benchmarks.scaling import short, worked_off
from benchmarks.sizing import kinds, month
from benchmarks.soak import grown
from benchmarks.waiting import Backlog, waiting

from tests.waiting import wait_until

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[2]
BRIEF = """
import sys, time
for _ in sys.stdin:
    end = time.process_time() + 0.002
    while time.process_time() < end: pass
    print('done', flush=True)
"""
BUSY = """
import time
def use(cpu_s):
    end = time.process_time() + cpu_s
    while time.process_time() < end: pass
    print('done', flush=True)
    input()
use(0.3)
use(0.2)
"""


def measured(tmp_path: Path, *metrics: str) -> dict[str, dict[str, dict[str, float]]]:
    """Medians by metric and case of a quick run."""
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "benchmarks", *metrics, "--quick", "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    reports: list[dict[str, Any]] = json.loads(out.read_text("utf-8"))
    return {report["metric"]: report["medians"] for report in reports}


def test_every_job_of_the_sustained_benchmark_succeeds_with_one_call(tmp_path: Path) -> None:
    run = measured(tmp_path, "sustained")["sustained"]["onceq"]
    assert run["refused"] == 0
    assert run["posted"] == run["succeeded"] == run["calls"] > 0


def test_the_stream_and_post_benchmarks_tell_their_figures(tmp_path: Path) -> None:
    told = measured(tmp_path, "posts", "relay")
    assert set(told["posts"]) == {"bare", "onceq", "onceq, 2 processes"}
    for case in told["posts"].values():
        assert case["posts_per_s"] > 0
        assert 0 < case["p50_ms"] <= case["p99_ms"]
    streamed = told["relay"]["onceq, 2,000/s"]
    assert streamed["tokens_per_s"] > 0
    assert all(streamed[f"{role}_cpu_ms_per_1000_tokens"] > 0 for role in ("api", "worker", "redis"))
    backlog = waiting(Backlog(3), measured=400)  # of 40 the memory of connections is the most
    report = Report(
        "check",
        {
            BARE: [told["posts"]["bare"]], POSTS: [told["posts"]["onceq"]], DIRECT: [told["relay"]["direct, 2,000/s"]],
            RELAY: [streamed], ALONE: [backlog], BACKLOG: [backlog],
        },
    )  # fmt: skip
    assert all(ratio > 0 for ratio in judged(report, BOUNDS).ratios.values()), "every bound finds its figures"


def test_a_job_of_the_scaling_benchmark_costs_something_everywhere() -> None:
    run = worked_off(short(40), workers=1)
    assert run["jobs_per_min"] > 0
    assert all(run[f"{role}_cpu_ms_per_job"] > 0 for role in ("api", "worker", "redis"))


CLAIM = Ratio("CPU a claim, many against one", Part("many", ["us", "more_us"]), Part("one", ["us"]))


def test_a_ratio_beyond_its_bound_fails_the_check_with_a_sentence_that_names_what_was_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = {"one": [{"us": 10.0}, {"us": 20.0}, {"us": 10.0}], "many": [{"us": 15.0, "more_us": 10.0}] * 3}
    report = judged(Report("check", runs), [Bound(CLAIM, 2.0, "heads of lanes are read"), Bound(CLAIM, 2.5, "x")])
    assert report.ratios == {"CPU a claim, many against one": 2.5}, "the median of the rounds"
    assert tell([report]) == 1
    assert capsys.readouterr().err == (
        "check: CPU a claim, many against one: 2.50, and at most 2 is right (heads of lanes are read). Measured were "
        "25 (many: us + more_us) against 10 (one: us).\n"
    )
    assert tell([judged(report, [Bound(CLAIM, 2.5, "x")])]) == 0


def test_nothing_over_nothing_is_as_much_and_something_over_nothing_is_beyond_all_bounds() -> None:
    runs = {"one": [{"us": 0.0}], "many": [{"us": 0.0, "more_us": 0.0}]}
    assert CLAIM.measured(Report("m", runs)) == 1
    assert CLAIM.measured(Report("m", runs | {"many": [{"us": 0.0, "more_us": 1.0}]})) == float("inf")


def test_a_benchmark_that_is_told_to_stop_leaves_no_process_behind(short_folder: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "sustained", "--quick"]
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "TMPDIR": str(short_folder)}, stderr=subprocess.PIPE
    ) as running:
        # the fork server (tests/fork_server.py) and what it has forked
        workers = wait_until(lambda: of_folder(short_folder, b"tests.fork_server", 3), "API and workers", timeout_s=180)
        running.terminate()
        assert running.wait(60) == 128 + signal.SIGTERM
    assert workers
    wait_until(lambda: not of_folder(short_folder, b"", 1), "all that it started to end", timeout_s=60)


STUBBORN = """
import subprocess, sys
import pandas  # starts threads that block no signal
from benchmarks.supervisor import supervised
def work():
    forget = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'],"
    forget += "start_new_session=True).pid, flush=True)"
    subprocess.run([sys.executable, "-c", forget], check=True)
    subprocess.run([sys.executable, "-c", "import tempfile; print(tempfile.mkdtemp(), flush=True)"], check=True)
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
sys.exit(supervised(work))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_what_is_supervised_ends_with_all_that_came_of_it_though_it_hears_nothing(number: int) -> None:
    with subprocess.Popen([sys.executable, "-c", STUBBORN], cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        orphan, folder = int(running.stdout.readline()), Path(running.stdout.readline().strip())
        try:
            assert folder.is_dir()
            running.send_signal(number)
            assert running.wait(60) == 128 + number
        finally:
            running.kill()
    assert not Path(f"/proc/{orphan}").exists()
    assert not folder.exists()


@pytest.mark.parametrize(("work", "code"), [("3", 3), ("0", 0), ("os.kill(os.getpid(), 9)", 137)])
def test_what_is_supervised_has_the_exit_code_of_the_work(work: str, code: int) -> None:
    program = f"import os, sys; from benchmarks.supervisor import supervised; sys.exit(supervised(lambda: {work}))"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == code


def of_folder(folder: Path, words: bytes, count: int) -> list[int]:
    """Processes with a benchmark's TMPDIR and words in their command line, when there are at least `count`."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            ours = entry.name.isdigit() and os.fsencode(f"TMPDIR={folder}") in (entry / "environ").read_bytes()
            if ours and words in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found if len(found) >= count else []


def test_the_meter_counts_a_child_as_ours_and_by_its_role() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "done\n"
        meter = Meter({"child": child.pid})
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "done\n"
        spent = meter.spent()
        child.communicate("\n")
    assert 0.2 <= spent.cpu_s["child"] < 0.5, "its last 0.2 s, without the 0.3 s that it had used before"
    assert set(spent.cpu_s) == {"child"}


def test_what_is_shorter_than_a_tick_of_proc_is_seen_each_time() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BRIEF], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        spent_s: list[float] = []
        for _ in range(8):
            meter = Meter({"child": child.pid})
            child.stdin.write("\n")
            assert child.stdout.readline() == "done\n"
            spent_s.append(meter.spent().cpu_s["child"])
        child.stdin.close()
    assert min(spent_s) >= 0.002, "it uses as much before it answers"


def test_a_report_tells_the_median_of_each_case() -> None:
    report = Report("m", {"a": [{"x": 1.0}, {"x": 9.0}, {"x": 2.0}]})
    assert report.medians() == {"a": {"x": 2.0}}


def test_quantiles_are_values_that_were_seen() -> None:
    values = [n / 1_000 for n in range(1, 101)]
    assert quantile(values, 0.5) == 0.051
    assert latency_ms(values)["p99_ms"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("received", "complete"),
    [
        (b"", False),
        (b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n", False),
        (b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{", False),
        (b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}", True),
    ],
)
def test_an_answer_is_whole_when_its_body_is(received: bytes, complete: bool) -> None:
    assert whole(received) is complete


def test_the_soak_looks_at_every_process_and_at_redis_and_loses_no_job(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "benchmarks", "soak", "--quick", "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(out.read_text("utf-8"))
    run = report["medians"]["onceq"]
    assert run["posted"] == run["succeeded"] == run["calls"] > 0
    for look in report["samples"]:
        assert all(look[f"{role}_mib"] > 1 for role in ("api", "worker", "redis"))
        assert all(look[f"{role}_files"] > 3 for role in ("api", "worker", "redis"))
        assert look["redis_keys"] > 0
        assert look["redis_connections"] > 1
        assert look["redis_beside_ledger_mib"] == look["redis_mib"] - look["redis_ledger_and_sums_mib"]


def test_what_grows_is_told_and_what_goes_up_and_down_is_not() -> None:
    flat = [{"at_s": float(n), "api_mib": 100.0 + n % 3, "api_files": 30.0, "redis_keys": 5_000.0} for n in range(30)]
    assert grown(flat) == []
    for name, step in (("api_mib", 0.5), ("api_files", 1.0), ("redis_keys", 50.0)):
        leaking = [{**look, name: look[name] + n * step} for n, look in enumerate(flat)]
        (fault,) = grown(leaking)
        assert fault.startswith(f"{name} grew from ")


def test_what_is_kept_for_months_and_what_is_no_part_of_onceq_may_grow_and_the_rest_of_redis_may_not() -> None:
    kept = [
        {"redis_mib": 100.0 + 3 * n, "redis_ledger_and_sums_mib": 3.0 * n, "redis_beside_ledger_mib": 100.0,
         "simulator_mib": 90.0 + n, "simulator_files": 20.0}
        for n in range(30)
    ]  # fmt: skip
    assert grown(kept) == []
    for name in ("redis_beside_ledger_mib", "simulator_files"):
        (fault,) = grown([{**look, name: look[name] + n} for n, look in enumerate(kept)])
        assert fault.startswith(f"{name} grew from ")


def test_a_month_of_ten_times_the_jobs_needs_ten_times_the_redis_until_the_ledger_is_full() -> None:
    kind = kinds(jobs=20)
    assert all(size > 0 for size in kind.values())
    small, large, huge = (month(kind, per_day) for per_day in (1_000, 10_000, 100_000))
    for part in ("logs", "results", "keys", "ledger"):
        assert large[f"{part}_mib"] == pytest.approx(10 * small[f"{part}_mib"])
    assert huge["ledger_mib"] < 10 * large["ledger_mib"]
    assert small["all_mib"] == pytest.approx(sum(size for name, size in small.items() if name != "all_mib"))


FIGURES: dict[str, Any] = {
    "title": "Side <by> side",
    "contestants": ["Node", "onceq"],
    "rows": [
        {"name": "CPU a post", "unit": "us", "better": "less", "values": [120, 60]},
        {"name": "reconnect", "unit": "tokens lost", "better": "less", "values": [None, 0]},
    ],
    "notes": ["2 cores"],
}


def test_a_chart_is_drawn_to_scale_with_its_figures(tmp_path: Path) -> None:
    (tmp_path / "figures.json").write_text(json.dumps(FIGURES), "utf-8")
    command = [sys.executable, "-m", "benchmarks.chart", str(tmp_path / "figures.json"), str(tmp_path / "chart.svg")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
    root = ElementTree.parse(tmp_path / "chart.svg").getroot()
    space = {"svg": "http://www.w3.org/2000/svg"}
    bars = [int(bar.attrib["width"]) for bar in root.findall("svg:rect", space) if bar.attrib["width"] != "12"]
    assert bars[0] == 2 * bars[1]
    written = [text.text for text in root.findall("svg:text", space)]
    assert "Side <by> side" in written
    assert {"120", "60", "none", "0"} <= set(written)


def test_figures_that_are_no_chart_are_told_in_a_sentence(tmp_path: Path) -> None:
    longer = {**FIGURES["rows"][0], "values": [120, 60, 3]}
    (tmp_path / "figures.json").write_text(json.dumps({**FIGURES, "rows": [longer]}), "utf-8")
    command = [sys.executable, "-m", "benchmarks.chart", str(tmp_path / "figures.json"), str(tmp_path / "chart.svg")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "CPU a post: 3 values for 2 contestants" in done.stderr
    assert not (tmp_path / "chart.svg").exists()
