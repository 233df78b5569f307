"""Options that several commands have, and the settings that follow from them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from onceq.errors import ConfigurationError
from onceq_service.embedded.ping import ask_redis
from onceq_service.embedded.redis_server import redis_url, socket_path
from onceq_service.settings import Settings, load_settings

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of data, API key and logs [ONCEQ_DATA_DIR, .onceq]."),
]
Port = Annotated[int | None, typer.Option("--port", help="Port of the API, 0 for a free one [ONCEQ_PORT, 8000].")]
DashboardPort = Annotated[
    int | None,
    typer.Option("--dashboard-port", help="Port of the dashboard [ONCEQ_DASHBOARD_PORT, 8501]."),
]
Workers = Annotated[int | None, typer.Option("--workers", help="Worker processes [ONCEQ_WORKER_PROCESSES, 2].")]
TIME: Final = "TIME"
"""The metavar of a time, which `time_of` reads."""
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def reach_redis(settings: Settings) -> Settings:
    """Settings whose Redis is the given one, else the one that `onceq up` runs in the data folder.

    Raises ConfigurationError when there is neither.
    """
    if "redis_url" in settings.model_fields_set:
        return settings
    socket = socket_path(settings.data_dir.resolve())
    if ask_redis(socket, "PING") is None:
        raise ConfigurationError(
            f"no Redis runs for {settings.data_dir}: start `onceq up` there, or set ONCEQ_REDIS_URL to yours."
        )
    return settings.model_copy(update={"redis_url": redis_url(socket)})


def settings_of(data_dir: Path | None = None) -> Settings:
    """Settings from the environment, and the data folder when it was named."""
    return load_settings(data_dir=data_dir)


def time_of(text: str | None) -> datetime | None:
    """A time that was given as text, a local one without a zone; raises BadParameter."""
    try:
        return None if text is None else datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as exc:
        raise typer.BadParameter(f"{text!r} is not a time such as 2026-11-24T10:00:00Z or 2026-11-24") from exc
