"""Values as people read them."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceq_dashboard import format as fmt


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (None, "unknown"),
        (0, "$0"),
        (1, "$0.000000001"),
        (304_350, "$0.000304"),
        (10_000_000, "$0.01"),
        (6_631_000, "$0.00663"),
        (999_999_999, "$1.00"),
        (1_000_000_000, "$1.00"),
        (1_234_567_890_000, "$1,234.57"),
        (999_999_990_000_000, "$999,999.99"),
        (1_579_152_050_300_000_000, "$1,579.15M"),
        (-2_500_000_000, "-$2.50"),
    ],
)
def test_money_has_cents_from_a_dollar_up_and_three_digits_below(nano: int | None, text: str) -> None:
    assert fmt.usd(nano) == text


@given(st.integers(min_value=1, max_value=10**17))
def test_money_is_never_off_by_more_than_its_last_shown_digit(nano: int) -> None:
    text = fmt.usd(nano).removeprefix("$").replace(",", "")
    shown, true = Decimal(text.removesuffix("M")), Decimal(nano).scaleb(-15 if text.endswith("M") else -9)
    assert abs(shown - true) <= max(true * Decimal("0.005"), 0 if true < 1 else Decimal("0.005"))


@given(st.integers(min_value=-(10**18), max_value=10**18))
def test_money_in_files_is_exact(nano: int) -> None:
    assert Decimal(fmt.exact_usd(nano)) == Decimal(nano) / 1_000_000_000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "—"),
        (0, "0 ms"),
        (0.0004, "0 ms"),
        (0.534, "534 ms"),
        (0.9996, "1.00 s"),
        (9.994, "9.99 s"),
        (9.996, "10.0 s"),
        (59.96, "1 min"),
        (300, "5 min"),
        (61, "1 min 1 s"),
        (3_599.6, "1 h"),
        (7_300, "2 h 1 min"),
        (86_400, "1 d"),
        (200_000, "2 d 7 h"),
    ],
)
def test_a_span_of_time_has_the_unit_that_fits_it(seconds: float | None, text: str) -> None:
    assert fmt.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0 s ago"), (59.9, "59 s ago"), (60, "1 min ago"), (9e4, "1 d ago")]
)
def test_an_age_has_one_unit(seconds: float, text: str) -> None:
    assert fmt.age(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (9_999, "9,999"), (10_000, "10k"), (12_345, "12.3k"), (999_499, "999k"), (999_500, "1,000k"),
     (1_000_000, "1M"), (2_345_678, "2.35M"), (5_000_000_000, "5G"), (-12_345, "-12.3k")],
)  # fmt: skip
def test_counts_are_exact_below_ten_thousand(number: int, text: str) -> None:
    assert fmt.count(number) == text


def test_shares_and_factors_say_when_there_is_nothing_to_divide_by() -> None:
    assert (fmt.share(1, 3), fmt.share(0, 0)) == ("33.3 %", "—")
    assert (fmt.share(99, 1), fmt.share(10**20, 33)) == ("9900.0 %", "> 9,900 %")
    assert (fmt.share(1, 1999), fmt.share(1, 2001), fmt.share(0, 2001)) == ("0.1 %", "< 0.1 %", "0.0 %")
    assert (fmt.factor(2.8), fmt.factor(None)) == ("2.80×", "—")
    assert (fmt.some(1, "job"), fmt.some(2, "job"), fmt.some(2, "process", "processes")) == (
        "1 job",
        "2 jobs",
        "2 processes",
    )


@given(st.text(), st.integers(3, 40))
def test_a_shortened_name_keeps_both_of_its_ends(text: str, most: int) -> None:
    short = fmt.shortened(text, most)
    assert len(short) <= most
    assert short == text or (text.startswith(short.partition("…")[0]) and text.endswith(short[-1]))
    assert fmt.shortened("summarise-contracts · v1", 12)[-2:] == "v1"


@given(st.text())
def test_a_literal_keeps_every_word_and_leaves_no_sign_that_could_be_markup(text: str) -> None:
    escaped = fmt.literal(text)
    back = re.sub(r"\\(.)", r"\1", escaped)
    assert back.replace("\u2060", "") == " ".join(text.split()).replace("\u2060", "")
    assert "\n" not in escaped
    bare = escaped.replace("\\\\", "")
    for sign in "*_`[]<>$:#~|!":
        assert bare.count(sign) == bare.count(f"\\{sign}")


@pytest.mark.parametrize(
    "text", ["see https://evil.example", "HTTP://x", "www.evil.example", "a@evil.example", "a -> b", "<- b", "a <-> b"]
)
def test_a_literal_holds_no_address_and_no_arrow_that_is_made_into_something_else(text: str) -> None:
    unescaped = re.sub(r"\\(.)", r"\1", fmt.literal(text))
    assert not re.search(r"https?:|www\.|@\w|->|<-", unescaped, re.IGNORECASE)


@pytest.mark.parametrize(
    ("text", "span"),
    [("plain", "`plain`"), ("a`b", "`` a`b ``"), ("``", "``` `` ```"), ("", "` `"), ("two\nlines", "`two lines`")],
)
def test_a_code_span_is_fenced_so_that_nothing_in_it_can_end_it(text: str, span: str) -> None:
    assert fmt.code_span(text) == span
