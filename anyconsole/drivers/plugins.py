"""Speakers and name servers as plugins: what a driver module must have, and how it is found.

A driver is a module named by an entry point (`anyconsole.speakers` or `anyconsole.nameservers`). It must be standard library only and run
on Python 3.7: the probe takes it to the nodes. One whose round takes longer than half a second says so with `DEADLINE` (seconds).
`tests/drivers/test_conformance.py` is the suite every registered driver passes.
"""

from __future__ import annotations

import functools
import importlib.metadata
from types import ModuleType
from typing import Protocol, cast

from anyconsole.drivers.ask import Collector, Spec, State
from anyconsole.errors import AnyconsoleError

__all__ = ["NameServer", "PluginError", "Speaker", "name_server", "name_servers", "speaker", "speakers"]

_OWN = {"anyconsole.speakers": ("bird", "frr", "gobgp"), "anyconsole.nameservers": ("bind", "knot", "nsd")}


class PluginError(AnyconsoleError):
    """A kind of daemon that nobody has a driver for, or a driver that lacks what a driver must have."""


class Speaker(Protocol):
    """A routing daemon's driver. `collect` emits rows of the kinds speaker, session and export."""

    __name__: str
    DAEMON: str

    def collect(self, spec: Spec, state: State, now: float, /) -> Collector:
        """One round; see `anyconsole.drivers.ask`."""
        ...


class NameServer(Protocol):
    """A name server's driver. `COMMAND` is its process's name; `collect` emits rows of the kinds instance and rates."""

    __name__: str
    DAEMON: str
    COMMAND: str

    def collect(self, spec: Spec, state: State, now: float, /) -> Collector:
        """One round; see `anyconsole.drivers.ask`."""
        ...


def speakers() -> tuple[str, ...]:
    """Kinds of speakers there are drivers for."""
    return tuple(sorted(_registered("anyconsole.speakers")))


def name_servers() -> tuple[str, ...]:
    """Kinds of name servers there are drivers for."""
    return tuple(sorted(_registered("anyconsole.nameservers")))


def speaker(kind: str) -> Speaker:
    """The driver of a kind of speaker. Raises PluginError."""
    return cast("Speaker", _load("anyconsole.speakers", kind, "speaker", ("DAEMON", "collect")))


def name_server(kind: str) -> NameServer:
    """The driver of a kind of name server. Raises PluginError."""
    return cast("NameServer", _load("anyconsole.nameservers", kind, "name server", ("DAEMON", "COMMAND", "collect")))


@functools.cache
def _registered(group: str) -> dict[str, importlib.metadata.EntryPoint]:
    # Our own are known without installed metadata too: a plain checkout has none.
    own = [importlib.metadata.EntryPoint(k, f"anyconsole.drivers.{k}", group) for k in _OWN[group]]
    return {e.name: e for e in (*own, *importlib.metadata.entry_points(group=group))}


@functools.cache
def _load(group: str, kind: str, what: str, needed: tuple[str, ...]) -> ModuleType:
    known = _registered(group)
    if kind not in known:
        raise PluginError(f"no driver for a {what} of kind {kind!r}; known kinds: {', '.join(sorted(known)) or 'none'}")
    try:
        module: ModuleType = known[kind].load()
    except ImportError as error:
        raise PluginError(f"driver of {what} {kind!r} can't be loaded from {known[kind].value}: {error}") from error
    missing = [name for name in needed if not hasattr(module, name)]
    if missing:
        raise PluginError(f"driver of {what} {kind!r} ({known[kind].value}) lacks {', '.join(missing)}")
    return module
