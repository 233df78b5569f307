"""Ports: whether one is free, and one that is."""

from __future__ import annotations

import errno
import socket

from onceq.errors import ConfigurationError


def claim_port(host: str, port: int, what: str, option: str) -> int:
    """The port, or a free one for 0; raises ConfigurationError, naming `what` wants it and the `option` to change."""
    try:
        with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is no obstacle
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OSError as exc:
        raise ConfigurationError(_why(exc, host, port, what, option)) from exc


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
