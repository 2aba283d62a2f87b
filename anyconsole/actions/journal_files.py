"""The journal's files: lines put at their end, on the disk, by several consoles at a time. What the lines say is `journal_record`'s.

Nothing is ever rewritten or cut. What a crash or a full disk left of a line is passed over, and costs that line alone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from pathlib import Path
from typing import Final

from anyconsole.actions.journal_record import Record, parse
from anyconsole.errors import JournalError

__all__ = ["append_line", "cause", "make_folder", "read_month", "sync_folder", "unwritten", "wait_for_lock"]

PATIENCE: Final = 10.0
"""Seconds to wait for another console that is writing. It needs milliseconds, unless it is stopped."""


def make_folder(folder: Path) -> None:
    """The folder and those above it, for the user alone; each is on the disk before anything is put into it.

    Raises:
        JournalError: It can't be made.
    """
    try:
        missing = [p for p in (folder, *folder.parents) if not p.exists()]
        for path in reversed(missing):
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
            path.chmod(0o700)
            sync_folder(path.parent)
        if stat.S_IMODE(folder.stat().st_mode) != 0o700:
            folder.chmod(0o700)
    except OSError as error:
        raise unwritten(folder, error) from error


def append_line(path: Path, line: bytes) -> None:
    """Put a line at the end of a file, on the disk. A line that somebody left unfinished there is ended first, so that only it is lost.

    Raises:
        JournalError: It isn't on the disk, or not as a whole.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            wait_for_lock(descriptor, fcntl.LOCK_EX)
            about = os.fstat(descriptor)
            if stat.S_IMODE(about.st_mode) != 0o600:
                os.fchmod(descriptor, 0o600)
            if about.st_size and os.pread(descriptor, 1, about.st_size - 1) != b"\n":
                line = b"\n" + line
            written = os.write(descriptor, line)
            while written < len(line):  # a disk that fills up takes a part; asked for the rest it says why
                written += os.write(descriptor, line[written:])
            os.fsync(descriptor)
            if not about.st_size:
                sync_folder(path.parent)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unwritten(path, error) from error


def read_month(path: Path) -> tuple[list[Record], str]:
    """The records of a file, and a remark if some lines of it are none. Raises OSError."""
    with path.open("rb") as file:
        wait_for_lock(file.fileno(), fcntl.LOCK_SH)
        content = file.read()
    parsed = [parse(line) for line in content.split(b"\n") if line]
    unreadable = sum(record is None for record in parsed)
    lines = f"{unreadable} unreadable line{'' if unreadable == 1 else 's'} in {path}"
    return [record for record in parsed if record is not None], lines if unreadable else ""


def wait_for_lock(descriptor: int, how: int, patience: float = PATIENCE) -> None:
    """Wait for a file that somebody else holds. Raises TimeoutError after `patience` seconds."""
    give_up_at = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up_at:
                raise TimeoutError(errno.ETIMEDOUT, f"another console has held it for {patience:.0f} s") from None
            time.sleep(0.01)
        else:
            return


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unwritten(path: Path, error: OSError) -> JournalError:
    """The error for a file that didn't take what had to be written."""
    return JournalError(f"{path}: the journal can't be written: {cause(error)}")


def cause(error: OSError) -> str:
    """What the system says, without the number."""
    return error.strerror or str(error)
