"""A port that is taken is one sentence, before anything is started."""

from __future__ import annotations

import socket
import struct
import sys

import pytest

from onceq.errors import ConfigurationError
from onceq_service.api.server.serve import bind
from onceq_service.embedded.ports import claim_port

IP_LOCAL_PORT_RANGE = 51
"""Since Linux 6.3; Python has no name for it."""


def test_a_free_port_is_taken_as_it_is() -> None:
    free = claim_port("127.0.0.1", 0, "API", "--port")
    free.release()
    again = claim_port("127.0.0.1", free.number, "API", "--port")
    again.release()
    assert again.number == free.number


@pytest.mark.skipif(sys.platform != "linux", reason="other systems let nobody listen on a port that is claimed")
def test_a_claimed_port_is_its_servers_and_no_ones_by_chance() -> None:
    claimed = claim_port("127.0.0.1", 0, "API", "--port")
    assert any_of(claimed.number) is None
    with bind("127.0.0.1", claimed.number) as listener:
        assert listener.getsockname()[1] == claimed.number
        with pytest.raises(ConfigurationError, match="in use"):
            claim_port("127.0.0.1", claimed.number, "API", "--port")
    claimed.release()
    assert any_of(claimed.number) == claimed.number


def any_of(port: int) -> int | None:
    """What Linux gives to one who takes any port, and would be content with this one alone."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, struct.pack("=HH", port, port))
        try:
            other.bind(("127.0.0.1", 0))
        except OSError:
            return None
        return int(other.getsockname()[1])


def test_a_port_in_use_says_for_what_and_which_option_changes_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"port {port} is in use, and the dashboard .* --dashboard-port"):
            claim_port("127.0.0.1", port, "dashboard", "--dashboard-port")


def test_an_address_that_is_not_ours_is_said() -> None:
    with pytest.raises(ConfigurationError, match=r"can't listen on 192\.0\.2\.1:0"):
        claim_port("192.0.2.1", 0, "API", "--port")
