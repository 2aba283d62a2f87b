"""dnstap files as name servers write them: the queries that clients sent, for query sets.

A file is a frame stream (fstrm) of protobuf messages, of which two fields and two of a nested message matter here. Not a reader for
sockets: there both sides talk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from anyconsole.errors import LoadError

__all__ = ["queries_seen"]

_MAX_FRAME = 1 << 20
_CONTENT = b"protobuf:dnstap.Dnstap"
_START, _STOP = 2, 3
_CONTENT_TYPE = 1
_TYPE, _MESSAGE = 15, 14
_AUTH_QUERY, _CLIENT_QUERY = 1, 5
_MESSAGE_TYPE, _QUERY = 1, 10
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class _BrokenError(ValueError):
    """Not protobuf."""


def queries_seen(file: BinaryIO, path: str) -> Iterator[bytes]:
    """DNS messages that clients sent to this server. A file that ends within a frame yields an empty one at last.

    Raises:
        LoadError: naming `path`, and the byte at which the file makes no sense.
    """
    at, started = 0, False
    while head := file.read(4):
        length = int.from_bytes(head, "big")
        control = len(head) == 4 and length == 0
        if control:
            head = file.read(4)
            length = int.from_bytes(head, "big")
        if started and len(head) < 4:
            yield b""
            return
        if not started and not control:
            raise LoadError(f"{path}: not a dnstap file (no frame stream begins in it)")
        if length > _MAX_FRAME:
            raise LoadError(f"{path}: a frame of {length} bytes at byte {at}")
        frame = file.read(length)
        if len(frame) < length:
            yield b""
            return
        if not control:
            try:
                query = _client_query(frame)
            except _BrokenError as error:
                raise LoadError(f"{path}: the frame at byte {at} is no dnstap message: {error}") from error
            if query:
                yield query
        elif not started:
            _check_start(frame, path)
            started = True
        elif frame[:4] == _STOP.to_bytes(4, "big"):
            return
        at += length + (8 if control else 4)
    if not started:
        raise LoadError(f"{path}: not a dnstap file (empty)")


def _check_start(frame: bytes, path: str) -> None:
    """The first frame is START, which names the content."""
    field, length = int.from_bytes(frame[4:8], "big"), int.from_bytes(frame[8:12], "big")
    content = frame[12 : 12 + length]
    if frame[:4] != _START.to_bytes(4, "big") or field != _CONTENT_TYPE or content != _CONTENT:
        raise LoadError(f"{path}: not a dnstap file (its frame stream is of {content[:40]!r})")


def _client_query(frame: bytes) -> bytes:
    """The query of a message that says a client sent one, b"" for any other."""
    fields = dict(_fields(frame))
    message = fields.get(_MESSAGE)
    if fields.get(_TYPE) != 1 or not isinstance(message, bytes):
        return b""
    inner = dict(_fields(message))
    query = inner.get(_QUERY, b"")
    return query if inner.get(_MESSAGE_TYPE) in (_AUTH_QUERY, _CLIENT_QUERY) and isinstance(query, bytes) else b""


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field; the last of a number counts."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        value: int | bytes
        if wire == _VARINT:
            value, at = _varint(data, at)
        else:
            if wire == _BYTES:
                length, at = _varint(data, at)
            elif wire in (_FIXED32, _FIXED64):
                length = 4 if wire == _FIXED32 else 8
            else:
                raise _BrokenError(f"wire type {wire}")
            value = data[at : at + length]
            at += length
            if at > len(data):
                raise _BrokenError("a field beyond its end")
        yield number, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for position, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            return value, at + position + 1
    raise _BrokenError("a number without end")
