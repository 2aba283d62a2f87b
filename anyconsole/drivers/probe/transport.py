"""The probe's hands on a node: asks answered with blocking sockets, files and processes, each within the round's deadline.

Standard library only: this module travels to the nodes.
"""

# ruff: noqa: B905, UP041  -- travels to nodes with Python 3.7
from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from typing import TYPE_CHECKING

from anyconsole.drivers.ask import MAX_REPLY, Exchange, Get, Read, Reply, Run, Talk
from anyconsole.drivers.framing import FRAMINGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyconsole.drivers.ask import Ask, Collector, Row
    from anyconsole.drivers.framing import Framing

__all__ = ["Transport", "run_round"]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_ABSENT = (errno.ENOENT, errno.ECONNREFUSED, errno.ESRCH)
_DENIED = (errno.EACCES, errno.EPERM)


class _FaultError(Exception):
    def __init__(self, fault: str, text: str) -> None:
        super().__init__(text)
        self.fault = fault


def run_round(
    collector: Collector, transport: Transport, deadline: float, heard: Callable[[Ask, Reply], None] | None = None
) -> list[Row] | None:
    """Drives one collector to its end and returns its rows; `deadline` is a monotonic time. Raises what the collector raises."""
    try:
        batch = next(collector)
        while True:
            replies = transport.answer(batch, deadline)
            if heard is not None:
                for ask, reply in zip(batch, replies):
                    heard(ask, reply)
            batch = collector.send(replies)
    except StopIteration as done:
        rows: list[Row] | None = done.value
        return rows


class Transport:
    """Answers the asks of one section; keeps its control connections open between rounds. Not thread-safe: one per section."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[socket.socket, int]] = {}

    def answer(self, batch: list[Ask], deadline: float) -> list[Reply]:
        """Replies in the order of the asks; never raises. Exchanges of one batch run at the same time."""
        exchanges = [a for a in batch if isinstance(a, Exchange)]
        answered = iter(_exchange_all(exchanges) if exchanges else ())
        return [next(answered) if isinstance(a, Exchange) else self._one(a, deadline) for a in batch]

    def close(self) -> None:
        """Closes all control connections."""
        for connection, _pid in self._open.values():
            connection.close()
        self._open.clear()

    def _one(self, ask: Ask, deadline: float) -> Reply:
        began = time.monotonic()
        pid = 0
        what = "?"
        try:
            if isinstance(ask, Talk):
                what = "talk to " + ask.path
                data, pid = self._talk(ask, deadline)
            elif isinstance(ask, Read):
                what = "read " + ask.path
                data = _read(ask)
            elif isinstance(ask, Get):
                what = f"get http://{ask.host}:{ask.port}{ask.path}"
                data = _get(ask, deadline)
            elif isinstance(ask, Run):
                what = "run " + " ".join(ask.argv)
                data = _run(ask, deadline)
            else:
                return Reply(fault="unsupported", text=f"unknown ask {ask!r}")
        except _FaultError as error:
            return Reply(fault=error.fault, text=f"{what}: {error}")
        except socket.timeout:
            return Reply(fault="timeout", text=what + ": no answer in time")
        except OSError as error:
            fault = "absent" if error.errno in _ABSENT else "denied" if error.errno in _DENIED else "failed"
            return Reply(fault=fault, text=f"{what}: {error.strerror or error}")
        now = time.monotonic()
        return Reply(data, elapsed=now - began, pid=pid, at=now)

    def _talk(self, ask: Talk, deadline: float) -> tuple[bytes, int]:
        framing = FRAMINGS[ask.framing]
        kept = self._open.pop(ask.path, None)
        if kept is not None:
            try:
                reply = _request(kept[0], framing, ask.data, deadline)
            except (_FaultError, OSError) as error:
                kept[0].close()
                if isinstance(error, socket.timeout):
                    raise
                # It was closed at the other end since the last round (a restart): once more on a new connection.
            else:
                self._open[ask.path] = kept
                return reply, kept[1]
        connection, pid = _connect(ask.path, framing, deadline)
        try:
            reply = _request(connection, framing, ask.data, deadline)
        except BaseException:
            connection.close()
            raise
        if framing.persistent:
            self._open[ask.path] = connection, pid
        else:
            connection.close()
        return reply, pid


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout("deadline")
    return left


def _connect(path: str, framing: Framing, deadline: float) -> tuple[socket.socket, int]:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_left(deadline))
        try:
            connection.connect(path)
        except BlockingIOError:  # the daemon's backlog is full: it has not accepted for long
            raise socket.timeout("backlog is full") from None
        pid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        if framing.greets:
            _receive(connection, framing, deadline)
        for request, expected in framing.opening:
            reply = _request(connection, framing, request, deadline)
            if not reply.startswith(expected):
                raise _FaultError("failed", f"refused {request!r}: {reply[:100]!r}")
    except BaseException:
        connection.close()
        raise
    return connection, pid


def _request(connection: socket.socket, framing: Framing, data: bytes, deadline: float) -> bytes:
    connection.settimeout(_left(deadline))
    connection.sendall(data)
    return _receive(connection, framing, deadline)


def _receive(connection: socket.socket, framing: Framing, deadline: float) -> bytes:
    buffer = b""
    while True:
        end = framing.end(buffer)
        if end is not None:
            return buffer[:end]
        if len(buffer) > MAX_REPLY:
            raise _FaultError("failed", f"reply is longer than {MAX_REPLY} bytes")
        connection.settimeout(_left(deadline))
        data = connection.recv(65536)
        if not data:
            if framing.persistent:
                raise _FaultError("failed", "connection closed in the middle of a reply")
            return buffer
        buffer += data


def _read(ask: Read) -> bytes:
    descriptor = os.open(ask.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        content = b""
        while len(content) < ask.limit:
            data = os.read(descriptor, ask.limit - len(content))
            if not data:
                break
            content += data
        return content
    finally:
        os.close(descriptor)


def _get(ask: Get, deadline: float) -> bytes:
    connection = socket.create_connection((ask.host, ask.port), _left(deadline))
    try:
        name = f"[{ask.host}]" if ":" in ask.host else ask.host
        request = f"GET {ask.path} HTTP/1.0\r\nHost: {name}:{ask.port}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        answer = b""
        while True:
            connection.settimeout(_left(deadline))
            data = connection.recv(65536)
            if not data:
                break
            answer += data
            if len(answer) > MAX_REPLY:
                raise _FaultError("failed", f"answer is longer than {MAX_REPLY} bytes")
    finally:
        connection.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if len(words) < 2 or words[1] != b"200":
        raise _FaultError("failed", f"answered {head[:60]!r}")
    return body


def _run(ask: Run, deadline: float) -> bytes:
    import subprocess  # noqa: PLC0415  (10 ms of a node's time that most probes never need)

    process = subprocess.Popen(
        list(ask.argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": _PATH, "LC_ALL": "C"},
        close_fds=True,
    )
    try:
        out, err = process.communicate(timeout=_left(deadline))
    except subprocess.TimeoutExpired:
        raise socket.timeout("deadline") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode != 0:
        said = (err.strip() or out.strip()).decode("utf-8", "replace")[:200]
        raise _FaultError("failed", f"exit status {process.returncode}: {said}")
    return out[:MAX_REPLY]


def _exchange_all(asks: list[Exchange]) -> list[Reply]:
    """All exchanges at once: a connected socket each, so that only the address asked can answer and a refusal is heard."""
    replies: list[Reply | None] = [None] * len(asks)
    waiting: dict[int, tuple[int, socket.socket, bytes, float]] = {}
    for i, ask in enumerate(asks):
        try:
            sock = socket.socket(socket.AF_INET6 if ":" in ask.address else socket.AF_INET, socket.SOCK_DGRAM)
        except OSError as error:
            replies[i] = _exchange_fault(ask, error)
            continue
        try:
            sock.setblocking(False)
            sock.connect((ask.address, ask.port))
            ident = os.urandom(2)
            sock.send(ident + ask.data[2:])
        except OSError as error:
            sock.close()
            replies[i] = _exchange_fault(ask, error)
            continue
        waiting[sock.fileno()] = i, sock, ident, time.monotonic()
    poller = select.poll()
    for descriptor in waiting:
        poller.register(descriptor, select.POLLIN)
    while waiting:
        now = time.monotonic()
        left = min(sent + asks[i].timeout - now for i, _, _, sent in waiting.values())
        for descriptor, _event in poller.poll(max(0, int(left * 1000) + 1)):
            i, sock, ident, sent = waiting[descriptor]
            reply = _heard(asks[i], sock, ident, sent)
            if reply is not None:
                replies[i] = reply
                poller.unregister(descriptor)
                sock.close()
                del waiting[descriptor]
        now = time.monotonic()
        for descriptor, (i, sock, _ident, sent) in list(waiting.items()):
            if now - sent >= asks[i].timeout:
                replies[i] = Reply(fault="timeout", text=f"{asks[i].address} did not answer in {asks[i].timeout:g} s")
                poller.unregister(descriptor)
                sock.close()
                del waiting[descriptor]
    return [r if r is not None else Reply(fault="failed", text="not asked") for r in replies]


def _heard(ask: Exchange, sock: socket.socket, ident: bytes, sent: float) -> Reply | None:
    try:
        data = sock.recv(65535)
    except (BlockingIOError, InterruptedError):
        return None
    except OSError as error:
        return _exchange_fault(ask, error)
    if data[:2] != ident:
        return None  # somebody else's, or an old one
    return Reply(b"\0\0" + data[2:], elapsed=time.monotonic() - sent)


def _exchange_fault(ask: Exchange, error: OSError) -> Reply:
    fault = "absent" if error.errno == errno.ECONNREFUSED else "failed"
    return Reply(fault=fault, text=f"{ask.address}: {error.strerror or error}")
