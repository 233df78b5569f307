"""Reading a request: its headers as a dict, its body up to a limit, JSON into a model. All refusals are `Refused`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.types import Receive

from onceq.wire import MAX_BODY_BYTES, ErrorCode
from onceq_service.api.http.problems import Refused, invalid
from onceq_service.api.http.value_count import must_be_few

Heads = Mapping[bytes, bytes]
Model = TypeVar("Model", bound=BaseModel)

_ONCE: Final[dict[bytes, ErrorCode]] = {
    b"authorization": "bad_request",
    b"x-api-key": "bad_request",
    b"content-type": "bad_request",
    b"content-encoding": "bad_request",
    b"idempotency-key": "malformed_idempotency_key",
    b"last-event-id": "malformed_last_event_id",
}
"""Headers that decide something, and the code for one that came more than once."""


class ClientGone(Exception):  # noqa: N818 - what happened; nobody is left to answer
    """The client left before its request was whole; nothing was done for it."""


def heads_of(headers: Sequence[tuple[bytes, bytes]]) -> Heads:
    """The headers by lower-case name; raises Refused when one that decides something came twice."""
    heads = dict(headers)
    if len(heads) != len(headers):
        _refuse_twice(headers)
    return heads


def _refuse_twice(headers: Sequence[tuple[bytes, bytes]]) -> None:
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in seen and name in _ONCE:
            raise Refused(_ONCE[name], f"The header {name.decode()} was sent more than once; send it once.")
        seen.add(name)


async def read_json(heads: Heads, receive: Receive) -> bytes:
    """The whole body of a JSON request; raises Refused (413, 415) or ClientGone."""
    _check_kind(heads)
    length = heads.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 18 or int(length) > MAX_BODY_BYTES:
        raise _too_large()
    return b"".join([chunk async for chunk in _chunks(receive)])


async def _chunks(receive: Receive) -> AsyncGenerator[bytes]:
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        size, more = size + len(chunk), message.get("more_body", False)
        if size > MAX_BODY_BYTES:
            raise _too_large()
        yield chunk


def parse(model: type[Model], body: bytes) -> Model:
    """The body as a model; raises Refused (400 malformed JSON, 422 wrong fields, or too many values)."""
    must_be_few(body)
    return validated(model, body)


def validated(model: type[Model], body: bytes) -> Model:
    """A body whose values were counted as a model; raises Refused (400, 422)."""
    try:
        return model.model_validate_json(body)
    except ValidationError as exc:
        raise invalid(exc, model, lambda: from_json(body)) from exc


def _check_kind(heads: Heads) -> None:
    kind = heads.get(b"content-type", b"")
    if kind != b"application/json" and kind.split(b";", 1)[0].strip().lower() != b"application/json":
        detail = "The body must be JSON: send it with the header Content-Type: application/json."
        raise Refused("unsupported_media_type", detail)
    if heads.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Refused("unsupported_media_type", "The body must not be compressed: send it without Content-Encoding.")


def _too_large() -> Refused:
    return Refused(
        "payload_too_large", f"The body has more than {MAX_BODY_BYTES} bytes; nothing was stored. Shorten it."
    )
