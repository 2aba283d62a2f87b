"""Where a daemon's reply ends: the framings of control sockets, shared by every transport.

Standard library only: this module travels to the nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FRAMINGS", "Framing", "bird_end", "connected", "eof_end", "frr_end", "knot_end"]


class Framing(NamedTuple):
    """How to speak over one kind of control socket.

    `end(buffer)` is the length of the first complete reply in `buffer`, or None if more bytes are needed; a framing that isn't `persistent`
    takes one request per connection, and end of file also ends a reply. After connecting, a transport reads one reply if `greets`, then
    sends each request of `opening` and reads its reply, which must start with the given bytes: else the connection must not be used.
    After any failure or timeout the connection must be closed: the next reply could belong to the last request.
    """

    end: Callable[[bytes], int | None]
    persistent: bool
    greets: bool = False
    opening: tuple[tuple[bytes, bytes], ...] = ()


def bird_end(buffer: bytes) -> int | None:
    """BIRD: the line that starts with four digits and a space is the last one."""
    start = 0
    while True:
        newline = buffer.find(b"\n", start)
        if newline < 0:
            return None
        if buffer[start + 4 : start + 5] == b" " and buffer[start : start + 4].isdigit():
            return newline + 1
        start = newline + 1


def frr_end(buffer: bytes) -> int | None:
    """FRR's vty sockets: three NULs and a status byte."""
    nul = buffer.find(b"\0\0\0")
    return nul + 4 if nul >= 0 and len(buffer) >= nul + 4 else None


def eof_end(_buffer: bytes) -> int | None:
    """A reply that ends with the connection (NSD)."""
    return None


def knot_end(buffer: bytes) -> int | None:
    """Knot's control protocol: units of one type byte; types from 0x10 are data items with a two-byte length; 0 is END, 3 is BLOCK."""
    at = 0
    while at < len(buffer):
        kind = buffer[at]
        at += 1
        if kind in (0, 3):
            return at
        if kind >= 0x10:
            if at + 2 > len(buffer):
                return None
            at += 2 + int.from_bytes(buffer[at : at + 2], "big")
    return None


def connected(_buffer: bytes) -> int | None:
    """No reply at all: being able to connect is the answer."""
    return 0


FRAMINGS = {
    "bird": Framing(bird_end, persistent=True, greets=True, opening=((b"restrict\n", b"0016 "),)),
    "connect": Framing(connected, persistent=False),
    "frr": Framing(frr_end, persistent=True, opening=((b"enable\0", b""),)),
    "knot": Framing(knot_end, persistent=False),
    "nsd": Framing(eof_end, persistent=False),
}
