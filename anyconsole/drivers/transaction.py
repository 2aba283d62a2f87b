"""A change of one routing daemon as three scripts, and what they say when they end. Values only; how a daemon is told is its own module's.

`apply` makes the change *unconfirmed*: the node itself takes it back after `hold` seconds, whatever becomes of the console. `confirm` makes
it stay, `revert` takes it back at once. Each runs under one lock on the node, checks again what it relies on, and is sent as one argument
of `sh -c`, so that a cut connection can never leave half a script running.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from anyconsole.model.inventory import Family

__all__ = ["CellChange", "DrainState", "Ended", "Transaction"]

Pair = tuple[int, int]


class Ended(IntEnum):
    """Exit status of the scripts (the words of sysexits.h where they fit). The last line of standard output says it in words."""

    DONE = 0
    BAD_CONFIG = 65
    """The daemon refuses the new configuration; it goes on with the old one."""
    REFUSED = 70
    """The daemon did not take the command, or did not do what it said."""
    CANNOT_WRITE = 73
    """A file could not be written: full, read-only, or not permitted."""
    LOCKED = 75
    """Another change holds the lock on this node."""
    STALE = 76
    """The drain state is not the one the plan was made for: somebody else changed it."""
    PENDING = 77
    """Somebody else's change is unconfirmed."""
    NOT_PENDING = 78
    """Our change is no longer unconfirmed: it was taken back, superseded, or confirmed before."""
    DRIFT = 79
    """The daemon's memory and its files disagree: somebody changed one without the other."""

    @property
    def is_conflict(self) -> bool:
        """True if another operator (or tool) is the reason."""
        return self in (Ended.LOCKED, Ended.STALE, Ended.PENDING)


class DrainState(msgspec.Struct, frozen=True, kw_only=True):
    """The whole drain state of one speaker: what BIRD keeps in drain.conf. Pairs are (tenant number, session number)."""

    serial: int
    note: str = ""
    hard: frozenset[Pair] = frozenset()
    soft: frozenset[Pair] = frozenset()


class CellChange(msgspec.Struct, frozen=True, kw_only=True):
    """One announcement that changes: levels are "serve", "soft" or "hard". `session` is the daemon's name of it."""

    session: str
    peer: str
    family: Family
    prefix: str
    before: str
    after: str


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """The three scripts (POSIX sh). `hold` is seconds until the node takes an unconfirmed change back by itself.

    `diff` is what becomes different on the node in the daemon's own words, lines marked with - and +.
    """

    apply: str
    confirm: str
    revert: str
    hold: int
    diff: str = ""
