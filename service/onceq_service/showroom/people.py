"""Who uses onceq in the showroom: five applications and two teams with notebooks, with their habits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from onceq.wire import Band
from onceq_service.showroom.words import Kind

Day = Literal["office", "shop", "night"]

MINI: Final = "openai/gpt-4o-mini"
LARGE: Final = "openai/gpt-4o"
THINKING: Final = "openai/gpt-5"
HAIKU: Final = "anthropic/claude-haiku-4-5"
SONNET: Final = "anthropic/claude-sonnet-4-5"
NOVA: Final = "bedrock/amazon.nova-lite-v1:0"
NOVA_PRO: Final = "bedrock/amazon.nova-pro-v1:0"


@dataclass(frozen=True, slots=True)
class App:
    """One application, which has a key of its own.

    `share` of all jobs; `models` with their weights, a tuple of several is a list of fallbacks; `repeats` of its posts
    ask again what was asked minutes before; `cancels` of them are cancelled; `tokens` of an answer, about.
    """

    name: str
    team: str
    band: Band
    kind: Kind
    day: Day
    share: float
    models: tuple[tuple[tuple[str, ...], float], ...]
    users: tuple[str, ...]
    prompt: str
    versions: tuple[str, str]
    tokens: int
    repeats: float = 0.02
    cancels: float = 0.004
    queue_s: float | None = None


def _numbered(word: str, number: int) -> tuple[str, ...]:
    return tuple(f"{word}-{n:03d}" for n in range(1, number + 1))


APPS: Final[tuple[App, ...]] = (
    App("support-bot", "support", "interactive", "ticket", "office", 0.33,
        (((MINI,), 0.55), ((HAIKU, MINI), 0.45)), _numbered("agent", 24),
        "ticket-reply", ("v3", "v4"), 170, 0.05, 0.006),
    App("search-api", "search", "interactive", "search", "shop", 0.27,
        (((NOVA,), 0.6), ((MINI,), 0.4)), _numbered("visitor", 400),
        "answer-box", ("v7", "v8"), 70, 0.08, 0.01, 20.0),
    App("notebooks", "research", "standard", "research", "office", 0.14,
        (((SONNET,), 0.4), ((LARGE,), 0.35), ((THINKING,), 0.25)),
        ("a.lindqvist", "j.moreau", "k.tanaka", "m.okafor", "s.petrov", "t.alvarez"),
        "memo", ("v1", "v2"), 420, 0.1, 0.02),
    App("nightly-batch", "data", "batch", "review", "night", 0.18,
        (((MINI,), 0.7), ((NOVA,), 0.3)), (),
        "classify-reviews", ("v11", "v12"), 60, 0.0, 0.0),
    App("legal-review", "legal", "standard", "contract", "office", 0.05,
        (((SONNET, NOVA_PRO), 0.6), ((NOVA_PRO,), 0.4)), ("c.weber", "d.rossi", "e.novak"),
        "clause-review", ("v2", "v2"), 520),
    App("campaigns", "marketing", "standard", "campaign", "office", 0.03,
        (((LARGE,), 0.8), ((HAIKU,), 0.2)), ("p.duarte", "r.chen"),
        "subject-lines", ("v1", "v1"), 150, 0.06, 0.03),
)  # fmt: skip
SWEEPER: Final = App(
    "notebooks", "research", "batch", "sweep", "office", 0.0,
    (((LARGE,), 1.0),), ("j.moreau",), "sweep", ("v1", "v1"), 800,
)  # fmt: skip
"""The batch that ran away: a loop in a notebook, in which somebody had set `fresh`."""
NAMES: Final = tuple(dict.fromkeys(app.name for app in APPS))
HOURS: Final[dict[Day, tuple[float, ...]]] = {
    "office": (0, 0, 0, 0, 0, 0.2, 0.6, 2, 5, 7, 8, 7, 5, 7, 8, 7, 6, 4, 2, 1, 0.6, 0.3, 0.1, 0),
    "shop": (1, 0.6, 0.4, 0.3, 0.4, 0.8, 1.5, 2.5, 3, 3.5, 4, 4.2, 4.5, 4, 3.8, 4, 4.5, 5.5, 7, 8, 7.5, 6, 4, 2),
    "night": (0, 12, 8, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
}
"""How busy each hour (UTC) is; only the ratios matter."""
WEEKEND: Final[dict[Day, float]] = {"office": 0.06, "shop": 1.25, "night": 1.0}
