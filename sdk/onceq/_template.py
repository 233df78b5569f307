"""A prompt with holes: `{name}` is filled from a namespace, `{{` and `}}` are braces. No I/O.

A name is an identifier, or whatever else is known by then, such as a column called `review text`.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import Final

_HOLE: Final = re.compile(r"\{\{|\}\}|\{([^{}\n]+)\}")


class MissingNames(LookupError):  # noqa: N818 - reads as what happened
    """Names that the prompt uses and the namespace lacks, in `names`."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"the prompt uses {', '.join(names)}, which this notebook has not defined.")
        self.names = names


def fill(template: str, namespace: Mapping[str, object]) -> str:
    """The prompt with every `{name}` replaced by `str(namespace[name])`; other braces stay. Raises MissingNames.

    Names alone are filled in, not expressions: a text with braces, such as JSON, is a prompt like any other.
    """
    missing = [name for name in names_in(template, namespace) if name not in namespace]
    if missing:
        raise MissingNames(missing)

    def filled(hole: re.Match[str]) -> str:
        if hole[1] is None:
            return hole[0][0]
        return str(namespace[hole[1]]) if hole[1] in namespace else hole[0]

    return _HOLE.sub(filled, template)


def names_in(template: str, known: Container[object] = ()) -> list[str]:
    """The names of its holes, each once."""
    found = dict.fromkeys(hole[1] for hole in _HOLE.finditer(template) if hole[1])
    return [name for name in found if name.isidentifier() or name in known]
