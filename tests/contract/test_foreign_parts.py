"""The parts of others' libraries that they promise nobody and we use: an upgrade that takes one away is told here."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSHTTPConnection, AWSHTTPConnectionPool, AWSHTTPSConnection, AWSHTTPSConnectionPool
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from uvicorn import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from onceq_service.api.server.protocol import Post

ANY: Any = None
PROTOCOL = HttpToolsProtocol(Config(ANY, loop="none", lifespan="off"), ServerState(), {}, ANY)
HOOKS = (
    "connection_made", "data_received", "connection_lost", "eof_received", "shutdown", "send_400_response",
    "on_message_begin", "on_headers_complete", "on_body", "on_message_complete", "on_response_complete",
    "_unsupported_upgrade_warning",
)  # fmt: skip
USED: dict[str, tuple[object, Sequence[str]]] = {
    "uvicorn's protocol": (PROTOCOL, (*HOOKS, "app", "cycle", "expect_100_continue", "flow", "headers", "loop",
        "parser", "pipeline", "scope", "server_state", "timeout_keep_alive", "transport")),
    "uvicorn's flow": (FlowControl(ANY), ("_is_writable_event", "pause_reading", "read_paused")),
    "uvicorn's state": (ServerState(), ("default_headers",)),
    "redis-py's connection": (Connection(), ("_reader", "_writer")),
    "redis-py's connection by TLS": (SSLConnection(), ("_reader", "_writer")),
    "redis-py's connection by a socket file": (UnixDomainSocketConnection(), ("_reader", "_writer")),
    "botocore's connection": (AWSHTTPConnection, ("connect", "is_connected", "request")),
    "botocore's connection by TLS": (AWSHTTPSConnection, ("connect", "is_connected", "request")),
    "botocore's pool": (AWSHTTPConnectionPool, ("ConnectionCls", "_put_conn", "urlopen")),
    "botocore's pool by TLS": (AWSHTTPSConnectionPool, ("ConnectionCls", "_put_conn", "urlopen")),
}  # fmt: skip


@pytest.mark.parametrize("whose", USED)
def test_what_we_use_is_there(whose: str) -> None:
    thing, names = USED[whose]
    assert [name for name in names if not hasattr(thing, name)] == []


def test_what_we_use_of_uvicorns_cycle_is_there() -> None:
    cycle = RequestResponseCycle(ANY, ANY, ANY, ANY, ANY, False, [], ANY, False, True, ANY)
    used = ("keep_alive", "message_event", "more_body", "response_complete", "response_started", "scope")
    assert [name for name in used if not hasattr(cycle, name)] == []
    assert STATUS_LINE[202].startswith(b"HTTP/1.1 202 ")


def test_a_post_on_the_short_way_has_what_uvicorn_asks_of_a_cycle() -> None:
    methods = ("connection_lost", "on_headers_complete", "on_response_complete", "shutdown")
    source = "".join(inspect.getsource(getattr(HttpToolsProtocol, name)) for name in methods)
    asked = set(re.findall(r"\b(?:existing_|self\.)cycle\.(\w+)", source))
    assert asked >= {"disconnected", "response_complete"}
    assert asked <= set(Post.__slots__)


def test_botocore_takes_the_classes_of_its_connections_from_where_we_put_them() -> None:
    boto: Any = boto3
    client = boto.client("bedrock-runtime", "eu-central-1", aws_access_key_id="none", aws_secret_access_key="none")
    session = client._endpoint.http_session
    assert session._pool_classes_by_scheme.keys() == {"http", "https"}
    assert session._manager.pool_classes_by_scheme is session._pool_classes_by_scheme
