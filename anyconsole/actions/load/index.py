"""The index of load tests: what is needed to list and find them, in SQLite beside their files. The files are the truth.

It is brought up to date whenever it is asked; one that is missing, of another version or broken is made anew. Several consoles may use it
at the same time. Everything here blocks on the disk: call it in a thread.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from anyconsole.actions.journal_files import cause
from anyconsole.actions.load.files import read_run, run_paths
from anyconsole.actions.load.record import RunRecord
from anyconsole.actions.load.words import percent
from anyconsole.errors import LoadError
from anyconsole.model.facts import Capacity

__all__ = ["LoadIndex", "RunFilter", "RunLine"]

VERSION: Final = 1
PATIENCE: Final = 5.0
"""Seconds to wait for another console that is writing the index."""
_log: Final = logging.getLogger(__name__)


class RunLine(msgspec.Struct, frozen=True, kw_only=True):
    """A run as lists show it. Rates are queries/s, `loss` a share, `p99` and `seconds` seconds; None where a run has none.

    `limited_by` is the cause that did. `verdict` of a run without an end is its state: running or aborted.
    """

    id: str
    path: str
    state: str
    at: float
    seconds: float | None = None
    target: str = ""
    node: str = ""
    tenant: str = ""
    kind: str = ""
    purpose: str = ""
    lower: float | None = None
    upper: float | None = None
    loss: float | None = None
    p99: float | None = None
    limited_by: str = ""
    verdict: str = ""
    operator: str = ""
    pair_id: str = ""
    repeat: int = 0
    workload: str = ""


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs are meant: those that have all that is said here. Times are epoch seconds."""

    target: str = ""
    node: str = ""
    tenant: str = ""
    kind: str = ""
    purpose: str = ""
    verdict: str = ""
    operator: str = ""
    pair_id: str = ""
    since: float | None = None
    until: float | None = None


_COLUMNS: Final = tuple(field.name for field in msgspec.structs.fields(RunLine))
_KINDS: Final = {
    "at": "REAL",
    "seconds": "REAL",
    "lower": "REAL",
    "upper": "REAL",
    "loss": "REAL",
    "p99": "REAL",
    "repeat": "INTEGER",
}
_FIELDS: Final = ", ".join(f"{name} {_KINDS.get(name, 'TEXT')}" for name in _COLUMNS)
_SCHEMA: Final = (
    f"CREATE TABLE run ({_FIELDS}, version TEXT, PRIMARY KEY (id))",
    "CREATE INDEX by_time ON run (at)",
    "CREATE INDEX by_node ON run (node, at)",
)


class LoadIndex:
    """The load tests of one profile."""

    def __init__(self, folder: Path, *, patience: float = PATIENCE) -> None:
        """Look at `folder`, where the years are; nothing is made or read yet.

        Args:
            folder: Of all runs, as `files.runs_folder` says.
            patience: Seconds to wait for another console.
        """
        self.folder = folder
        self.path = folder / "index.sqlite"
        self._patience = patience

    def runs(self, chosen: RunFilter = RunFilter(), limit: int | None = None) -> list[RunLine]:  # noqa: B008 - it is frozen
        """The runs that are meant, the newest first, `limit` at most. Raises LoadError."""
        where, values = _condition(chosen)
        return self._query(f"{where} ORDER BY at DESC, id DESC LIMIT ?", (*values, -1 if limit is None else limit))

    def find(self, text: str) -> list[RunLine]:
        """The run with that id, else all whose id ends in that part: people read it to each other. Raises LoadError."""
        whole = self._query("WHERE id = ?", (text,))
        return whole or [run for run in self._query("ORDER BY at DESC", ()) if run.id.endswith(f"-{text}")]

    def capacities(self, now: float) -> list[Capacity]:
        """What each instance was measured to answer, by the newest search that ended with a result. Raises LoadError.

        A run that is void, aborted, or was limited by its generators says nothing about what an instance can take.
        """
        newest: dict[tuple[str, str], RunLine] = {}
        for run in self._query(
            "WHERE purpose = 'search' AND verdict = 'ok' AND state = 'done' AND lower > 0 ORDER BY at DESC, id DESC", ()
        ):
            newest.setdefault((run.node, run.tenant), run)
        return [_capacity(run, now) for run in newest.values()]

    # --- the database

    def _query(self, rest: str, values: Sequence[object]) -> list[RunLine]:
        if not self.folder.is_dir():
            return []
        for is_retry in (False, True):
            try:
                with self._opened() as database:
                    self._refresh(database)
                    rows = database.execute(f"SELECT {', '.join(_COLUMNS)} FROM run {rest}", values)  # noqa: S608 - no value in it
                    return [RunLine(**dict(zip(_COLUMNS, row, strict=True))) for row in rows]
            except sqlite3.OperationalError as error:
                if _is_busy(error):
                    raise LoadError(
                        f"{self.path}: another console has held the index for {self._patience:g} s; try again"
                    ) from error
                if is_retry:
                    raise LoadError(f"{self.path}: the index can't be used: {error}") from error
                self._discard(error)
            except sqlite3.DatabaseError as error:
                if is_retry:
                    raise LoadError(f"{self.path}: the index can't be used: {error}") from error
                self._discard(error)
            except OSError as error:
                raise LoadError(f"{self.folder}: the load tests can't be read: {cause(error)}") from error
        raise AssertionError  # pragma: no cover - the second round returns or raises

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        # Made by us, so that nobody else can read it whatever the umask.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        database = sqlite3.connect(self.path, timeout=self._patience, isolation_level=None)
        try:
            database.execute("PRAGMA synchronous = OFF")  # what a crash takes is made anew
            yield database
        finally:
            database.close()

    def _discard(self, error: sqlite3.Error) -> None:
        """Away with an index that is of no use. Another console that has it open keeps a nameless file, and makes a new one next time."""
        _log.info("%s is made anew: %s", self.path, error)
        for path in (self.path, self.path.with_name(f"{self.path.name}-journal")):
            path.unlink(missing_ok=True)

    def _refresh(self, database: sqlite3.Connection) -> None:
        """Bring it up to date with the files. Those are read before the index is locked, and the lock is held for the writing alone."""
        if database.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            with _exclusively(database):
                if database.execute("PRAGMA user_version").fetchone()[0] != VERSION:  # nobody was faster
                    database.execute("DROP TABLE IF EXISTS run")
                    for statement in _SCHEMA:
                        database.execute(statement)
                    database.execute(f"PRAGMA user_version = {VERSION}")
        known = {
            path: (version, state) for path, version, state in database.execute("SELECT path, version, state FROM run")
        }
        changed: list[tuple[RunLine, str]] = []
        unread: list[str] = []
        files = {str(path): path for path in run_paths(self.folder)}
        for name, path in files.items():
            try:
                about = path.stat()
                version = f"{about.st_ino} {about.st_size} {about.st_mtime_ns}"
                # A run that goes on is read each time: the death of its console doesn't touch the file.
                if known.get(name) not in ((version, "done"), (version, "aborted")):
                    changed.append((_line(read_run(path, seconds=False), path, about.st_mtime), version))
            except (LoadError, FileNotFoundError) as error:
                _log.info("not in the index: %s", error)
                unread.append(name)
        gone = [name for name in known if name not in files or name in unread]
        if not changed and not gone:
            return
        places = ", ".join("?" * (len(_COLUMNS) + 1))
        with _exclusively(database):
            database.executemany("DELETE FROM run WHERE path = ?", [(name,) for name in gone])
            database.executemany(
                f"INSERT OR REPLACE INTO run VALUES ({places})",  # noqa: S608 - question marks
                [(*msgspec.structs.astuple(line), version) for line, version in changed],
            )


@contextlib.contextmanager
def _exclusively(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _condition(chosen: RunFilter) -> tuple[str, tuple[object, ...]]:
    terms, values = ["1"], []
    for name in ("target", "node", "tenant", "kind", "purpose", "verdict", "operator", "pair_id"):
        if value := getattr(chosen, name):
            terms.append(f"{name} = ?")
            values.append(value)
    for term, bound in (("at >= ?", chosen.since), ("at < ?", chosen.until)):
        if bound is not None:
            terms.append(term)
            values.append(bound)
    return f"WHERE {' AND '.join(terms)}", tuple(values)


def _line(run: RunRecord, path: Path, modified_at: float) -> RunLine:
    conditions, result = run.conditions, run.result
    target = conditions.target
    end = run.summary.until / run.header.time_units_per_sec if run.summary is not None else modified_at
    began_at = run.began_at
    return RunLine(
        id=path.stem,
        path=str(path),
        state=run.state,
        at=modified_at if began_at is None else began_at,
        seconds=None if began_at is None else max(0.0, end - began_at),
        target=target.label,
        node=target.node,
        tenant=target.tenant,
        kind=target.kind,
        purpose=conditions.purpose,
        lower=result.lower_qps,
        upper=result.upper_qps,
        loss=result.loss_at_lower,
        p99=result.p99,
        limited_by=result.limit.cause if result.limit is not None else "",
        verdict=result.verdict,
        operator=conditions.operator,
        pair_id=conditions.pair_id,
        repeat=conditions.repeat,
        workload=conditions.workload.file_sha256,
    )


def _capacity(run: RunLine, now: float) -> Capacity:
    parts = [f"load test {run.id}"]
    parts += [f"{percent(run.loss)} lost"] if run.loss is not None else []
    parts += [f"limited by {run.limited_by}"] if run.limited_by else []
    return Capacity(
        node=run.node,
        section="loadtest",
        at=now,
        tenant=run.tenant,
        qps=run.lower or 0.0,
        measured_at=run.at,
        how=", ".join(parts),
    )
