"""The journal's copy in syslog: one short line per record to the machine's own socket. What it can't take never stops a change."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any, Final

from anyconsole.actions.journal_record import Record
from anyconsole.model.table import clean

__all__ = ["Syslog"]

_PRIORITY: Final = 1 * 8 + 5
"""RFC 5424: facility user, severity notice."""
_LONGEST: Final = 1000
"""RFC 3164 allows 1024 bytes a line, header included."""
_LONGEST_VALUE: Final = 160
_DEADLINE: Final = 0.5
_log: Final = logging.getLogger(__name__)


class Syslog:
    """Sends records to a syslog socket. The first failure is logged, later ones are not, until a line gets through again."""

    def __init__(self, path: str = "/dev/log") -> None:
        self._path = path
        self._failed = False

    def send(self, record: Record) -> None:
        """Send one record; waits half a second at most and never raises OSError."""
        line = f"<{_PRIORITY}>anyconsole[{os.getpid()}]: ".encode() + _bounded(
            " ".join(_words(record)).encode("utf-8", "replace")
        )
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_DEADLINE)
                sender.connect(self._path)
                sender.send(line)
        except OSError as error:
            if not self._failed:
                _log.warning("journal: no copy in syslog (%s): %s", self._path, error)
            self._failed = True
        else:
            self._failed = False


def _words(record: Record) -> Iterator[str]:
    """Fields that are one value, as name=value; texts in quotes. The rest is in the journal."""
    yield f"journal change={record.id} kind={record.kind}"
    for name, value in record.fields.items():
        match value:
            case {"user": user, "host": host}:
                yield f"{name}={_quoted(f'{user}@{host}')}"
            case str() if value and name != "output":
                yield f"{name}={_quoted(value)}"
            case bool() | int() | float():
                yield f"{name}={json.dumps(value)}"
            case _:
                pass


def _quoted(value: Any) -> str:  # noqa: ANN401 - any text
    text = clean(value, len(value))
    return json.dumps(text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…", ensure_ascii=False)


def _bounded(line: bytes) -> bytes:
    if len(line) <= _LONGEST:
        return line
    return line[:_LONGEST].decode("utf-8", "ignore").encode() + "…".encode()
