"""`onceq worker`: Taskiq's process manager with our broker in each process."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys

from taskiq.cli.worker.args import WorkerArgs

from onceq_service import heap
from onceq_service.logs import configure_logs
from onceq_service.providers import missing_keys
from onceq_service.settings import Settings
from onceq_service.worker.processes import run_worker


def worker_args(settings: Settings) -> WorkerArgs:
    """Taskiq's arguments: nothing fetched ahead, no result ever stored.

    `ClaimedJobs` bounds the jobs: a slot of Taskiq's holds a message, which is an alert or up to CLAIM_AT_ONCE jobs.
    """
    return WorkerArgs(
        broker="onceq_service.worker.broker:make_broker",
        modules=[],
        workers=settings.worker_processes,
        max_async_tasks=settings.worker_concurrency,
        max_prefetch=0,
        no_parse=True,
        configure_logging=False,
        shutdown_timeout=10,
    )


def run(settings: Settings) -> None:
    """Runs the workers until SIGINT or SIGTERM; then they drain. Returns when the last one has ended."""
    if sys.platform == "linux":
        # Since Python 3.14 another way is the default, in which children have nothing of what is done here.
        multiprocessing.set_start_method("fork")
    os.environ.update(settings.environment())
    configure_logs(settings)
    _import_once(settings)
    status = run_worker(worker_args(settings), settings)
    if status:
        sys.exit(status)


def _import_once(settings: Settings) -> None:
    """Imports before the fork what every process needs: the SDKs and price tables take seconds and 100 MB, once."""
    importlib.import_module("onceq_service.worker.broker")
    importlib.import_module("genai_prices.data_snapshot")
    configs = settings.providers()
    missing = missing_keys(configs, os.environ)
    for kind in {config.kind for name, config in configs.items() if name not in missing}:
        importlib.import_module(f"onceq_service.providers.{kind}")
    # The garbage collector writes into all that it looks at: every page would soon be there once a process.
    heap.set_aside()
