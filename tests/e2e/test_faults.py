"""Whatever breaks is shown within seconds, on its own rows and on no other, on the screen and on the command line; healed, it goes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from anyconsole.lab import Lab
from anyconsole.lab.topology import TENANTS, Node, node, sessions_of
from tests.e2e.observe import VIEWS, Statuses, Watcher, all_serving, difference, open_console, wait_for_screen
from tests.terminal import Terminal

pytestmark = pytest.mark.lab

_HEALED = 30.0
"""Seconds until a healed lab must look healthy again; a routing daemon takes its time to connect anew."""

_CALM = 1.0
"""Seconds that nothing else may happen after a fault was shown."""


class Witnesses(NamedTuple):
    """The console and the command line, watching all the time."""

    terminal: Terminal
    watchers: tuple[Watcher, ...]

    def streamed(self) -> Statuses:
        """What the command line says."""
        return {place: status for watcher in self.watchers for place, status in watcher.statuses.items()}

    def wait_for(self, wanted: Statuses, deadline: float) -> None:
        """Wait until both say the same: every row of every view."""
        while difference(wanted, self.streamed()) or wanted.keys() != self.streamed().keys():
            if time.monotonic() > deadline:
                seen = self.streamed()
                missing = [" ".join(place) for place in wanted.keys() - seen.keys()]
                pytest.fail(f"the command line says too late:\n{difference(wanted, seen)}\nand nothing of: {missing}")
            time.sleep(0.02)
        for view in VIEWS:
            wait_for_screen(self.terminal, view, wanted, deadline)


@pytest.fixture(scope="module")
def witnesses(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Witnesses]:
    """One console and one watcher per view, seeing a healthy lab."""
    state = tmp_path_factory.mktemp("state")
    with ExitStack() as stack:
        watchers = tuple(stack.enter_context(Watcher(lab, view, state)) for view in VIEWS)
        terminal = stack.enter_context(open_console(lab, state))
        seen = Witnesses(terminal, watchers)
        seen.wait_for(all_serving(), time.monotonic() + _HEALED)
        yield seen
        assert "Traceback" not in terminal.text()
        assert not [line for watcher in watchers for line in watcher.foreign]


# --- what must change


def _host(name: str) -> Node:
    found = node(name)
    assert found is not None
    return found


def _fleet(host: str, status: str) -> Statuses:
    return {("fleet", host): status}


def _health(host: str, status: str, tenant: str = "") -> Statuses:
    return {("health", host, owner.name): status for owner in TENANTS if tenant in ("", owner.name)}


def _routes(host: str, status: str, sessions: Iterable[str] = (), tenant: str = "") -> Statuses:
    """Announcements on some sessions (all) of some tenant (all), as rows and as cells of the matrix."""
    found: Statuses = {}
    for session in sessions_of(_host(host)):
        for owner in TENANTS:
            if session.name in (tuple(sessions) or (session.name,)) and tenant in ("", owner.name):
                prefix = owner.prefix4 if session.family == "ipv4" else owner.prefix6
                found["announcements", host, session.name, prefix] = status
                found["bgp", host, session.name, owner.name] = status
    return found


def _sessions(host: str, status: str, names: Iterable[str] = ()) -> Statuses:
    return {
        ("bgp", host, session.name, "state"): status
        for session in sessions_of(_host(host))
        if session.name in (tuple(names) or (session.name,))
    }


def _nameserver(host: str, tenant: str) -> Statuses:
    black = "BLACKHOLE"
    return _fleet(host, black) | _health(host, black, tenant) | _routes(host, black, tenant=tenant)


def _speaker(host: str, _: str) -> Statuses:
    return _fleet(host, "DOWN") | _health(host, "WASTED") | _routes(host, "DOWN") | _sessions(host, "DOWN")


def _sshd(host: str, _: str) -> Statuses:
    return _fleet(host, "STALE") | _health(host, "STALE") | _routes(host, "STALE") | _sessions(host, "STALE")


def _dropped(host: str, names: list[str]) -> Statuses:
    parts = _routes(host, "DOWN", names) | _sessions(host, "DOWN", names)
    return _fleet(host, "DEGRADED") | _health(host, "DEGRADED") | parts


def _link(host: str, peer: str) -> Statuses:
    return _dropped(host, [s.name for s in sessions_of(_host(host)) if s.router == peer])


def _session(host: str, name: str) -> Statuses:
    """Disabled at the daemon, which nobody does through the console: it is down, but above all it is drift."""
    drift = _fleet(host, "DRIFT") | _health(host, "DRIFT")
    return drift | _routes(host, "DRIFT", [name]) | _sessions(host, "DOWN", [name])


def _serial(host: str, tenant: str) -> Statuses:
    return _fleet(host, "ZONE DIFFERS") | _health(host, "ZONE DIFFERS", tenant)


_CHANGES = {
    "nameserver": _nameserver,
    "speaker": _speaker,
    "bird": _speaker,
    "sshd": _sshd,
    "link": _link,
    "session": _session,
    "serial": _serial,
}


def _frr_session() -> str:
    return sessions_of(_host("lon1"))[0].name


CASES = (
    ("nameserver", "fra1", "de"),  # NSD
    ("nameserver", "ams1", "nic"),  # Knot DNS
    ("nameserver", "sin1", "enum"),  # BIND
    ("bird", "fra2", ""),
    ("speaker", "lon1", ""),  # FRR
    ("sshd", "fra2", ""),
    ("link", "ams1", "ix2"),
    ("link", "lon1", "transit2"),
    ("session", "sin1", "ix2_v6"),
    ("session", "lon1", _frr_session()),
    ("serial", "fra1", "de"),
    ("serial", "ams1", "nic"),
    ("serial", "sin1", "enum"),
)


@pytest.fixture
def healed(lab: Lab, witnesses: Witnesses) -> Iterator[None]:
    """Whatever a test leaves broken doesn't fail the next one."""
    yield
    if lab.heal():
        witnesses.wait_for(all_serving(), time.monotonic() + _HEALED)


@pytest.mark.usefixtures("healed")
@pytest.mark.parametrize(("kind", "host", "argument"), CASES, ids=[" ".join(case).strip() for case in CASES])
def test_fault_shows_on_its_rows_and_on_no_other(
    kind: str, host: str, argument: str, lab: Lab, witnesses: Witnesses
) -> None:
    changes = _CHANGES[kind](host, argument)
    broken = all_serving() | changes
    for watcher in witnesses.watchers:
        watcher.changed.clear()
    lab.break_(kind, host, argument)
    broken_at = time.monotonic()
    witnesses.wait_for(broken, broken_at + (10.0 if kind == "sshd" else 5.0))
    print(f"{kind} {host} {argument}: shown after {time.monotonic() - broken_at:.1f} s")
    time.sleep(_CALM)
    assert not difference(broken, witnesses.streamed()), "it must stay like that"
    lab.heal()
    healed_at = time.monotonic()
    witnesses.wait_for(all_serving(), healed_at + _HEALED)
    print(f"healed after {time.monotonic() - healed_at:.1f} s")
    changed = {place for watcher in witnesses.watchers for place in watcher.changed}
    assert changed == changes.keys(), "even for a moment, no other row may change"
