"""Addresses that settings name: each one is what it seems, or refused in a sentence before anything opens it."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

_WORDS, _NUMBER, _SECONDS = r".+", r"\d{1,9}", r"(?=.*[1-9])\d{0,6}(\.\d+)?"
_YES_OR_NO = r"(?i)true|false|yes|no|1|0"
_UNIX_OPTIONS: Final = {
    "username": _WORDS, "password": _WORDS, "client_name": _WORDS, "db": _NUMBER,
    "health_check_interval": _NUMBER, "socket_timeout": _SECONDS, "socket_connect_timeout": _SECONDS,
    "retry_on_timeout": _YES_OR_NO, "protocol": "2",
}  # fmt: skip
_TCP_OPTIONS: Final = _UNIX_OPTIONS | {"socket_keepalive": _YES_OR_NO}
_TLS_OPTIONS: Final = _TCP_OPTIONS | {
    "ssl_ca_certs": _WORDS, "ssl_ca_path": _WORDS, "ssl_ca_data": _WORDS, "ssl_certfile": _WORDS,
    "ssl_keyfile": _WORDS, "ssl_password": _WORDS, "ssl_ciphers": _WORDS,
    "ssl_cert_reqs": "none|optional|required", "ssl_check_hostname": _YES_OR_NO,
}  # fmt: skip
REDIS_OPTIONS: Final = {"unix": _UNIX_OPTIONS, "redis": _TCP_OPTIONS, "rediss": _TLS_OPTIONS}
"""What a URL's query may say to redis-py, by its scheme. What would change how answers are read is not among it."""


def http_address(url: str) -> str:
    """A URL that a client can connect to; raises ValueError."""
    parts = _split(url)
    if parts is None or not _has_host(parts):
        raise ValueError("has no usable host or port: write http://host:8000 or https://host")
    return url


def origin(text: str) -> str:
    """A page's origin as browsers send it; raises ValueError."""
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/?#*@]+", text):
        raise ValueError("names exact origins, like https://app.example.com, without a path; * is not allowed")
    return text


def redis_address(url: str) -> str:
    """A URL that redis-py can open; raises ValueError, whose words never hold a part of it: a password may be there."""
    parts = _split(url)
    if parts is None or parts.scheme not in REDIS_OPTIONS or not url.startswith(f"{parts.scheme}://"):
        raise ValueError("is no URL of a Redis: write redis://host:6379/0, rediss:// for TLS, or unix:///path/to.sock")
    if parts.scheme == "unix" and not parts.path:
        raise ValueError("names no socket: write unix:///path/to.sock")
    if parts.scheme != "unix":
        _must_be_whole(parts)
    _must_know_options(parts)
    return url


def _must_be_whole(parts: SplitResult) -> None:
    """Host, port and database are what they seem: a password's unescaped / ? # ends them too early."""
    if not _has_host(parts) or "@" in parts.path + parts.query + parts.fragment:
        raise ValueError("has no usable host or port; write / ? # @ of a password as %2F %3F %23 %40")
    if not re.fullmatch(r"(/\d{0,9})?/?", parts.path):
        raise ValueError("has a path that is no number of a database: write redis://host:6379/0")


def _must_know_options(parts: SplitResult) -> None:
    known = REDIS_OPTIONS[parts.scheme]
    for name, value in parse_qsl(parts.query):
        if name not in known:
            tls = "; ssl_... are rediss://'s alone" if name in _TLS_OPTIONS else ""
            raise ValueError(
                f"has an option that there is not; for {parts.scheme}:// there are {', '.join(known)}{tls}"
            )
        if not re.fullmatch(known[name], value):
            raise ValueError(f"has no usable value for its option {name}")


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _has_host(parts: SplitResult) -> bool:
    try:
        parts.port  # noqa: B018 - raises for one that is no number
    except ValueError:
        return False
    return bool(parts.hostname)
