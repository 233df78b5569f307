"""What a job was asked, and its events, as a person reads them."""

from __future__ import annotations

from onceq import JobRequest, StreamEvent
from onceq.wire import Cost, Event, JobError
from onceq_dashboard import transcript
from tests.dashboard import golden, worlds
from tests.dashboard.conftest import Open
from tests.dashboard.fake_api import FakeApi

LOG = [
    StreamEvent("queued", 1, Event(job="j", seq=1)),
    StreamEvent("started", 2, Event(job="j", seq=2, call=1, model="openai/m")),
    *(StreamEvent("delta", n, Event(job="j", seq=n, call=1, kind="text", text="abc")) for n in range(3, 9)),
    StreamEvent("reset", 9, Event(job="j", seq=9, call=1, reason="stream_broken")),
    *(StreamEvent("delta", n, Event(job="j", seq=n, call=2, kind="reasoning", text="hm")) for n in (10, 11)),
    StreamEvent("delta", 12, Event(job="j", seq=12, call=2, kind="text", text="yes")),
    StreamEvent("failed", 13, Event(
        job="j", seq=13, call=2, error=JobError(code="stream_broken", message="."), cost=Cost(nano_usd=1_000_000),
    )),
]  # fmt: skip


def test_pieces_of_text_that_follow_each_other_are_one_row_and_no_event_is_lost() -> None:
    frame = transcript.events(LOG)
    assert frame["events"].tolist() == ["1", "2", "3 to 8", "9", "10 to 11", "12", "13"]
    golden.check("events", frame)


def test_an_empty_log_has_its_columns() -> None:
    assert list(transcript.events([]).columns) == ["events", "event", "call", "what"]


def test_a_request_is_told_as_turns_and_what_was_left_out_is_not_told() -> None:
    asked = JobRequest.model_validate_json(
        """{"model": "p/m", "system": "Be brief.", "max_tokens": 9, "tools": [{"name": "look_up"}], "messages": [
        {"role": "user", "content": [{"type": "text", "text": "What is this?"},
                                     {"type": "image", "url": "https://example.com/x.png"}]},
        {"role": "assistant", "tool_calls": [{"id": "1", "name": "look_up", "arguments": "{}"}]},
        {"role": "tool", "tool_call_id": "1", "content": "A cat."}]}"""
    )
    assert [tuple(turn) for turn in transcript.turns(asked)] == [
        ("system", "Be brief."), ("user", "What is this?\n[an image]"), ("assistant", "[calls look_up({})]"),
        ("tool", "A cat."),
    ]  # fmt: skip
    assert transcript.parameters(asked) == {"max_tokens": "9", "tools": "look_up"}


def test_a_prompt_is_read_when_somebody_opens_it_and_shown_as_text(api: FakeApi, open_page: Open) -> None:
    job = next(j for j in api.world.jobs if j.status == "succeeded")
    api.world.asked[job.id] = JobRequest(model=job.model, prompt=worlds.HOSTILE, max_tokens=7)
    page = open_page("jobs", query={"job": job.id})
    assert f"GET /v1/jobs/{job.id}/request" not in api.seen
    page.session_state["job_asked"] = True
    page.run()
    assert page.text[0].value == worlds.HOSTILE
    assert "max_tokens: 7" in [t.value for t in page.text]
