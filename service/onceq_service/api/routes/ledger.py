"""GET /v1/ledger, /v1/ledger.csv, /v1/ledger.parquet: a tenant's rows by time, in pages.

The same range gives the same bytes again. pyarrow is imported by a process that is asked for Parquet, and by no other.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from onceq.errors import ConfigurationError
from onceq.export import csv_text, parquet_bytes
from onceq.wire import LedgerEntry, LedgerPage
from onceq.wire.words import RangeEnd
from onceq_service.api.auth import Reader
from onceq_service.api.http.problems import Refused, invalid_field
from onceq_service.api.openapi import documented as doc
from onceq_service.api.routes.stats import time_of
from onceq_service.api.service import In, Service
from onceq_service.pricing import Tariff, cost_at
from onceq_service.store import ApiKey
from onceq_service.store.periods import ms_from

MOST: Final = 1_000
"""Rows of one page."""

router = APIRouter(tags=["costs"])


class LedgerQuery(BaseModel):
    """Which rows."""

    model_config = ConfigDict(extra="forbid")

    since: Annotated[RangeEnd | None, Field(description=f"Booked from this time on, {doc.MOMENT}; else all.")] = None
    until: Annotated[RangeEnd | None, Field(description=f"Booked before this time, {doc.MOMENT}; else now.")] = None
    cursor: Annotated[
        str | None,
        Field(max_length=40, description="The `next_cursor` of the page before, or any row's id: rows after it."),
    ] = None
    limit: Annotated[int, Field(ge=1, le=MOST, description="Most rows of a page.")] = MOST
    restated_at: Annotated[RangeEnd | None, Field(description=doc.RESTATED)] = None


Asked = Annotated[LedgerQuery, Query()]
PARQUET_TYPE: Final = "application/vnd.apache.parquet"


def _file(description: str, media_type: str, schema: dict[str, str]) -> doc.Responses:
    link = {"schema": {"type": "string"}, "description": 'The next page, rel="next".'}
    return {200: {"description": description, "content": {media_type: {"schema": schema}}, "headers": {"Link": link}}}


CSV: Final = _file(
    "Rows as CSV. The first page begins with the names of the columns; the pages put together are one file.",
    "text/csv", {"type": "string"},
)  # fmt: skip
PARQUET: Final = _file(
    "Rows as Parquet: each page is a whole file, and a folder of them is read as one table.",
    PARQUET_TYPE, {"type": "string", "format": "binary"},
)  # fmt: skip


@router.get("/v1/ledger", responses=doc.problems(401, 403, 422, 503))
async def get_rows(service: In, key: Reader, query: Asked) -> LedgerPage:
    """What the caller's tenant paid, one row a try, oldest first. Texts are as they were sent."""
    return await _page(service, key, query)


@router.get("/v1/ledger.csv", response_class=Response, responses=CSV | doc.problems(401, 403, 422, 503))
async def get_csv(service: In, key: Reader, query: Asked) -> Response:
    """Rows of the ledger as CSV. A text that a spreadsheet would run as a formula has an apostrophe before it."""
    page = await _page(service, key, query)
    text = csv_text(page.entries, head=query.cursor is None)
    return Response(text, 200, _headers("ledger.csv", query, page), media_type="text/csv")


@router.get("/v1/ledger.parquet", response_class=Response, responses=PARQUET | doc.problems(401, 403, 422, 501, 503))
async def get_parquet(service: In, key: Reader, query: Asked) -> Response:
    """Rows of the ledger as Parquet. Texts are as they were sent, since nothing runs them."""
    page = await _page(service, key, query)
    try:
        body = await asyncio.to_thread(parquet_bytes, page.entries)
    except ConfigurationError as exc:
        detail = "This API process has no pyarrow, which the extra `export` installs. Ask for /v1/ledger.csv instead."
        raise Refused("parquet_unavailable", detail) from exc
    return Response(body, 200, _headers("ledger.parquet", query, page), media_type=PARQUET_TYPE)


def _headers(name: str, query: LedgerQuery, page: LedgerPage) -> dict[str, str]:
    """Where the next page is, if there is one: up to the time of the first, whatever was booked since."""
    headers = {"Cache-Control": "no-store", "Content-Disposition": f'attachment; filename="{name}"'}
    if page.next_cursor is not None:
        rest = query.model_copy(update={"cursor": page.next_cursor, "until": page.until})
        asked = urlencode(rest.model_dump(mode="json", exclude_none=True))
        headers["Link"] = f'</v1/{name}?{asked}>; rel="next"'
    return headers


async def _page(service: Service, key: ApiKey, query: LedgerQuery) -> LedgerPage:
    now = time_of(await service.store.stats.now_ms())
    since, until = query.since, min(query.until or now, now)
    if since is not None and since > until:
        raise invalid_field("query.since", "is after until or after now, so the range is empty")
    try:
        found = await service.store.ledger.page(
            key.tenant, ms_from(since) if since else 0, ms_from(until), query.cursor, query.limit
        )
    except ValueError as exc:
        raise invalid_field("query.cursor", "not a next_cursor of a page before, nor the id of a row") from exc
    entries = found.entries
    if query.restated_at is not None:
        entries = await asyncio.to_thread(restated, entries, service.tariff, query.restated_at)
    return LedgerPage(
        since=since, until=until, entries=entries, next_cursor=entries[-1].id if found.more else None,
        kept_since=None if found.kept_since_ms is None else time_of(found.kept_since_ms),
    )  # fmt: skip


def restated(entries: list[LedgerEntry], tariff: Tariff, at: datetime) -> list[LedgerEntry]:
    """The rows with what their tokens would cost at a time; null for a model that has no price then."""
    return [_restated(entry, tariff, at) for entry in entries]


def _restated(entry: LedgerEntry, tariff: Tariff, at: datetime) -> LedgerEntry:
    if not entry.billed and entry.outcome != "correction":
        return entry.model_copy(update={"restated_nano_usd": 0})
    units = tariff.unit_prices(entry.model, at, input_tokens=entry.input_tokens)
    nano = cost_at(
        units,
        input_tokens=entry.input_tokens,
        cached_tokens=entry.cached_tokens,
        output_tokens=entry.output_tokens,
        cache_write_tokens=entry.cache_write_tokens,
    )
    version = None if nano is None else units.version
    return entry.model_copy(update={"restated_nano_usd": nano, "restated_price_version": version})
