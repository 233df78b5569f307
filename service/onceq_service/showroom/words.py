"""What people ask in the showroom, and what they are answered: made-up sentences, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final, Literal

Kind = Literal["ticket", "search", "research", "review", "contract", "campaign", "sweep"]

THINGS: Final = (
    "the October invoice", "a cancelled subscription", "the mobile app", "two-factor login", "a damaged parcel",
    "the export to a spreadsheet", "an upgrade to the team plan", "the refund of order {n}", "a duplicate charge",
    "the calendar sync", "a password reset", "the delivery to Rotterdam", "the quarterly report", "an expired card",
)  # fmt: skip
TOPICS: Final = (
    "retry budgets", "vector indexes", "the price of idle capacity", "churn in the second month", "cold-start latency",
    "annotator agreement", "seasonal demand", "long-context recall", "tool use in small models", "prompt drift",
    "how customers describe faults", "energy per answer",
)  # fmt: skip
PARTIES: Final = ("Northwind BV", "Halvorsen AS", "Lumen Studio", "Castellan Freight", "Ostrava Paper", "Meridian Labs")
ASKS: Final[dict[Kind, tuple[str, ...]]] = {
    "ticket": (
        "Ticket {n}: a customer writes about {thing}. They have waited {small} days. Draft a friendly reply.",
        "Ticket {n}: summarise the thread on {thing} in two lines, and say what we owe the customer.",
        "Ticket {n}: the customer is angry about {thing}. Answer calmly, and offer a next step.",
    ),
    "search": (
        "Answer in two sentences for a visitor who searched for '{topic}' (page {n}).",
        "Which of our help pages fits the question 'what about {thing}?' best, and why? Visit {n}.",
    ),
    "research": (
        "Compare three approaches to {topic} and list the evidence for each; run {n}.",
        "Write an outline for a memo on {topic} with open questions; draft {n}.",
        "Grade this answer on {topic} from 1 to 5 by our rubric, and give reasons; sample {n}.",
    ),
    "review": (
        "Classify review {n}: 'I ordered because of {thing}, it took {small} days.' Topic, tone, urgency as JSON.",
        "Extract product, fault and wish from review {n}, which is about {thing}.",
    ),
    "contract": ("Review clause {small} of the agreement {n} with {party}. Name risks, and suggest wording.",),
    "campaign": ("Write five subject lines for a campaign on {topic}, in a warm tone; variant {n}.",),
    "sweep": ("Experiment {n}: write a long story on {topic} with temperature {small}.",),
}
SENTENCES: Final = (
    "Thank you for the details; they made it easy to see what happened with {thing}.",
    "The short answer is that {topic} matters most when the load is uneven.",
    "We checked the record and found one entry that does not fit the others.",
    "As a next step I suggest to confirm the address and to wait one working day.",
    "There are three points to keep apart: what was agreed, what was delivered, and what it cost.",
    "The figures for {topic} rose by {small} % against the month before.",
    "Nothing has to be done on your side; we will write again when {thing} is settled.",
    "This holds for most cases, and the exceptions are listed below.",
    "**Risk:** the clause leaves open who pays when {thing} is late.",
    "A simpler wording would be: each side bears its own cost for {thing}.",
    "- Topic: {topic}\n- Tone: neutral\n- Urgency: {small}",
    "If that does not help, reply with the number {n} and a person will take over.",
    "The sources disagree on {topic}, so the estimate has a wide range.",
    "In short: keep it, measure it again next week, and decide then.",
)  # fmt: skip
SYSTEM: Final[dict[Kind, str]] = {
    "ticket": "You answer for the support team. Be brief, be kind, never promise a refund, sign with the team's name.",
    "search": "You write answer boxes. Two sentences, no lists, name the page that you rely on.",
    "review": "Answer with JSON alone: topic, tone, urgency from 1 to 5.",
    "contract": "You review contracts for a small company. You are no lawyer, and say so once.",
}
LONG: Final = 24
"""Sentences of a contract that is to be reviewed."""


def question(kind: Kind, rng: random.Random) -> str:
    """One prompt."""
    asked = _filled(rng.choice(ASKS[kind]), rng)
    if kind != "contract":
        return asked
    return asked + "\n\n" + " ".join(_filled(rng.choice(SENTENCES), rng) for _ in range(LONG))


def answer(tokens: int, rng: random.Random) -> str:
    """About so many tokens of prose, four bytes each."""
    text = ""
    while len(text) < tokens * 4:
        text += (" " if text else "") + _filled(rng.choice(SENTENCES), rng)
    return text[: tokens * 4].rstrip() + "."


def pieces(text: str, number: int) -> Sequence[str]:
    """The text in about so many pieces, none of them empty."""
    size = max(1, -(-len(text) // number))
    return [text[n : n + size] for n in range(0, len(text), size)]


def _filled(template: str, rng: random.Random) -> str:
    return (
        template.replace("{thing}", rng.choice(THINGS)).format(
            n=rng.randrange(10_000, 99_999),
            small=rng.randrange(2, 9),
            topic=rng.choice(TOPICS),
            party=rng.choice(PARTIES),
        )
        if "{" in template
        else template
    )
