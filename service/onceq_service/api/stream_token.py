"""Stream tokens: what a page may put into an EventSource's URL, where it can send no header.

A token reads the events of one job, as its tenant, and must be used within TOKEN_S; the stream goes on after that,
until the API key that asked for it is revoked. It is `<expiry>.<tenant>.<key id>.<HMAC over these and the job>`:
nothing is stored, and any API process can check it.
"""

from __future__ import annotations

import hmac
import re
import time
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import parse_qs

from starlette.types import Scope

from onceq.wire import StreamToken
from onceq_service.api.auth import CHALLENGE
from onceq_service.api.http.body import Heads
from onceq_service.api.http.problems import Refused
from onceq_service.api.service import Service
from onceq_service.store import ApiKey, Hasher

TOKEN_S: Final = 60
PATH: Final = "/v1/jobs/{job_id}/events"
"""The route that takes one."""
_ROUTE: Final = re.compile(r"/v1/jobs/(job_[0-9a-f]{32})/events")
_TOKEN: Final = re.compile(r"(\d{10,12})\.([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_-]{1,64})\.([0-9a-f]{40})", re.ASCII)


class TokenClaims(NamedTuple):
    """Until when a token opens its stream (seconds since the epoch), for whom, and which API key asked for it."""

    expires: int
    tenant: str
    key_id: str


async def make_token(service: Service, key: ApiKey, job_id: str) -> StreamToken:
    """A token for a job that the caller may read; raises StoreError."""
    expires = int(time.time()) + TOKEN_S
    token = _write(await service.stream_hasher(), job_id, TokenClaims(expires, key.tenant, key.id))
    return StreamToken(
        token=token, url=f"/v1/jobs/{job_id}/events?token={token}", expires_at=datetime.fromtimestamp(expires, UTC)
    )


async def key_of_token(service: Service, scope: Scope, heads: Heads) -> ApiKey | None:
    """Who holds the token in the URL of an events request; None without one, and where an API key is sent.

    Raises Refused (401), StoreError.
    """
    route = _ROUTE.fullmatch(scope["path"])
    sent = _sent(scope["query_string"], heads) if route else ""
    if route is None or not sent:
        return None
    found = _read(await service.stream_hasher(), route[1], sent)
    if found is None or found.key_id in service.revoked:
        what = f"is not one of job {route[1]}, is older than {TOKEN_S} s, or its API key was revoked"
        raise Refused("unauthorized", f"This stream token {what}: make another one.", headers=CHALLENGE)
    return ApiKey(found.key_id, found.tenant, "stream token", ("read",), datetime.now(UTC))


def _sent(query: bytes, heads: Heads) -> str:
    by_key = b"x-api-key" in heads or heads.get(b"authorization", b"").lower().startswith(b"bearer ")
    if by_key or b"token=" not in query:
        return ""
    return parse_qs(query.decode("latin-1")).get("token", [""])[-1]


def _write(hasher: Hasher, job_id: str, of: TokenClaims) -> str:
    said = (str(of.expires), of.tenant, of.key_id)
    return ".".join([*said, hasher(job_id.encode(), *[part.encode() for part in said])])


def _read(hasher: Hasher, job_id: str, sent: str) -> TokenClaims | None:
    """Whose token it is; None unless it is ours, of this job, and fresh."""
    parts = _TOKEN.fullmatch(sent)
    if parts is None or int(parts[1]) < time.time():
        return None
    found = TokenClaims(int(parts[1]), parts[2], parts[3])
    return found if hmac.compare_digest(_write(hasher, job_id, found), sent) else None
