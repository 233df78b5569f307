"""What is asked: prompts and options, checked and packed before anything is sent. No I/O."""

from __future__ import annotations

import re
import reprlib
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal, TypedDict, TypeVar, cast

from pydantic import BaseModel, JsonValue, ValidationError
from pydantic_core import PydanticSerializationError, from_json

from onceq._arguments import checked_batch
from onceq._encoded import encoded, unwritable
from onceq._http import Call, refusal, refused
from onceq._structured import format_of_model
from onceq.errors import BadRequestError, ConfigurationError
from onceq.wire import (
    IDEMPOTENCY_KEY_PATTERN,
    MAX_BATCH,
    MAX_BODY_BYTES,
    ApiKeyRequest,
    Band,
    BatchItem,
    BudgetChange,
    BudgetRequest,
    FieldError,
    JobRequest,
    Message,
    ReplayRequest,
    Request,
    ResponseFormat,
    Scope,
    Switch,
    Timeouts,
    Tool,
    ToolChoice,
)

DEDUPE_WINDOW_S: Final = 600
"""Seconds in which an equal request joins the same job; the service's own default for a request without a key."""

Made = TypeVar("Made", bound=Request)
Prompt = str | Sequence[Message | Mapping[str, Any]]
"""What to ask: a text, or the turns of a conversation as `Message` or plain dicts of the same fields."""
Models = str | Sequence[str]
"""A model, or several: each after the first answers when those before it can't."""
Item = Prompt | JobRequest | BatchItem | Mapping[str, Any]
"""One job of a batch: a prompt, a whole request, or a dict of `JobRequest` fields and `idempotency_key`."""


class MapOptions(TypedDict, total=False):
    """The fields of `JobRequest` that all rows of a map share; `JobRequest` tells their units and defaults."""

    system: str | None
    max_tokens: int | None
    temperature: float | None
    stop: Sequence[str] | None
    tools: Sequence[Tool | Mapping[str, Any]] | None
    tool_choice: Literal["auto", "none", "required"] | ToolChoice | Mapping[str, str] | None
    params: Mapping[str, JsonValue] | None
    band: Band
    deadline_s: float | None
    not_before: datetime | None
    timeouts: Timeouts | Mapping[str, float] | None
    max_calls: int | None
    on_crash: Literal["retry", "fail", "resume"] | None
    on_break: Literal["retry", "fail"] | None
    user: str | None
    team: str | None
    labels: Mapping[str, str] | None


class JobOptions(MapOptions, total=False):
    """The fields of `JobRequest` beside model and prompt; `JobRequest` tells their units and defaults."""

    response_format: ResponseFormat | type[BaseModel] | Mapping[str, Any] | None
    max_cost_usd: float | None
    on_disconnect: Literal["continue", "cancel"] | None
    disconnect_grace_s: float | None
    dedupe_window_s: int | None
    fresh: bool


_HERE_TOO: Final = {"response_format": "A pydantic model (the class) asks for its JSON Schema."}
"""What an option takes beside what goes over the wire."""


def _describe(options: type) -> None:
    """For help(): a TypedDict has no place of its own for words about a field."""
    fields = ((name, JobRequest.model_fields[name].description) for name in options.__annotations__)
    told = (f"{name}: {said} {_HERE_TOO.get(name, '')}".rstrip() for name, said in fields)
    options.__doc__ = "\n\n".join((str(options.__doc__), *told))


_describe(MapOptions)
_describe(JobOptions)


@dataclass(frozen=True, slots=True)
class Submission:
    """One checked request and the key under which it is sent, however often that takes."""

    body: bytes
    key: str

    @property
    def call(self) -> Call:
        """`POST /v1/jobs`."""
        headers = {"idempotency-key": self.key, "content-type": "application/json"}
        return Call("POST", "/v1/jobs", headers=headers, content=self.body)

    @property
    def quote_call(self) -> Call:
        """`POST /v1/quote` with the same body."""
        return Call("POST", "/v1/quote", headers={"content-type": "application/json"}, content=self.body)


def prepare(prompt: Prompt, model: Models | None, key: str | None, options: JobOptions) -> Submission:
    """Check a request before it is sent. Raises BadRequestError; ConfigurationError when there is no model.

    A key of our own making covers our retries only, so the window that joins equal requests is sent beside it;
    a key given by the caller is the caller's own word on what is the same, and no window is added.
    """
    fields = settled({"model": checked_model(model), **_asked(prompt), **_given(options)})
    if key is None:
        fields.setdefault("dedupe_window_s", DEDUPE_WINDOW_S)
    return Submission(checked_request(fields), checked_key(key))


def checked_model(model: Models | None) -> Models:
    """The model, or raises ConfigurationError where neither the call nor the client has one."""
    if model is None:
        raise ConfigurationError("no model: pass model='<provider>/<model>' here or to the client.")
    return model


@dataclass(frozen=True, slots=True)
class Pack:
    """Items of a batch that travel in one post."""

    items: tuple[bytes, ...]
    batch: str = ""
    """The batch that they are followed in; letters, digits, _ and - alone."""

    @property
    def body(self) -> bytes:
        """Each item carries its own key."""
        named = f'"batch":"{self.batch}",'.encode() if self.batch else b""
        return b"{" + named + b'"items":[' + b",".join(self.items) + b"]}"

    @property
    def call(self) -> Call:
        """`POST /v1/jobs/batch`."""
        return Call("POST", "/v1/jobs/batch", headers={"content-type": "application/json"}, content=self.body)


def prepare_batch(
    items: Iterable[Item], model: Models | None, options: JobOptions, batch: str | None = None
) -> list[Pack]:
    """Check all items before any is sent, and pack them into as few posts as the service's limits allow."""
    empty = Pack((), "" if batch is None else checked_batch(batch))
    room = MAX_BODY_BYTES - len(empty.body)
    packs: list[Pack] = []
    pack: list[bytes] = []
    size = 0
    for item in [_checked_item(item, f"items.{i}", model, options) for i, item in enumerate(_many(items))]:
        if pack and (len(pack) == MAX_BATCH or size + len(item) > room):
            packs.append(replace(empty, items=tuple(pack)))
            pack, size = [], 0
        pack.append(item)
        size += len(item) + 1
    return [*packs, replace(empty, items=tuple(pack))] if pack else packs


def _many(items: Any) -> Iterable[Item]:
    """The items of a batch. Raises BadRequestError for what can be walked, but as letters, fields or column names."""
    if isinstance(items, (str, bytes, Mapping, BaseModel)):
        raise refusal("submit_batch takes many items: a column, a list or an iterator. For one prompt there is submit.")
    if _is_frame(items):
        raise refusal('submit_batch takes one column of a frame, df["text"]; client.map takes the whole frame.')
    if not isinstance(items, Iterable):
        raise refusal(f"submit_batch takes a column, a list or an iterator, not {type(items).__name__}.")
    return items  # pyright: ignore[reportUnknownVariableType] - each is checked next


def _is_frame(value: Any) -> bool:
    """Of pandas or polars; with what was never imported, nobody has made one."""
    libraries: list[Any] = [sys.modules.get(name) for name in ("pandas", "polars")]
    return any(library is not None and isinstance(value, library.DataFrame) for library in libraries)


def _asked(prompt: Any, where: str = "prompt") -> dict[str, Any]:
    if isinstance(prompt, str):
        return {"prompt": prompt}
    if isinstance(prompt, Mapping):
        raise _no_prompt(where, "this is one message: wrap it in a list.")
    if isinstance(prompt, bytes) or not isinstance(prompt, Iterable):
        raise _no_prompt(where, f"a prompt is a text or a list of messages, not {reprlib.repr(prompt)}.")
    return {"messages": list(prompt)}  # pyright: ignore[reportUnknownArgumentType] - pydantic checks what is in it


def _no_prompt(where: str, why: str) -> BadRequestError:
    return refusal("The request is wrong.", errors=[FieldError(loc=where, message=why)])


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def settled(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields as the service takes them: a pydantic model is asked for by its schema. Raises BadRequestError."""
    shape = fields.get("response_format")
    if isinstance(shape, type) and issubclass(shape, BaseModel):
        return {**fields, "response_format": format_of_model(shape)}
    return fields


def checked_request(fields: Mapping[str, Any], where: str = "") -> bytes:
    """A request as JSON. Raises BadRequestError, which names the wrong field."""
    body = _encoded(fields, where)
    try:
        JobRequest.model_validate_json(body)
    except ValidationError as exc:
        raise refused(exc, from_json(body), JobRequest, where) from None  # it says all that pydantic does
    return body


def _encoded(fields: Mapping[str, Any], where: str = "") -> bytes:
    try:
        return encoded(fields, exclude_none=True)
    except PydanticSerializationError as exc:
        raise unwritable(fields, where, exc) from None


def checked_key(key: str | None, where: str = "") -> str:
    """The caller's idempotency key, else a new one for our own retries. Raises BadRequestError."""
    return uuid.uuid4().hex if key is None else _checked_key(key, where)


def aware(at: datetime) -> datetime:
    """The time with its zone, local where it has none; of pandas too, whose Timestamp can't find that by itself.

    Raises BadRequestError for a text or a date, of which nobody knows the zone that is meant.
    """
    if not isinstance(cast("object", at), datetime):
        raise refusal(f"a time is a datetime, like datetime(2026, 11, 30, tzinfo=UTC), not {at!r}.")
    return datetime.combine(at.date(), at.timetz()).astimezone()


def replay_request(**fields: Any) -> ReplayRequest:
    """Which jobs to replay; a `since` without a zone is local time. Raises BadRequestError."""
    since: datetime | None = fields.pop("since")
    return _made(ReplayRequest, {**fields, "since": aware(since) if since else None})


def switch(lane: str | None, band: Band | None) -> Switch:
    """What to pause or resume. Raises BadRequestError unless it is one thing."""
    return _made(Switch, {"lane": lane, "band": band})


def key_request(name: str, scopes: Sequence[Scope], tenant: str | None) -> ApiKeyRequest:
    """Which API key to make. Raises BadRequestError."""
    return _made(ApiKeyRequest, {"name": name, "scopes": list(scopes), "tenant": tenant})


def budget_request(**fields: Any) -> BudgetRequest:
    """Which budget to make. Raises BadRequestError."""
    return _made(BudgetRequest, fields)


def budget_change(**fields: Any) -> BudgetChange:
    """What to change of a budget. Raises BadRequestError when it is nothing."""
    return _made(BudgetChange, fields)


def _made(kind: type[Made], fields: Mapping[str, Any]) -> Made:
    given = _given(fields)
    try:
        return kind.model_validate(given)
    except ValidationError as exc:
        raise refused(exc, given, kind) from None


def _checked_key(key: Any, where: str) -> str:
    if not isinstance(key, str) or not re.fullmatch(IDEMPOTENCY_KEY_PATTERN, key):
        of = f" of {where}" if where else ""
        what = f"idempotency_key{of} is a text of 1 to 255 printable ASCII characters without a space"
        raise refusal(f"{what}, not {reprlib.repr(key)}.", "malformed_idempotency_key", 400)
    return key


def _checked_item(item: Item, where: str, model: Models | None, options: JobOptions) -> bytes:
    fields = settled(_given({"model": model, **options, **_item_fields(item, where)}))
    key, create = fields.pop("idempotency_key", None), fields.pop("create", True)
    if key is None:
        fields.setdefault("dedupe_window_s", DEDUPE_WINDOW_S)
    return encoded_item(fields, checked_key(key, where), create=create, where=where)


def encoded_item(fields: Mapping[str, Any], key: str, *, create: bool = True, where: str = "") -> bytes:
    """One checked item of a batch. Raises BadRequestError."""
    checked_request(fields, where)
    sent: dict[str, Any] = {"idempotency_key": key, "job": fields}
    return _encoded(sent if create else {**sent, "create": False})


def _item_fields(item: Item, where: str) -> Mapping[str, Any]:
    if isinstance(item, BatchItem):
        return {**_item_fields(item.job, where), "idempotency_key": item.idempotency_key, "create": item.create}
    if isinstance(item, JobRequest):
        return item.model_dump(exclude_unset=True, by_alias=True)
    return item if isinstance(item, Mapping) else _asked(item, f"{where}.prompt")
