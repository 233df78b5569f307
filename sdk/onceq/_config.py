"""Where the service is and which key to use: arguments, then the environment, then the nearest `.onceq/` folder."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import httpx2

from onceq.errors import ConfigurationError

DEFAULT_BASE_URL: Final = "http://127.0.0.1:8000"
FOLDER: Final = ".onceq"


@dataclass(frozen=True, slots=True)
class Config:
    """A base URL without a trailing slash or `/v1`, and the API key that belongs to it; the key stays out of `repr`."""

    base_url: str
    api_key: str = field(repr=False)

    @property
    def is_local(self) -> bool:
        """Whether the service is on this machine."""
        return _is_loopback(self.base_url)


def discover(base_url: str | None = None, api_key: str | None = None, start: Path | None = None) -> Config:
    """Find what was not given: ONCEQ_BASE_URL and ONCEQ_API_KEY, then `url` and `api-key` in the nearest `.onceq/`.

    The folder is looked for in `start` (the working directory) and its parents. Raises ConfigurationError when there
    is no key, and when a key would go to a service that it is not of: a folder's to another, another one's to a
    folder's on another machine.
    """
    folder = _nearest_folder(start or Path.cwd())
    given_key = os.environ.get("ONCEQ_API_KEY") or None if api_key is None else api_key
    given_url = base_url or os.environ.get("ONCEQ_BASE_URL")
    folders_url = _read(folder, "url")
    url = _checked_url(given_url or folders_url or DEFAULT_BASE_URL)
    if given_key is not None and not given_url and not _is_loopback(url):
        # a folder that came with a checkout must not be able to collect the key of whoever opens it
        raise ConfigurationError(f"{folder}/url names {url}, but the key comes from elsewhere: set ONCEQ_BASE_URL too.")
    if given_key is not None:
        return Config(url, _checked_key(given_key))
    key = _checked_key(_read(folder, "api-key"))
    if given_url and not _is_of(folders_url, url):
        raise ConfigurationError(
            f"no API key for {url}: that in {folder} is another service's. Pass api_key or set ONCEQ_API_KEY."
        )
    return Config(url, key)


def _is_of(folders_url: str | None, url: str) -> bool:
    """Whether a service is the folder's; where that does not name its own, whether it is on this machine."""
    if folders_url is None:
        return _is_loopback(url)
    return _origin(_checked_url(folders_url)) == _origin(url)


def _origin(url: str) -> tuple[str, str, int]:
    parsed = httpx2.URL(url)
    host = "localhost" if _is_loopback(url) else parsed.host
    return parsed.scheme, host, parsed.port or (443 if parsed.scheme == "https" else 80)


def _nearest_folder(start: Path) -> Path | None:
    candidates = (parent / FOLDER for parent in (start, *start.parents))
    return next((c for c in candidates if (c / "api-key").is_file() or (c / "url").is_file()), None)


def _read(folder: Path | None, name: str) -> str | None:
    if folder is None or not (folder / name).is_file():
        return None
    try:
        return (folder / name).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{folder / name} cannot be read: {exc}") from exc


def _checked_url(raw: str) -> str:
    try:
        url = httpx2.URL(raw.strip())
    except httpx2.InvalidURL as exc:
        raise ConfigurationError(f"the base URL {raw!r} is not a URL: {exc}") from exc
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigurationError(f"the base URL {raw!r} must begin with http:// or https:// and name a host.")
    if url.userinfo:
        raise ConfigurationError("the base URL must not hold a user or password: pass api_key or set ONCEQ_API_KEY.")
    return str(url).rstrip("/").removesuffix("/v1")  # the paths below it have their own


def _checked_key(raw: str | None) -> str:
    key = (raw or "").strip()
    if not key:
        raise ConfigurationError(
            "no API key: pass api_key, set ONCEQ_API_KEY, or run `onceq up` here (it writes .onceq/api-key)."
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigurationError("the API key holds characters that no key has: was something else pasted?")
    return key


def _is_loopback(url: str) -> bool:
    host = httpx2.URL(url).host
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # a name, not an address
        return False
