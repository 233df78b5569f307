"""Colours that mean something must be told apart: on light and dark ground, and by colour-blind eyes."""

from __future__ import annotations

import math
from itertools import combinations
from operator import mul
from typing import Final

import pytest

from onceq_dashboard import charts, money_charts
from onceq_dashboard.options import COLOURS

Triple = tuple[float, float, float]
SIGHTS: Final[dict[str, tuple[Triple, Triple, Triple]]] = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900),
    ),
}  # fmt: skip
"""What an eye of each kind sees of linear RGB (Machado, Oliveira, Fernandes 2009, severity 1.0)."""
APART: Final = 14.0
"""Distance in CIE L*a*b* (CIE76) from which two areas of colour are told apart at a glance; 2.3 is just noticeable."""
PARTS: Final = 3.0
"""Contrast that a part of a picture needs against its ground (WCAG 2.2, 1.4.11)."""
TEXT: Final = 4.5
"""Contrast that text needs (WCAG 2.2, 1.4.3)."""
SETS: Final = {
    "outcomes": charts.OUTCOME_COLOURS,
    "models": charts.PALETTE,
    "quantiles": (charts.P50, charts.P95),
    "money": money_charts.PART_COLOURS,
    "blames": charts.BLAME_COLOURS,
}


def linear(colour: str) -> Triple:
    def channel(at: int) -> float:
        value = int(colour[at : at + 2], 16) / 255
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    return channel(1), channel(3), channel(5)


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        red, green, blue = linear(colour)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def seen(colour: str, sight: str) -> Triple:
    """The colour in L*a*b* (D65) as an eye of that kind sees it."""
    rgb = linear(colour)
    red, green, blue = (min(1.0, max(0.0, sum(map(mul, row, rgb)))) for row in SIGHTS[sight])

    def root(t: float) -> float:
        return t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116

    x = root((0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.95047)
    y = root(0.2126 * red + 0.7152 * green + 0.0722 * blue)
    z = root((0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.08883)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("name", SETS)
def test_colours_of_one_chart_are_told_apart_by_every_eye(name: str, sight: str) -> None:
    near = {
        (a, b): round(math.dist(seen(a, sight), seen(b, sight)), 1)
        for a, b in combinations(SETS[name], 2)
        if math.dist(seen(a, sight), seen(b, sight)) < APART
    }
    assert not near


@pytest.mark.parametrize("base", COLOURS)
@pytest.mark.parametrize("name", SETS)
def test_every_colour_stands_out_from_light_and_dark_ground(name: str, base: str) -> None:
    ground = COLOURS[base]["backgroundColor"]
    faint = {colour: round(contrast(colour, ground), 2) for colour in SETS[name] if contrast(colour, ground) < PARTS}
    assert not faint


@pytest.mark.parametrize("base", COLOURS)
@pytest.mark.parametrize("text", ["textColor", "grayTextColor", "linkColor"])
def test_text_is_readable_on_light_and_dark_ground(text: str, base: str) -> None:
    for ground in ("backgroundColor", "secondaryBackgroundColor"):
        assert contrast(COLOURS[base][text], COLOURS[base][ground]) >= TEXT


def test_the_checker_knows_red_and_green_that_a_colour_blind_eye_mixes_up() -> None:
    red, green = "#c0504d", "#7a8c3a"
    assert math.dist(seen(red, "normal"), seen(green, "normal")) > 3 * APART
    assert math.dist(seen(red, "deuteranopia"), seen(green, "deuteranopia")) < APART
