"""How a line of the log is written; what is in it is in worker/test_logs.py."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator

SAYS = """
import structlog
from onceq_service.logs import configure_logs
from onceq_service.settings import load_settings
configure_logs(load_settings(log_json=True))
for word in ("one", "two"):
    structlog.get_logger("onceq").warning(word)
"""


def test_a_line_is_one_write_so_that_processes_which_share_a_log_do_not_mix_theirs() -> None:
    """Unbuffered, as in the container and under `onceq up`. A packet of this socket is one write."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            subprocess.run([sys.executable, "-u", "-c", SAYS], stderr=theirs.fileno(), check=True, timeout=60)
        assert [json.loads(line)["event"] for line in packets(ours)] == ["one", "two"]


def packets(link: socket.socket) -> Iterator[bytes]:
    while packet := link.recv(65536):
        assert packet.endswith(b"\n")
        yield packet
