"""What a collector may ask of a node, and what it gets back: the border between drivers (pure) and transports (I/O).

A collector is a generator. It yields a batch (a list of asks), is sent the list of replies in the same order, and returns its rows:

    def collect(spec, state, now) -> Generator[list[Ask], list[Reply], list[Row] | None]

`spec` is its part of the probe's configuration, `state` a dict that lives as long as the connection to the node (counters, caches; the
collector owns its content), `now` a monotonic clock in seconds. A row is a plain dict: "kind" is a fact's tag, the rest are exactly the
fields of that fact in `anyconsole.model.facts` without `node` and `at`. A collector raises `CollectError` (or `ParseError`) when its
section could not be seen; facts seen earlier then simply grow old. It returns None when there was nothing to look at in this round.
While `state` has `FRESH`, nothing that a change could alter may be remembered from an earlier round: what takes turns is asked at once.
A transport never raises into a collector: a failed ask is a reply with `fault`.

Two transports drive the same collectors: `probe/main.py` on the node with blocking sockets, and the SSH fallback from the engine.
Standard library only, Python >= 3.7: this module travels to the nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import TypeAlias, TypeVar

    _T = TypeVar("_T")

__all__ = [
    "FRESH",
    "Ask",
    "Asking",
    "Batch",
    "CollectError",
    "Collector",
    "Exchange",
    "Get",
    "Read",
    "Reply",
    "Row",
    "Run",
    "Spec",
    "State",
    "Talk",
]

FRESH = "fresh"
"""Key in a collector's state during a round that somebody waits for, to see what is true after a change of theirs."""

MAX_REPLY = 1 << 20
"""Bytes a transport takes as one reply; more is fault "failed"."""


class Talk(NamedTuple):
    """A request over the unix control socket `path`. How it is opened, framed and kept is `framing.FRAMINGS[framing]`."""

    path: str
    framing: str
    data: bytes


class Run(NamedTuple):
    """A command without a shell; the reply is its standard output (stderr and exit status only matter if it failed)."""

    argv: tuple[str, ...]


class Read(NamedTuple):
    """The first `limit` bytes of a file, read afresh (procfs)."""

    path: str
    limit: int = 65536


class Get(NamedTuple):
    """HTTP GET from a server on the node's own loopback; the reply is the body of a 200."""

    host: str
    port: int
    path: str


class Exchange(NamedTuple):
    """One DNS message over UDP, its ID (the first two bytes) the transport's own business.

    The transport sends a random ID, accepts only an answer with that ID from the address asked, and zeroes the ID in the reply.
    """

    address: str
    data: bytes
    timeout: float = 1.0
    port: int = 53


class Reply(NamedTuple):
    """What came back.

    `fault` is "" or one word, and `text` says what was tried and what came back: absent (no such file, or nobody listens: the daemon
    isn't running), denied (permissions), timeout, failed (anything else), unsupported (this transport can't do it). `elapsed` is in
    seconds; `pid` is the process at the other end of a control socket, where the transport can tell. `at` is when it came, on the
    collector's clock: what was counted there was counted then, however long that took. 0 of an `Exchange` and of a fault.
    """

    data: bytes = b""
    fault: str = ""
    text: str = ""
    elapsed: float = 0.0
    pid: int = 0
    at: float = 0.0


class CollectError(Exception):
    """A section could not be seen. The message says what was tried and what came back."""


if TYPE_CHECKING:
    Ask: TypeAlias = Talk | Run | Read | Get | Exchange
    Row: TypeAlias = dict[str, Any]
    Spec: TypeAlias = dict[str, Any]
    State: TypeAlias = dict[str, Any]
    Batch: TypeAlias = list[Ask]
    Asking: TypeAlias = Generator[Batch, list[Reply], _T]
    Collector: TypeAlias = Asking[list[Row] | None]
else:
    # Names that annotations import; Python 3.7 could not evaluate the real ones.
    Ask = Row = Spec = State = Batch = Asking = Collector = object
