"""The files of load tests: one per run, rows put at its end as they come. What the rows say is `record`'s.

A file is held by the process that writes it, so a reader knows a run that goes on from one that was cut off. Everything here blocks on
the disk: call it in a thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from anyconsole.actions.journal import journal_of, new_id
from anyconsole.actions.journal_files import cause, make_folder, sync_folder, wait_for_lock
from anyconsole.actions.journal_record import is_id
from anyconsole.actions.load.record import (
    NANOSECONDS,
    Event,
    EventDetails,
    Header,
    InstanceSecond,
    Result,
    Row,
    RunRecord,
)
from anyconsole.actions.load.rows import line_of, periodic_of, rows_of, run_of, summary_of, trial_row
from anyconsole.errors import JournalError, LoadError
from anyconsole.model.inventory import Inventory
from anyconsole.model.load import Counts, Trial, Untold, Verdict

__all__ = ["RunFile", "new_id", "read_run", "run_paths", "runs_folder"]

LARGEST: Final = 512 << 20
"""Bytes of the largest file that is read: days of seconds. What is larger is none of ours."""
_SECONDS: Final = b'{"type":"stats_periodic"'


def runs_folder(inventory: Inventory) -> Path:
    """Where a profile's load tests are, in the user's state folder: named as its journal is.

    Raises:
        JournalError: There is no state folder and none can be made.
    """
    journal = journal_of(inventory).folder
    return journal.parent.parent / "loadtests" / journal.name


def run_paths(folder: Path) -> Iterator[Path]:
    """The files of all runs, in no order; none if there is no such folder. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        for year in folder.iterdir():
            if len(year.name) == 4 and year.name.isdigit():
                yield from (path for path in year.iterdir() if path.suffix == ".jsonl" and is_id(path.stem))


class RunFile:
    """The file of a run that is being made: `create`, rows, `end`. A row that is put outlives the console."""

    def __init__(self, path: Path, descriptor: int, header: Header, untold: Untold = ()) -> None:
        """Use `create`."""
        self.path = path
        self.id = header.runid
        self._untold = untold
        self._descriptor: int | None = descriptor
        self._began_at = (header.since or 0) / NANOSECONDS
        self._trials = 0
        self._totals = Counts()
        self._clock: Callable[[], float] = time.time

    @classmethod
    def create(
        cls, folder: Path, header: Header, *, untold: Untold = (), clock: Callable[[], float] = time.time
    ) -> Self:
        """Begin the file of a run; when this returns its header is on the disk.

        Args:
            folder: Of all runs, as `runs_folder` says; made if it isn't there.
            header: Who, what, under which conditions. `runid` is taken (see `new_id`), `since` set if it isn't.
            untold: What its generator can't tell.
            clock: Now, in epoch seconds.

        Raises:
            LoadError: It can't be written. The run must not begin.
        """
        if not is_id(header.runid):
            raise LoadError(f"{header.runid!r} can't be the name of a load test")
        since = header.since or round(clock() * NANOSECONDS)
        header = msgspec.structs.replace(header, since=since)
        path = folder / f"{datetime.fromtimestamp(since / NANOSECONDS, UTC):%Y}" / f"{header.runid}.jsonl"
        try:
            make_folder(path.parent)
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except JournalError as error:
            raise _unwritten(path, error.__cause__ or error) from error
        except FileExistsError:
            raise LoadError(f"{path}: a load test of this name is there already") from None
        except OSError as error:
            raise _unwritten(path, error) from error
        self = cls(path, descriptor, header, untold)
        self._clock = clock
        try:
            os.fchmod(descriptor, 0o600)
            wait_for_lock(descriptor, fcntl.LOCK_EX)
            self._put(header)
            os.fsync(descriptor)
            sync_folder(path.parent)
        except OSError as error:
            self.close()
            raise _unwritten(path, error) from error
        except LoadError:
            self.close()
            raise
        return self

    def event(
        self, msg: str, msg_type: str = "note", *, who: str = "", rate: float | None = None, at: float | None = None
    ) -> None:
        """Something happened, at `at` (epoch seconds) or now. Raises LoadError."""
        details = EventDetails(at=self._clock() if at is None else at, who=who, rate=rate)
        self._put(Event(runid=self.id, msg=msg, msg_type=msg_type, x=details))

    def periodic(
        self,
        since: float,
        counts: Counts,
        instances: Mapping[str, InstanceSecond] | None = None,
        *,
        seconds: float = 1.0,
    ) -> None:
        """A second that began at `since` (epoch seconds), and what each instance did in it. Raises LoadError."""
        untold = self._untold
        self._put(periodic_of(self.id, since, counts, instances or {}, seconds=seconds, untold=untold))

    def trial(self, trial: Trial, verdict: Verdict) -> None:
        """A trial that is over; it counts for the totals of the run. Raises LoadError."""
        self._trials += 1
        self._totals += trial.counts
        self._put(trial_row(self.id, self._trials, trial, verdict, self._untold))

    def end(self, result: Result) -> None:
        """What was found; when this returns the whole file is on the disk and let go of. Raises LoadError."""
        result = result if result.trials else msgspec.structs.replace(result, trials=self._trials)
        try:
            self._put(summary_of(self.id, self._began_at, self._clock(), self._totals, result))
            if self._descriptor is not None:
                os.fsync(self._descriptor)
        except OSError as error:
            raise _unwritten(self.path, error) from error
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the file without a word: a run without an end counts as aborted. May be called again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _put(self, row: Row) -> None:
        if self._descriptor is None:
            raise LoadError(f"{self.path}: the record of this load test is closed")
        line = line_of(row)
        try:
            written = os.write(self._descriptor, line)
            while written < len(line):  # a disk that fills up takes a part; asked for the rest it says why
                written += os.write(self._descriptor, line[written:])
        except OSError as error:
            raise _unwritten(self.path, error) from error


def read_run(path: Path, *, seconds: bool = True) -> RunRecord:
    """The run that a file tells of, ours or of another tool that writes dns-metrics.

    Args:
        path: The file. One that was cut off is read as far as it goes.
        seconds: Also its seconds; who only wants the result leaves them out.

    Raises:
        LoadError: It can't be read, or there is no header in it.
    """
    try:
        with path.open("rb") as file:
            # Looked at before it is read: a run that ends in between has its end in what is read.
            is_held = _is_held(file.fileno())
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise LoadError(f"{path}: the load test can't be read: {cause(error)}") from error
    if len(content) > LARGEST:
        raise LoadError(f"{path}: too large for a load test's record (more than {LARGEST >> 20} MiB)")
    if not seconds:
        content = b"\n".join(line for line in content.split(b"\n") if not line.startswith(_SECONDS))
    rows, remarks = rows_of(content)
    run = run_of(rows, state="running" if is_held else "aborted", remarks=tuple(f"{r} in {path}" for r in remarks))
    if run is None:
        raise LoadError(f"{path}: this is no load test's record: no row in it has the type header")
    return run


def _is_held(descriptor: int) -> bool:
    """True if the process that writes the file lives."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def _unwritten(path: Path, error: BaseException) -> LoadError:
    why = cause(error) if isinstance(error, OSError) else str(error)
    return LoadError(f"{path}: the load test can't be recorded: {why}")
