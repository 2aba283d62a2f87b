"""Talking to a host's first process over its control socket: status, start, stop, signal."""

from __future__ import annotations

import json
import signal
import socket
import struct
from typing import Any

import msgspec

from anyconsole.errors import LabError
from anyconsole.lab.paths import LabPaths

__all__ = ["DaemonRow", "HostDownError", "daemons", "first_process", "signal_program", "start", "stop"]

_TIMEOUT = 20.0


class HostDownError(LabError):
    """The host's first process doesn't answer."""


class DaemonRow(msgspec.Struct, frozen=True):
    """A daemon of a host. `pid` is the one inside the host, 0 if it doesn't run; `exit` is how it last ended."""

    name: str
    running: bool
    wanted: bool
    pid: int
    exit: int | None = None


def daemons(paths: LabPaths, host: str) -> tuple[DaemonRow, ...]:
    """The host's daemons. Raises HostDownError."""
    return tuple(msgspec.convert(row, DaemonRow) for row in _order(paths, host, {"do": "status"})["daemons"])


def start(paths: LabPaths, host: str, names: list[str]) -> None:
    """Start daemons that don't run. Raises HostDownError, LabError."""
    _order(paths, host, {"do": "start", "names": names})


def stop(paths: LabPaths, host: str, names: list[str]) -> None:
    """Stop daemons; they are gone when this returns. Raises HostDownError, LabError."""
    _order(paths, host, {"do": "stop", "names": names})


def signal_program(paths: LabPaths, host: str, program: str, number: signal.Signals) -> int:
    """Signal every process of the host that runs `program`; returns how many. Raises HostDownError."""
    return int(_order(paths, host, {"do": "signal", "program": program, "signal": int(number)})["signalled"])


def first_process(paths: LabPaths, host: str) -> int:
    """PID, as this machine counts, of the host's first process. Raises HostDownError."""
    with _connect(paths, host) as connection:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[0])


def _connect(paths: LabPaths, host: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_TIMEOUT)
    try:
        connection.connect(str(paths.control(host)))
    except OSError as error:
        connection.close()
        raise HostDownError(f"{host} of lab {paths.name!r} is not running ({error.strerror})") from error
    return connection


def _order(paths: LabPaths, host: str, order: dict[str, Any]) -> dict[str, Any]:
    with _connect(paths, host) as connection:
        try:
            connection.sendall(json.dumps(order).encode() + b"\n")
            line = connection.makefile("rb").readline()
        except OSError as error:
            raise HostDownError(f"{host} of lab {paths.name!r} doesn't answer {order['do']!r} ({error})") from error
    if not line:
        raise HostDownError(f"{host} of lab {paths.name!r} hung up on {order['do']!r}; see {paths.host(host)}/init.log")
    reply: dict[str, Any] = json.loads(line)
    if not reply["ok"]:
        raise LabError(f"{host} refused {order['do']!r}: {reply['error']}")
    return reply
