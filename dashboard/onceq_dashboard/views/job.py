"""One job: its state, what it took and cost, and its answer.

What a model wrote, and other foreign words, are shown by `st.text` and tables alone, which render no markup. Not by
`st.code`: the browser loads 1.5 MB for it, and the page below moves when they are there.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal

import streamlit as st

from onceq import Job
from onceq.wire import TERMINAL, CancelReceipt, Output, Status, Usage
from onceq_dashboard import actions, estimate, frames, latency, latency_charts, source, transcript
from onceq_dashboard.access import ApiAccess, SourceError
from onceq_dashboard.format import DASH, age, clock, code_span, count, duration, literal, usd
from onceq_dashboard.views import parts
from onceq_dashboard.views.parts import Tile

REFRESH_S: Final = 1
SHOWN: Final = 100_000
"""Characters of an answer that are shown; all of it can be downloaded."""
_COLOURS: Final[dict[Status, Literal["gray", "blue", "green", "red", "orange"]]] = {
    "queued": "gray",
    "running": "blue",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "gray",
    "expired": "orange",
}
_STATUS_ICONS: Final[dict[Status, str]] = {
    "queued": ":material/schedule:",
    "running": ":material/play_circle:",
    "succeeded": ":material/check_circle:",
    "failed": ":material/error:",
    "cancelled": ":material/cancel:",
    "expired": ":material/timer_off:",
}
_FORBIDDEN: Final = "job_forbidden"

LEDGER_COLUMNS: Final = {
    "try": st.column_config.NumberColumn("Try"),
    "call": st.column_config.NumberColumn("Call"),
    "model": st.column_config.TextColumn("Model"),
    "outcome": st.column_config.TextColumn("Outcome"),
    "billed": st.column_config.CheckboxColumn("Billed"),
    "tokens": st.column_config.TextColumn("Tokens are"),
    "input_tokens": st.column_config.NumberColumn("Tokens in", format="localized"),
    "output_tokens": st.column_config.NumberColumn("Tokens out", format="localized"),
    "spent_usd": st.column_config.NumberColumn("Spent, $", format="%.6f"),
    "wasted_usd": st.column_config.NumberColumn("Wasted, $", format="%.6f"),
    "waste_reason": st.column_config.TextColumn("Why wasted"),
    "price_version": st.column_config.TextColumn("Prices of"),
}


EVENT_COLUMNS: Final = {
    "events": st.column_config.TextColumn("Number"),
    "event": st.column_config.TextColumn("Event"),
    "call": st.column_config.NumberColumn("Call"),
    "what": st.column_config.TextColumn("What"),
}


def show(access: ApiAccess, job_id: str, back: str = "All jobs") -> None:
    """The page of a job; live until the job ends."""
    st.button(back, icon=":material/arrow_back:", on_click=_close)
    with parts.show_errors():
        ended = source.job(access, job_id).status in TERMINAL
    st.fragment(_live, run_every=None if ended else REFRESH_S)(access, job_id, ended)


def _close() -> None:
    st.query_params.pop("job", None)


def _live(access: ApiAccess, job_id: str, ended: bool) -> None:
    if st.query_params.get("job") != job_id:
        st.rerun()  # a click in here runs this part alone: the whole page is another one now
    with parts.show_errors():
        job = source.job(access, job_id)
    if not ended and job.status in TERMINAL:
        st.rerun()  # the whole page once more, now without the clock
    _head(access, job)
    if job.simulated:
        parts.simulated_note()
    _error(job)
    _waiting(job)
    _receipt(job.receipt)
    parts.tiles(_took(job) + _cost(job))
    _asked(access, job)
    _answer(job)
    _phases(job)
    _events(access, job)
    _facts(job)
    _ledger(access, job)


def _head(access: ApiAccess, job: Job) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(job.status, icon=_STATUS_ICONS[job.status], color=_COLOURS[job.status])
        st.markdown(code_span(job.id))
        st.markdown(code_span(job.model))
        st.caption(age((datetime.now(UTC) - job.created_at).total_seconds()), width="stretch")
        _cancel(access, job)
        _again(access, job)


def _error(job: Job) -> None:
    if job.error:
        again = "Trying again may help." if job.error.retryable else "Trying again the same way will not help."
        said = f"This job ended as **{job.status}** with {code_span(job.error.code)}. {again}"
        st.error(said, icon=":material/error:")
        _text(job.error.message, "job_error")


def _waiting(job: Job) -> None:
    if job.waiting:
        until = job.waiting.until
        when = f", at least until {clock(until.astimezone(parts.zone()))}" if until else ""
        st.info(f"It waits because of {code_span(job.waiting.reason)}{when}.", icon=":material/hourglass_top:")


def _receipt(receipt: CancelReceipt | None) -> None:
    if receipt is None:
        return
    about = "about " if receipt.estimated else ""
    saved = f", and saved up to {usd(receipt.saved_nano_usd)}" if receipt.saved_nano_usd is not None else ""
    bill = " The provider may bill more than that: it had begun." if receipt.may_still_bill else ""
    said = (
        f"Cancelled after {about}{count(receipt.output_tokens)} tokens that cost {usd(receipt.spent_nano_usd)}{saved}."
    )
    st.info((said + bill).replace("$", r"\$"), icon=":material/receipt_long:")


def _took(job: Job) -> list[Tile]:
    t = job.timings
    return [
        Tile("Waited", duration(t.queue_s), "From the post to the first start."),
        Tile("ttft", duration(t.ttft_s), "From the post to the first token."),
        Tile("Provider's ttft", duration(t.provider_ttft_s), "From the request at the provider to its first token."),
        Tile("Generation", duration(t.generation_s), "From the first token to the end."),
        Tile("Total", duration(t.total_s), "From the post to the end."),
        Tile(
            "Calls / tries", f"{job.calls} / {job.tries}", "Requests that may be billed / all, refused ones included."
        ),
    ]


def _cost(job: Job) -> list[Tile]:
    usage, about = job.usage or Usage(), "≈ " if job.usage and job.usage.estimated else ""
    known, mark = job.usage is not None, parts.money_mark(simulated=job.simulated)
    so_far = " so far" if job.status not in TERMINAL else ""
    wasted = usd(job.cost.wasted_nano_usd)
    return [
        Tile(f"Cost{so_far}", usd(job.cost.nano_usd), "Over all calls; unknown while a call has no price.", mark),
        Tile("Wasted", wasted, "Part of the cost: calls whose output is not in the answer.", mark),
        Tile("Tokens in", about + count(usage.input_tokens) if known else DASH, "Cached tokens included."),
        Tile("Cached", about + count(usage.cached_tokens) if known else DASH, "Part of the tokens in."),
        Tile("Tokens out", about + count(usage.output_tokens) if known else DASH, "Reasoning tokens included."),
        Tile("Reasoning", about + count(usage.reasoning_tokens) if known else DASH, "Part of the tokens out."),
    ]


def _phases(job: Job) -> None:
    if job.status not in TERMINAL:
        return
    frame, verdict = latency.waterfall(job), job.timings.verdict
    blame = f" What made it slow or fail: **{latency.VERDICT_WORDS[verdict]}**." if verdict else ""
    with parts.card("Where the time went", f"seconds by phase, all tries added up.{blame}"):
        if frame.empty:
            st.caption("This job tells no phases: it ended under an older onceq.")
            return
        parts.chart(latency_charts.waterfall(frame), "chart_waterfall", "The job's phases one after the other")
        parts.as_data(frame, "data_waterfall")


def _asked(access: ApiAccess, job: Job) -> None:
    """The prompt; read when somebody opens it, as it may be megabytes."""
    with st.expander("What was asked", icon=":material/chat:", key="job_asked", on_change="rerun") as box:
        if not box.open:
            return
        with parts.show_errors():
            asked = source.request(access, job.id)
        for turn in transcript.turns(asked):
            st.caption(literal(turn.role))
            _text(turn.text)
        for name, value in transcript.parameters(asked).items():
            st.text(f"{name}: {value}")


def _events(access: ApiAccess, job: Job) -> None:
    if job.status not in TERMINAL:
        return
    with st.expander("Events", icon=":material/list:", key="job_events", on_change="rerun") as box:
        if not box.open:
            return
        with parts.show_errors():
            log = source.events(access, job.id)
        frame = transcript.events(log)
        parts.table(frame, "events", EVENT_COLUMNS)
        cut = f" The first {count(len(log))}." if len(log) == source.MOST_EVENTS else ""
        st.caption(f"Pieces of text that follow each other are one row.{cut} An old log has left: its end stays.")
        parts.download(frame, "data_events")


def _answer(job: Job) -> None:
    st.subheader("Answer" if job.status in TERMINAL else "Answer so far", anchor=False)
    output = job.output or Output()
    if output.reasoning:
        with st.expander("Reasoning"):
            _text(output.reasoning, "job_reasoning")
    if output.text:
        _text(output.text, "job_answer")
        st.download_button(
            "Download", output.text, f"{job.id}.txt", "text/plain", icon=":material/download:", on_click="ignore"
        )
    for call in output.tool_calls:
        st.caption("Tool call")
        _text(f"{call.name}({call.arguments})")
    if not (output.text or output.tool_calls):
        st.caption("No text yet." if job.status not in TERMINAL else "No text, or its time is over.")


def _text(text: str, key: str | None = None) -> None:
    """In a box, but for the space around it, as it is."""
    with st.container(border=True, key=key):
        st.text(text[:SHOWN])
    if len(text) > SHOWN:
        st.caption(f"The first {SHOWN:,} of {len(text):,} characters.")


def _facts(job: Job) -> None:
    st.subheader("Details", anchor=False)
    zone = parts.zone()
    known = {
        "created": f"{job.created_at.astimezone(zone):%Y-%m-%d %H:%M:%S}",
        "kept until": f"{job.expires_at.astimezone(zone):%Y-%m-%d %H:%M:%S}" if job.expires_at else None,
        "team": job.team, "user": job.user, "band": job.band, "durability": job.durability,
        "finish reason": job.output.finish_reason if job.output else None,
        "replays": job.retry_of, "replayed by": job.replayed_by, "else asked": ", ".join(job.fallbacks) or None,
        **{f"label {name}": value for name, value in job.labels.items()},
    }  # fmt: skip
    with st.grid(4, min_column_width=148):
        for name, value in known.items():
            if value:
                with st.container(gap="xxsmall"):
                    st.caption(literal(name))
                    st.text(value)


def _ledger(access: ApiAccess, job: Job) -> None:
    st.subheader("Cost lines", anchor=False)
    with parts.show_errors():
        rows = source.ledger(access, job.id)
    if rows:
        at = st.column_config.DatetimeColumn("At", format="HH:mm:ss", timezone=parts.zone_name())
        frame = frames.ledger_table(rows)
        parts.table(frame, "ledger", {"at": at, **LEDGER_COLUMNS})
        parts.download(frame, "data_cost_lines")
    else:
        st.caption("No call has been booked yet.")


def _cancel(access: ApiAccess, job: Job) -> None:
    if job.status in TERMINAL:
        return
    forbidden: str | None = st.session_state.get(_FORBIDDEN)
    label = "Cancelling…" if job.cancel_requested else "Cancel job"
    off = job.cancel_requested or forbidden is not None
    with st.popover(label, icon=":material/cancel:", disabled=off, help=forbidden, key=f"cancel_{job.id}"):
        st.write("It is cancelled for everyone who joined it. What its calls have cost so far stays booked.")
        st.button("Cancel this job", type="primary", on_click=_do_cancel, args=(access, job.id))


def _again(access: ApiAccess, job: Job) -> None:
    if job.status not in TERMINAL:
        return
    forbidden: str | None = st.session_state.get(_FORBIDDEN)
    off = forbidden is not None
    with st.popover("Ask again", icon=":material/replay:", disabled=off, help=forbidden, key=f"again_{job.id}"):
        with parts.show_errors():
            st.write(estimate.bill(1, estimate.of_replay([job], source.prices(access))))
        st.caption(estimate.HOW)
        st.button("Ask again now", type="primary", on_click=_do_again, args=(access, job.id))


def _do_cancel(access: ApiAccess, job_id: str) -> None:
    try:
        actions.cancel(access, job_id)
    except SourceError as exc:
        _refused(exc)


def _do_again(access: ApiAccess, job_id: str) -> None:
    try:
        st.query_params["job"] = actions.replay(access, job_id)
    except SourceError as exc:
        _refused(exc)


def _refused(exc: SourceError) -> None:
    if exc.trouble.kind == "scope":
        st.session_state[_FORBIDDEN] = exc.trouble.sentence
    st.toast(exc.trouble.sentence, icon=":material/warning:")
