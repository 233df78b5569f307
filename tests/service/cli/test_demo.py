"""The demo is a test of the whole product; here it is shown to find what is not as promised, too."""

from __future__ import annotations

from onceq import Client
from onceq_service.cli.story import Story
from tests.stack import Stack


def test_the_story_holds_and_a_call_that_is_not_in_our_ledger_is_found(stack: Stack) -> None:
    with Client(stack.url, stack.key("stranger")) as stranger:
        stranger.submit("a call of somebody else", model="openai/gpt-4o-mini").result(30)
    with Client(stack.url, stack.key("story")) as client:
        story = Story(client, stack.url, stack.key("story"), stack.simulator)
        story.tell()
    assert len(story.broken) == 2
    assert "the provider's meter counts" in story.broken[0]
    assert story.broken[1].startswith("our ledger counts 5 calls, the provider's meter")
