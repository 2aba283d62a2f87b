"""Packet captures, pcap and pcapng: the payloads of UDP packets to port 53 in them, for query sets. Not a dissector of anything else.

Link types: Ethernet (with VLAN tags), Linux cooked v1 and v2 (`tcpdump -i any`), raw IP.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

from anyconsole.errors import LoadError

__all__ = ["packets_to_name_servers"]

_MAX_PACKET = 1 << 20
_MAX_INTERFACES = 1024
_DNS = 53
_IPV4, _IPV6, _UDP = 0x0800, 0x86DD, 17
_VLANS = (0x8100, 0x88A8)
_SKIPPED_EXTENSIONS = (0, 43, 60)
_PCAP_ORDER = {
    b"\xa1\xb2\xc3\xd4": ">",
    b"\xd4\xc3\xb2\xa1": "<",
    b"\xa1\xb2\x3c\x4d": ">",  # times in nanoseconds
    b"\x4d\x3c\xb2\xa1": "<",
}
_SECTION, _INTERFACE, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 3, 6
_BYTE_ORDER = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}


def packets_to_name_servers(file: BinaryIO, path: str) -> Iterator[bytes]:
    """DNS messages that went to port 53 over UDP. A file that ends within a packet yields an empty one at last.

    Raises:
        LoadError: naming `path`, and the byte at which the file makes no sense.
    """
    magic = file.read(4)
    if magic in _PCAP_ORDER:
        packets = _pcap(file, path, _PCAP_ORDER[magic])
    elif magic == _SECTION.to_bytes(4, "big"):
        packets = _pcapng(file, path)
    else:
        raise LoadError(f"{path}: neither pcap nor pcapng (begins with {magic.hex() or 'nothing'})")
    for link, packet in packets:
        if not packet:
            yield b""
        elif payload := _payload(link, packet):
            yield payload


def _pcap(file: BinaryIO, path: str, order: str) -> Iterator[tuple[int, bytes]]:
    header = file.read(20)
    if len(header) < 20:
        raise LoadError(f"{path}: ends within its header")
    link = _link(struct.unpack(order + "I", header[16:])[0] & 0xFFFF, path, 20)
    at = 24
    while record := file.read(16):
        if len(record) < 16:
            yield link, b""
            return
        length = struct.unpack(order + "I", record[8:12])[0]
        if length > _MAX_PACKET:
            raise LoadError(f"{path}: a packet of {length} bytes at byte {at}")
        packet = file.read(length)
        if len(packet) < length:
            yield link, b""
            return
        if packet:
            yield link, packet
        at += 16 + length


def _pcapng(file: BinaryIO, path: str) -> Iterator[tuple[int, bytes]]:
    """Blocks of type, length, body, length. Interfaces and byte order are those of the section."""
    links: list[int] = []
    order, at = "<", 0
    kind_bytes = _SECTION.to_bytes(4, "big")
    while kind_bytes:
        head = file.read(4)
        if kind_bytes == _SECTION.to_bytes(4, "big"):
            magic = file.read(4)
            if magic not in _BYTE_ORDER:
                raise LoadError(f"{path}: no byte order in the section at byte {at}")
            order, links, taken = _BYTE_ORDER[magic], [], 12
        else:
            taken = 8
        if len(kind_bytes) + len(head) < 8:
            yield 0, b""
            return
        kind, length = struct.unpack(order + "2I", kind_bytes + head)
        if length < taken + 4 or length % 4 or length > _MAX_PACKET + 4096:
            raise LoadError(f"{path}: a block of {length} bytes at byte {at}")
        rest = file.read(length - taken)
        if len(rest) < length - taken:
            yield 0, b""
            return
        if struct.unpack(order + "I", rest[-4:])[0] != length:
            raise LoadError(f"{path}: the block at byte {at} does not end as it begins")
        body = rest[:-4]
        if kind == _INTERFACE and len(body) >= 8:
            if len(links) == _MAX_INTERFACES:
                raise LoadError(f"{path}: more than {_MAX_INTERFACES} interfaces")
            links.append(struct.unpack(order + "H", body[:2])[0])
        elif kind in (_ENHANCED, _SIMPLE):
            packet = _block(kind, order, body, links)
            if packet is None:
                raise LoadError(f"{path}: no packet in the block at byte {at}")
            yield _link(packet[0], path, at), packet[1]
        at += length
        kind_bytes = file.read(4)


def _block(kind: int, order: str, body: bytes, links: list[int]) -> tuple[int, bytes] | None:
    """Link type and packet of a packet block. An empty packet is as good as none."""
    if kind == _SIMPLE:
        return (links[0], body[4:]) if links and len(body) > 4 else None
    if len(body) < 20:
        return None
    interface, _, _, length = struct.unpack(order + "4I", body[:16])
    packet = body[20 : 20 + length]
    if interface >= len(links) or len(packet) < length or not packet:
        return None
    return links[interface], packet


def _link(link: int, path: str, at: int) -> int:
    if link not in _NETWORK_LAYER:
        raise LoadError(f"{path}: link type {link} at byte {at} is none of Ethernet, Linux cooked, raw IP")
    return link


def _ethernet(packet: bytes) -> tuple[int, int]:
    at, kind = 14, int.from_bytes(packet[12:14], "big")
    while kind in _VLANS and at < 26:
        kind, at = int.from_bytes(packet[at + 2 : at + 4], "big"), at + 4
    return kind, at


def _raw(packet: bytes) -> tuple[int, int]:
    return (_IPV6 if packet[0] >> 4 == 6 else _IPV4), 0


_NETWORK_LAYER: dict[int, Callable[[bytes], tuple[int, int]]] = {
    1: _ethernet,
    12: _raw,
    14: _raw,
    101: _raw,
    113: lambda packet: (int.from_bytes(packet[14:16], "big"), 16),
    228: _raw,
    229: _raw,
    276: lambda packet: (int.from_bytes(packet[:2], "big"), 20),
}
"""By link type: protocol of the network layer, and where it begins."""


def _payload(link: int, packet: bytes) -> bytes:
    """The payload of a UDP packet to port 53, b"" for any other packet."""
    kind, at = _NETWORK_LAYER[link](packet)
    if kind == _IPV4 and len(packet) >= at + 20 and packet[at] >> 4 == 4:
        fragment = int.from_bytes(packet[at + 6 : at + 8], "big") & 0x3FFF
        if packet[at + 9] != _UDP or fragment:
            return b""
        at += 4 * (packet[at] & 0xF)
    elif kind == _IPV6 and len(packet) >= at + 40 and packet[at] >> 4 == 6:
        following, at = packet[at + 6], at + 40
        while following in _SKIPPED_EXTENSIONS and at + 2 <= len(packet):
            following, at = packet[at], at + 8 * (packet[at + 1] + 1)
        if following != _UDP:
            return b""
    else:
        return b""
    if packet[at + 2 : at + 4] != _DNS.to_bytes(2, "big"):
        return b""
    length = int.from_bytes(packet[at + 4 : at + 6], "big")
    # Less than that where the capture was told to cut packets; Ethernet pads short ones.
    return packet[at + 8 : at + length] if length > 8 else b""
