"""AWS's binary event stream (application/vnd.amazon.eventstream), the encoding side.

A message is: total length, length of the headers, CRC-32 of these eight bytes, headers, payload, CRC-32 of all
before it. All integers are big-endian, of four bytes. A header is: length of its name in one byte, name, type 7
(string), length of the value in two bytes, value.
"""

from __future__ import annotations

import struct
import zlib

_STRING = 7
_PRELUDE = struct.Struct(">II")
_CRC = struct.Struct(">I")


def encode_headers(headers: dict[str, str]) -> bytes:
    """Headers as bytes, to be made once for all events of a kind."""
    return b"".join(_header(name.encode(), value.encode()) for name, value in headers.items())


def event_headers(kind: str) -> bytes:
    """Headers of an event, `messageStart` and the like."""
    return encode_headers({":event-type": kind, ":content-type": "application/json", ":message-type": "event"})


def exception_headers(kind: str) -> bytes:
    """Headers of an error in the stream, `throttlingException` and the like."""
    return encode_headers({":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"})


def message(headers: bytes, payload: bytes) -> bytes:
    """One message: 16 bytes around headers and payload."""
    prelude = _PRELUDE.pack(16 + len(headers) + len(payload), len(headers))
    body = b"".join((prelude, _CRC.pack(zlib.crc32(prelude)), headers, payload))
    return body + _CRC.pack(zlib.crc32(body))


def corrupt(whole: bytes) -> bytes:
    """The message with one bit of its payload turned, so that its checksum does not fit."""
    return whole[:-5] + bytes((whole[-5] ^ 1,)) + whole[-4:]


def _header(name: bytes, value: bytes) -> bytes:
    return b"%c%b%c%b%b" % (len(name), name, _STRING, struct.pack(">H", len(value)), value)
