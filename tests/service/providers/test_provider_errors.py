"""The tables that turn a provider's words into ours; no network."""

from __future__ import annotations

import datetime as dt
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceq_service.providers import _errors as errors
from tests.service.providers.kit import spec_for


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_each_form(headers: dict[str, str], seconds: float | None) -> None:
    assert errors.retry_after_s(headers) == seconds


def test_retry_after_may_be_a_date() -> None:
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=90)
    seconds = errors.retry_after_s({"retry-after": format_datetime(later, usegmt=True)})
    assert seconds is not None
    assert 85 < seconds <= 90
    earlier = format_datetime(later - dt.timedelta(days=1), usegmt=True)
    assert errors.retry_after_s({"retry-after": earlier}) == 0


@pytest.mark.parametrize(
    ("status", "name", "said", "code", "cause"),
    [
        (400, "content_policy_violation", "", "content_refused", "rejected"),
        (400, "content_filter", "The response was filtered", "content_refused", "rejected"),
        (400, "invalid_request_error", "Output blocked by content filtering policy", "content_refused", "rejected"),
        (400, "ValidationException", "The provided model identifier is invalid.", "model_not_found", "rejected"),
        (403, "UnrecognizedClientException", "The security token is invalid", "provider_auth", "rejected"),
        (403, "ExpiredTokenException", "", "provider_auth", "rejected"),
        (403, "AccessDeniedException", "", "provider_forbidden", "rejected"),
        (402, "billing_error", "", "provider_forbidden", "rejected"),
        (408, "ModelTimeoutException", "", "provider_timeout", "timeout"),
        (408, "", "", "provider_timeout", "timeout"),
        (409, "", "", "provider_error", "refused"),
        (418, "", "", "provider_bad_request", "rejected"),
        (424, "ModelErrorException", "", "provider_error", "refused"),
        (429, "ModelNotReadyException", "", "provider_overloaded", "refused"),
        (429, "insufficient_quota", "", "provider_rate_limited", "refused"),
        (504, "", "", "provider_error", "refused"),
        (302, "not_found_error", "", "provider_unreachable", "rejected"),
    ],
)
def test_a_providers_name_for_it_says_more_than_the_status(
    status: int, name: str, said: str, code: str, cause: str
) -> None:
    error = errors.from_status(spec_for("openai"), "openai", status, [name], said, {})
    assert (error.code, error.cause) == (code, cause)


@pytest.mark.parametrize(
    ("name", "code", "cause"),
    [
        ("overloaded_error", "provider_overloaded", "broken"),
        ("throttlingException", "provider_rate_limited", "broken"),
        ("modelStreamErrorException", "provider_error", "broken"),
        ("anything_else", "provider_error", "broken"),
        ("invalid_request_error", "provider_bad_request", "rejected"),
        ("validationException", "provider_bad_request", "rejected"),
        ("503", "provider_overloaded", "broken"),
        ("slow_down", "provider_overloaded", "broken"),
    ],
)
def test_an_error_event_may_be_billed_whatever_it_says(name: str, code: str, cause: str) -> None:
    error = errors.from_event(spec_for("openai"), "openai", [name], "")
    assert (error.code, error.cause, error.may_be_billed) == (code, cause, True)


def test_an_overload_that_openai_calls_a_server_error_is_known_by_its_words() -> None:
    said = "That model is currently overloaded with other requests."
    codes = [errors.from_event(spec_for("openai"), "openai", [n], said).code for n in ("server_error", "429")]
    assert codes == ["provider_overloaded", "provider_rate_limited"]


def test_a_message_says_who_what_for_which_model_and_what_to_do() -> None:
    error = errors.from_status(spec_for("anthropic"), "our-claude", 404, [], "model: nope", {})
    assert error.message == (
        "our-claude does not know the model (claude-haiku-4-5, status 404): model: nope. "
        "Check the model's name and that our account may use it."
    )


def test_a_long_message_is_cut_and_put_on_one_line() -> None:
    quote = errors.quotable("one\ntwo\t" + "x " * 1000, spec_for("openai").request)
    assert quote.startswith("one two x")
    assert len(quote) <= errors.QUOTED_CHARS


@pytest.mark.parametrize("key", ["sk-abc123456789", "sk-ant-api03-xyz_-99", "sk-proj-****9876", "AKIAIOSFODNN7EXAMPLE"])
def test_anything_like_a_key_is_blanked(key: str) -> None:
    assert key not in errors.quotable(f"Incorrect API key provided: {key}.", spec_for("openai").request)


@given(
    prompt=st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=40, max_size=300),
    start=st.integers(0, 200),
    length=st.integers(23, 60),
)
def test_a_piece_of_the_prompt_is_never_quoted(prompt: str, start: int, length: int) -> None:
    prompt = " ".join(prompt.split())
    piece = prompt[start : start + length].strip()
    if len(piece) < 23:
        return
    assert errors.quotable(f"Could not parse: {piece} (at 12)", spec_for("openai", "Q: " + prompt).request) == ""
