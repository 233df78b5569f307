"""Logging of an API process: structlog to stderr, JSON or for people; uvicorn's own messages go the same way.

Never logged: API keys, prompts, answers. Tracebacks are plain, without the values of local variables.
"""

from __future__ import annotations

import logging
import sys

import structlog

from onceq_service.settings import Settings


def configure_logs(settings: Settings) -> None:
    """Sets up logging for this process; call once, before anything logs."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    renderer = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if settings.log_json
        else [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_ToStructlog()], level=max(level, logging.WARNING), force=True)


class _ToStructlog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger(record.name)
        logger.log(record.levelno, record.getMessage(), exc_info=record.exc_info or None)
