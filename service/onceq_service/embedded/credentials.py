"""`url` and `api-key` in the data folder: how clients on this machine find the service and are let in.

`simulator-url` beside them tells a test whom to ask what was billed.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

from onceq.errors import ConfigurationError, OnceqError
from onceq.wire import SCOPES
from onceq_service.settings import Settings

KEY_FILE: Final = "api-key"
URL_FILE: Final = "url"
SIMULATOR_FILE: Final = "simulator-url"
TENANT: Final = "default"


def ensure_key(settings: Settings) -> str:
    """The key in the data folder when this Redis knows it, else a new one, put there for its owner alone."""
    path = settings.data_dir / KEY_FILE
    known = _read(path)
    secret = asyncio.run(_known_or_new(settings, known))
    if secret == known:
        path.chmod(0o600)
    else:
        write_private(path, secret + "\n")
    return secret


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip() if path.exists() else ""
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{path} can't be read: {exc}. Move it away; `onceq up` makes another key.") from exc


async def _known_or_new(settings: Settings, secret: str) -> str:
    from onceq_service.store import open_store  # half of the time that `onceq ask` takes to start, and not used by it

    try:
        async with open_store(settings.redis_url, settings.queue) as store:
            if secret and await store.api_keys.find(secret):
                return secret
            return (await store.api_keys.create(tenant=TENANT, name="onceq up", scopes=SCOPES))[1]
    except OnceqError as exc:
        raise ConfigurationError(f"the API key can't be kept, because Redis refuses: {exc}") from exc


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, whole or not at all."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
