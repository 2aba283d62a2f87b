"""The table of faults: every way a connection can fail has a word, a state and a rule for trying again."""

from __future__ import annotations

import errno
import random
import socket

import asyncssh
import pytest

from anyconsole.drivers.ssh.fault import POLICY, Fault, Lost, SshError, Stage, classify, delay, plain
from anyconsole.model.facts import LinkState

T, H, S = Stage.TRANSPORT, Stage.HANDSHAKE, Stage.SESSION


@pytest.mark.parametrize(
    ("error", "stage", "fault"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), T, Fault.REFUSED),
        (OSError(errno.EHOSTUNREACH, "No route to host"), T, Fault.UNREACHABLE),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), T, Fault.UNREACHABLE),
        (socket.gaierror(-2, "Name or service not known"), T, Fault.UNREACHABLE),
        (UnicodeError("label too long"), T, Fault.UNREACHABLE),
        (TimeoutError(), T, Fault.TIMEOUT),
        (TimeoutError(), H, Fault.TIMEOUT),
        (TimeoutError(errno.ETIMEDOUT, "timed out"), S, Fault.TIMEOUT),
        (ConnectionResetError(), H, Fault.RESET),
        (asyncssh.ConnectionLost("Connection lost"), H, Fault.RESET),
        (asyncssh.ConnectionLost("Server not responding to keepalive"), S, Fault.LOST),
        (ConnectionResetError(), S, Fault.LOST),
        (asyncssh.PermissionDenied("Permission denied"), H, Fault.AUTH),
        (asyncssh.ProtocolError("Too many authentication failures"), H, Fault.AUTH),
        (ValueError("Unable to sign with requested key"), H, Fault.AUTH),
        (asyncssh.HostKeyNotVerifiable("Host key is revoked"), H, Fault.HOSTKEY_UNKNOWN),
        (asyncssh.KeyExchangeFailed("No matching key exchange algorithm found"), H, Fault.NEGOTIATION),
        (
            asyncssh.DisconnectError(asyncssh.DISC_KEY_EXCHANGE_FAILED, "no matching host key type"),
            H,
            Fault.NEGOTIATION,
        ),
        (asyncssh.ChannelOpenError(2, "Connection refused"), T, Fault.REFUSED),
        (asyncssh.ChannelOpenError(2, "Connection timed out"), T, Fault.TIMEOUT),
        (asyncssh.ChannelOpenError(2, "No route to host"), T, Fault.UNREACHABLE),
        (asyncssh.ChannelOpenError(1, "Name or service not known"), T, Fault.UNREACHABLE),
        (asyncssh.ChannelOpenError(1, "open failed"), T, Fault.CHANNEL),
        (asyncssh.ChannelOpenError(2, "Connection refused"), S, Fault.CHANNEL),
        (SshError(Fault.PROBE, "x"), S, Fault.PROBE),
        (Lost("x"), S, Fault.LOST),
        (KeyError("a peer's surprise"), S, Fault.LOST),
        (KeyError("a peer's surprise"), H, Fault.RESET),
    ],
)
def test_every_exception_gets_its_word(error: Exception, stage: Stage, fault: Fault) -> None:
    assert classify(error, stage) is fault


def test_every_fault_has_a_rule() -> None:
    assert set(POLICY) == set(Fault)


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        (Fault.AUTH, LinkState.DENIED),
        (Fault.HOSTKEY_UNKNOWN, LinkState.UNTRUSTED),
        (Fault.HOSTKEY_CHANGED, LinkState.KEY_CHANGED),
    ],
)
def test_what_needs_the_operator_is_never_tried_again_by_itself(fault: Fault, state: LinkState) -> None:
    assert POLICY[fault].state is state
    assert all(delay(fault, failures, random.Random(1)) is None for failures in (0, 1, 50))


@pytest.mark.parametrize("fault", [f for f in Fault if POLICY[f].automatic])
def test_waits_have_jitter_grow_and_stay_bounded(fault: Fault) -> None:
    rng = random.Random(7)
    rule = POLICY[fault]
    for failures in (0, 1, 5, 20, 100_000):
        waits = [delay(fault, failures, rng) for _ in range(200)]
        upper = max(rule.floor, min(rule.ceiling, rule.base * 2.0 ** min(failures, 60)))
        assert all(w is not None and rule.floor <= w <= upper for w in waits)
        assert len(set(waits)) > 100
    assert POLICY[fault].state is LinkState.BACKOFF


def test_ordinary_failures_are_retried_within_a_minute_and_logins_that_were_dropped_late() -> None:
    assert (POLICY[Fault.REFUSED].floor, POLICY[Fault.REFUSED].base, POLICY[Fault.REFUSED].ceiling) == (0.2, 0.5, 60.0)
    assert POLICY[Fault.RESET].floor >= 5
    assert POLICY[Fault.RESET].ceiling > 60


def test_remote_text_becomes_one_bounded_printable_line() -> None:
    assert plain("a\x1b[31mred\x07\r\n  b\tc\u202e") == "a [31mred b c"
    assert len(plain("x" * 10_000)) == 300
