"""Every way to break the lab does what it says and nothing else, and healing heals."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from anyconsole.errors import LabError
from anyconsole.lab import Lab, quota, readiness, state
from anyconsole.lab.topology import NODES, TENANTS, Tenant, node, unicast
from tests.lab.offered import offer

pytestmark = pytest.mark.lab

TENANT = {t.name: t for t in TENANTS}


def wait(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def sessions(lab: Lab, host: str) -> dict[str, str]:
    return readiness.session_states(lab.paths, host)


def serial(lab: Lab, host: str, tenant: Tenant) -> int:
    return readiness.ask_soa(lab.paths, host, tenant, tenant.address4)[0]


def faults(lab: Lab) -> dict[str, tuple[str, ...]]:
    return {row.host: row.faults for row in lab.status() if row.faults}


@pytest.mark.parametrize("host", ["fra1", "ams1", "sin1"])
def test_nameserver_stops_one_tenant_and_leaves_the_others(breakable_lab: Lab, host: str) -> None:
    lab = breakable_lab
    lab.break_("nameserver", host, "nic")
    assert serial(lab, host, TENANT["nic"]) == 0
    assert serial(lab, host, TENANT["de"]) > 0
    assert set(faults(lab)) == {host}
    lab.heal()
    wait(lambda: serial(lab, host, TENANT["nic"]) > 0)
    assert faults(lab) == {}


def test_nameserver_without_a_tenant_stops_them_all(breakable_lab: Lab) -> None:
    breakable_lab.break_("nameserver", "fra2")
    assert [serial(breakable_lab, "fra2", t) for t in TENANTS] == [0, 0, 0]


@pytest.mark.parametrize(("host", "router", "session"), [("fra2", "ix1", "fra2_v4"), ("lon1", "ix2", "lon1_v4")])
def test_speaker_goes_away_and_comes_back_with_its_configuration(
    breakable_lab: Lab, host: str, router: str, session: str
) -> None:
    lab = breakable_lab
    lab.break_("bird", host)
    wait(lambda: sessions(lab, router)[session] != "Established")
    lab.heal()
    wait(lambda: faults(lab) == {}, 15)


def reaches(argv: list[str]) -> bool:
    """False for a frozen host too, of which ssh's own time limit does not always make an end."""
    try:
        return subprocess.run(argv, capture_output=True, check=False, timeout=10).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def test_sshd_freezes_open_sessions_too_and_only_on_that_host(breakable_lab: Lab) -> None:
    lab = breakable_lab
    argv = ["ssh", "-F", str(lab.ssh_config), "-o", "ConnectTimeout=1"]
    with subprocess.Popen(
        [*argv, "ams1", "while sleep 0.1; do echo beat; done"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as open_session:
        try:
            assert open_session.stdout is not None
            assert open_session.stdout.readline() == b"beat\n"
            lab.break_("sshd", "ams1")
            assert not reaches([*argv, "ams1", "true"])
            assert reaches([*argv, "fra1", "true"])
            assert open_session.poll() is None
            lab.heal()
            assert reaches([*argv, "ams1", "true"])
        finally:
            open_session.kill()


def test_link_goes_down_within_5_seconds_on_both_sides_and_heals_in_both_families(breakable_lab: Lab) -> None:
    lab = breakable_lab
    lab.break_("link", "fra1", "ix1")
    wait(lambda: {n for n, s in sessions(lab, "fra1").items() if s != "Established"} == {"ix1_v4", "ix1_v6"})
    wait(lambda: {n for n, s in sessions(lab, "ix1").items() if s != "Established"} == {"fra1_v4", "fra1_v6"})
    lab.heal()
    wait(lambda: faults(lab) == {}, 15)


def test_a_clients_link_heals_with_its_default_routes(breakable_lab: Lab) -> None:
    lab = breakable_lab
    routes = [lab.run("client1", ["ip", f"-{n}", "route", "show", "default"]).stdout for n in (4, 6)]
    assert all(routes)
    lab.break_("link", "client1", "transit")
    lab.heal()
    assert [lab.run("client1", ["ip", f"-{n}", "route", "show", "default"]).stdout.split()[:5] for n in (4, 6)] == [
        r.split()[:5] for r in routes
    ]


@pytest.mark.parametrize(("host", "session"), [("sin1", "ix2_v6"), ("lon1", "198.19.23.2")])
def test_session_is_shut_down_alone(breakable_lab: Lab, host: str, session: str) -> None:
    lab = breakable_lab
    lab.break_("session", host, session)
    wait(lambda: {n for n, s in sessions(lab, host).items() if s != "Established"} == {session})
    lab.heal()
    wait(lambda: faults(lab) == {}, 15)


@pytest.mark.parametrize("host", [n.name for n in NODES])
def test_serial_falls_behind_on_one_node_for_one_tenant_and_catches_up(breakable_lab: Lab, host: str) -> None:
    lab = breakable_lab
    good = serial(lab, host, TENANT["de"])
    lab.break_("serial", host, "de")
    wait(lambda: serial(lab, host, TENANT["de"]) == good - 1)
    others = [n.name for n in NODES if n.name != host]
    assert {serial(lab, other, TENANT["de"]) for other in others} == {good}
    assert serial(lab, host, TENANT["nic"]) == good
    lab.heal()
    wait(lambda: serial(lab, host, TENANT["de"]) == good)


def buffers(lab: Lab, host: str, tenant: Tenant) -> set[str]:
    """Receive buffers of a name server's sockets, as the kernel tells them."""
    here = node(host)
    assert here is not None
    lines = lab.run(host, ["ss", "-ulmnOH", "sport", "=", "53"]).stdout.splitlines()
    mine = [line for line in lines if any(address in line for address in unicast(here, tenant))]
    return {word for line in mine for word in line.split("skmem:(")[1].split(",") if word.startswith("rb")}


def test_rrl_lets_no_more_than_a_few_equal_answers_through_on_any_name_server(breakable_lab: Lab) -> None:
    lab = breakable_lab
    hosts = ("fra1", "ams1", "sin1")
    for host in hosts:
        lab.break_("rrl", host, "de")
    with ThreadPoolExecutor() as pool:
        limited = list(pool.map(lambda host: offer(lab, host, TENANT["de"], 2000), hosts))
        assert all(counts.lost > counts.sent / 5 for counts in limited), limited
        lab.heal()
        unlimited = list(pool.map(lambda host: offer(lab, host, TENANT["de"], 2000), hosts))
    assert all(counts.lost < counts.sent / 100 for counts in unlimited), unlimited


@pytest.mark.parametrize(("host", "usual"), [("fra1", "rb2097152"), ("sin1", "rb212992")])
def test_smallbuffer_makes_the_sockets_of_one_tenant_shallow(breakable_lab: Lab, host: str, usual: str) -> None:
    lab = breakable_lab
    lab.break_("smallbuffer", host, "de")
    assert buffers(lab, host, TENANT["de"]) == {"rb8192"}
    assert buffers(lab, host, TENANT["nic"]) == {usual}
    lab.heal()
    assert buffers(lab, host, TENANT["de"]) == {usual}


@pytest.mark.parametrize("host", ["fra1", "ams1"])
def test_workers_of_a_name_server_listen_each_at_a_socket_of_its_own(breakable_lab: Lab, host: str) -> None:
    def sockets() -> int:
        here = node(host)
        assert here is not None
        lines = breakable_lab.run(host, ["ss", "-ulnH", "sport", "=", "53"]).stdout
        return lines.count(unicast(here, TENANT["de"])[0])

    assert sockets() == 1
    breakable_lab.break_("workers", host, "de")
    assert sockets() == 2
    breakable_lab.heal()
    assert sockets() == 1


@pytest.mark.measures
@pytest.mark.skipif(not quota.can_be_set(), reason="no CPU quota can be set on this machine")
def test_quota_throttles_one_name_server_also_after_a_restart_and_the_login_can_see_it(breakable_lab: Lab) -> None:
    lab = breakable_lab
    lab.break_("quota", "fra1", "de")
    lab.break_("smallbuffer", "fra1", "de")
    (group,) = quota.groups_of(lab.paths)
    look = f"cat /proc/$(cat /srv/anycast/de/run/nsd.pid)/cgroup {group}/cpu.stat; mkdir {group}/x"
    ends = time.monotonic() + 20
    while True:
        offer(lab, "fra1", TENANT["de"], 15000)
        seen = subprocess.run(
            ["ssh", "-F", str(lab.ssh_config), "fra1", look], capture_output=True, text=True, timeout=10, check=False
        )
        throttled = next(line.split()[1] for line in seen.stdout.splitlines() if line.startswith("nr_throttled"))
        if throttled != "0" or time.monotonic() > ends:  # a busy machine may not let it use up its quota at once
            break
    assert f"/{group.name}\n" in seen.stdout
    assert int(throttled) > 0
    assert "Read-only" in seen.stderr
    lab.heal()
    assert quota.groups_of(lab.paths) == []
    assert group.name not in lab.run("fra1", ["sh", "-c", look]).stdout


def test_quota_is_refused_where_no_control_group_can_be_made(
    breakable_lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(quota, "_ROOT", tmp_path)
    with pytest.raises(LabError, match="no CPU quota can be set on this machine"):
        breakable_lab.break_("quota", "fra1", "de")
    monkeypatch.undo()


def test_breaks_are_remembered_once_and_healed_per_host(breakable_lab: Lab) -> None:
    lab = breakable_lab
    lab.break_("nameserver", "fra1", "de")
    lab.break_("nameserver", "fra1", "de")
    lab.break_("nameserver", "fra2", "de")
    assert [b.host for b in state.load_breaks(lab.paths)] == ["fra1", "fra2"]
    assert [b.host for b in lab.heal("fra1")] == ["fra1"]
    assert [b.host for b in lab.heal()] == ["fra2"]
    assert lab.heal() == ()


@pytest.mark.parametrize(
    ("kind", "host", "argument", "told"),
    [
        ("fire", "fra1", "", "nameserver, speaker, sshd, link, session, serial"),
        ("sshd", "fra9", "", "jump, fra1"),
        ("sshd", "fra1", "de", "no further argument"),
        ("nameserver", "ix1", "", "no node"),
        ("nameserver", "fra1", "se", "de, nic, enum"),
        ("speaker", "client1", "", "no routing daemon"),
        ("link", "fra1", "ams1", "ix1, transit"),
        ("link", "fra1", "", "ix1, transit"),
        ("session", "fra1", "ix2_v4", "ix1_v4, ix1_v6, transit_v4, transit_v6"),
        ("serial", "jump", "", "no node"),
        ("rrl", "ix1", "", "no node"),
        ("smallbuffer", "ams1", "de", "Knot, which has no setting"),
        ("workers", "sin1", "de", "BIND, which is told its workers when it is started"),
        ("quota", "fra1", "", "one tenant's: de, nic, enum"),
    ],
)
def test_a_break_that_cannot_be_says_what_can(lab: Lab, kind: str, host: str, argument: str, told: str) -> None:
    with pytest.raises(LabError, match=told):
        lab.break_(kind, host, argument)
    assert state.load_breaks(lab.paths) == ()


def test_what_is_not_well_is_named_with_the_end_of_its_log(breakable_lab: Lab) -> None:
    breakable_lab.break_("nameserver", "fra1", "de")
    with pytest.raises(LabError) as caught:
        breakable_lab.wait_until_well(timeout=0.5)
    told = str(caught.value).splitlines()
    assert told[1:4] == [
        "  fra1: ns-de doesn't run (exit 0)",
        "  fra1: de at 192.0.2.53: no answer ([Errno 111] Connection refused)",
        "  fra1: de at 2001:db8:de::53: no answer ([Errno 111] Connection refused)",
    ]
    assert any("fra1/srv/anycast/de/log/nsd.log: " in line for line in told[4:-1])
    assert not any("fra2" in line for line in told)
    assert "lab shell" in told[-1]


def test_one_break_that_cannot_be_healed_does_not_keep_the_others(breakable_lab: Lab) -> None:
    lab = breakable_lab
    lab.break_("nameserver", "fra1", "de")
    lab.break_("session", "fra2", "ix1_v4")
    lab.break_("speaker", "fra2")
    state.save_breaks(lab.paths, tuple(sorted(state.load_breaks(lab.paths), key=lambda b: b.kind != "speaker")))
    with pytest.raises(LabError, match="could not heal session on fra2"):
        lab.heal()
    wait(lambda: serial(lab, "fra1", TENANT["de"]) > 0)
    assert [b.kind for b in state.load_breaks(lab.paths)] == ["session"]
    wait(lambda: lab.run("fra2", ["test", "-S", "/run/bird/bird.ctl"]).returncode == 0)
