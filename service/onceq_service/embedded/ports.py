"""Ports: whether one is free, and one that is, kept until its server listens."""

from __future__ import annotations

import errno
import socket
import sys
from dataclasses import dataclass

from onceq.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class ClaimedPort:
    """A port that was free. On Linux nobody is given it by chance before `release`; a server that names it has it.

    Linux lets two sockets with SO_REUSEADDR have one port as long as only one listens, other systems don't.
    """

    number: int
    _bound: socket.socket

    def release(self) -> None:
        """Its server listens, or will not."""
        self._bound.close()


def claim_port(host: str, port: int, what: str, option: str) -> ClaimedPort:
    """The port, or a free one for 0; raises ConfigurationError, naming `what` wants it and the `option` to change."""
    bound = socket.socket(_family(host), socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is no obstacle
        bound.bind((host, port))
    except OSError as exc:
        bound.close()
        raise ConfigurationError(_why(exc, host, port, what, option)) from exc
    claimed = ClaimedPort(int(bound.getsockname()[1]), bound)
    if sys.platform != "linux":
        claimed.release()
    return claimed


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _why(exc: OSError, host: str, port: int, what: str, option: str) -> str:
    if exc.errno == errno.EADDRINUSE:
        return (
            f"port {port} is in use, and the {what} needs it: stop what listens there, or choose another with {option}."
        )
    if exc.errno == errno.EACCES:
        return f"port {port} is not allowed for this user: choose one above 1023 for the {what} with {option}."
    return f"the {what} can't listen on {host}:{port} ({exc.strerror or exc}): mend ONCEQ_HOST, or {option}."
