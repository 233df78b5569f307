"""The empty page that every visit begins with: Streamlit's, told early what ours will need.

Streamlit's page asks for each part of itself (numbers, tables, charts) when it first has to draw one: wave after wave,
half of a first visit was waiting for them. It also looks for its server below the path of each page first, and begins
in another layout than ours. All of that is said in the head of the page here; where another Streamlit names its parts
differently, it is its page and no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import streamlit

from onceq_dashboard.options import STYLE

STATIC: Final = Path(streamlit.__file__).parent / "static"
PARTS: Final = ("Metric", "ButtonGroup", "Selectbox", "TextInput", "Button", "Progress")
"""What our pages are made of, in the order of need."""
_IMPORT: Final = re.compile(r"""(?:from|import)["']\./([\w.-]+\.js)["']""")
_SCRIPT: Final = """<script>
{ const home = new URL(".", location.href).href;
  window.__streamlit = {BACKEND_BASE_URL: home, MAIN_PAGE_BASE_URL: home}; }
</script>"""
"""Every page of ours is one name below its home, so that the server is not looked for anywhere else."""


@cache
def page() -> str:
    """The page's HTML."""
    told = (STATIC / "index.html").read_text("utf-8")
    links = [f'<link rel="modulepreload" crossorigin href="./static/js/{name}">' for name in _needed(told)]
    return told.replace("</head>", "\n".join([_SCRIPT, STYLE, *links, "</head>"]), 1)


def _needed(told: str) -> list[str]:
    """The files of the parts and what those import, once each, without those that the page names itself."""
    found = dict.fromkeys(name for part in PARTS for file in (STATIC / "static" / "js").glob(f"{part}.*.js")
                          for name in _with_imports(file, set()))  # fmt: skip
    return [name for name in found if name not in told]


def _with_imports(file: Path, seen: set[Path]) -> Iterator[str]:
    if file in seen or not file.is_file():
        return
    seen.add(file)
    yield file.name
    for name in _IMPORT.findall(file.read_text("utf-8")):
        yield from _with_imports(file.with_name(name), seen)
