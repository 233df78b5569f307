"""`onceq api`, `worker`, `dashboard`, `simulator`: one process each, for containers and for `onceq up`."""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
from importlib.util import find_spec
from typing import Annotated

import typer

from onceq.errors import ConfigurationError
from onceq_service.cli.options import DashboardPort, Port, Workers
from onceq_service.cli.output import hint
from onceq_service.embedded.environment import SUPERVISED
from onceq_service.names import meant, unknown_names, unread
from onceq_service.settings import Settings, load_settings


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(api)
    app.command()(worker)
    app.command()(dashboard)
    passed_on = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": list[str]()}
    app.command(context_settings=passed_on)(simulator)


def api(port: Port = None) -> None:
    """Serve the API alone.

    Uses ONCEQ_REDIS_URL [redis://127.0.0.1:6379/0]; runs ONCEQ_API_PROCESSES [1] on one port.
    """
    settings = load_settings(port=port)
    end_with_parent()
    from onceq_service.api.server import serve  # the other commands need not wait for its imports

    serve.run(settings)


def worker(workers: Workers = None) -> None:
    """Run workers alone.

    Uses ONCEQ_REDIS_URL [redis://127.0.0.1:6379/0], and needs the providers' keys.
    """
    settings = load_settings(worker_processes=workers)
    warn_of_names(settings)
    end_with_parent()
    from onceq_service.worker import main  # the other commands need not wait for its imports

    main.run(settings)


def dashboard(
    port: DashboardPort = None,
    open_: Annotated[
        bool,
        typer.Option(
            "--open", help="Ask nobody on this machine for a key: all use ONCEQ_API_KEY, or the `.onceq` folder's."
        ),
    ] = False,
) -> None:
    """Serve the dashboard alone.

    Needs ONCEQ_BASE_URL, or a `.onceq` folder. Whoever opens it signs in, by a key or by name.
    """
    settings = load_settings(dashboard_port=port)
    need_dashboard()
    end_with_parent()
    sys.argv = ["onceq dashboard", "--host", settings.host, "--port", str(settings.dashboard_port)]
    sys.argv += ["--open"] if open_ else []
    runpy.run_module("onceq_dashboard", run_name="__main__")


def simulator(ctx: typer.Context) -> None:
    """Serve a stand-in for the providers.

    OpenAI, Anthropic and Bedrock, with faults on demand.
    """
    end_with_parent()
    sys.argv = ["onceq simulator", *ctx.args]
    runpy.run_module("onceq_service.simulator", run_name="__main__")


def warn_of_names(settings: Settings) -> None:
    """Says which names name nothing; raises ConfigurationError when the configuration can't be read."""
    file = settings.file()
    for name, guess in unread(os.environ, file):
        hint(f"onceq: {name} is set, and nothing reads it; {meant(guess)}".rstrip("; "))
    for name, says, advice in unknown_names(file, settings.lanes):
        hint(f"onceq: {name}: {says}; {advice}")


def need_dashboard() -> None:
    """Raises ConfigurationError when the dashboard's extra is not installed."""
    if find_spec("streamlit") is None:
        raise ConfigurationError(
            "the dashboard is not installed: pip install 'onceq[dashboard]', or start with --no-dashboard."
        )


def end_with_parent() -> None:
    """Under `onceq up`: ends this process, in order, when `onceq up` has gone, even if that was killed."""
    if os.environ.pop(SUPERVISED, None) == "1":
        threading.Thread(target=_watch_parent, name="parent", daemon=True).start()


def _watch_parent() -> None:
    while os.read(0, 1):
        pass  # nobody writes to this pipe; its end is the news
    os.kill(os.getpid(), signal.SIGTERM)
