"""R31 and N11: what was paid leaves as CSV and Parquet, each row once; a price change moves no booked row."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onceq import Client, LedgerEntry
from onceq.errors import ConfigurationError
from onceq.export import COLUMNS, csv_text
from onceq.wire import LedgerPage
from onceq_service.cli.export_file import last_csv_row, owns, update
from onceq_service.embedded.redis_server import EmbeddedRedis
from tests.stack import API, Stack, running_stack, start, url_printed_by

MODEL = "openai/gpt-4o-mini"
PRICES = """
[[prices]]
model = "openai/gpt-4o-mini"
from = 2026-01-01
input = {usd_in}
output = 2

[[prices]]
model = "openai/gpt-4o-mini"
from = 2026-06-01
input = 10
output = 20
"""


def pay(client: Client, *, tokens: int = 5, **more: Any) -> str:
    """A job that was answered and paid."""
    prompt = f"{uuid4().hex} [[sim tokens={tokens} tps=0 ttft_ms=0]]"
    return client.result(client.submit(prompt, model=MODEL, **more).id, timeout_s=60).id


@pytest.fixture
def tenant() -> str:
    return f"t{uuid4().hex[:12]}"


@pytest.fixture
def client(stack: Stack, tenant: str) -> Generator[Client]:
    with Client(stack.url, stack.key(tenant)) as opened:
        yield opened


def onceq(stack: Stack, tenant: str, *arguments: str) -> str:
    """What `onceq export` prints, run by somebody who may only read."""
    env = {"ONCEQ_BASE_URL": stack.url, "ONCEQ_API_KEY": stack.key(tenant, "read"), "PATH": "/usr/bin"}
    done = subprocess.run(
        [sys.executable, "-m", "onceq_service", "export", *arguments],
        env=env,
        capture_output=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def read_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq  # pyright: ignore[reportMissingTypeStubs]

    return pq.read_table(path).to_pylist()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


@settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(answers=st.lists(st.tuples(st.integers(1, 40), st.sampled_from(["red", "blue"])), min_size=1, max_size=5),
       page_size=st.integers(1, 4))  # fmt: skip
def test_the_rows_exported_are_the_ledgers_rows_and_the_providers_bill(
    stack: Stack, answers: list[tuple[int, str]], page_size: int
) -> None:
    with Client(stack.url, stack.key(f"t{uuid4().hex[:12]}")) as client:
        jobs = [pay(client, tokens=tokens, team=team) for tokens, team in answers]
        exported = [row for page in client.ledger_pages(page_size=page_size) for row in page.entries]
        assert exported == [row for job in jobs for row in client.ledger(job)]
        assert [row.id for row in exported] == sorted({row.id for row in exported}, key=lambda i: int(i.split("-")[0]))
        metered = [(call["job"], call["nano_usd"]) for job in jobs for call in stack.meter(job)]
        assert [(row.job, row.spent_nano_usd) for row in exported if not row.estimated] == metered
        assert [row.team for row in exported] == [team for _, team in answers]
        spent = sum(row.spent_nano_usd or 0 for row in exported)
        assert spent == sum(point.totals.spent_nano_usd for point in client.costs(interval="total").points)


class Cutting(httpx2.HTTPTransport):
    """Breaks the connection after each second request was answered."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = super().handle_request(request)
        self.asked += 1
        if self.asked % 2:
            answer.close()
            raise httpx2.ReadError("cut", request=request)
        return answer


def test_an_export_over_connections_that_break_has_every_row_once(client: Client, stack: Stack, tenant: str) -> None:
    jobs = [pay(client) for _ in range(5)]
    with Client(stack.url, stack.key(tenant), transport=Cutting()) as shaky:
        rows = [row for page in shaky.ledger_pages(page_size=2) for row in page.entries]
    assert [row.job for row in rows] == jobs


def files(stack: Stack, tenant: str, kind: str, **asked: str) -> list[bytes]:
    """What GET /v1/ledger.<kind> answers, page by page."""
    headers = {"authorization": f"Bearer {stack.key(tenant, 'read')}"}
    with httpx2.Client(base_url=stack.url, headers=headers, timeout=60) as http:
        answer = http.get(f"/v1/ledger.{kind}", params=asked).raise_for_status()
        found = [answer.content]
        while (link := answer.links.get("next")) is not None:
            answer = http.get(str(link["url"])).raise_for_status()
            found.append(answer.content)
        assert answer.headers["content-disposition"] == f'attachment; filename="ledger.{kind}"'
    return found


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_same_range_gives_the_same_bytes_once_it_has_passed(
    client: Client, stack: Stack, tenant: str, kind: str
) -> None:
    jobs = [pay(client) for _ in range(3)]
    end = client.stats().at
    asked = {"since": (end - timedelta(hours=1)).isoformat(), "until": end.isoformat()}
    before = files(stack, tenant, kind, **asked, limit="2")
    pay(client)
    assert files(stack, tenant, kind, **asked, limit="2") == before
    assert len(before) == 2
    if kind == "csv":
        assert [row["job_id"] for row in rows_of(b"".join(before).decode())] == jobs
        assert onceq(stack, tenant, "--since", asked["since"], "--until", asked["until"]).encode() == b"".join(before)


def test_the_parquet_of_the_api_is_that_of_the_command(
    client: Client, stack: Stack, tenant: str, tmp_path: Path
) -> None:
    for n in range(3):
        pay(client, user=f"=SUM({n})", labels={"step": "@one"})
    whole, folder = tmp_path / "whole.parquet", tmp_path / "pages"
    onceq(stack, tenant, "--out", str(whole))
    folder.mkdir()
    for n, page in enumerate(files(stack, tenant, "parquet", limit="2")):
        (folder / f"{n}.parquet").write_bytes(page)
    assert read_parquet(folder) == read_parquet(whole), "a folder of pages is one table"
    assert [row["user"] for row in read_parquet(folder)] == [f"=SUM({n})" for n in range(3)]


def test_an_empty_ledger_is_an_empty_table_with_its_columns(stack: Stack, tenant: str, tmp_path: Path) -> None:
    path = tmp_path / "empty.parquet"
    [body] = files(stack, tenant, "parquet")
    path.write_bytes(body)
    assert read_parquet(path) == []
    assert import_module("pyarrow.parquet").read_schema(path).names == list(COLUMNS)


def test_pyarrow_is_loaded_by_a_process_that_is_asked_for_parquet_and_its_absence_is_a_sentence(
    redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    with running_stack(redis_server, workers=1) as stack:
        maps = Path(f"/proc/{stack.api.popen.pid}/maps")
        files(stack, "t", "csv")
        assert "libarrow" not in maps.read_text()
        files(stack, "t", "parquet")
        assert "libarrow" in maps.read_text()
        headers = {"authorization": f"Bearer {stack.key('t', 'read')}"}
        (tmp_path / "pyarrow.py").write_text("raise ImportError('not installed')\n")
        env = stack.env | {"PYTHONPATH": str(tmp_path)}
        without = start([sys.executable, "-c", f"{API}\n"], env, tmp_path / "without.log")
        try:
            problem, as_csv = (
                httpx2.get(f"{url_printed_by(without)}/v1/ledger.{kind}", headers=headers)
                for kind in ("parquet", "csv")
            )
        finally:
            without.stop()
        assert (problem.status_code, problem.json()["code"]) == (501, "parquet_unavailable")
        assert "/v1/ledger.csv" in problem.json()["detail"]
        assert as_csv.status_code == 200


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_second_export_into_a_file_adds_what_is_new_and_nothing_twice(
    client: Client, stack: Stack, tenant: str, tmp_path: Path, kind: str
) -> None:
    out = tmp_path / f"ledger.{kind}"

    def exported() -> list[str]:
        onceq(stack, tenant, "--out", str(out))
        rows: list[dict[str, Any]] = rows_of(out.read_text()) if kind == "csv" else read_parquet(out)
        return [row["job_id"] for row in rows]

    assert exported() == []
    jobs = [pay(client), pay(client)]
    assert exported() == jobs
    bytes_before = out.read_bytes()
    assert exported() == jobs
    assert out.read_bytes() == bytes_before
    jobs.append(pay(client))
    assert exported() == jobs
    assert not list(tmp_path.glob("*.part"))


def test_an_export_that_was_killed_goes_on_where_it_was(client: Client, tmp_path: Path) -> None:
    jobs = [pay(client) for _ in range(4)]
    whole, out = tmp_path / "whole.csv", tmp_path / "ledger.csv"
    update(whole, lambda after: client.ledger_pages(after=after))
    torn = whole.read_bytes()[:-40]
    (tmp_path / "ledger.csv.part").write_bytes(torn)
    asked: list[str | None] = []

    def pages(after: str | None) -> Any:
        asked.append(after)
        return client.ledger_pages(after=after)

    assert update(out, pages).added == 1
    assert asked == [rows_of(whole.read_text())[2]["row_id"]]
    assert out.read_bytes() == whole.read_bytes()
    assert [row["job_id"] for row in rows_of(out.read_text())] == jobs


def test_two_exports_into_one_file_don_t_meet_and_leave_nothing_beside_it(tmp_path: Path) -> None:
    out, lock = tmp_path / "ledger.csv", tmp_path / ".ledger.csv.lock"

    def second(after: str | None) -> list[LedgerPage]:
        with pytest.raises(ConfigurationError, match="another export writes"):
            update(out, lambda after: [])
        return []

    update(out, second)
    with lock.open("w") as waiting:
        assert owns(waiting, lock)
    with lock.open("w") as waiting:  # whose owner ends, and leaves the place to another one
        lock.unlink()
        lock.touch()
        assert not owns(waiting, lock)
    lock.touch()  # of an export that was killed
    update(out, lambda after: [])
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.csv"]


def test_a_file_of_an_older_version_is_left_as_it_is_and_the_sentence_says_why(tmp_path: Path) -> None:
    names = [name for name in COLUMNS if name != "reserved_nano_usd"]
    older, foreign, part = tmp_path / "older.csv", tmp_path / "foreign.csv", tmp_path / "new.csv.part"
    older.write_text(",".join(names) + "\r\n" + ",".join("0" for _ in names) + "\r\n", newline="")
    foreign.write_text("a,b\r\n1,2\r\n", newline="")
    part.write_bytes(older.read_bytes())
    pq, pa = import_module("pyarrow.parquet"), import_module("pyarrow")
    pq.write_table(pa.table({name: ["0"] for name in names}), tmp_path / "older.parquet")
    for path, said in (
        (older, "lacks reserved_nano_usd"),
        (tmp_path / "older.parquet", "lacks reserved_nano_usd"),
        (foreign, "no export of a ledger"),
        (tmp_path / "new.csv", "new.csv.part has other columns"),
    ):
        before = path.read_bytes() if path.exists() else None
        with pytest.raises(ConfigurationError, match=re.escape(said)):
            update(path, lambda after: pytest.fail("no row must be asked for"))
        assert (path.read_bytes() if path.exists() else None) == before


def test_another_tenants_rows_are_never_there(client: Client, stack: Stack) -> None:
    pay(client)
    [mine] = client.ledger_rows()
    with Client(stack.url, stack.key("a-stranger")) as stranger:
        assert list(stranger.ledger_rows()) == []
        assert list(stranger.ledger_rows(after=mine.id)) == []
        pay(stranger)
        assert mine.job not in {row.job for row in stranger.ledger_rows()}
    assert [row.id for row in client.ledger_rows()] == [mine.id]


HOSTILE = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", " =1", "\n=1", "\u3000@x", "＝1", "－1", " \r\nx"]


@pytest.mark.parametrize("words", HOSTILE)
def test_a_text_that_a_spreadsheet_would_run_gets_an_apostrophe(client: Client, words: str) -> None:
    pay(client, user=f"{words.strip()}x", labels={"note": words.strip()})
    [row] = client.ledger_rows()
    hostile = row.model_copy(update={"team": words, "user": f"{words}\r\nsecond line", "outcome": words})
    [cells] = rows_of(csv_text([hostile]))
    assert (cells["team"], cells["outcome"]) == (f"'{words}", f"'{words}")
    assert not [cell for cell in cells.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert cells["user"].endswith("second line"), "a line's end inside of a cell stays inside"


def test_a_file_with_line_ends_in_its_cells_is_read_to_its_last_row(tmp_path: Path) -> None:
    entry = LedgerEntry(
        id="1700000000000-0", at=datetime(2026, 1, 1, tzinfo=UTC), job="job_1", try_no=1, call=1, model=MODEL,
        outcome="ok", billed=True, estimated=False, input_tokens=1, output_tokens=1, cached_tokens=0,
        reasoning_tokens=0, spent_nano_usd=1, wasted_nano_usd=0, waste_reason=None, price_version="p", simulated=False,
        user='a "quoted"\r\nsecond, line',
    )  # fmt: skip
    path, text = tmp_path / "a.csv", csv_text([entry])
    path.write_text(text + "1700000000001-0,2026", newline="")
    last = last_csv_row(path)
    assert (last.id, last.size) == (entry.id, len(text.encode()))
    assert rows_of(text)[0]["spent_usd"] == "0.000000001"
    assert list(rows_of(text)[0]) == list(COLUMNS)


def test_the_page_on_costs_has_each_column_that_json_calls_otherwise() -> None:
    page = (Path(__file__).parents[2] / "docs" / "costs.md").read_text("utf-8")
    told = re.findall(r"`(\w+)`", page.partition("| JSON | CSV and Parquet |")[2])
    assert sorted(told) == sorted(COLUMNS.keys() ^ LedgerEntry.model_fields.keys())


def test_a_question_that_makes_no_sense_is_refused(stack: Stack, tenant: str) -> None:
    headers = {"authorization": f"Bearer {stack.key(tenant)}"}
    with httpx2.Client(base_url=stack.url, headers=headers) as http:
        for wrong in ({"cursor": "x"}, {"limit": "1001"}, {"since": "2026-11-24T00:00:00"}, {"colour": "red"},
                      {"since": "2026-11-24T00:00:00Z", "until": "2026-11-23T00:00:00Z"}):  # fmt: skip
            assert http.get("/v1/ledger", params=wrong).status_code == 422, wrong


@pytest.mark.parametrize("until", ["0", "1969-07-20T20:17:40Z", "0001-01-01T00:00:00Z", "1970-01-01T00:00:00.001Z"])
def test_a_range_that_ends_before_there_was_anything_is_an_empty_page(
    client: Client, stack: Stack, tenant: str, until: str
) -> None:
    pay(client)
    headers = {"authorization": f"Bearer {stack.key(tenant)}"}
    for since in ({}, {"since": "0001-01-01T00:00:00Z"}):
        found = httpx2.get(f"{stack.url}/v1/ledger", params={"until": until} | since, headers=headers)
        assert (found.status_code, found.json()["entries"], found.json()["next_cursor"]) == (200, [], None)


def test_a_price_change_leaves_what_was_booked_and_moves_what_is_restated(
    redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    config = tmp_path / "onceq.toml"
    config.write_text(PRICES.format(usd_in="1"))
    with running_stack(redis_server, workers=1, config=str(config)) as stack:
        with Client(stack.url, stack.api_key) as client:
            pay(client)
            [booked] = client.ledger_rows()
        assert booked.price_version == "local:2026-06-01"
        assert booked.spent_nano_usd == booked.input_tokens * 10_000 + booked.output_tokens * 20_000
        early = restated(stack, datetime(2026, 3, 1, tzinfo=UTC))
        assert early.restated_nano_usd == booked.input_tokens * 1_000 + booked.output_tokens * 2_000
        assert restated(stack, datetime(2026, 7, 1, tzinfo=UTC)).restated_nano_usd == booked.spent_nano_usd
        config.write_text(PRICES.format(usd_in="3"))
        stack.restart_api()
        moved = restated(stack, datetime(2026, 3, 1, tzinfo=UTC))
        assert moved.restated_nano_usd == booked.input_tokens * 3_000 + booked.output_tokens * 2_000
        assert moved.spent_nano_usd == booked.spent_nano_usd
        assert moved.restated_price_version == "local:2026-01-01"


def restated(stack: Stack, at: datetime) -> LedgerEntry:
    with Client(stack.url, stack.api_key) as client:
        [row] = client.ledger_rows(restated_at=at)
        return row
