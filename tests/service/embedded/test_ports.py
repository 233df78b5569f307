"""A port that is taken is one sentence, before anything is started."""

from __future__ import annotations

import socket

import pytest

from onceq.errors import ConfigurationError
from onceq_service.embedded.ports import claim_port


def test_a_free_port_is_taken_as_it_is() -> None:
    port = claim_port("127.0.0.1", 0, "API", "--port")
    assert claim_port("127.0.0.1", port, "API", "--port") == port


def test_a_port_in_use_says_for_what_and_which_option_changes_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"port {port} is in use, and the dashboard .* --dashboard-port"):
            claim_port("127.0.0.1", port, "dashboard", "--dashboard-port")


def test_an_address_that_is_not_ours_is_said() -> None:
    with pytest.raises(ConfigurationError, match=r"can't listen on 192\.0\.2\.1:0"):
        claim_port("192.0.2.1", 0, "API", "--port")
