"""Drains of FRR as a transaction, on the real daemon of lon1: what its neighbours see, and who wins when two want something else."""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from anyconsole.drivers import frr
from anyconsole.drivers.ask import Ask, Reply, Row, Talk
from anyconsole.drivers.frr_transaction import transaction
from anyconsole.drivers.transaction import CellChange, DrainState, Ended, Transaction
from anyconsole.lab import Lab, control
from anyconsole.lab.topology import Session, node, sessions_of
from anyconsole.model.inventory import Family, SessionSpec, SpeakerSpec
from tests.drivers.samples import drive

HOST = "lon1"
DE4, DE6, NIC4 = "192.0.2.0/24", "2001:db8:de::/48", "198.51.100.0/24"
PREFIXES = {"de": (1, [DE4, DE6]), "nic": (2, [NIC4])}
SERVING = DrainState(serial=0)
NOTE = 'CHG4711 op1 2026-11-23T17:00Z it\'s "50%" | `x` $y \\ !#? exp=2026-11-23T20:00Z'
CONF = "/etc/frr/frr.conf"

FILL = """cp -a /etc/frr /tmp/kept
mount -t tmpfs -o size=16k,mode=2775,uid=$(id -u frr),gid=$(stat -c %g /etc/frr) none /etc/frr
cp -p /tmp/kept/*.conf /tmp/kept/.anyconsole.lock /etc/frr
rm -r /tmp/kept
cat /dev/zero > /etc/frr/full || :"""
"""A file system with room for what is there and nothing more."""


def _lab_sessions() -> tuple[Session, ...]:
    found = node(HOST)
    assert found is not None
    return sessions_of(found)


SESSIONS = _lab_sessions()
SPEAKER = SpeakerSpec(
    name="frr",
    kind="frr",
    socket="/var/run/frr/bgpd.vty",
    sessions=tuple(
        SessionSpec(name=s.name, peer=s.peer.name, family=Family(s.family), number=s.number) for s in SESSIONS
    ),
)
SPEC = {
    "section": "frr",
    "speaker": "frr",
    "socket": SPEAKER.socket,
    "sessions": [msgspec.to_builtins(s) | {"community": ""} for s in SPEAKER.sessions],
    "tenants": [{"name": n, "number": number, "prefixes": prefixes} for n, (number, prefixes) in PREFIXES.items()],
}


def cell(prefix: str, before: str, after: str, peer: str = "ix2") -> CellChange:
    family = Family.IPV6 if ":" in prefix else Family.IPV4
    name = next(s.name for s in SPEAKER.sessions if s.peer == peer and s.family is family)
    return CellChange(session=name, peer=peer, family=family, prefix=prefix, before=before, after=after)


def plan(
    before: DrainState,
    serial: int,
    *cells: CellChange,
    hold: int = 60,
    note: str = NOTE,
    disabled: tuple[str, ...] = (),
) -> Transaction:
    return transaction(SPEAKER, before, DrainState(serial=serial, note=note), cells, hold, disabled=disabled)


class Frr:
    """lon1 as the console's login sees it, and what the routers at the other end see of it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def argv(self, script: str, user: str = "ops") -> list[str]:
        return self.lab.enter_command(HOST, ["su", user, "-s", "/bin/sh", "-c", script])

    def ends(self, script: str, user: str = "ops") -> tuple[Ended, str]:
        """How a script ends, and its last line."""
        done = subprocess.run(self.argv(script, user), capture_output=True, text=True, timeout=40, check=False)
        lines = done.stdout.splitlines() or [done.stderr]
        return Ended(done.returncode), lines[-1]

    def root(self, script: str) -> str:
        done = self.lab.run(HOST, ["sh", "-c", script])
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def tell(self, *lines: str) -> None:
        self.root(shlex.join(["vtysh", *(word for line in lines for word in ("-c", line))]))

    def drains(self, *, saved: bool = False, daemon: str = "") -> list[str]:
        """The drain state's lines in the running configuration, or in the saved one."""
        source = f"cat {CONF}" if saved else f"vtysh {daemon} -c 'show running-config'"
        lines = self.root(source).splitlines()
        return sorted(
            line
            for line in lines
            if line.startswith(("ip prefix-list AC-", "ipv6 prefix-list AC-")) and "AC-ALL" not in line
        )

    def seen(self, prefix: str, router: str = "ix2") -> str:
        """What the router at the other end makes of a prefix of ours."""
        protocol = f"{HOST}_v{6 if ':' in prefix else 4}"
        words = self.lab.run(router, ["birdc", "-r", "show", "route", prefix, "protocol", protocol, "all"]).stdout
        if prefix not in words:
            return "hard"
        return "soft" if "(65535,0)" in words and "64500 64500 64500 64500" in words else "serve"

    def sessions(self) -> dict[str, tuple[int, int]]:
        """Of each neighbour, when it came up and how often it was lost."""
        summary = json.loads(self.lab.run(HOST, ["vtysh", "-c", "show bgp summary json"]).stdout)
        return {
            address: (peer["peerUptimeEstablishedEpoch"], peer["connectionsDropped"])
            for part in (summary["ipv4Unicast"], summary["ipv6Unicast"])
            for address, peer in part["peers"].items()
        }

    def collected(self) -> list[Row]:
        path = f"/proc/{control.first_process(self.lab.paths, HOST)}/root/run/frr/bgpd.vty"
        with socket.socket(socket.AF_UNIX) as vty:
            vty.settimeout(10)
            vty.connect(path)

            def say(words: bytes) -> bytes:
                vty.sendall(words)
                reply = b""
                while b"\0\0\0" not in reply[:-1]:
                    reply += vty.recv(65536)
                return reply

            def answer(ask: Ask) -> Reply:
                assert isinstance(ask, Talk)
                return Reply(say(ask.data))

            say(b"enable\0")
            return drive(frr.collect(SPEC, {}, 0.0), answer)

    def state(self) -> Row:
        return self.collected()[0]


def wait_until(holds: Callable[[], object], seconds: float = 12) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def node_of_lab(lab: Lab) -> Iterator[Frr]:
    """lon1; its configuration is put back to the letter after the last test."""
    here = Frr(lab)
    here.root(f"cp -p {CONF} /root/frr.conf.kept")
    yield here
    here.root(f"cp -p /root/frr.conf.kept {CONF}; rm -f /root/frr.conf.kept {CONF}.sav /etc/frr/.anyconsole.lock")


@pytest.fixture
def lon1(node_of_lab: Frr) -> Iterator[Frr]:
    """lon1, serving everything; what a test leaves drained is undone."""
    here = node_of_lab
    yield here
    if left := here.drains():
        lists = {line.split(" seq ")[0].split(" description ")[0] for line in left}
        clears = [f"clear bgp {s.family} unicast {s.name} soft out" for s in SESSIONS]
        here.tell("configure terminal", *(f"no {name}" for name in lists), "end", *clears)
        assert here.drains() == []
    here.root(f"cat /root/frr.conf.kept > {CONF}")
    wait_until(lambda: all(here.seen(p) == "serve" for p in (DE4, DE6)))


pytestmark = pytest.mark.lab


def test_levels_reach_the_neighbours_without_a_flap_and_every_console_can_read_them(lon1: Frr) -> None:
    up = lon1.sessions()
    cells = [cell(DE4, "serve", "soft"), cell(DE6, "serve", "soft"), cell(DE4, "serve", "soft", "transit")]
    soft = plan(SERVING, 1001, *cells)
    assert lon1.ends(soft.apply)[0] is Ended.DONE
    wait_until(lambda: [lon1.seen(DE4), lon1.seen(DE6), lon1.seen(DE4, "transit2")] == ["soft"] * 3)
    unconfirmed = lon1.state()
    assert (unconfirmed["drain_serial"], unconfirmed["drain_note"]) == (1001, NOTE.replace("| ", ""))
    assert unconfirmed["pending"].startswith("unconfirmed, undo at ")
    numbers = {(s.peer.name, s.family): s.number for s in SESSIONS}
    sessions = [numbers["ix2", "ipv4"], numbers["ix2", "ipv6"], numbers["transit", "ipv4"]]
    assert unconfirmed["drain_soft"] == [(1, n) for n in sorted(sessions)]
    assert lon1.drains(saved=True) == []
    assert lon1.seen(NIC4) == "serve"

    assert lon1.ends(soft.confirm) == (Ended.DONE, f"confirmed as 1001 and saved in {CONF}")
    assert lon1.state()["pending"] == ""
    assert lon1.drains(saved=True) == lon1.drains()
    assert lon1.ends(soft.confirm)[0] is Ended.NOT_PENDING
    assert lon1.ends(soft.revert)[0] is Ended.NOT_PENDING

    drained = DrainState(serial=1001, note=NOTE)
    hard = plan(drained, 1002, *(cell(p, "soft", "hard") for p in (DE4, DE6)), note="next")
    assert lon1.ends(hard.apply)[0] is Ended.DONE
    wait_until(lambda: [lon1.seen(DE4), lon1.seen(DE6)] == ["hard"] * 2)
    assert lon1.seen(DE4, "transit2") == "soft"
    assert lon1.ends(hard.revert) == (Ended.DONE, "taken back, the drain state is 1001 again")
    wait_until(lambda: [lon1.seen(DE4), lon1.seen(DE6)] == ["soft"] * 2)
    assert lon1.drains(saved=True) == lon1.drains()

    back = plan(drained, 1003, *(msgspec.structs.replace(c, before="soft", after="serve") for c in cells), note="")
    assert [lon1.ends(script)[0] for script in (back.apply, back.confirm)] == [Ended.DONE] * 2
    wait_until(lambda: [lon1.seen(DE4), lon1.seen(DE6), lon1.seen(DE4, "transit2")] == ["serve"] * 3)
    assert [line.split(" seq ")[0] for line in lon1.drains(saved=True)] == [
        "ip prefix-list AC-STATE description serial=1003 until=0 note=",
        "ip prefix-list AC-STATE",
    ]
    now = lon1.sessions()
    assert all(now[a][1] == up[a][1] and abs(now[a][0] - up[a][0]) <= 1 for a in up)


def test_change_takes_effect_at_once_whatever_the_delay_timer(lon1: Frr) -> None:
    for timer, serial in ((600, 1101), (0, 1102)):
        lon1.tell("configure terminal", f"bgp route-map delay-timer {timer}")
        change = plan(SERVING, serial, cell(DE4, "serve", "hard"))
        assert lon1.ends(change.apply)[0] is Ended.DONE
        wait_until(lambda: lon1.seen(DE4) == "hard")
        assert lon1.ends(change.revert)[0] is Ended.DONE
        wait_until(lambda: lon1.seen(DE4) == "serve")
    lon1.tell("configure terminal", "bgp route-map delay-timer 1")


def test_console_that_is_never_heard_of_again_leaves_a_node_that_undoes_it(lon1: Frr) -> None:
    change = plan(SERVING, 1201, cell(DE4, "serve", "soft"), hold=3)
    assert lon1.ends(change.apply)[0] is Ended.DONE
    wait_until(lambda: lon1.seen(DE4) == "soft")
    wait_until(lambda: lon1.seen(DE4) == "serve")
    assert lon1.drains() == []
    assert lon1.ends(change.confirm) == (Ended.NOT_PENDING, "1201 was taken back, the drain state is 0 again")


HALFWAY = '/usr/bin/vtysh "$1" "$2" "$3" "$4" "$5" "$6" "$7" "$8" "$9" "${10}"'
"""As far as the first of the lines that come."""


@pytest.mark.parametrize(
    ("script", "tell", "level"),
    [
        ("apply", HALFWAY, "serve"),
        ("confirm", ":", "serve"),
        ("confirm", '/usr/bin/vtysh "$@"', "hard"),
    ],
    ids=["halfway-applied", "before-confirmed", "before-saved"],
)
def test_script_that_is_killed_leaves_nothing_in_between(lon1: Frr, script: str, tell: str, level: str) -> None:
    change = plan(SERVING, 1301, cell(DE4, "serve", "hard"), cell(DE6, "serve", "hard"), hold=3)
    if script == "confirm":
        assert lon1.ends(change.apply)[0] is Ended.DONE
    # A vtysh that kills the script when it configures: before, after, or in the middle of it.
    fake = f"""#!/bin/sh
        case "$*" in *"configure terminal"*)
            if rm /tmp/fake/armed 2>/dev/null; then
                {tell}; /usr/bin/vtysh -c 'show running-config' > /tmp/fake/left; kill -9 $(cat /tmp/fake/victim); exit 1
            fi ;;
        esac
        exec /usr/bin/vtysh "$@" """
    lon1.root(f"mkdir -m 777 /tmp/fake; printf %s {shlex.quote(fake)} > /tmp/fake/vtysh; chmod 755 /tmp/fake/vtysh")
    arm = "touch /tmp/fake/armed; PATH=/tmp/fake:$PATH; export PATH; echo $$ > /tmp/fake/victim"
    start = f"{arm}; exec sh -c {shlex.quote(getattr(change, script))}"
    try:
        killed = subprocess.run(lon1.argv(start), capture_output=True, text=True, timeout=20, check=False)
        assert killed.stdout == ""
        assert f"ip prefix-list AC-HARD-IX2 seq 5 permit {DE4}" in lon1.root("cat /tmp/fake/left")
        wait_until(
            lambda: lon1.drains() == lon1.drains(saved=True) and "anyconsole.1301" not in lon1.root("ls /etc/frr")
        )
        wait_until(lambda: [lon1.seen(DE4), lon1.seen(DE6)] == [level] * 2)
    finally:
        lon1.root("rm -r /tmp/fake")


def test_of_five_consoles_at_once_exactly_one_wins(lon1: Frr) -> None:
    changes = [plan(SERVING, 1400 + i, cell(DE4, "serve", "soft")) for i in range(5)]
    with ThreadPoolExecutor(5) as pool:
        ended = [code for code, _ in pool.map(lambda c: lon1.ends(c.apply), changes)]
    assert ended.count(Ended.DONE) == 1
    assert all(code.is_conflict for code in ended if code is not Ended.DONE)
    winner = changes[ended.index(Ended.DONE)]
    loser = changes[ended.index(Ended.DONE) - 1]
    assert lon1.ends(loser.apply)[0] is Ended.PENDING
    assert lon1.ends(loser.confirm)[0] is Ended.STALE
    assert lon1.ends(loser.revert)[0] is Ended.NOT_PENDING
    assert lon1.seen(DE4) == "soft"
    assert lon1.ends(winner.revert)[0] is Ended.DONE


def test_change_is_refused_where_somebody_was_faster_holds_the_lock_or_left_edits_unsaved(lon1: Frr) -> None:
    change = plan(SERVING, 1501, cell(DE4, "serve", "soft"))
    assert lon1.ends(plan(DrainState(serial=77), 1501, cell(DE4, "serve", "soft")).apply)[0] is Ended.STALE
    assert lon1.ends(plan(SERVING, 1501, cell(DE4, "hard", "soft")).apply)[0] is Ended.STALE

    lon1.root("touch /etc/frr/.anyconsole.lock")
    holder = subprocess.Popen(
        lon1.lab.enter_command(HOST, ["flock", "/etc/frr/.anyconsole.lock", "sh", "-c", "echo held; exec cat"]),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert lon1.ends(change.apply)[0] is Ended.LOCKED
    holder.communicate()

    lon1.tell("configure terminal", "ip prefix-list AC-HARD-IX2 permit 203.0.113.0/24")
    code, words = lon1.ends(change.apply)
    assert code is Ended.DRIFT
    assert "AC-HARD-IX2 permit 203.0.113.0/24" in words
    assert lon1.seen(DE4) == "serve"


def test_drain_made_by_hand_and_saved_can_be_taken_over_and_undone(lon1: Frr) -> None:
    line = f"ip prefix-list AC-HARD-IX2 permit {DE4}"
    lon1.tell("configure terminal", line, "end", "clear bgp ipv4 unicast 198.19.23.2 soft out")
    lon1.root(f"echo '{line}' >> {CONF}")
    found = lon1.state()
    before = DrainState(serial=found["drain_serial"], hard=frozenset(found["drain_hard"]))
    assert before.serial
    change = plan(before, 1601, cell(DE4, "hard", "serve"))
    assert lon1.ends(change.apply)[0] is Ended.DONE
    wait_until(lambda: lon1.seen(DE4) == "serve")
    assert lon1.ends(change.revert)[0] is Ended.DONE
    assert lon1.state()["drain_serial"] == before.serial


@pytest.mark.parametrize(
    "spoil",
    [
        "mount -o remount,bind,ro /etc/frr",
        FILL,
        "chmod 755 /etc/frr",
    ],
    ids=["read-only", "full", "not-permitted"],
)
def test_change_that_cannot_be_saved_is_not_confirmed_and_goes_back(lon1: Frr, spoil: str) -> None:
    change = plan(SERVING, 1701, cell(DE4, "serve", "soft"))
    assert lon1.ends(change.apply)[0] is Ended.DONE
    saved = lon1.root(f"cat {CONF}")
    lon1.root(f"({spoil}) 2>/dev/null")
    try:
        code, words = lon1.ends(change.confirm)
        assert (code, "nothing was confirmed" in words) == (Ended.CANNOT_WRITE, True)
        assert lon1.root(f"cat {CONF}") == saved
        assert lon1.state()["pending"]
        assert lon1.ends(change.revert)[0] is Ended.DONE
        wait_until(lambda: lon1.seen(DE4) == "serve")
        if "full" not in spoil:
            assert lon1.ends(plan(SERVING, 1702, cell(DE4, "serve", "soft")).apply)[0] is Ended.CANNOT_WRITE
    finally:
        lon1.root("mount -o remount,bind,rw /etc/frr; chmod 2775 /etc/frr; [ ! -e /etc/frr/full ] || umount /etc/frr")


def test_user_without_the_right_group_or_the_lock_is_told_so(lon1: Frr) -> None:
    change = plan(SERVING, 1801, cell(DE4, "serve", "soft"))
    code, words = lon1.ends(change.apply, "ns-de")
    assert (code, "takes group frrvty" in words) == (Ended.CANNOT_WRITE, True)
    lon1.root(
        "touch /etc/frr/.anyconsole.lock; chmod 600 /etc/frr/.anyconsole.lock; chown root /etc/frr/.anyconsole.lock"
    )
    code, words = lon1.ends(change.apply)
    lon1.root("rm /etc/frr/.anyconsole.lock")
    assert (code, ".anyconsole.lock" in words) == (Ended.CANNOT_WRITE, True)


IX2 = next(s.name for s in SESSIONS if (s.peer.name, s.family) == ("ix2", "ipv4"))
PREFIXES4 = (DE4, NIC4, "203.0.113.0/24")


@pytest.fixture
def shut(lon1: Frr) -> Iterator[str]:
    """Somebody shut ix2's IPv4 session, told ix2 why, and saved it: the line that does so."""
    line = f' neighbor {IX2} shutdown message maintenance, ask "bob" (100%) $x'
    lon1.tell("configure terminal", "router bgp", line.strip())
    lon1.root(f"sed -i {shlex.quote(f'/^router bgp /a{chr(92)}{line}')} {CONF}")
    wait_until(lambda: "Administrative shutdown" in session_of_ix2(lon1))
    assert shutdowns(lon1) == [line]
    yield line
    lon1.tell("configure terminal", "router bgp", f"no neighbor {IX2} shutdown")
    wait_until(lambda: "Established" in session_of_ix2(lon1))


def shutdowns(here: Frr, *, saved: bool = False) -> list[str]:
    lines = here.root(f"cat {CONF}" if saved else "vtysh -d bgpd -c 'show running-config'").splitlines()
    return [line for line in lines if f"neighbor {IX2} shutdown" in line]


def session_of_ix2(here: Frr) -> str:
    """The session with lon1 as ix2 tells of it."""
    return here.lab.run("ix2", ["birdc", "-r", "show", "protocols", "all", f"{HOST}_v4"]).stdout


def test_neighbour_shut_by_hand_comes_up_announcing_nothing_and_stays_so_when_confirmed(lon1: Frr, shut: str) -> None:
    saved = lon1.root(f"cat {CONF}").splitlines()
    cells = [cell(p, "serve", "hard") for p in PREFIXES4]
    adopted = plan(SERVING, 1851, *cells, disabled=(IX2,))
    assert f"-neighbor {IX2} shutdown" in adopted.diff
    assert lon1.ends(adopted.apply)[0] is Ended.DONE
    wait_until(lambda: "Established" in session_of_ix2(lon1))
    assert shutdowns(lon1, saved=True) == [shut], "it is not saved before it is confirmed"
    assert lon1.ends(adopted.confirm)[0] is Ended.DONE
    assert re.search(r"Import updates: +0 ", session_of_ix2(lon1)), "nothing was announced, not even for a moment"
    assert lon1.seen(DE4, "transit2") == "serve"
    now = lon1.root(f"cat {CONF}").splitlines()
    assert [line for line in now if line not in lon1.drains()] == [line for line in saved if line != shut]
    assert lon1.root("ls -A /etc/frr | grep shut || :") == ""


def test_only_what_shuts_the_neighbour_itself_is_lifted(lon1: Frr) -> None:
    lon1.tell(
        "configure terminal", "router bgp 64999 vrf RED", f"neighbor {IX2} remote-as 64612", f"neighbor {IX2} shutdown"
    )
    try:
        assert lon1.ends(plan(SERVING, 1855, disabled=(IX2,)).apply) == (
            Ended.STALE,
            f"{IX2} is not shut any more, or not by a line of its own; this was planned for one that is",
        )
    finally:
        lon1.tell("configure terminal", "no router bgp 64999 vrf RED")


def test_neighbour_that_nobody_confirms_is_shut_again_as_it_was(lon1: Frr, shut: str) -> None:
    cells = [cell(p, "serve", "soft") for p in PREFIXES4]
    canary = plan(SERVING, 1861, *cells, hold=8, disabled=(IX2,))
    assert lon1.ends(canary.apply)[0] is Ended.DONE
    wait_until(lambda: lon1.seen(DE4) == "soft")
    assert shutdowns(lon1) == []
    wait_until(lambda: "Administrative shutdown" in session_of_ix2(lon1))
    wait_until(lambda: lon1.drains() == [])
    assert shutdowns(lon1) == shutdowns(lon1, saved=True) == [shut]
    wait_until(lambda: "shut" not in lon1.root("ls -A /etc/frr"))
    assert lon1.ends(canary.confirm)[0] is Ended.NOT_PENDING

    again = plan(SERVING, 1862, *cells, disabled=(IX2,))
    assert lon1.ends(again.apply)[0] is Ended.DONE
    lon1.tell("configure terminal", "router bgp", f"neighbor {IX2} shutdown")
    code, words = lon1.ends(again.confirm)
    assert (code, "somebody shut it again since" in words) == (Ended.DRIFT, True)
    assert lon1.ends(again.revert)[0] is Ended.DONE
    assert shutdowns(lon1) == [shut]


def test_what_bgpd_refuses_is_undone_at_once(lon1: Frr) -> None:
    stranger = msgspec.structs.replace(cell(DE4, "serve", "hard"), session="198.19.99.9")
    code, words = lon1.ends(plan(SERVING, 1901, stranger).apply)
    assert code in (Ended.BAD_CONFIG, Ended.REFUSED)
    assert "198.19.99.9" in words or "neighbor" in words
    wait_until(lambda: lon1.drains() == [])
    assert lon1.seen(DE4) == "serve"


def test_restarted_bgpd_is_drained_as_was_confirmed_and_no_further(lon1: Frr) -> None:
    soft = plan(SERVING, 2000, cell(DE4, "serve", "soft"))
    assert [lon1.ends(script)[0] for script in (soft.apply, soft.confirm)] == [Ended.DONE] * 2
    hard = plan(DrainState(serial=2000, note=NOTE), 2001, cell(DE4, "soft", "hard"), hold=5)
    assert lon1.ends(hard.apply)[0] is Ended.DONE
    wait_until(lambda: lon1.seen(DE4) == "hard")
    control.stop(lon1.lab.paths, HOST, ["bgpd"])
    assert lon1.ends(hard.confirm)[0] is Ended.REFUSED
    control.start(lon1.lab.paths, HOST, ["bgpd"])
    wait_until(lambda: lon1.seen(DE4) == "soft")
    assert lon1.drains(daemon="-d bgpd") == lon1.drains(saved=True)
    assert lon1.ends(hard.confirm)[0] is Ended.NOT_PENDING
    wait_until(lambda: lon1.drains() == lon1.drains(saved=True))  # zebra kept the lines until the dead-man came
    lon1.lab.wait_until_well()


def test_confirming_saves_the_drain_state_and_nothing_else(lon1: Frr) -> None:
    lon1.tell("configure terminal", "ip prefix-list OTHERS permit 203.0.113.0/24")  # somebody's, not saved yet
    before = lon1.root(f"cat {CONF}")
    for serial, old, new in ((2201, "serve", "soft"), (2202, "soft", "serve")):
        change = plan(SERVING if old == "serve" else DrainState(serial=2201, note=NOTE), serial, cell(DE6, old, new))
        assert [lon1.ends(script)[0] for script in (change.apply, change.confirm)] == [Ended.DONE] * 2
        saved, drains = lon1.root(f"cat {CONF}").splitlines(), lon1.drains()
        assert [line for line in saved if line not in drains] == before.splitlines()
        assert set(drains) <= set(saved)
    assert lon1.root(f"stat -c '%a %G' {CONF}") == "660 frrvty\n"
    lon1.tell("configure terminal", "no ip prefix-list OTHERS permit 203.0.113.0/24")


def test_time_out_that_passed_is_pending_for_as_long_as_the_node_says_so(lon1: Frr) -> None:
    lon1.tell("configure terminal", "ip prefix-list AC-STATE description serial=2101 until=1000 note=lost")
    assert lon1.state()["pending"] == "unconfirmed, undo at 00:16:40"
    assert lon1.ends(plan(DrainState(serial=2101), 2102, cell(DE4, "serve", "soft")).apply)[0] is Ended.PENDING


def test_collector_knows_our_own_address_on_each_session(lon1: Frr) -> None:
    rows: dict[str, Any] = {r["session"]: r["local"] for r in lon1.collected() if r["kind"] == "session"}
    assert rows == {s.name: s.local for s in SESSIONS}


def test_nothing_unfit_reaches_the_node() -> None:
    with pytest.raises(ValueError, match="not a name"):
        plan(SERVING, 1, msgspec.structs.replace(cell(DE4, "serve", "soft"), peer="ix2; reboot"))
    with pytest.raises(ValueError, match="not a name"):
        plan(SERVING, 1, msgspec.structs.replace(cell(DE4, "serve", "soft"), session="x\nexit"))
    with pytest.raises(ValueError, match="new serial"):
        plan(DrainState(serial=5), 5, cell(DE4, "serve", "soft"))
    with pytest.raises(ValueError, match="can't differ"):
        plan(SERVING, 1, cell(DE4, "serve", "soft"), cell(DE4, "soft", "serve"))
