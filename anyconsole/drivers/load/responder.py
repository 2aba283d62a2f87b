"""Answers the DNS queries of a load agent on the same host with themselves, so that the agent finds out what it can do: for its self-test.

One file, standard library only, Python 3.8 or later: pushed like the agent, nothing is installed. It reads one line of JSON, `{"family": 4,
"processes": 2}` (4 or 6; 0 processes are one a core), says `ready PORT` or `error WHY`, and answers on that port of 127.0.0.1 or ::1 every
query that comes from there, in a batch a millisecond, so that it takes as little of the agent's CPU as can be. It is no name server: an
answer is the query with its QR bit set. Nothing that leaves the host is ever answered. It ends when its input ends, and after a minute.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import json
import os
import select
import signal
import socket
import struct
import time
from typing import NoReturn

LIFETIME = 60
"""Seconds after which it ends, should nobody have told it that its console is gone."""

TICK = 0.001

_BATCH = 256
_ROOM = 512
_HEADER = 12
_RECEIVE_BUFFER = 2 << 20
SO_RCVBUFFORCE = 33

# struct msghdr and the length behind it, of 64-bit Linux: name, its length, iovec, their number, control, its length, flags; length.
_MESSAGE = struct.Struct("@PI4xPNPNI4xI4x")
_NAME = 28
_LENGTH_AT = 56 // 4

_SET_QR = bytes(byte | 0x80 for byte in range(256))


class Batched:
    """Many queries a system call: recvmmsg(2) and sendmmsg(2)."""

    def __init__(self, listening: socket.socket) -> None:
        if ctypes.sizeof(ctypes.c_void_p) != 8:
            raise OSError("not a 64-bit Python")
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            self._sendmmsg, self._recvmmsg = libc.sendmmsg, libc.recvmmsg
        except AttributeError as error:
            raise OSError(str(error)) from error
        self._sendmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
        self._recvmmsg.argtypes = [*self._sendmmsg.argtypes, ctypes.c_void_p]
        self._fd = listening.fileno()
        self._is_v4 = listening.family == socket.AF_INET
        name_length = 16 if self._is_v4 else _NAME
        self._data = bytearray(_ROOM * _BATCH)
        self._names = bytearray(_NAME * _BATCH)
        data, names = _address_of(self._data), _address_of(self._names)
        # The same buffers twice: what is received into `_ROOM` bytes is sent back as long as it was.
        self._queries, self._rooms = _messages(data, names, name_length)
        self._answers, self._lengths = _messages(data, names, name_length)
        self._queries_at, self._answers_at = self._queries.buffer_info()[0], self._answers.buffer_info()[0]

    def answer(self) -> int:
        """Answer what has come, a batch at most; how much that was."""
        count: int = self._recvmmsg(self._fd, self._queries_at, _BATCH, socket.MSG_DONTWAIT, None)
        if count <= 0:
            return 0
        third = slice(2, _ROOM * count, _ROOM)
        flags = self._data[third]
        lengths = self._queries[_LENGTH_AT : 16 * count : 16]
        # The kernel takes ::1 from nobody outside, but 127.0.0.1 may be routed to (route_localnet).
        senders = self._names[4 : _NAME * count : _NAME].count(127) if self._is_v4 else count
        self._lengths[1 : 2 * count : 2] = array.array("Q", lengths)
        self._data[third] = flags.translate(_SET_QR)
        if senders == count and max(flags) < 0x80 and min(lengths) >= _HEADER:
            self._send(0, count)
            return count
        for number in range(count):
            sender = self._names[_NAME * number + 4]
            if (sender == 127 or not self._is_v4) and flags[number] < 0x80 and lengths[number] >= _HEADER:
                self._send(number, number + 1)
        return count

    def _send(self, number: int, end: int) -> None:
        while number < end:
            sent = self._sendmmsg(self._fd, self._answers_at + _MESSAGE.size * number, end - number, 0)
            # One that can't be sent isn't: its agent counts it as lost.
            number += max(1, sent)


def _address_of(buffer: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def _messages(data: int, names: int, name_length: int) -> tuple[array.array[int], array.array[int]]:
    """As many struct mmsghdr as a batch has, and the iovecs that they point to: address, length."""
    parts = array.array("Q")
    for number in range(_BATCH):
        parts.extend([data + _ROOM * number, _ROOM])
    at = parts.buffer_info()[0]
    messages = array.array("I")
    for number in range(_BATCH):
        name = names + _NAME * number
        messages.frombytes(_MESSAGE.pack(name, name_length, at + 16 * number, 1, 0, 0, 0, 0))
    return messages, parts


class Plain:
    """The same with a system call for each packet, for hosts where those of `Batched` are missing."""

    def __init__(self, listening: socket.socket) -> None:
        self._socket = listening
        self._loopback = ("127.",) if listening.family == socket.AF_INET else ("",)

    def answer(self) -> int:
        """As of `Batched`."""
        for number in range(_BATCH):
            try:
                query, sender = self._socket.recvfrom(_ROOM)
            except OSError:
                return number
            if len(query) >= _HEADER and query[2] < 0x80 and sender[0].startswith(self._loopback):
                with contextlib.suppress(OSError):
                    self._socket.sendto(query[:2] + bytes([query[2] | 0x80]) + query[3:], sender)
        return _BATCH


def open_sockets(family: int, count: int) -> list[socket.socket]:
    """Sockets that share a port of the loopback address; the kernel deals its flows out to them. Raises OSError."""
    kind, address = (socket.AF_INET6, "::1") if family == 6 else (socket.AF_INET, "127.0.0.1")
    port = 0
    sockets = []
    for _ in range(count):
        listening = socket.socket(kind, socket.SOCK_DGRAM)
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            listening.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        except OSError:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        listening.bind((address, port))
        port = listening.getsockname()[1]
        sockets.append(listening)
    return sockets


def serve(listening: socket.socket, link: int, plain: bool) -> NoReturn:
    """Answer until nobody holds the other end of the link any more."""
    signal.alarm(LIFETIME)
    responder: Batched | Plain = Plain(listening)
    if not plain:
        with contextlib.suppress(OSError):
            responder = Batched(listening)
    poller = select.epoll()
    for fd in (listening.fileno(), link):
        poller.register(fd, select.EPOLLIN)
    while True:
        if any(fd == link for fd, _ in poller.poll()):
            os._exit(0)
        # What comes within a millisecond is worth one wake-up.
        if responder.answer() < _BATCH:
            time.sleep(TICK)


def respond(order: dict[str, int]) -> None:
    """Open the port, start the processes that answer, and wait for the end of the input. Raises OSError."""
    sockets = open_sockets(order["family"], order["processes"] or len(os.sched_getaffinity(0)))
    link, held = os.pipe()
    for listening in sockets:
        if not os.fork():
            for fd in (0, 1, held):
                os.close(fd)
            serve(listening, link, bool(order.get("plain")))
    os.write(1, b"ready %d\n" % sockets[0].getsockname()[1])
    for listening in sockets:
        listening.close()
    while os.read(0, 4096):
        pass


def main() -> NoReturn:
    """Run; the processes that answer see that this one is gone."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(LIFETIME)
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(0, 4096)
        if not more:
            os._exit(0)
        line += more
    try:
        respond(json.loads(line))
    except BrokenPipeError:
        pass
    except OSError as error:
        os.write(1, b"error %s\n" % os.strerror(error.errno or errno.EIO).encode())
    except (ValueError, KeyError, TypeError) as error:
        os.write(1, b"error not understood: %r\n" % (error,))
    os._exit(0)
