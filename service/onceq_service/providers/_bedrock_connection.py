"""A boto3 client whose calls can be ended from another thread at any moment, also before an answer has begun.

boto3 blocks: its threads sit in `connect`, `recv` or nothing. `stream._raw_stream.shutdown()` wakes a reader, but there
is no stream yet while the provider thinks. So each thread names its `Hold` here, and the connection that it uses
registers itself there: shutting its socket down tells the provider at once, and wakes the thread.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)

from onceq_service.providers._http import KEEP_ALIVE_S

if TYPE_CHECKING:
    from onceq_service.providers._progress import SendProgress


class LetGoError(Exception):
    """The call was left; its thread may not send anything any more."""


_owning: Final = threading.Lock()
"""A connection changes hands between threads: it must never be shut down for a call that no longer has it."""


class Hold:
    """The grip on one call's connection. `let_go` may be called from any thread, any number of times."""

    def __init__(self, client_request_id: str, progress: SendProgress | None = None) -> None:
        self.client_request_id = client_request_id
        self.connected = False
        self._progress = progress
        self._let_go = False
        self._connection: _Held | None = None

    def take(self, connection: _Held) -> None:
        """The calling thread is about to use this connection; raises LetGoError when the call was left."""
        with _owning:
            connection.hold, self._connection = self, connection
        self.check()

    def stands(self) -> None:
        """The calling thread's connection stands: from here on the request may leave."""
        self.connected = True
        if self._progress is not None:
            self._progress.started = True
        self.check()

    def check(self) -> None:
        """Raises LetGoError when the call was left."""
        if self._let_go:
            raise LetGoError("the call was left before it was sent")

    def let_go(self) -> None:
        """Ends the call: the provider sees the end of the connection, a thread blocked on it wakes."""
        self._let_go = True
        with _owning:
            connection, self._connection = self._connection, None
            sock = connection.sock if connection is not None and connection.hold is self else None
            if sock is not None:
                # The plain socket's shutdown: SSLSocket's takes the TLS state away from under the reading thread.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _Holds(threading.local):
    hold: Hold | None = None


_holds: Final = _Holds()


def hold_in_this_thread(hold: Hold | None) -> None:
    """What this thread sends from now on belongs to `hold`."""
    _holds.hold = hold


class _Held:
    """Registers with the thread's hold before a request, and looks again once the connection stands."""

    hold: Hold | None = None
    idle_since = 0.0
    sock: socket.socket | None

    @property
    def is_connected(self) -> bool:
        """Asked by the pool before it hands it out: a host, or a NAT on the way, may give it up when it is idle."""
        kept = time.monotonic() - self.idle_since < KEEP_ALIVE_S
        return kept and super().is_connected  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType] # botocore's connection stands behind this mixin

    def request(self, *args: Any, **kwargs: Any) -> Any:
        if _holds.hold is not None:
            _holds.hold.take(self)
            if self.sock is not None:
                _holds.hold.stands()
        return super().request(*args, **kwargs)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType] # as above

    def connect(self) -> None:
        super().connect()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] # as above
        if _holds.hold is not None:
            _holds.hold.stands()


class HeldConnection(_Held, AWSHTTPConnection):
    """http, for the simulator and VPC endpoints without TLS."""


class HeldTlsConnection(_Held, AWSHTTPSConnection):
    """https."""


class _Keeper:
    """What it keeps is no call's. It takes a redirect as the answer: urllib3 fails at a 303 as if the call was cut."""

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            with _owning:  # before others can have it: a call that is left now would shut down what they send on
                conn.hold, conn.idle_since = None, time.monotonic()
        super()._put_conn(conn)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] # botocore's pool stands behind this mixin

    def urlopen(self, *args: Any, **kwargs: Any) -> Any:
        return super().urlopen(*args, **kwargs | {"redirect": False})  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType] # as above


class HeldPool(_Keeper, AWSHTTPConnectionPool):
    """http."""

    ConnectionCls = HeldConnection


class HeldTlsPool(_Keeper, AWSHTTPSConnectionPool):
    """https."""

    ConnectionCls = HeldTlsConnection


def sign_with_request_id(request: Any, **_: object) -> None:
    """A `before-sign` handler: the call's id goes out as a signed header."""
    if _holds.hold is not None:
        request.headers["X-Client-Request-Id"] = _holds.hold.client_request_id


def hold_connections(client: Any) -> None:
    """Makes a fresh client use connections that register with their thread's hold, and send its call's id.

    botocore has no public way to name a connection class; it hands this very mapping to each pool manager that it makes
    (httpsession.URLLib3Session, botocore 1.44); tests/contract/test_foreign_parts.py fails when that changes.
    """
    client.meta.events.register("before-sign.bedrock-runtime.ConverseStream", sign_with_request_id)
    session: Any = client._endpoint.http_session
    session._pool_classes_by_scheme.update({"http": HeldPool, "https": HeldTlsPool})
