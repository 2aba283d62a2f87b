"""Drains of a real gobgpd, as two real BIRD peers see them: one that is drained, and one that must not notice."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
import pytest

from anyconsole.drivers import gobgp
from anyconsole.drivers.ask import Ask, Reply, Row, Run
from anyconsole.drivers.drain_lists import drain_serial
from anyconsole.drivers.gobgp_transaction import transaction
from anyconsole.drivers.transaction import CellChange, DrainState, Ended, Transaction
from anyconsole.model.inventory import Family, SessionSpec, SpeakerSpec, family_of
from tests.drivers.samples import drive

DE4, DE6, NIC4 = "192.0.2.0/24", "2001:db8:de::/48", "198.51.100.0/24"
TENANTS = {"de": (1, [DE4, DE6]), "nic": (2, [NIC4])}
PEERS = ("ix1", "ix2")
NUMBERS = {("ix1", "ipv4"): 11, ("ix1", "ipv6"): 12, ("ix2", "ipv4"): 21, ("ix2", "ipv6"): 22}

BIRD = """\
log "{log}" all;
router id 10.0.254.{n};
debug protocols all;
protocol device {{ }}
template bgp node {{ local as 6461{n}; connect delay time 1; }}
protocol bgp g4 from node {{ neighbor 10.0.1{n}.1 as 64500; ipv4 {{ import all; export none; }}; }}
protocol bgp g6 from node {{ neighbor fd00:0:1{n}::1 as 64500; ipv6 {{ import all; export none; }}; }}
"""


def gobgp_config() -> str:
    """The configuration that docs/profiles.md asks for."""
    page = (Path(__file__).parents[2] / "docs" / "profiles.md").read_text()
    match = re.search(r"```toml\n(# gobgpd.toml.*?)```", page, re.DOTALL)
    assert match is not None
    per_peer, _, common = match.group(1).partition("# once\n")
    neighbors = "".join(
        f'[[neighbors]]\n[neighbors.config]\nneighbor-address = "{address}"\npeer-as = 6461{n}\n'
        f"[neighbors.timers.config]\nconnect-retry = 1\nidle-hold-time-after-reset = 1\n"
        f'[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = "{family}-unicast"\n'
        for n in (1, 2)
        for address, family in ((f"10.0.1{n}.2", "ipv4"), (f"fd00:0:1{n}::2", "ipv6"))
    )
    base = '[global.config]\nas = 64500\nrouter-id = "10.0.255.1"\n'
    second = per_peer.replace("IX1", "IX2").replace("ix1", "ix2").replace(".11.", ".12.").replace(":11:", ":12:")
    second = second.replace("911:11$", "911:21$").replace("911:12$", "911:22$")
    return base + common + neighbors + per_peer + second


class Network(NamedTuple):
    """gobgpd and its peers, each in a namespace."""

    folder: Path
    name: str
    speaker: SpeakerSpec

    def gobgp(self, *words: str) -> str:
        return _out(["gobgp", "--target", f"unix://{self.folder}/gobgp.sock", *words])

    def bird(self, n: int, command: str) -> str:
        argv = ["birdc", "-s", f"{self.folder}/b{n}.ctl", command]  # 1 means "network not found" too
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20).stdout

    def route(self, n: int, prefix: str) -> str:
        """What peer `n` has for a prefix: "" if nothing."""
        said = self.bird(n, f"show route {prefix} all")
        return said.partition(prefix)[2]

    def log(self, n: int) -> str:
        return (self.folder / f"b{n}.log").read_text()

    def run(self, script: str) -> tuple[int, str]:
        done = subprocess.run(
            ["sh", "-c", script], capture_output=True, text=True, check=False, timeout=60, start_new_session=True
        )
        assert not done.stderr, done.stderr
        return done.returncode, done.stdout.strip()

    def collect(self) -> dict[tuple[str, ...], Row]:
        spec: dict[str, Any] = {
            "section": "gobgp",
            "speaker": "gobgp",
            "socket": self.speaker.socket,
            "sessions": [{**msgspec.to_builtins(s), "community": ""} for s in self.speaker.sessions],
            "tenants": [{"name": n, "number": i, "prefixes": p} for n, (i, p) in TENANTS.items()],
        }

        def answer(ask: Ask) -> Reply:
            assert isinstance(ask, Run)
            done = subprocess.run(ask.argv, capture_output=True, check=False, timeout=10)
            return Reply(done.stdout, fault="failed" if done.returncode else "", text=done.stderr.decode())

        rows = drive(gobgp.collect(spec, {}, 0.0), answer)
        return {tuple(str(r.get(k)) for k in ("kind", "session", "prefix") if r.get(k)): r for r in rows}

    def change(
        self,
        *levels: tuple[str, str, str],
        serial: int,
        hold: int = 60,
        note: str = "",
        disabled: tuple[str, ...] = (),
    ) -> Transaction:
        """A transaction from what the collector sees to (peer, prefix, level) each."""
        row = self.collect()["speaker",]
        pairs = {"hard": set(map(tuple, row["drain_hard"])), "soft": set(map(tuple, row["drain_soft"]))}
        before = DrainState(serial=row["drain_serial"], hard=frozenset(pairs["hard"]), soft=frozenset(pairs["soft"]))
        cells = []
        for peer, prefix, level in levels:
            (session,) = [s for s in self.speaker.sessions if (s.peer, s.family) == (peer, family_of(prefix))]
            pair = (next(i for i, p in TENANTS.values() if prefix in p), session.number)
            was = next((name for name, known in pairs.items() if pair in known), "serve")
            cells.append(
                CellChange(
                    session=session.name, peer=peer, family=session.family, prefix=prefix, before=was, after=level
                )
            )
        after = DrainState(serial=serial, note=note)
        return transaction(self.speaker, before, after, cells, hold, disabled=disabled)

    def carry_out(self, *levels: tuple[str, str, str], serial: int) -> None:
        told = self.change(*levels, serial=serial)
        for script in (told.apply, told.confirm):
            status, words = self.run(script)
            assert status == Ended.DONE, words


def _out(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20)
    return done.stdout


def until(met: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def all_served(net: Network) -> bool:
    return all(net.route(n, prefix) for n in (1, 2) for prefix in (DE4, DE6, NIC4))


@contextlib.contextmanager
def daemon(argv: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out, subprocess.Popen(argv, stdout=out, stderr=out) as process:
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def gobgpd(net: Network) -> Iterator[subprocess.Popen[bytes]]:
    socket = net.folder / "gobgp.sock"
    socket.unlink(missing_ok=True)
    argv = ["ip", "netns", "exec", f"{net.name}g", "gobgpd", "-f", f"{net.folder}/gobgpd.toml"]
    with daemon([*argv, "--api-hosts", f"unix://{socket}"], net.folder / "gobgpd.log") as process:
        until(socket.exists)
        yield process
    socket.unlink()  # else the dead-men would wait for it to come back


def originate(net: Network) -> None:
    net.gobgp("global", "rib", "add", DE4, "med", "5", "community", "64500:77,no-export-subconfed", "origin", "igp")
    net.gobgp("global", "rib", "add", DE6, "-a", "ipv6")
    net.gobgp("global", "rib", "add", NIC4, "large-community", "64500:1:2", "aspath", "64999 64998")


def up(folder: Path, name: str) -> None:
    for end in ("g", "1", "2"):
        _out(["ip", "netns", "add", name + end])
    for n in (1, 2):
        _out(["ip", "link", "add", f"v{n}", "netns", f"{name}g", "type", "veth", "peer", "name", "v0", "netns", f"{name}{n}"])  # fmt: skip
        for space, device, host in ((f"{name}g", f"v{n}", 1), (f"{name}{n}", "v0", 2)):
            _out(["ip", "-n", space, "addr", "add", f"10.0.1{n}.{host}/24", "dev", device])
            _out(["ip", "-n", space, "addr", "add", f"fd00:0:1{n}::{host}/64", "dev", device, "nodad"])
            _out(["ip", "-n", space, "link", "set", device, "up"])
        (folder / f"b{n}.conf").write_text(BIRD.format(n=n, log=folder / f"b{n}.log"))
    (folder / "gobgpd.toml").write_text(gobgp_config())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    folder, name = tmp_path_factory.mktemp("gobgp"), f"gt{os.getpid()}"
    sessions = tuple(
        SessionSpec(
            name=f"10.0.1{n}.2" if f is Family.IPV4 else f"fd00:0:1{n}::2", peer=p, family=f, number=NUMBERS[p, f]
        )
        for n, p in enumerate(PEERS, start=1)
        for f in Family
    )
    speaker = SpeakerSpec(
        name="gobgp",
        kind="gobgp",
        socket=f"unix://{folder}/gobgp.sock",
        drain_file=f"{folder}/drain.sets",
        sessions=sessions,
    )
    net = Network(folder, name, speaker)
    try:
        up(folder, name)
        with contextlib.ExitStack() as stack:
            stack.enter_context(gobgpd(net))
            for n in (1, 2):
                argv = ["ip", "netns", "exec", f"{name}{n}", "bird", "-f", "-c", f"{folder}/b{n}.conf"]
                stack.enter_context(daemon([*argv, "-s", f"{folder}/b{n}.ctl"], folder / f"b{n}.out"))
            originate(net)
            until(lambda: (folder / "b2.ctl").exists() and all_served(net), 30)
            yield net
    finally:
        for end in ("g", "1", "2"):
            subprocess.run(["ip", "netns", "del", name + end], check=False, timeout=20)
        for lock in Path("/run/lock").glob(f"anyconsole-gobgp-{quote(str(folder), safe='')}*.lock"):
            lock.unlink()


@pytest.fixture
def net(running: Network) -> Iterator[Network]:
    """The network serving everything, before and after."""
    assert all_served(running)
    serial = running.collect()["speaker",]["drain_serial"]
    yield running
    until(lambda: not running.collect()["speaker",]["pending"])
    row = running.collect()["speaker",]
    drained = {tuple(pair) for pair in row["drain_hard"] + row["drain_soft"]}
    cells = [
        (peer, prefix, "serve")
        for tenant, prefixes in TENANTS.values()
        for prefix in prefixes
        for peer in PEERS
        if (tenant, NUMBERS[peer, family_of(prefix)]) in drained
    ]
    if cells:
        running.carry_out(*cells, serial=max(serial, row["drain_serial"]) + 1000)
    until(lambda: all_served(running))


def next_serial(net: Network) -> int:
    return int(net.collect()["speaker",]["drain_serial"]) + 1


def timed(route: str) -> str:
    """A route with its age, without what jitters by a millisecond from look to look."""
    return re.sub(r"\.\d\d\d\]", "]", route)


@pytest.mark.lab
def test_soft_then_hard_then_serve_as_the_peer_sees_it_and_the_other_peer_sees_no_gap(net: Network) -> None:
    seen = [len(net.log(n)) for n in (1, 2)]
    routes = [timed(net.route(2, p)) for p in (DE4, DE6, NIC4)]
    serial = next_serial(net)

    net.carry_out(("ix1", DE4, "soft"), ("ix1", DE6, "soft"), serial=serial)
    until(lambda: "(65535,0)" in net.route(1, DE4) and "(65535,0)" in net.route(1, DE6))
    rows = net.collect()
    assert rows["export", "10.0.11.2", DE4]["exported"] == "depreferred"
    assert rows["export", "10.0.12.2", DE4]["exported"] == "announced"

    net.carry_out(("ix1", DE4, "hard"), ("ix1", DE6, "hard"), serial=serial + 1)
    until(lambda: not net.route(1, DE4) and not net.route(1, DE6))
    rows = net.collect()
    assert rows["speaker",]["drain_hard"] == [(1, 11), (1, 12)]
    assert (rows["speaker",]["drain_soft"], rows["speaker",]["drain_serial"]) == ([], serial + 1)
    assert [rows["export", f, p]["exported"] for f, p in (("10.0.11.2", DE4), ("fd00:0:11::2", DE6))] == ["absent"] * 2
    assert rows["session", "10.0.11.2"]["local"] == "10.0.11.1"

    net.carry_out(("ix1", DE4, "serve"), ("ix1", DE6, "serve"), serial=serial + 2)
    until(lambda: all_served(net) and "(65535,0)" not in net.route(1, DE4))

    assert [timed(net.route(2, p)) for p in (DE4, DE6, NIC4)] == routes, "attributes and age of the other peer's routes"
    new = net.log(2)[seen[1] :]
    assert "ignored " + DE4 in new, "else the log tells nothing"
    assert not re.search(r"(removed|updated|added) .*(192\.0\.2|2001:db8|198\.51)", new), "it noticed"
    assert not re.search(r"(removed|updated|added) .*198\.51", net.log(1)[seen[0] :]), "the other tenant noticed"
    assert "911" not in net.gobgp("global", "rib") + net.gobgp("global", "rib", "-a", "ipv6"), "the second path is gone"


@pytest.mark.lab
def test_hard_for_all_peers_one_after_the_other_outlives_a_new_session_and_a_health_checker(net: Network) -> None:
    serial = next_serial(net)
    net.carry_out(("ix1", NIC4, "hard"), serial=serial)
    until(lambda: not net.route(1, NIC4))
    assert net.route(2, NIC4)
    seen = len(net.log(1))
    net.carry_out(("ix2", NIC4, "hard"), serial=serial + 1)
    until(lambda: not net.route(2, NIC4))

    net.gobgp("global", "rib", "del", NIC4)
    net.gobgp("global", "rib", "add", NIC4, "large-community", "64500:1:2", "aspath", "64999 64998")
    net.bird(1, "restart g4")
    until(lambda: net.route(1, DE4))
    assert not net.route(1, NIC4)
    assert not net.route(2, NIC4)
    assert "> added [best] " + NIC4 not in net.log(1)[seen:], "not even for a moment"


@pytest.mark.lab
def test_set_edited_by_hand_is_not_called_absent_while_the_peer_has_the_route(net: Network) -> None:
    net.gobgp("policy", "prefix", "add", "AC-HARD-IX1", NIC4)
    net.gobgp("neighbor", "10.0.11.2", "softresetout")
    row = net.collect()["export", "10.0.11.2", NIC4]
    assert net.route(1, NIC4)
    assert (row["exported"], row["detail"]) == ("unknown", gobgp.COMPUTED)

    net.gobgp("global", "rib", "del", NIC4)
    until(lambda: not net.route(1, NIC4))
    row = net.collect()["export", "10.0.11.2", NIC4]
    assert (row["exported"], row["detail"]) == ("absent", "no route for it on this node")
    net.gobgp("policy", "prefix", "del", "AC-HARD-IX1", NIC4)
    originate(net)

    told = net.change(("ix2", DE4, "soft"), serial=next_serial(net))
    net.gobgp("policy", "prefix", "add", "AC-SOFT-IX2", DE4)
    status, words = net.run(told.apply)
    assert status == Ended.DRIFT, words
    net.gobgp("policy", "prefix", "del", "AC-SOFT-IX2", DE4)


@pytest.mark.lab
def test_node_takes_back_by_itself_when_the_client_is_killed(net: Network) -> None:
    serial = next_serial(net)
    net.carry_out(("ix1", DE4, "hard"), serial=serial)
    told = net.change(("ix1", DE4, "serve"), ("ix2", DE4, "hard"), serial=serial + 1, hold=3, note="CHG1 op1; 50% ä")
    client = subprocess.Popen(["sh", "-c", told.apply], stdout=subprocess.PIPE, start_new_session=True)
    with client:
        until(lambda: net.route(1, DE4) and not net.route(2, DE4))
        row = net.collect()["speaker",]
        assert (row["drain_serial"], row["drain_note"]) == (serial + 1, "CHG1 op1; 50% ä")
        assert re.fullmatch(r"unconfirmed, undo at \d\d:\d\d:\d\d", row["pending"])
        with contextlib.suppress(ProcessLookupError):
            os.killpg(client.pid, signal.SIGKILL)
    until(lambda: net.route(2, DE4) and not net.route(1, DE4))
    until(lambda: not net.collect()["speaker",]["pending"])
    assert net.collect()["speaker",]["drain_serial"] == serial
    assert net.run(told.confirm)[0] == Ended.NOT_PENDING
    assert net.run(told.revert)[0] == Ended.DONE


@pytest.fixture
def disabled(net: Network) -> Iterator[str]:
    """Somebody disabled the IPv4 session with ix1."""
    name = "10.0.11.2"
    net.gobgp("neighbor", name, "disable")
    until(lambda: not net.route(1, DE4))
    yield name
    if net.collect()["session", name]["state"] == "Admin down":
        net.gobgp("neighbor", name, "enable")


@pytest.mark.lab
def test_session_disabled_by_hand_comes_up_announcing_nothing_and_stays_so_when_confirmed(
    net: Network, disabled: str
) -> None:
    serial = next_serial(net)
    seen = len(net.log(1))
    told = net.change(("ix1", DE4, "hard"), ("ix1", NIC4, "hard"), serial=serial, disabled=(disabled,))
    assert net.run(told.apply)[0] == Ended.DONE
    until(lambda: "Established" in net.bird(1, "show protocols g4"))
    assert net.run(told.confirm)[0] == Ended.DONE
    rows = net.collect()
    assert (rows["session", disabled]["state"], rows["export", disabled, DE4]["exported"]) == ("Established", "absent")
    assert net.route(2, DE4)
    status, words = net.run(net.change(serial=serial + 1, disabled=(disabled,)).apply)
    assert (status, "not disabled any more" in words) == (Ended.STALE, True), words
    net.carry_out(("ix1", NIC4, "serve"), serial=serial + 1)
    until(lambda: net.route(1, NIC4))
    assert "> added [best] " + NIC4 in net.log(1)[seen:], "else the log tells nothing"
    assert DE4 not in net.log(1)[seen:], "not even for a moment"


@pytest.mark.lab
def test_session_that_nobody_confirms_is_disabled_again(net: Network, disabled: str) -> None:
    serial = next_serial(net)
    seen = len(net.log(1))
    levels = [("ix1", p, "soft") for p in (DE4, NIC4)]
    told = net.change(*levels, serial=serial, hold=10, disabled=(disabled,))
    assert net.run(told.apply)[0] == Ended.DONE
    until(lambda: "(65535,0)" in net.route(1, DE4))
    until(lambda: net.collect()["session", disabled]["state"] == "Admin down")
    until(lambda: not net.collect()["speaker",]["pending"])
    assert net.collect()["speaker",]["drain_soft"] == []
    assert net.log(1)[seen:].count("> added [best] " + DE4) == 1, "it was never announced at full preference"
    assert net.run(told.confirm)[0] == Ended.NOT_PENDING

    told = net.change(*levels, serial=serial, disabled=(disabled,))
    assert net.run(told.apply)[0] == Ended.DONE
    net.gobgp("neighbor", disabled, "disable")
    status, words = net.run(told.confirm)
    assert (status, "disabled 10.0.11.2 again" in words) == (Ended.DRIFT, True)
    assert net.run(told.revert)[0] == Ended.DONE
    assert net.collect()["session", disabled]["state"] == "Admin down"


@pytest.mark.lab
@pytest.mark.parametrize(("look", "sign"), [("policy prefix", ",until=1"), ("global rib", ":911:11")])
def test_apply_cut_off_in_the_middle_is_taken_back_whole(net: Network, look: str, sign: str) -> None:
    serial = next_serial(net)
    told = net.change(("ix1", DE4, "hard"), ("ix1", DE6, "soft"), ("ix1", NIC4, "hard"), serial=serial, hold=9)
    with subprocess.Popen(["sh", "-c", told.apply], stdout=subprocess.PIPE, start_new_session=True) as client:
        until(lambda: sign in net.gobgp(*look.split()) or client.poll() is not None)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(client.pid, signal.SIGKILL)
    until(lambda: net.run(told.revert)[0] == Ended.DONE)
    until(lambda: all_served(net))
    row = net.collect()["speaker",]
    assert (row["pending"], row["drain_hard"], row["drain_soft"]) == ("", [], [])
    assert ":911:" not in net.gobgp("global", "rib")


@pytest.mark.lab
def test_five_at_once_one_wins_and_the_others_are_told_why(net: Network) -> None:
    serial = next_serial(net)
    told = [net.change(("ix1", DE4, "soft"), serial=serial + i) for i in range(5)]
    clients = [subprocess.Popen(["sh", "-c", t.apply], stdout=subprocess.PIPE, text=True) for t in told]
    said = [(client.communicate(timeout=30)[0], client.returncode) for client in clients]
    statuses = sorted(status for _, status in said)
    assert statuses[0] == Ended.DONE
    assert set(statuses[1:]) <= {Ended.LOCKED, Ended.PENDING}, said
    winner = told[[status for _, status in said].index(Ended.DONE)]
    loser = next(t for t in told if t is not winner)

    status, words = net.run(loser.apply)
    assert (status, "unconfirmed" in words) == (Ended.PENDING, True)
    assert net.run(loser.confirm)[0] == Ended.STALE
    assert net.run(loser.revert)[0] == Ended.STALE
    assert net.run(winner.confirm)[0] == Ended.DONE
    assert net.run(winner.confirm)[0] == Ended.NOT_PENDING
    status, words = net.run(winner.revert)
    assert (status, "undrain instead" in words) == (Ended.NOT_PENDING, True)
    assert net.run(loser.apply)[0] == Ended.STALE


@pytest.mark.lab
def test_revert_takes_back_at_once(net: Network) -> None:
    told = net.change(("ix2", DE6, "hard"), serial=next_serial(net))
    assert net.run(told.apply)[0] == Ended.DONE
    until(lambda: not net.route(2, DE6))
    assert net.run(told.revert)[0] == Ended.DONE
    until(lambda: net.route(2, DE6))


@pytest.mark.lab
def test_policy_without_the_exception_is_refused_because_no_withdrawal_left(net: Network) -> None:
    """With a plain reject gobgpd says "done" and the peer keeps the route."""
    net.gobgp("policy", "large-community", "add", "AC-KEEP-IX1", "^1:1:1$")
    net.gobgp("policy", "large-community", "del", "AC-KEEP-IX1", "^4294967295:911:11$")
    told = net.change(("ix1", DE4, "hard"), serial=next_serial(net))
    status, words = net.run(told.apply)
    net.gobgp("policy", "large-community", "add", "AC-KEEP-IX1", "^4294967295:911:11$")
    net.gobgp("policy", "large-community", "del", "AC-KEEP-IX1", "^1:1:1$")
    assert (status, "sent no withdrawal to 10.0.11.2" in words, words.startswith("taken back")) == (
        Ended.REFUSED, True, True,
    ), words  # fmt: skip
    assert net.route(1, DE4)
    assert net.collect()["speaker",]["drain_hard"] == []


@pytest.mark.lab
def test_missing_set_and_unwritable_file_change_nothing(net: Network) -> None:
    cells = [CellChange(session="10.0.11.2", peer="ix9", family=Family.IPV4, prefix=DE4, before="serve", after="soft")]
    before = DrainState(serial=next_serial(net) - 1)
    after = DrainState(serial=before.serial + 1)
    stranger = msgspec.structs.replace(
        net.speaker, sessions=(SessionSpec(name="10.0.11.2", peer="ix9", family=Family.IPV4, number=91),)
    )
    status, words = net.run(transaction(stranger, before, after, cells, 9).apply)
    assert (status, "no prefix set AC-SOFT-IX9" in words) == (Ended.BAD_CONFIG, True)

    nowhere = net._replace(speaker=msgspec.structs.replace(net.speaker, drain_file="/proc/nowhere/drain.sets"))
    assert net.run(nowhere.change(("ix1", DE4, "soft"), serial=after.serial).apply)[0] == Ended.CANNOT_WRITE
    gone = net._replace(speaker=msgspec.structs.replace(net.speaker, socket=f"unix://{net.folder}/nobody.sock"))
    told = transaction(gone.speaker, before, after, [], 9)
    assert net.run(told.apply)[0] == Ended.REFUSED
    assert net.collect()["speaker",]["drain_serial"] == before.serial


@pytest.mark.lab
def test_restarted_daemon_serves_again_and_says_so_unless_its_start_up_loads_the_drain(running: Network) -> None:
    """With a gobgpd of its own, without peers, so that the others' sessions stay."""
    folder = running.folder / "own"
    folder.mkdir()
    (folder / "gobgpd.toml").write_text((running.folder / "gobgpd.toml").read_text())
    _out(["ip", "netns", "add", f"{running.name}og"])
    speaker = msgspec.structs.replace(
        running.speaker, socket=f"unix://{folder}/gobgp.sock", drain_file=f"{folder}/drain.sets"
    )
    own = Network(folder, f"{running.name}o", speaker)
    try:
        with gobgpd(own):
            originate(own)
            told = own.change(("ix1", DE4, "hard"), ("ix2", DE6, "soft"), serial=7, note="CHG7")
            assert own.run(told.apply)[0] == Ended.DONE
            status, words = own.run(told.confirm)
            assert (status, "only if its start-up loads that" in words) == (Ended.DONE, True)
        with gobgpd(own):
            row = own.collect()["speaker",]
            assert (row["drain_hard"], row["drain_soft"], row["drain_serial"]) == ([], [], 0)
            for line in Path(speaker.drain_file).read_text().splitlines():
                own.gobgp("policy", "prefix", "add", *line.split())
            row = own.collect()["speaker",]
            assert (row["drain_hard"], row["drain_soft"]) == ([(1, 11)], [(1, 22)])
            assert (row["drain_serial"], row["drain_note"], row["pending"]) == (7, "CHG7", "")
    finally:
        _out(["ip", "netns", "del", f"{running.name}og"])


SPEAKER = SpeakerSpec(
    name="gobgp",
    kind="gobgp",
    socket="127.0.0.1:50051",
    sessions=(
        SessionSpec(name="10.0.11.2", peer="ix1", family=Family.IPV4, number=11),
        SessionSpec(name="10.0.11.3", peer="ix1", family=Family.IPV4, number=13),
    ),
)


def cell(session: str, **fields: str) -> CellChange:
    words = {"prefix": DE4, "before": "serve", "after": "hard", **fields}
    return CellChange(session=session, peer="ix1", family=Family.IPV4, **words)


@pytest.mark.parametrize(
    ("cells", "serials", "why"),
    [
        ([cell("10.0.11.2")], (1, 2), "drain them together"),
        ([cell("10.0.11.9")], (1, 2), "no session"),
        ([cell("10.0.11.2", prefix=DE6), cell("10.0.11.3", prefix=DE6)], (1, 2), "family"),
        ([cell("10.0.11.2", after="x; reboot"), cell("10.0.11.3", after="x; reboot")], (1, 2), "not levels"),
        ([], (2, 2), "must rise"),
        ([], (2, 1), "must rise"),
    ],
)
def test_what_prefix_sets_cannot_express_is_refused_on_paper(
    cells: list[CellChange], serials: tuple[int, int], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        transaction(SPEAKER, DrainState(serial=serials[0]), DrainState(serial=serials[1]), cells, 60)


def test_drain_made_by_hand_has_no_serial_and_can_be_planned_from() -> None:
    hard = frozenset({(1, 11), (1, 13)})
    before = DrainState(serial=drain_serial(sorted(hard), []), hard=hard)
    cells = [cell(s, before="hard", after="serve") for s in ("10.0.11.2", "10.0.11.3")]
    told = transaction(SPEAKER, before, DrainState(serial=5), cells, 60)
    assert "unnumbered=yes" in told.apply


def test_hostile_notes_and_names_stay_words_of_the_shell(tmp_path: Path) -> None:
    note = f"'; touch {tmp_path}/owned; $(touch {tmp_path}/owned) `touch {tmp_path}/owned` \n"
    told = transaction(SPEAKER, DrainState(serial=0), DrainState(serial=1, note=note), [], 60)
    for script in (told.apply, told.confirm, told.revert):
        subprocess.run(["sh", "-n", "-c", script], check=True, timeout=10)
        head = script[: script.rindex("end() {")]
        subprocess.run(["sh", "-c", head], check=True, timeout=10)
    assert not (tmp_path / "owned").exists()
