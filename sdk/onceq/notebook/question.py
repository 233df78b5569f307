"""`%llm Why is the sky blue?` asks the model, though to IPython a `?` at the end of a line asks for help on a word."""

from __future__ import annotations

import re
from collections.abc import Iterable
from tokenize import TokenInfo
from typing import Any, Final

from IPython.core.inputtransformer2 import EscapedCommand, HelpEnd

_ASKS: Final = re.compile(r"\s*%llm\s+[^\s?]")


class Question(EscapedCommand):
    """A line that begins with `%llm` and says something; `%llm?` is left to IPython, which then shows the help."""

    priority = HelpEnd.priority - 1

    @classmethod
    def find(cls, tokens_by_line: Iterable[list[TokenInfo]]) -> Any:
        """The first such line; tokens tell it from one inside of a string."""
        command: Any = super()
        return command.find([line for line in tokens_by_line if line and _ASKS.match(line[0].line)])


def let_questions_pass(shell: Any) -> None:
    """Adds it to a shell, once."""
    known: list[Any] = shell.input_transformer_manager.token_transformers
    if Question not in known:
        known.append(Question)
