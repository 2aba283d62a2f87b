"""What is remembered of a lab between commands: its index and serial, its breaks; and the locks that keep commands apart."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from anyconsole.errors import LabError
from anyconsole.lab import paths as places
from anyconsole.lab.paths import LabPaths
from anyconsole.lab.topology import NODES, Node

__all__ = [
    "Break", "State", "load_breaks", "load_state", "lock", "names", "node", "nodes", "save_breaks", "save_state", "taken_indexes",
]  # fmt: skip

_LOCK_PATIENCE = 60.0


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Written before anything is made, so that whatever a killed `up` left can be found. `complete` is set at the end.

    `speakers` are the routing daemons of nodes that run another one than usually.
    """

    index: int
    serial: int
    complete: bool = False
    speakers: dict[str, str] = {}


class Break(msgspec.Struct, frozen=True, kw_only=True):
    """Something broken on purpose. `arguments` is what exactly, as its healing needs it."""

    kind: str
    host: str
    arguments: tuple[str, ...] = ()


def load_state(paths: LabPaths) -> State | None:
    """The state of a lab, None if there is none. Raises LabError if it can't be read."""
    if not paths.state.exists():
        return None
    try:
        return msgspec.json.decode(paths.state.read_bytes(), type=State)
    except msgspec.DecodeError as error:
        raise LabError(
            f"{paths.state} can't be read ({error}); `lab down --name {paths.name}` removes the lab"
        ) from error


def save_state(paths: LabPaths, state: State) -> None:
    """Write the state; it is whole or not there."""
    _replace(paths.state, msgspec.json.encode(state))


def nodes(paths: LabPaths) -> tuple[Node, ...]:
    """The nodes of a lab, with the routing daemons they run there. Raises LabError."""
    found = load_state(paths)
    speakers = {} if found is None else found.speakers
    return tuple(msgspec.structs.replace(n, speaker=speakers.get(n.name, n.speaker)) for n in NODES)


def node(paths: LabPaths, host: str) -> Node | None:
    """One of `nodes`, None if that host is no node. Raises LabError."""
    return next((n for n in nodes(paths) if n.name == host), None)


def load_breaks(paths: LabPaths) -> tuple[Break, ...]:
    """What is broken on purpose, oldest first."""
    if not paths.breaks.exists():
        return ()
    return msgspec.json.decode(paths.breaks.read_bytes(), type=tuple[Break, ...])


def save_breaks(paths: LabPaths, breaks: tuple[Break, ...]) -> None:
    """Write what is broken on purpose."""
    _replace(paths.breaks, msgspec.json.encode(breaks))


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.rename(path)


def names() -> list[str]:
    """Labs that have files on this machine."""
    if not places.LAB_ROOT.is_dir():
        return []
    return sorted(entry.name for entry in places.LAB_ROOT.iterdir() if entry.is_dir())


def taken_indexes() -> set[int]:
    """Indexes of all labs on this machine."""
    states = (load_state(LabPaths(name)) for name in names())
    return {state.index for state in states if state is not None}


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold a lock file, and remove it afterwards. Raises LabError if somebody else keeps it for a minute."""
    deadline = time.monotonic() + _LOCK_PATIENCE
    while True:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # the last lab's `down` removed the directory in between
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and path.stat().st_ino == os.fstat(handle).st_ino:
                break
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(handle)
                raise LabError(
                    f"another command has been holding {path} for {_LOCK_PATIENCE:.0f} s; wait or end it"
                ) from None
            time.sleep(0.1)
        os.close(handle)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)
