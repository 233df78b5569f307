"""A real kernel that runs cells one by one, and what a frontend would show for each."""

from __future__ import annotations

import asyncio
import os
import tempfile
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from typing import Any

import nbformat
from traitlets.config import Config

from tests.stack import Stack

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of the kernel's own packages, at import
    from jupyter_client.manager import KernelManager
    from nbclient import NotebookClient

Output = dict[str, Any]
SETUP = """
import onceq
client = onceq.AsyncClient(model='openai/gpt-4o-mini')
plain = onceq.Client(model='openai/gpt-4o-mini')
"""


def reader_folder(stack: Stack, home: Path, tenant: str) -> Path:
    """A folder in which onceq is found as `onceq up` leaves it, for a tenant of its own."""
    folder = home / ".onceq"
    folder.mkdir()
    (folder / "url").write_text(stack.url)
    (folder / "api-key").write_text(stack.key(tenant=tenant))
    return home


def notebook_of(*sources: str) -> Any:
    """A notebook with these code cells."""
    made: Any = nbformat.v4
    return made.new_notebook(cells=[made.new_code_cell(source) for source in sources])


def environment(home: Path) -> dict[str, str]:
    """A reader's: without the plot backend that Streamlit sets for its own process, where the dashboard's tests ran."""
    kept = {name: value for name, value in os.environ.items() if name != "MPLBACKEND" and not name.startswith("ONCEQ_")}
    return {**kept, "IPYTHONDIR": str(home / "ipython")}


@contextmanager
def sockets() -> Generator[dict[str, str]]:
    """Where a kernel listens: on files. Of ports it would be told five that were free a moment ago, and may not be now.

    The folder's name is absolute, or the kernel looks elsewhere, and short, as the path of a unix socket has to be.
    """
    with tempfile.TemporaryDirectory(prefix="oq-") as folder:
        yield {"transport": "ipc", "ip": f"{folder}/k"}


async def executing(notebook: Any, home: Path, **options: Any) -> Any:
    """The notebook, run from top to bottom in a kernel whose working directory is `home`."""
    path = {"metadata": {"path": str(home)}}
    with sockets() as where:
        config = Config({"KernelManager": where})
        runner = NotebookClient(notebook, timeout=120, kernel_name="python3", resources=path, config=config, **options)
        await runner.async_execute(env=environment(home))
    return notebook


def executed(notebook: Any, home: Path, **options: Any) -> Any:
    """The same for who does nothing else meanwhile."""
    return asyncio.run(executing(notebook, home, **options))


def run(home: Path, *sources: str, **options: Any) -> list[list[Output]]:
    """The outputs of each cell, after a first one that connects."""
    notebook = executed(notebook_of(SETUP, *sources), home, **options)
    return [[dict(output) for output in cell.outputs] for cell in notebook.cells[1:]]


def html(outputs: list[Output]) -> str:
    """The one HTML output of a cell."""
    [shown] = [output for output in outputs if "text/html" in output.get("data", {})]
    return str(shown["data"]["text/html"])


class Kernel:
    """A kernel that is asked, listened to and interrupted by hand."""

    def __init__(self, manager: Any, client: Any) -> None:
        self.manager, self.client = manager, client
        self._asked = ""

    def start(self, source: str) -> str:
        """Begins a cell."""
        self._asked = str(self.client.execute(source))
        return self._asked

    def messages(self, timeout_s: float = 60.0) -> Generator[tuple[str, dict[str, Any]]]:
        """What the kernel publishes of the cell that was begun last, until it is idle: type and content.

        What it says of others may still come: whether it is ready was asked each second until it answered.
        """
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=timeout_s)
            except Empty:
                raise AssertionError(f"the kernel said nothing for {timeout_s} s") from None
            if message["parent_header"].get("msg_id") != self._asked:
                continue
            kind, content = str(message["msg_type"]), dict(message["content"])
            yield kind, content
            if kind == "status" and content["execution_state"] == "idle":
                return


@contextmanager
def running_kernel(home: Path) -> Generator[Kernel]:
    """A kernel in `home`, stopped at the end."""
    with sockets() as where:
        manager: Any = KernelManager(kernel_name="python3", **where)
        manager.start_kernel(cwd=str(home), env=environment(home))
        client = manager.client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=60)
            kernel = Kernel(manager, client)
            kernel.start(SETUP)
            list(kernel.messages())
            yield kernel
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
