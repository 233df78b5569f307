"""Draws figures as an SVG that README shows: `python -m benchmarks.chart side_by_side.json docs/side_by_side.svg`.

A chart is bars of two to five contestants a row, each row scaled to its own largest, with the figures written beside
them; what machine, versions and settings they are of stands below. Light and dark as the reader's browser is.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final, cast

WIDTH: Final = 860
NAMES: Final = 330
"""Where the bars begin."""
LONGEST: Final = 380
BAR: Final = 13
GAP: Final = 16
HEAD: Final = 64
STYLE: Final = """
text{font:13px system-ui,sans-serif;fill:#1f2933}.h{font-size:17px;font-weight:600}.s{font-size:12px;fill:#52606d}
.v{font-size:12px}.b0{fill:#9aa5b1}.b1{fill:#2f6fed}.b2{fill:#cbd2d9}.b3{fill:#1a9c86}.b4{fill:#86b6ff}
@media(prefers-color-scheme:dark){text{fill:#e4e7eb}.s{fill:#9aa5b1}.b0{fill:#616e7c}.b1{fill:#6ea0ff}.b2{fill:#3e4c59}.b3{fill:#4fd1b5}.b4{fill:#3f66b0}}
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One metric: `values` in the order of the chart's contestants, None where one has no such thing."""

    name: str
    unit: str
    better: str
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn. `notes` are lines below it."""

    title: str
    contestants: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str]

    @classmethod
    def read(cls, text: str) -> Chart:
        """From JSON; raises ValueError, KeyError or TypeError where it is not one."""
        told = cast("dict[str, Any]", json.loads(text))
        rows = [Row(**row) for row in told["rows"]]
        for row in rows:
            if len(row.values) != len(told["contestants"]):
                raise ValueError(f"{row.name}: {len(row.values)} values for {len(told['contestants'])} contestants")
        return cls(told["title"], told["contestants"], rows, told["notes"])

    def svg(self) -> str:
        """The picture."""
        height_of_row = BAR * len(self.contestants) + GAP
        below = HEAD + height_of_row * len(self.rows)
        height = below + 20 * len(self.notes) + 12
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
            f'aria-label="{escape(self.title)}"><style>{STYLE}</style>',
            _text(16, 26, self.title, "h"),
            *self._legend(),
            *(line for n, row in enumerate(self.rows) for line in self._row(row, HEAD + n * height_of_row)),
            *(_text(16, below + 20 * (n + 1), note, "s") for n, note in enumerate(self.notes)),
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    def _legend(self) -> list[str]:
        found: list[str] = []
        apart = min(150, (WIDTH - NAMES) // len(self.contestants))
        for n, name in enumerate(self.contestants):
            x = NAMES + n * apart
            found += [
                f'<rect class="b{n}" x="{x}" y="38" width="12" height="12" rx="2"/>',
                _text(x + 18, 49, name, "s"),
            ]
        return found

    def _row(self, row: Row, top: int) -> list[str]:
        most = max([value for value in row.values if value is not None], default=0) or 1
        found = [_text(16, top + 13, row.name), _text(16, top + 28, f"{row.unit}, {row.better} is better", "s")]
        for n, value in enumerate(row.values):
            y = top + n * BAR
            length = 0 if value is None else max(2, round(LONGEST * value / most))
            found.append(f'<rect class="b{n}" x="{NAMES}" y="{y}" width="{length}" height="{BAR - 2}" rx="2"/>')
            said = "none" if value is None else _number(value)
            found.append(_text(NAMES + length + 6, y + BAR - 3, said, "v"))
        return found


def _text(x: int, y: int, text: str, kind: str = "") -> str:
    return f'<text x="{x}" y="{y}" class="{kind}">{escape(text)}</text>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"


def main() -> int:
    """Reads the figures, writes the picture; 1 and a sentence where they can't be read."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chart", description="Draws figures as an SVG.")
    parser.add_argument("figures", type=Path, help="JSON: title, contestants, rows, notes")
    parser.add_argument("picture", type=Path, help="the SVG to write")
    options = parser.parse_args()
    try:
        chart = Chart.read(options.figures.read_text("utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as exc:
        print(f"{options.figures} can't be drawn: {exc!r}", file=sys.stderr)
        return 1
    options.picture.write_text(chart.svg(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
