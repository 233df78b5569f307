"""How the dashboard looks, light and dark, and how its server behaves: all in options, so that no file is needed."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")

OPEN: Final = "ONCEQ_DASHBOARD_OPEN"
"""Set by `main` alone, for the pages: `--open` was given. What it was set to before does not count."""

PATHS: Final = ("", "jobs", "failures", "latency", "cost", "budgets", "keys")
"""Of the pages, as `app.py` has them; the first is the one at the dashboard's own address."""

COLOURS: Final = {
    "light": {
        "primaryColor": "#2f5ce0",
        "backgroundColor": "#ffffff",
        "secondaryBackgroundColor": "#f4f6fa",
        "textColor": "#0f1626",
        "borderColor": "#dfe4ec",
        "linkColor": "#2a50c4",
        "codeBackgroundColor": "#f4f6fa",
        "grayTextColor": "#5b6577",
    },
    "dark": {
        "primaryColor": "#6d93ff",
        "backgroundColor": "#11151d",
        "secondaryBackgroundColor": "#1a202c",
        "textColor": "#e8ecf4",
        "borderColor": "#2c3546",
        "linkColor": "#93b0ff",
        "codeBackgroundColor": "#1a202c",
        "grayTextColor": "#a3adbf",
    },
}

_SERVER: Final = {
    "server.headless": "true",
    "server.showEmailPrompt": "false",
    "server.fileWatcherType": "none",
    "server.runOnSave": "false",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "none",
    "client.showErrorLinks": "false",
    "logger.level": "warning",
    "theme.font": "-apple-system, 'Segoe UI', Inter, Roboto, 'Helvetica Neue', sans-serif",
    "theme.baseRadius": "0.6rem",
    "theme.metricValueFontSize": "1.5rem",
    "theme.headingFontSizes": '["1.75rem", "1.25rem", "1.05rem"]',
    "theme.headingFontWeights": "[650, 650, 600]",
    "theme.showWidgetBorder": "true",
}

_CHOICES: Final = ("cost_period", "cost_by", "cost_kind", "latency_period", "latency_by", "latency_quantile",
                   "latency_kind", "overview_kind", "budgets_kind")  # fmt: skip
_FIELDS: Final = ("jobs_search", "jobs_status", "jobs_model", "jobs_team", "failures_cause", "failures_model",
                  "failures_team", "latency_model", "latency_band")  # fmt: skip


def _keyed(keys: Sequence[str]) -> str:
    return f":is({', '.join(f'.st-key-{key}' for key in keys)})"


STYLE: Final = f"""<style>
[data-testid="stMetricValue"] {{font-variant-numeric: tabular-nums}}
[data-testid="stLayoutWrapper"]:has(> .st-key-onceq_unseen) {{display: none}}
#root [data-testid="stCaptionContainer"] {{opacity: 0.8}}
#root [data-testid^="stBaseButton-primary"], #root [data-testid="stMultiSelectTagsContainer"] [data-tag] {{
  color: light-dark(#ffffff, #11151d)}}
[data-testid="stElementToolbarButton"]:has([aria-label="Download as CSV"]) {{display: none}}
@media (hover: none) {{ [data-testid="stDataFrame"] [data-testid="stElementToolbar"] {{display: none}} }}
#root [data-testid="stMainBlockContainer"] {{max-width: initial; min-width: 100%; padding-top: 5.5rem}}
@media (min-width: 736px) {{
  #root [data-testid="stMainBlockContainer"] {{padding-left: 5rem; padding-right: 5rem}}
}}
{_keyed(_CHOICES)} {{min-height: 63px}}
{_keyed(_FIELDS)}, [data-testid="stForm"] [data-testid="stElementContainer"]:has([data-testid="stSkeleton"]) {{
  min-height: 68px}}
.st-key-overview_answers [data-testid="stVerticalBlock"] {{container-type: inline-size}}
.st-key-overview_answers [data-testid="stMarkdownContainer"] p {{min-height: 2lh}}
@container (max-width: 450px) {{ .st-key-overview_answers [data-testid="stMarkdownContainer"] p {{min-height: 3lh}} }}
@container (max-width: 290px) {{ .st-key-overview_answers [data-testid="stMarkdownContainer"] p {{min-height: 4lh}} }}
[class*="st-key-budget_full"] [data-testid="stProgressBarTrack"] > div {{background: #e25812}}
@media (max-width: 500px) {{
  .st-key-cost_by {{min-height: 103px}}
  .st-key-cost_by [role="radiogroup"] {{flex-wrap: wrap}}
}}
</style>"""
"""What no option can say: digits keep their place as they change, and what comes later finds its place kept.

The page is as wide from the start as it will be told to be, and a field with its label as high as it will be drawn.
An answer that changes while one reads has room for the lines of the longest, so that what stands below it stays.
The bar of a budget that is used up warns. Captions and what stands on the first colour have the contrast of text.
Streamlit's own download of a table is gone, as it does not guard against spreadsheet formulas; on a touch screen the
buttons of a table would always lie on the words above it.
"""


def secrets_file() -> str | None:
    """The file of the sign-in that ONCEQ_DASHBOARD_SECRETS names; None where it names none."""
    return os.environ.get("ONCEQ_DASHBOARD_SECRETS") or None


def public_hosts() -> list[str]:
    """The names under which a proxy shows the dashboard to others: ONCEQ_DASHBOARD_HOSTS, with commas between them."""
    return os.environ.get("ONCEQ_DASHBOARD_HOSTS", "").replace(",", " ").split()


def problem() -> str | None:
    """What is wrong with the variables above, as a sentence.

    Streamlit would start without a secrets file that it can't use, and so without the sign-in that was asked for.
    """
    for name in public_hosts():
        if "/" in name or ":" in name:
            return f"ONCEQ_DASHBOARD_HOSTS has {name!r}: write the host's name alone, without a scheme and a port."
    path = secrets_file()
    try:
        tomllib.loads(Path(path).read_text("utf-8") if path else "")
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else exc
        return (
            f"ONCEQ_DASHBOARD_SECRETS names {path}, which can't be used ({why}): mend the file, or unset the variable."
        )
    return None


def flags(host: str, port: int) -> list[str]:
    """The command line that `streamlit run` takes.

    On loopback only loopback's names are answered, because of DNS rebinding, and those of ONCEQ_DASHBOARD_HOSTS.
    """
    options = [*_SERVER.items(), ("server.address", host), ("server.port", str(port))]
    secrets, public = secrets_file(), public_hosts()
    if secrets:
        options.append(("secrets.files", secrets))
    if host in LOOPBACK or public:
        options += [("server.allowedHosts", name) for name in (*LOOPBACK, *public)]
    for base, colours in COLOURS.items():
        options += [(f"theme.{base}.{name}", colour) for name, colour in colours.items()]
    return [f"--{name}={value}" for name, value in options]
