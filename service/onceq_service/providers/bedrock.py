"""Amazon Bedrock's ConverseStream. boto3 blocks, so each call has a thread of our own pool while it lasts."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, cast

import boto3
import botocore.exceptions as boto
from botocore.config import Config

from onceq_service.providers import _errors as errors
from onceq_service.providers._bedrock_connection import Hold, hold_connections, hold_in_this_thread
from onceq_service.providers._bedrock_mailbox import Mailbox
from onceq_service.providers._bedrock_request import to_converse
from onceq_service.providers._bedrock_wire import BedrockDecoder
from onceq_service.providers._progress import SEND_PROGRESS, mark_sent
from onceq_service.providers._shape import answers_by_tool
from onceq_service.providers._stream import AnswerStream
from onceq_service.providers.base import CallSpec, ProviderError
from onceq_service.settings import ProviderKind

CONNECT_S: Final = 10.0
"""Seconds for a TCP and TLS handshake; nothing has been sent until then, so running out of it is free."""
MAX_THREADS: Final = 10_000
"""As many as a worker may run jobs (settings.worker_concurrency); a thread is started only when none is idle."""
TAIL_S: Final = 0.05
"""After the end marker a thread may read its connection's last bytes this long, so that it can be used again."""


class BedrockProvider:
    """base.Provider on boto3. Without `credentials` AWS's own chain finds them."""

    kind: ProviderKind = "bedrock"
    price_provider: str = "aws"
    api_flavor: str = "default"
    can_resume: bool = False

    def __init__(
        self,
        name: str,
        *,
        region: str,
        base_url: str | None = None,
        credentials: Mapping[str, str] | None = None,
        trust_env: bool = True,
    ) -> None:
        self.name = name
        self.price_url: str | None = None
        self._client: Any = _new_client(region, base_url, credentials, trust_env=trust_env)
        self.base_url: str = self._client.meta.endpoint_url
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix=f"onceq-{name}")
        self._holds: set[Hold] = set()

    def call(self, spec: CallSpec) -> AbstractAsyncContextManager[AnswerStream]:
        """See base.Provider."""
        return self._call(spec)

    @asynccontextmanager
    async def _call(self, spec: CallSpec) -> AsyncGenerator[AnswerStream]:
        loop = asyncio.get_running_loop()
        first_by = loop.time() + spec.clocks.first_byte_s
        decoder = BedrockDecoder(spec, self.name, by_tool=answers_by_tool(spec.request))
        arguments, mailbox = to_converse(spec), Mailbox(loop)
        with self._held(spec) as hold, contextlib.closing(mailbox):
            thread = self._threads.submit(self._work, hold, arguments, mailbox)
            mark_sent()  # boto3 does not tell when
            headers = await self._headers(spec, mailbox, hold, first_by)
            stream = AnswerStream(spec, self.name, headers, mailbox, decoder, first_by)
            yield stream
            if stream.complete:
                await asyncio.wait([asyncio.wrap_future(thread)], timeout=TAIL_S)

    @contextlib.contextmanager
    def _held(self, spec: CallSpec) -> Generator[Hold]:
        """Lets go of the connection on leaving, also when the thread is still waiting for the answer's headers."""
        hold = Hold(spec.client_request_id, SEND_PROGRESS.get())
        self._holds.add(hold)
        try:
            yield hold
        finally:
            hold.let_go()
            self._holds.discard(hold)

    async def _headers(self, spec: CallSpec, mailbox: Mailbox, hold: Hold, first_by: float) -> Mapping[str, str]:
        try:
            async with asyncio.timeout_at(first_by):
                return await mailbox.headers()
        except TimeoutError as exc:
            meaning = errors.TIMED_OUT if hold.connected else errors.UNREACHABLE
            raise errors.error(spec, self.name, meaning) from exc
        except Exception as exc:
            raise self._translate(spec, exc) from exc

    def _work(self, hold: Hold, arguments: dict[str, Any], mailbox: Mailbox) -> None:
        """Runs in a thread: sends the request and posts what comes. Says everything through the mailbox."""
        hold_in_this_thread(hold)
        try:
            hold.check()
            response = self._client.converse_stream(**arguments)
            mailbox.post_headers(response["ResponseMetadata"]["HTTPHeaders"])
            with contextlib.closing(response["stream"]._raw_stream) as raw:
                for chunk in raw.stream():
                    mailbox.post(chunk)
            mailbox.post_end(None)
        except Exception as exc:  # noqa: BLE001 - raised again in the loop, by whoever reads the mailbox
            mailbox.post_end(exc)
        finally:
            hold_in_this_thread(None)

    def _translate(self, spec: CallSpec, exc: Exception) -> ProviderError:
        if isinstance(exc, boto.ClientError):
            return _from_client_error(spec, self.name, exc)
        if isinstance(exc, boto.ParamValidationError):
            return errors.error(spec, self.name, errors.BAD_REQUEST, hint=_bad_fields(str(exc)))
        return errors.error(spec, self.name, _unanswered(exc), hint=type(exc).__name__)

    async def abandon(self, response: str) -> None:
        """See base.Provider: it has no background responses."""

    async def close(self) -> None:
        """Ends the calls that still run, then their threads, then the connections."""
        for hold in list(self._holds):
            hold.let_go()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        self._client.close()


def _new_client(region: str, base_url: str | None, credentials: Mapping[str, str] | None, *, trust_env: bool) -> Any:
    """boto3 builds its clients at run time, so they have no type here; what comes out is checked where it is read."""
    options: dict[str, Any] = {
        "retries": {"total_max_attempts": 1},
        "connect_timeout": CONNECT_S,
        "read_timeout": None,  # AnswerStream's clocks end a silent call
        "max_pool_connections": MAX_THREADS,
        "tcp_keepalive": True,
    }
    if not trust_env:
        options["proxies"] = {}
    access: dict[str, Any] = dict(credentials or {})
    session: Any = boto3.Session(region_name=region, **access)
    client = session.client("bedrock-runtime", endpoint_url=base_url, config=Config(**options))
    hold_connections(client)
    return client


def _from_client_error(spec: CallSpec, provider: str, exc: boto.ClientError) -> ProviderError:
    response = cast(dict[str, Any], exc.response)
    metadata: Mapping[str, Any] = response.get("ResponseMetadata", {})
    fault: Mapping[str, str] = response.get("Error", {})
    status = int(metadata.get("HTTPStatusCode", 400))
    headers: Mapping[str, str] = metadata.get("HTTPHeaders", {})
    return errors.from_status(spec, provider, status, [fault.get("Code", "")], fault.get("Message", ""), headers)


def _unanswered(exc: Exception) -> errors.Meaning:
    """Before the connection stood nothing was sent. After that it may have been worked on, and so may be billed."""
    match exc:
        case boto.NoCredentialsError() | boto.PartialCredentialsError() | boto.CredentialRetrievalError():
            return errors.NO_KEY
        case boto.EndpointConnectionError() | boto.ConnectTimeoutError() | boto.ProxyConnectionError():
            return errors.UNREACHABLE
        case boto.ReadTimeoutError():
            return errors.TIMED_OUT
        case boto.HTTPClientError() | OSError():
            return errors.CUT
        case _:
            return errors.BAD_REQUEST


def _bad_fields(report: str) -> str:
    """The names in botocore's report of bad parameters; the report itself repeats their values, the prompt included."""
    found: list[tuple[str, ...]] = re.findall(r'parameter (?:in ([\w.\[\]]+): "(\w+)"|([\w.\[\]]+))', report)
    names = [".".join(part for part in parts if part and part != "input") for parts in found]
    return ", ".join(dict.fromkeys(names)) or "a parameter is not valid"
