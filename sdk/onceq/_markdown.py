"""Model text as HTML that can do nothing: Markdown's own structure, every tag of the text escaped. No I/O.

It is rendered here and not by the notebook's frontend, because those pass raw HTML on (nbconvert's pages run its
scripts) and fetch images, which tells a stranger's server that, and what, was asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, MutableMapping, Sequence
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markdown_it.renderer import RendererHTML
    from markdown_it.token import Token
    from markdown_it.utils import OptionsDict


def safe_html(text: str) -> str:
    """The text with headings, lists, tables and code as Markdown has them; links are http, https and mailto.

    No tag, image, script or formula of the text comes to life. Without the extra `notebook` it is shown as it came.
    """
    return untypeset(_renderer()(text))


def untypeset(html: str) -> str:
    """HTML that MathJax, old and new, leaves alone: formulas can hold scripts (\\href), and prices are none."""
    return f'<div class="tex2jax_ignore mathjax_ignore">{html}</div>'


def fenced(text: str) -> str:
    """The text as a Markdown code block, behind a fence that is longer than any in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def preformatted(text: str) -> str:
    """The text as it came, line breaks kept."""
    return f'<div style="white-space:pre-wrap">{escape(text)}</div>'


@cache
def _renderer() -> Callable[[str], str]:
    try:
        from markdown_it import MarkdownIt
    except ImportError:
        return preformatted

    class Harmless(MarkdownIt):
        def validateLink(self, url: str) -> bool:  # noqa: N802 - the library's name
            return re.match(r"(https?://|mailto:)", url, re.IGNORECASE) is not None

    markdown = Harmless("js-default", {"html": False}).disable("image")  # an image is then a link to it
    markdown.add_render_rule("link_open", _link_open)
    return markdown.render


def _link_open(
    renderer: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, _env: MutableMapping[str, Any]
) -> str:
    tokens[at].attrSet("target", "_blank")
    tokens[at].attrSet("rel", "noopener noreferrer")
    return renderer.renderToken(tokens, at, options, _env)
