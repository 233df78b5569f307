"""API keys as an admin sees them, and the caller's own."""

from __future__ import annotations

from datetime import datetime

from onceq.wire.words import Answer, Scope


class ApiKeyInfo(Answer):
    """A key, without its secret. `GET /v1/keys/self` tells the caller's own, whatever its scopes."""

    id: str
    tenant: str
    name: str
    scopes: list[Scope]
    created_at: datetime


class NewApiKey(ApiKeyInfo):
    """A key with its secret, which is shown this once."""

    secret: str


class ApiKeyList(Answer):
    """Keys, oldest first."""

    keys: list[ApiKeyInfo]
