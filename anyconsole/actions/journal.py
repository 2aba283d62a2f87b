"""The journal: who changed what, why, with which commands, and how it ended; append-only lines of JSON on the disk.

It never rewrites anything and knows no action; what its lines mean is `journal_record`'s, how they read is `journal_report`'s.
Everything here blocks on the disk: call it in a thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from anyconsole.actions.journal_files import append_line, cause, make_folder, read_month, unwritten, wait_for_lock
from anyconsole.actions.journal_record import (
    FOUND,
    OPEN,
    ChangeSummary,
    JournalledChange,
    Record,
    fold,
    is_id,
    line_of,
    summary,
)
from anyconsole.actions.journal_scrub import scrub, scrub_json
from anyconsole.actions.journal_syslog import Syslog
from anyconsole.actions.run import Operator, Run
from anyconsole.errors import JournalError
from anyconsole.logs import state_folder
from anyconsole.model.inventory import Inventory
from anyconsole.model.table import clean

__all__ = [
    "LONGEST_OUTPUT", "ChangeJournal", "ChangeSummary", "Contents", "Journal", "JournalError", "JournalledChange", "bounded_output",
    "journal_of", "new_id",
]  # fmt: skip

LONGEST_OUTPUT: Final = 4096
"""Bytes of one command's output that are kept."""
_GLANCE: Final = 0.5
"""Seconds in which somebody who only looks whether a change is held has looked."""
_MONTH: Final = re.compile(r"[0-9]{4}-[0-9]{2}\.jsonl")
_log: Final = logging.getLogger(__name__)


class Contents(msgspec.Struct, frozen=True):
    """What the journal says, the newest change first, and what of it couldn't be read."""

    changes: list[JournalledChange]
    remarks: tuple[str, ...] = ()


def journal_of(inventory: Inventory) -> Journal:
    """The journal of a profile, in the user's state folder.

    Raises:
        JournalError: There is no state folder and none can be made.
    """
    # Names of profiles are nearly free text; encoded they are file names, still readable, and no two become the same.
    name = quote(inventory.name, safe=" ") or "%"
    name = f"%2E{name[1:]}" if name.startswith(".") else name
    try:
        folder = state_folder() / "journal" / name
    except OSError as error:
        raise JournalError(f"the journal's folder can't be made: {cause(error)} ({error.filename})") from error
    return Journal(folder, syslog=inventory.syslog)


def new_id(at: float) -> str:
    """A name for a change begun at `at`: sorts by time, and no two consoles make the same."""
    return f"{datetime.fromtimestamp(at, UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


class Journal:
    """The journal of one profile: a folder with one file a month and one lock file for each change that is being made."""

    def __init__(
        self,
        folder: Path,
        *,
        syslog: bool = False,
        clock: Callable[[], float] = time.time,
        syslog_path: str = "/dev/log",
    ) -> None:
        """Look at `folder`; nothing is made or read yet.

        Args:
            folder: Where it is or will be.
            syslog: Also tell the machine's syslog.
            clock: Now, in epoch seconds.
            syslog_path: The socket of syslog.
        """
        self.folder = folder
        self._clock = clock
        self._syslog = Syslog(syslog_path) if syslog else None
        self._told: tuple[str, ...] = ()
        self._months: dict[Path, tuple[tuple[int, int, int], tuple[list[Record], str]]] = {}

    def open_change(self, run: Run) -> ChangeJournal:
        """Write that a change begins, and hold it while this process lives.

        Args:
            run: The change: who, what, why. Its id is taken; if it has none, one is made.

        Raises:
            JournalError: It can't be written. The change must not begin.
        """
        now = self._clock()
        id_ = run.id or new_id(now)
        if not is_id(id_):
            raise JournalError(f"{id_!r} can't be the name of a change")
        make_folder(self.folder)
        lock = self._lock(id_, os.O_CREAT | os.O_EXCL)
        change = ChangeJournal(self, id_, opened_at=now, lock=lock)
        try:
            change.record(
                "opened",
                operator=run.operator,
                profile=run.plan.profile,
                title=run.plan.title,
                ticket=run.plan.ticket,
                reason=run.plan.reason,
                guards=run.guards,
                overrides=run.overrides,
                acknowledged=run.acknowledged,
                plan=run.plan,
            )
        except BaseException:
            change.release(remove=True)
            raise
        return change

    def acknowledge(self, change_id: str, operator: Operator, words: str) -> None:
        """Close a change that was left open: somebody looked, and `words` is what the nodes say.

        Raises:
            JournalError: There is no such change, it is closed or being made, or it can't be written.
        """
        self.change(change_id)
        lock = self._lock(change_id, os.O_CREAT)
        try:
            # Only now can nobody else close it any more.
            change = self.change(change_id)
            if change.closed_at is not None:
                raise JournalError(f"{change_id} is closed already: {change.outcome}")
            fields = {"outcome": FOUND, "words": words, "operator": operator}
            self.append(change_id, "closed", fields, not_before=change.opened_at)
        finally:
            with contextlib.suppress(OSError):
                self._lock_path(change_id).unlink()
            os.close(lock)

    def append(self, id_: str, kind: str, fields: dict[str, Any], *, not_before: float = 0.0) -> Record:
        """Write one record to the disk and return it as written: scrubbed, its output cleaned and bounded.

        Raises:
            JournalError: It isn't on the disk.
        """
        now = self._clock()
        plain = scrub_json(msgspec.to_builtins(_bounded_outputs(fields), str_keys=True, enc_hook=str))
        record = Record(now, id_, kind, plain)
        # A clock that went back over the end of a month must not put a change's end before its beginning.
        month = datetime.fromtimestamp(max(now, not_before), UTC).strftime("%Y-%m")
        append_line(self.folder / f"{month}.jsonl", line_of(record))
        if self._syslog is not None:
            self._syslog.send(record)
        return record

    # --- reading

    def read(self, limit: int | None = None) -> Contents:
        """The changes, the newest first, `limit` at most. Lines that can't be read are counted and passed over.

        Raises:
            JournalError: The folder can't be read. One that isn't there is a journal without changes.
        """
        records, remarks = self._records(limit)
        unheld = {c.id for c in fold(records, set()) if c.outcome == OPEN and not self._is_held(c.id)}
        if unheld:
            # Whoever held one may have closed it between our reading and our looking; what is new since then is being made.
            records, remarks = self._records(limit)
        running = {r.id for r in records} - unheld
        changes = fold(records, running)
        return Contents(changes if limit is None else changes[:limit], remarks)

    def changes(self, limit: int | None = None) -> list[JournalledChange]:
        """The changes alone; what couldn't be read goes to the log, once. Raises JournalError, as `read` does."""
        contents = self.read(limit)
        for remark in contents.remarks:
            if remark not in self._told:
                _log.warning("journal: %s", remark)
        self._told = contents.remarks
        return contents.changes

    def summaries(self, limit: int | None = None) -> list[ChangeSummary]:
        """The short forms of the changes, for whoever keeps looking: months that didn't grow aren't read again. Raises JournalError."""
        return [summary(change) for change in self.changes(limit)]

    def change(self, id_: str) -> JournalledChange:
        """One change. Raises JournalError if there is none of that name."""
        for change in self.changes():
            if change.id == id_:
                return change
        raise JournalError(f"there is no change {id_!r} in {self.folder}")

    def _records(self, limit: int | None) -> tuple[list[Record], tuple[str, ...]]:
        """Records in the order in which they were written, and remarks; of the newest months only if those have `limit` whole changes."""
        months: list[list[Record]] = []
        remarks: list[str] = []
        known: set[str] = set()
        opened: set[str] = set()
        try:
            names = sorted(filter(_MONTH.fullmatch, (p.name for p in self.folder.iterdir())), reverse=True)
        except FileNotFoundError:
            return [], ()
        except OSError as error:
            raise JournalError(f"{self.folder}: the journal can't be read: {cause(error)}") from error
        for name in names:
            if limit is not None and len(opened) >= limit and known == opened:
                break
            records, remark = self._month(self.folder / name)
            months.append(records)
            remarks += [remark] if remark else []
            known |= {r.id for r in records}
            opened |= {r.id for r in records if r.kind == "opened"}
        return [r for month in reversed(months) for r in month], tuple(remarks)

    def _month(self, path: Path) -> tuple[list[Record], str]:
        """The records of a file; read again only if it isn't what it was."""
        try:
            about = path.stat()
            version = (about.st_ino, about.st_size, about.st_ctime_ns)
            known = self._months.get(path)
            if known is None or known[0] != version:
                known = self._months[path] = (version, read_month(path))
        except OSError as error:
            return [], f"{path} can't be read: {cause(error)}"
        return known[1]

    # --- who is at it

    def _lock_path(self, id_: str) -> Path:
        return self.folder / f"{id_}.lock"

    def _lock(self, id_: str, how: int) -> int:
        """A descriptor that holds the lock of a change; the kernel lets go of it when this process ends, however it ends."""
        path = self._lock_path(id_)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | how, 0o600)
        except FileExistsError:
            raise JournalError(f"{path}: a change of this name is there already") from None
        except OSError as error:
            raise unwritten(path, error) from error
        try:
            os.fchmod(descriptor, 0o600)
            wait_for_lock(descriptor, fcntl.LOCK_EX, _GLANCE)
        except TimeoutError:
            os.close(descriptor)
            raise JournalError(f"{id_} is being made by another console") from None
        except OSError as error:
            os.close(descriptor)
            if how & os.O_EXCL:
                path.unlink(missing_ok=True)
            raise unwritten(path, error) from error
        return descriptor

    def _is_held(self, id_: str) -> bool:
        try:
            descriptor = os.open(self._lock_path(id_), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return False


class ChangeJournal:
    """The part of the journal that one change writes, from any thread, until it is closed."""

    def __init__(self, journal: Journal, id_: str, *, opened_at: float, lock: int) -> None:
        self.id = id_
        self._journal = journal
        self._opened_at = opened_at
        self._lock: int | None = lock

    def record(self, kind: str, **fields: Any) -> None:  # noqa: ANN401 - whatever has a form in JSON
        """Write one record; when this returns it is on the disk. `output` is cleaned and bounded, everything is scrubbed.

        docs/journal.md has the kinds and their fields; `step` is the place of a step in the plan, counted from 0.

        Raises:
            JournalError: It isn't on the disk.
            ValueError: A field has a name that every record has.
        """
        self._journal.append(self.id, kind, fields, not_before=self._opened_at)

    def close(self, run: Run) -> None:
        """Write how the change ended, and let go of it. If it raises, the change counts as open and this may be called again.

        Raises:
            JournalError: It isn't on the disk.
        """
        timings = {str(i): step.timings for i, step in enumerate(run.steps) if step.timings}
        try:
            self.record(
                "closed", outcome=run.outcome or "unknown", words=run.words, overrides=run.overrides, timings=timings
            )
        except BaseException:
            self.release(remove=False)
            raise
        self.release(remove=True)

    def release(self, *, remove: bool) -> None:
        """Let go of the change without a word: from now on it counts as open, unless it is closed."""
        if remove:
            with contextlib.suppress(OSError):
                self._journal._lock_path(self.id).unlink()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def bounded_output(text: str) -> str:
    """Output of a command as it is kept: no secrets, no control characters, at most `LONGEST_OUTPUT` bytes; says what is left out."""
    whole = "\n".join(clean(line, len(line)) for line in scrub(text).expandtabs().split("\n")).encode()
    if len(whole) <= LONGEST_OUTPUT:
        return whole.decode()
    kept = whole[:LONGEST_OUTPUT].decode("utf-8", "ignore")
    return f"{kept}\n… {len(whole) - len(kept.encode())} bytes more"


def _bounded_outputs(fields: dict[str, Any]) -> dict[str, Any]:
    return {k: bounded_output(v) if k == "output" and isinstance(v, str) else v for k, v in fields.items()}
