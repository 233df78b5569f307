"""Logging of an API or worker process: structlog to stderr, JSON or for people; messages of libraries go the same way.

Never logged: API keys, prompts, answers; so of an exception only its kind and its places.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any, Final

import structlog
from structlog.typing import EventDict

from onceq_service.settings import Settings


def configure_logs(settings: Settings, process: str = "") -> None:
    """Sets up logging for this process, before anything logs; where there are several, each line names its own."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    renderer = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if settings.log_json
        else [_for_people()]
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([_Named(process)] if process else []),
            *renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),  # a line is one write: processes share a log
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_ToStructlog()], level=max(level, logging.WARNING), force=True)
    logging.getLogger("onceq").setLevel(level)


def _for_people() -> structlog.dev.ConsoleRenderer:
    """With colours on a terminal only: the log may be a file."""
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)


def without_words(exc: BaseException) -> dict[str, Any]:
    """An exception for a log: what it is and where it came from. Its own words could hold a prompt."""
    places = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(exc.__traceback__)]
    return {"error": type(exc).__name__, "places": places[-8:]}


_TOLD: Final[set[tuple[str, str]]] = set()


def told_once(event: str, exc: Exception) -> None:
    """Logs a fault of ours that something else makes up for, so that nobody else sees it: once for each kind."""
    kind = event, type(exc).__name__
    if kind not in _TOLD:
        _TOLD.add(kind)
        structlog.get_logger("onceq").error(event, **without_words(exc))


class _Named:
    def __init__(self, process: str) -> None:
        self._process = process

    def __call__(self, _logger: object, _method: str, event: EventDict) -> EventDict:
        event["process"] = self._process
        return event


class _ToStructlog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raised = record.exc_info[1] if record.exc_info else None
        said, why = (record.getMessage(), {}) if raised is None else (_first_line(record), without_words(raised))
        structlog.get_logger(record.name).log(record.levelno, said, **why)


def _first_line(record: logging.LogRecord) -> str:
    """asyncio writes a task below it, with its exception's words; Taskiq writes those into the line itself."""
    message, raised = record.getMessage(), record.exc_info[1] if record.exc_info else None
    words = str(raised or "")
    return (message.replace(words, type(raised).__name__) if words else message).partition("\n")[0]
