"""Runs in a lab client: asks one question at a steady rate over IPv4 and IPv6, and says on stdout what became of every single query.

Standard library only, `python3 -ISc SOURCE CONFIG`. Open loop: a query is sent when it is due, whatever became of the others. A
sender that was away leaves out what was due `CATCH_UP` ago, for a burst would be lost by itself: its number is missing. It ends when
its standard input does, after the last query was answered or given up.

Lines of JSON: `{"began": seconds}` at first, then `{"rows": [...]}` with a row per query that was answered or given up, and
`{"strays": [v4, v6], "dropped": [v4, v6]}` at last. Times are CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import Any

IP_RECVERR, IPV6_RECVERR, SO_MEMINFO, SO_RCVBUFFORCE = 11, 25, 55, 33
RECEIVE_BUFFER = 4 << 20
FLUSH = 0.1
CATCH_UP = 0.05
OPT, NSID = 41, 3


def question(name: str) -> bytes:
    """All of a query for the name's SOA but its id: EDNS, NSID asked for (RFC 5001)."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    opt = b"\0" + struct.pack(">HHIH", OPT, 1232, 0, 4) + struct.pack(">HH", NSID, 0)
    return struct.pack(">5H", 0, 1, 0, 0, 1) + labels + struct.pack(">2H", 6, 1) + opt


def read_answer(answer: bytes) -> tuple[int, str]:
    """The rcode of an answer and the NSID it carries, "" if none. Raises ValueError if it is no whole DNS message."""
    try:
        _, flags, questions, *counts = struct.unpack_from(">6H", answer)
        if not flags & 0x8000:
            raise ValueError("a query, not an answer")
        offset = 12
        for _ in range(questions):
            offset = _after_name(answer, offset) + 4
        nsid = b""
        for _ in range(sum(counts)):
            offset = _after_name(answer, offset)
            kind, _, _, length = struct.unpack_from(">HHIH", answer, offset)
            offset += 10
            if kind == OPT:
                nsid = _option(answer[offset : offset + length], NSID)
            offset += length
    except (struct.error, IndexError) as error:
        raise ValueError(f"a broken answer: {error}") from error
    if offset > len(answer):
        raise ValueError("a truncated answer")
    return flags & 0xF, nsid.decode("ascii", "replace")


def _after_name(message: bytes, offset: int) -> int:
    while True:
        length = message[offset]
        if length >= 0xC0:
            return offset + 2
        offset += 1 + length
        if not length:
            return offset


def _option(options: bytes, wanted: int) -> bytes:
    offset = 0
    while offset < len(options):
        code, length = struct.unpack_from(">HH", options, offset)
        if code == wanted:
            return options[offset + 4 : offset + 4 + length]
        offset += 4 + length
    return b""


class Stream:
    """The queries to one address. A row is [number of the address, number of the query, sent, answered or null, nsid, rcode, error]."""

    def __init__(self, position: int, address: str, body: bytes, config: dict[str, Any]) -> None:
        self.position = position
        self.body = body
        self.rate: float = config["rate"]
        self.patience: float = config["patience"]
        self.sent = 0
        self.strays = 0
        self.waiting: dict[int, tuple[int, float]] = {}
        self.errors: dict[int, str] = {}
        self.rows: list[list[Any]] = []
        v6 = ":" in address
        self.socket = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
        with suppress(PermissionError):  # not root: `dropped` will tell if it mattered
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        # Without it the kernel keeps "network unreachable" from us.
        self.socket.setsockopt(*(socket.IPPROTO_IPV6, IPV6_RECVERR) if v6 else (socket.IPPROTO_IP, IP_RECVERR), 1)
        self.socket.setblocking(False)
        self.socket.connect((address, config.get("port", 53)))

    def due_at(self, began: float) -> float:
        """When the next query is to be sent."""
        return began + self.sent / self.rate

    def leave_out(self, began: float, now: float) -> None:
        """Leave out the queries that are long overdue."""
        self.sent = max(self.sent, int((now - CATCH_UP - began) * self.rate))

    def send(self) -> None:
        """Send the next query."""
        number, self.sent = self.sent, self.sent + 1
        ident = number & 0xFFFF
        message = struct.pack(">H", ident) + self.body
        self.waiting[ident] = (number, time.monotonic())
        try:
            self.socket.send(message)
        except OSError:
            # What the network said about an earlier query is told to the next one, which then was not sent.
            self.read_errors()
            try:
                self.socket.send(message)
            except OSError as error:
                self.errors[ident] = errno.errorcode.get(error.errno or 0, "?")

    def receive(self) -> None:
        """Read everything that has come."""
        self.read_errors()
        while True:
            try:
                answer = self.socket.recv(4096)
            except BlockingIOError:
                return
            except OSError:
                self.read_errors()
                continue
            now = time.monotonic()
            try:
                rcode, nsid = read_answer(answer)
                ident = int.from_bytes(answer[:2], "big")
                number, sent = self.waiting.pop(ident)
            except (ValueError, KeyError):
                self.strays += 1
                continue
            self.rows.append([self.position, number, sent, now, nsid, rcode, self.errors.pop(ident, "")])

    def read_errors(self) -> None:
        """Note which queries the network refused: the error queue holds the beginning of each."""
        while True:
            try:
                message, ancillary, _, _ = self.socket.recvmsg(512, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return
            if len(message) >= 2 and ancillary:
                number = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
                ident = int.from_bytes(message[:2], "big")
                if ident in self.waiting:
                    self.errors[ident] = errno.errorcode.get(number, "?")

    def give_up(self, now: float) -> None:
        """Settle the queries that have waited for too long. They wait in the order in which they were sent."""
        while self.waiting:
            ident = next(iter(self.waiting))
            number, sent = self.waiting[ident]
            if now - sent < self.patience:
                return
            del self.waiting[ident]
            self.rows.append([self.position, number, sent, None, "", 0, self.errors.pop(ident, "")])

    def dropped(self) -> int:
        """Answers that came and found no room."""
        return int(struct.unpack_from("9I", self.socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 64))[8])


def main() -> None:
    """Ask until standard input ends."""
    config = json.loads(sys.argv[1])
    body = question(config["name"])
    streams = [Stream(number, address, body, config) for number, address in enumerate(config["addresses"])]
    by_socket = {stream.socket: stream for stream in streams}
    began = time.monotonic()
    flush_at = began
    asking = True
    tell({"began": began})
    while asking or any(stream.waiting for stream in streams):
        now = time.monotonic()
        if asking:
            for stream in streams:
                stream.leave_out(began, now)
                while stream.due_at(began) <= now:
                    stream.send()
        for stream in streams:
            stream.give_up(now)
        if now >= flush_at:
            flush_at = now + FLUSH
            flush(streams)
        until = min([flush_at] + [stream.due_at(began) for stream in streams if asking])
        listening: list[Any] = [*by_socket, *([sys.stdin] if asking else [])]
        for ready in select.select(listening, [], [], max(0.0, until - time.monotonic()))[0]:
            if ready in by_socket:
                by_socket[ready].receive()
            elif not os.read(sys.stdin.fileno(), 4096):
                asking = False
    flush(streams)
    tell({"strays": [s.strays for s in streams], "dropped": [s.dropped() for s in streams]})


def flush(streams: list[Stream]) -> None:
    """Tell what was settled since the last time."""
    rows = [row for stream in streams for row in stream.rows]
    for stream in streams:
        stream.rows.clear()
    if rows:
        tell({"rows": rows})


def tell(line: dict[str, Any]) -> None:
    """One line of JSON."""
    print(json.dumps(line, separators=(",", ":")), flush=True)


if __name__ == "__main__":
    main()
