"""The demo's five scenes, told through the SDK; what is not as promised is kept in `broken`."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

import httpx2
import typer

from onceq import Client, Job
from onceq.wire import Totals
from onceq_service.cli.ask import DEFAULT_MODELS
from onceq_service.cli.output import money, say, seconds, summary, table

QUESTION: Final = "Why should an LLM call go through a queue?"
CUT_QUESTION: Final = "What happens to a stream when the reader's train enters a tunnel? [[sim tokens=160]]"
CUT_AFTER: Final = 12
"""Pieces of text after which the reader's connection is cut: long before the end, also where a busy machine says many
words in one piece."""
PATIENCE_S: Final = 30.0


class Story:
    """Tells the scenes in order, with a client of the running stack; `meter_url` is the simulator's."""

    def __init__(self, client: Client, base_url: str, api_key: str, meter_url: str) -> None:
        self.broken: list[str] = []
        self._client = client
        self._base_url = base_url
        self._api_key = api_key
        self._meter_url = meter_url
        self._posts = 0

    def tell(self) -> None:
        """All scenes."""
        job = self._streams()
        self._asks_again(job)
        self._cuts_and_resumes()
        self._three_providers()
        self._bill()

    def _streams(self) -> Job:
        _scene(1, "A job is accepted, and its tokens stream from a log that can be re-read")
        stream = self._client.stream(QUESTION, model=DEFAULT_MODELS["anthropic"])
        self._posts += 1
        _show(stream)
        job = stream.job
        if job is None or job.status != "succeeded":
            raise AssertionError("a stream that ended without an error has its job")
        self._expect(stream.text == job.text, f"{job.id}: the streamed text is not the job's text")
        self._expect(job.calls == 1, f"{job.id}: {job.calls} calls were billed instead of one")
        _aside(summary(job))
        return job

    def _asks_again(self, first: Job) -> None:
        _scene(2, "The same request again: the same job, nothing paid")
        handle = self._client.submit(QUESTION, model=DEFAULT_MODELS["anthropic"])
        self._posts += 1
        job = handle.result(PATIENCE_S)
        say(f"{handle.id}  {handle.disposition}  calls billed: {job.calls}  cost so far: {money(job.cost)}")
        self._expect(handle.id == first.id, f"the same request made a second job, {handle.id} beside {first.id}")
        self._expect(handle.disposition == "replayed", f"{handle.id}: {handle.disposition} instead of replayed")
        self._expect(job.cost == first.cost and job.calls == 1, f"{handle.id}: the repeated request was paid for")

    def _cuts_and_resumes(self) -> None:
        _scene(3, f"The reader is cut off after {CUT_AFTER} pieces, and resumes without losing a token")
        handle = self._client.submit(CUT_QUESTION, model=DEFAULT_MODELS["openai"])
        self._posts += 1
        stream = handle.stream()
        before = [_printed(piece) for _, piece in zip(range(CUT_AFTER), stream, strict=False)]
        say(typer.style(f" [cut after event {stream.position}]", fg=typer.colors.YELLOW))
        with Client(self._base_url, self._api_key) as elsewhere:  # another connection, as from another machine
            after = [_printed(piece) for piece in elsewhere.follow(handle.id, after=stream.position)]
        say()
        whole = handle.result(PATIENCE_S)
        self._expect("".join([*before, *after]) == whole.text, f"{handle.id}: the two halves are not the whole text")
        self._expect(bool(after), f"{handle.id}: the job had ended before the reader was cut off")
        _aside(
            f"{len(before)} + {len(after)} pieces = the whole answer, {len(whole.text)} characters · {summary(whole)}"
        )

    def _three_providers(self) -> None:
        _scene(4, "One job on each of the three providers, through their own SDKs, two worker processes")
        handles = [self._client.submit(f"{QUESTION} Ask {name}.", model=m) for name, m in DEFAULT_MODELS.items()]
        self._posts += len(handles)
        for handle in handles:
            handle.result(PATIENCE_S)
        jobs = sorted(self._client.list(), key=lambda job: job.created_at)
        say("\n".join(job_table(jobs)))
        self._expect(len(jobs) == self._posts - 1, f"{len(jobs)} jobs are on record, not {self._posts - 1}")
        for job in jobs:
            self._expect(job.simulated, f"{job.id} is not marked simulated")
            self._expect(job.cost.priced and bool(job.cost.nano_usd), f"{job.id} has no price")

    def _bill(self) -> None:
        _scene(5, "The bill, ours and the provider's")
        jobs, billed = self._posts - 1, self._metered_calls()
        totals = self._booked(jobs)
        amplification = totals.bill_amplification
        say(f"{self._posts} posts, {jobs} jobs, {billed} calls on the provider's meter, {totals.calls} in our ledger")
        shown = "-" if amplification is None else f"{amplification:.2f}"
        say(typer.style(f"bill amplification {shown}", bold=True) + "  (billed calls / jobs; 1.00 is all paid once)")
        self._expect(billed == jobs, f"the provider's meter counts {billed} calls for {jobs} jobs")
        self._expect(totals.calls == billed, f"our ledger counts {totals.calls} calls, the provider's meter {billed}")
        self._expect(amplification == 1.0, f"the bill amplification is {shown}")

    def _metered_calls(self) -> int:
        meter = httpx2.get(f"{self._meter_url}/meter", trust_env=False)
        return int(meter.raise_for_status().json()["totals"]["calls"])

    def _booked(self, jobs: int) -> Totals:
        """The sums of the last 24 hours, as soon as they have all jobs: the API reads them once a second."""
        deadline = time.monotonic() + PATIENCE_S
        while (totals := self._client.stats().last_24h_simulated).succeeded < jobs and time.monotonic() < deadline:
            time.sleep(0.1)
        return totals

    def _expect(self, true: bool, otherwise: str) -> None:
        if not true:
            self.broken.append(otherwise)


def job_table(jobs: Iterable[Job]) -> list[str]:
    """What each job took and cost."""
    head = ("JOB", "PROVIDER", "MODEL", "TOKENS", "TTFT", "COST", "CALLS")
    return table(head, map(_row, jobs), right=(3, 4, 5, 6))


def _row(job: Job) -> tuple[str, ...]:
    tokens = str(job.usage.output_tokens) if job.usage else "-"
    model = job.model.partition("/")[2]
    return (
        "…" + job.id[-8:],
        job.provider,
        model,
        tokens,
        seconds(job.timings.ttft_s),
        money(job.cost),
        str(job.calls),
    )


def _scene(number: int, title: str) -> None:
    say()
    say(typer.style(f"{number}. {title}", bold=True))


def _aside(text: str) -> None:
    say(typer.style(text, dim=True))


def _show(pieces: Iterable[str]) -> None:
    for piece in pieces:
        _printed(piece)
    say()


def _printed(piece: str) -> str:
    """Shows a piece of text at once, and hands it on."""
    typer.echo(piece, nl=False)
    return piece
