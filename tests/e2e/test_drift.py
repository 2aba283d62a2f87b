"""What was changed behind the console's back, on the real network: kept or undone as asked, announced as planned, and no query lost."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anyconsole.lab import Lab
from anyconsole.lab.queries import QueryLoad
from anyconsole.lab.topology import node, sessions_of
from tests.e2e.drains import change, drain_conf, put_back, running_serial
from tests.e2e.long import LONG
from tests.e2e.observe import run_headless

pytestmark = pytest.mark.lab

HOSTS = ("fra1", "fra2", "ams1", "sin1")
DE = "192.0.2.0/24"


@pytest.fixture
def net(breakable_lab: Lab) -> Iterator[Lab]:
    """The lab; its BIRD nodes have their drains and sessions again afterwards."""
    with put_back(breakable_lab, *HOSTS):
        yield breakable_lab


def root(lab: Lab, host: str, script: str) -> str:
    done = lab.run(host, ["sh", "-c", script])
    assert done.returncode == 0, (script, done.stdout, done.stderr)
    return str(done.stdout)


def edit(lab: Lab, host: str, serial: int, hard: str, file: str = "drain.conf") -> None:
    """Somebody writes a drain file, and doesn't tell the daemon."""
    lines = (f"DRAIN_SERIAL = {serial}", 'DRAIN_NOTE = ""', f"DRAIN_HARD = [ (0,0), {hard} ]", "DRAIN_SOFT = [ (0,0) ]")
    text = "".join(f"define {line};\n" for line in lines)
    root(lab, host, f"cat >/etc/bird/{file} <<'EOT'\n{text}EOT")


def load_other(lab: Lab, host: str, hard: str) -> None:
    """Somebody loads other drains for a minute, and a broken configuration ends the timer that would undo that."""
    edit(lab, host, 778, hard, "drain.stage.conf")
    root(lab, host, "birdc configure '\"/etc/bird/stage.conf\"' timeout 60")
    root(lab, host, "echo nonsense >/tmp/no.conf; birdc configure '\"/tmp/no.conf\"' || rm /tmp/no.conf")
    assert "unconfirmed" not in root(lab, host, "birdc configure status")


def state(lab: Lab, host: str, session: str) -> str:
    said = root(lab, host, f"birdc show protocols {session}")
    return "Established" if "Established" in said else "down" if re.search(r"\bdown\b", said) else "start"


def exported(lab: Lab, host: str, session: str) -> str:
    said = root(lab, host, f"birdc show route {DE} export {session} all || :")
    return "hard" if DE not in said else "soft" if "(65535,0)" in said else "serve"


def unsettled(lab: Lab, *hosts: str) -> list[str]:
    """Nodes whose memory and disk differ, or where something is unconfirmed."""
    return [
        host
        for host in hosts
        if f"DRAIN_SERIAL = {running_serial(lab, host)};" not in drain_conf(lab, host)
        or "unconfirmed" in root(lab, host, "birdc configure status")
    ]


def test_adopting_keeps_what_is_announced_and_writes_down_who_said_so(net: Lab, tmp_path: Path) -> None:
    root(net, "fra1", "birdc disable transit_v4")
    edit(net, "fra2", 777, "(1,11..12), (1,31)")
    load_other(net, "ams1", "(1,11)")
    root(net, "sin1", "echo '# to be written' >/etc/bird/drain.conf")
    document = change(
        net, tmp_path, "drift", "adopt", "--reason", "it is ill", "--ticket", "CHG5", "--parallel", "4",
    )  # fmt: skip
    assert {s["host"]: len(s["changes"]) for s in document["plan"]["steps"]} == {
        "fra1": 3, "fra2": 0, "ams1": 0, "sin1": 0,
    }  # fmt: skip
    assert unsettled(net, *HOSTS) == []
    end = time.monotonic() + 10
    while state(net, "fra1", "transit_v4") != "Established":
        assert time.monotonic() < end
        time.sleep(0.1)
    cells = (("fra1", "transit_v4"), ("fra1", "ix1_v4"), ("fra2", "ix1_v4"), ("ams1", "ix1_v4"), ("sin1", "ix2_v4"))
    assert [exported(net, *cell) for cell in cells] == ["hard", "serve", "serve", "hard", "serve"]
    assert "ticket=CHG5" in drain_conf(net, "sin1")
    assert "why=adopted: it is ill" in drain_conf(net, "fra1")
    again = change(net, tmp_path, "drift", "revert", "--reason", "x")
    assert again["plan"]["steps"] == [], "nothing is left to settle"


def test_reverting_puts_back_what_was_intended_and_loses_no_query(net: Lab, tmp_path: Path) -> None:
    root(net, "fra1", "birdc disable transit_v4; birdc disable transit_v6")
    # The serial is as it was: people forget it, and the sets tell.
    edit(net, "fra2", running_serial(net, "fra2"), "(1,11), (1,12)")
    load_other(net, "ams1", "(1,11)")
    with QueryLoad(net, tenant="de", rate=200, clients=("client1", "client3")) as load:
        document = change(
            net, tmp_path, "drift", "revert", "--reason", "well again", "--residual", "go", "--parallel", "3"
        )
    assert load.result.lost == load.result.failed == 0, str(load.result)
    assert {turn.node for turn in load.result.streams[0].turns} >= {"fra1"}, "it serves again"
    told = [(s["host"], {c["after"] for c in s["changes"]}) for s in document["plan"]["steps"]]
    assert told == [
        ("fra1", {"soft"}), ("fra1", {"serve"}), ("fra2", {"soft"}), ("fra2", {"hard"}), ("ams1", {"soft"}), ("ams1", {"serve"}),
    ]  # fmt: skip
    assert unsettled(net, *HOSTS) == []
    assert [state(net, "fra1", f"transit_v{family}") for family in (4, 6)] == ["Established"] * 2
    cells = (("fra1", "transit_v4"), ("fra2", "ix1_v4"), ("fra2", "transit_v4"), ("ams1", "ix1_v4"))
    assert [exported(net, *cell) for cell in cells] == ["serve", "hard", "serve", "serve"]


def test_a_file_that_would_withdraw_the_last_announcer_is_refused(net: Lab, tmp_path: Path) -> None:
    for host in ("fra2", "ams1", "lon1", "sin1"):
        net.break_("nameserver", host, "de")
    edit(net, "fra1", 779, "(1,11..12), (1,31..32)")
    before = running_serial(net, "fra1")
    document = change(net, tmp_path, "drift", "revert", "--node", "fra1", "--reason", "no", status=3)
    refused = {g["name"]: g["overridable"] for g in document["guards"] if g["outcome"] == "refuse"}
    assert refused["last announcer"] is False
    assert "drift" not in refused
    assert running_serial(net, "fra1") == before


@pytest.fixture
def lon1(net: Lab) -> Iterator[str]:
    """The name of an FRR session of lon1, whose drains and saved configuration are afterwards what they were."""
    spec = node("lon1")
    assert spec is not None
    (session,) = [s for s in sessions_of(spec) if (s.peer.name, s.family) == ("ix2", "ipv4")]
    root(net, "lon1", "cp -p /etc/frr/frr.conf /root/frr.conf.kept")
    yield session.name
    lists = re.findall(r"ip prefix-list AC-(?:HARD|SOFT|STATE)\S*", root(net, "lon1", "vtysh -c 'show running-config'"))
    forget = " ".join(f"-c 'no {name}'" for name in dict.fromkeys(lists))
    clear = f"-c end -c 'clear bgp ipv4 unicast {session.name} soft out'"
    root(net, "lon1", f"vtysh -c 'configure terminal' {forget} {clear}; cp -p /root/frr.conf.kept /etc/frr/frr.conf")
    root(net, "lon1", "rm /root/frr.conf.kept")


def at_ix2(lab: Lab) -> str:
    """What ix2 makes of lon1's announcement."""
    said = root(lab, "ix2", f"birdc show protocols lon1_v4; birdc show route {DE} protocol lon1_v4 all || :")
    if "Established" not in said:
        return "shut"
    return "hard" if f"{DE} " not in said else "soft" if "(65535,0)" in said else "serve"


@LONG
def test_a_neighbour_shut_in_frr_is_put_back_or_becomes_a_drain(net: Lab, lon1: str, tmp_path: Path) -> None:
    net.break_("session", "lon1", lon1)
    assert re.search(r"lon1 DRIFT: .*disabled by hand", run_headless(net, tmp_path, "check").stdout)
    with QueryLoad(net, tenant="de", rate=200, clients=("client1", "client3")) as load:
        reverted = change(net, tmp_path, "drift", "revert", "--reason", "nobody knows why")
    assert load.result.lost == load.result.failed == 0, str(load.result)
    assert [{c["after"] for c in s["changes"]} for s in reverted["plan"]["steps"]] == [{"soft"}, {"serve"}]
    assert at_ix2(net) == "serve"

    root(net, "lon1", f"vtysh -c 'configure terminal' -c 'router bgp' -c 'neighbor {lon1} shutdown'")
    adopted = change(net, tmp_path, "drift", "adopt", "--reason", "it is ill", "--ticket", "CHG6")
    assert [{c["after"] for c in s["changes"]} for s in adopted["plan"]["steps"]] == [{"hard"}]
    saved = root(net, "lon1", "cat /etc/frr/frr.conf")
    assert f"ip prefix-list AC-HARD-IX2 seq 5 permit {DE}" in saved
    assert "why=adopted: it is ill" in saved
    end = time.monotonic() + 10
    while at_ix2(net) != "hard":
        assert time.monotonic() < end
        time.sleep(0.1)
    again = change(net, tmp_path, "drift", "revert", "--reason", "x")
    assert again["plan"]["steps"] == [], "nothing is left to settle"


def test_what_the_console_cannot_settle_is_told_with_what_to_do(net: Lab, tmp_path: Path) -> None:
    """A file that says nothing, and a changed filter."""
    root(net, "fra1", "echo '# to be written' >/etc/bird/drain.conf")
    root(net, "sin1", "cp -p /etc/bird/main.conf /tmp/main.kept")
    root(net, "sin1", "sed -i 's/export where ac_export(21)/export none/' /etc/bird/main.conf; birdc configure")
    try:
        done = run_headless(net, tmp_path, "drift", "revert", "--reason", "x", "--yes")
    finally:
        root(net, "sin1", "cp -p /tmp/main.kept /etc/bird/main.conf; rm /tmp/main.kept; birdc configure")
    assert done.returncode == 2
    file, filter_ = done.stderr.splitlines()
    assert "fra1 bird: the drain file says nothing that could take effect again" in file
    assert "sin1 bird: ix2_v4 192.0.2.0/24: intended serve, but not announced" in filter_
    assert "does not repair filters" in filter_
