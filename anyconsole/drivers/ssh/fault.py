"""What can go wrong with an SSH connection, in one word each, and what we do about it. Pure: no I/O, no clock, no asyncssh session.

`classify` turns any exception of the transport into a `Fault`; `POLICY` says for every fault which state the operator sees and
whether and how soon it is tried again. Nothing else decides about retrying.
"""

from __future__ import annotations

import errno
import random
import socket
from enum import StrEnum
from typing import Final

import asyncssh
import msgspec

from anyconsole.errors import AnyconsoleError
from anyconsole.model.facts import LinkState

__all__ = ["POLICY", "Fault", "Lost", "Retry", "SshError", "Stage", "classify", "delay", "plain"]


class Fault(StrEnum):
    """Why a connection isn't there. The word is what the screen, the journal and the JSON output say."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    RESET = "reset"
    HOSTKEY_UNKNOWN = "hostkey_unknown"
    HOSTKEY_CHANGED = "hostkey_changed"
    AUTH = "auth"
    NEGOTIATION = "negotiation"
    CHANNEL = "channel"
    PROBE = "probe"
    LOST = "lost"


class Stage(StrEnum):
    """How far a connection had come when it failed."""

    TRANSPORT = "transport"
    HANDSHAKE = "handshake"
    SESSION = "session"


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """What follows a fault: the state shown, and the back-off window in seconds. `automatic` False waits for a change or a poke."""

    state: LinkState = LinkState.BACKOFF
    automatic: bool = True
    floor: float = 0.2
    base: float = 0.5
    ceiling: float = 60.0


SOON: Final = Retry()
# sshd drops logins that come too often (MaxStartups, PerSourcePenalties) and all operators share the jump host's address.
CAUTIOUS: Final = Retry(floor=5.0, base=10.0, ceiling=300.0)

POLICY: Final[dict[Fault, Retry]] = {
    Fault.REFUSED: SOON,
    Fault.UNREACHABLE: SOON,
    Fault.TIMEOUT: SOON,
    Fault.RESET: CAUTIOUS,
    Fault.HOSTKEY_UNKNOWN: Retry(state=LinkState.UNTRUSTED, automatic=False),
    Fault.HOSTKEY_CHANGED: Retry(state=LinkState.KEY_CHANGED, automatic=False),
    Fault.AUTH: Retry(state=LinkState.DENIED, automatic=False),
    Fault.NEGOTIATION: CAUTIOUS,
    Fault.CHANNEL: SOON,
    Fault.PROBE: Retry(floor=2.0, base=4.0, ceiling=120.0),
    Fault.LOST: SOON,
}


class SshError(AnyconsoleError):
    """An SSH connection or one thing done over it failed.

    Attributes:
        fault: The word of the table.
        fingerprint: SHA256 fingerprint of the host key that was offered and not trusted, "" otherwise.
    """

    def __init__(self, fault: Fault, detail: str, fingerprint: str = "") -> None:
        super().__init__(detail)
        self.fault = fault
        self.fingerprint = fingerprint


class Lost(SshError):  # noqa: N818 - it is the word of the table
    """The connection ended before the answer came: what was asked may or may not have been done."""

    def __init__(self, detail: str) -> None:
        super().__init__(Fault.LOST, detail)


def delay(fault: Fault, failures: int, rng: random.Random) -> float | None:
    """Seconds until the next attempt after `failures` failures in a row (full jitter), None if nothing is tried by itself."""
    retry = POLICY[fault]
    if not retry.automatic:
        return None
    # 2**16 is far beyond every ceiling; unbounded exponents overflow floats after a long outage.
    upper = min(retry.ceiling, retry.base * 2.0 ** min(failures, 16))
    return rng.uniform(retry.floor, max(retry.floor, upper))


_UNREACHABLE: Final = frozenset(
    {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL}
)


def classify(error: BaseException, stage: Stage) -> Fault:
    """The fault behind an exception that came out of asyncssh or the event loop at `stage`."""
    match error:
        case SshError():
            return error.fault
        case TimeoutError():
            return Fault.TIMEOUT
        case ConnectionRefusedError():
            return Fault.REFUSED
        case socket.gaierror():
            return Fault.UNREACHABLE
        case asyncssh.PermissionDenied():
            return Fault.AUTH
        case asyncssh.HostKeyNotVerifiable():
            return Fault.HOSTKEY_UNKNOWN
        case asyncssh.KeyExchangeFailed() | asyncssh.CompressionError() | asyncssh.MACError():
            return Fault.NEGOTIATION
        case asyncssh.ChannelOpenError():
            return _channel_fault(error, stage)
        case asyncssh.DisconnectError():
            return _disconnect_fault(error, stage)
        case OSError() if error.errno in _UNREACHABLE:
            return Fault.UNREACHABLE
        case UnicodeError():
            # A name that can't be put in the DNS.
            return Fault.UNREACHABLE
        case ValueError() if stage is Stage.HANDSHAKE:
            # How asyncssh says that the agent would not sign.
            return Fault.AUTH
        case _:
            return Fault.LOST if stage is Stage.SESSION else Fault.RESET


def _channel_fault(error: asyncssh.ChannelOpenError, stage: Stage) -> Fault:
    if stage is not Stage.TRANSPORT:
        return Fault.CHANNEL
    # A jump host's sshd passes on strerror(3) of its own connect(2), and calls a failed name look-up an administrative matter.
    reason = error.reason.lower()
    if "refused" in reason:
        return Fault.REFUSED
    if "timed out" in reason:
        return Fault.TIMEOUT
    if any(word in reason for word in ("no route", "unreachable", "not known", "resolution", "no address")):
        return Fault.UNREACHABLE
    return Fault.CHANNEL


def _disconnect_fault(error: asyncssh.DisconnectError, stage: Stage) -> Fault:
    if "authentication failures" in error.reason.lower() or error.code == asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE:
        return Fault.AUTH
    if stage is Stage.SESSION:
        return Fault.LOST
    if "host key" in error.reason.lower() or error.code == asyncssh.DISC_KEY_EXCHANGE_FAILED:
        return Fault.NEGOTIATION
    return Fault.RESET


def plain(text: str, limit: int = 300) -> str:
    """Remote or library text as one bounded line without control characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
