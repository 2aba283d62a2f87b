"""A lab comes up whole and quickly, and goes without a trace: also twice, also killed halfway, also beside another one."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from pyroute2 import netns

from anyconsole.errors import LabError
from anyconsole.lab import Lab, control, network, paths, processes, readiness, requirements, state
from anyconsole.lab.topology import HOSTS, NODES, TENANTS

pytestmark = pytest.mark.lab


def traces(name: str) -> dict[str, list[str]]:
    """Everything on this machine that belongs to the lab called `name`."""
    commands = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                commands.append((entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " "))
            except OSError:
                continue
    return {
        "namespaces": [n for n in netns.listnetns() if n.startswith(f"anyc-{name}-")],
        "mounts": [
            line
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if f"-{name}-" in line or f"/{name}/" in line
        ],
        "processes": [c for c in commands if f"/lab/{name}/" in c],
        "files": [str(p) for p in paths.LAB_ROOT.glob(f"{name}*")],
        "control groups": [str(p) for p in Path("/sys/fs/cgroup").glob(f"**/anyc-{name}-*")],
    }


def interfaces() -> set[str]:
    """The machine's own interfaces: those that no lab claims. Other tests' labs come and go meanwhile."""
    claimed = state.taken_indexes()
    names = {entry.name for entry in Path("/sys/class/net").iterdir()}
    claimed |= state.taken_indexes()
    return names - {network.uplink_name(index) for index in claimed}


def digests() -> dict[str, str]:
    files = [
        Path("/etc", name) for name in ("passwd", "group", "shadow", "gshadow", "hosts", "hostname", "nsswitch.conf")
    ]
    files += sorted(Path("/etc/ssh").glob("*"))
    return {str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.is_file()}


NOTHING: dict[str, list[str]] = {
    "namespaces": [],
    "mounts": [],
    "processes": [],
    "files": [],
    "control groups": [],
}


def test_up_means_every_host_daemon_session_and_address_works(lab: Lab) -> None:
    rows = lab.status()
    assert [row.host for row in rows] == list(HOSTS)
    assert {row.host: row.faults for row in rows if row.faults} == {}
    assert all(all(row.daemons.values()) for row in rows)
    for node in NODES:
        row = next(r for r in rows if r.host == node.name)
        assert list(row.sessions.values()) == ["Established"] * 4


def test_all_nodes_serve_the_same_zones(lab: Lab) -> None:
    for tenant in TENANTS:
        answers = {
            readiness.ask_soa(lab.paths, node.name, tenant, address)
            for node in NODES
            for address in (tenant.address4, tenant.address6)
        }
        assert len(answers) == 1
        ((serial, fault),) = answers
        assert fault == ""
        assert serial > 2026000000


def test_a_second_lab_comes_up_in_30_seconds_beside_the_first_and_goes_without_a_trace(lab: Lab) -> None:
    before, links = digests(), interfaces()
    second = Lab(f"u{os.getpid()}")
    started = time.monotonic()
    try:
        assert second.up() is True
        assert time.monotonic() - started <= 30
        claimed = state.load_state(second.paths)
        assert claimed is not None
        assert Path("/sys/class/net", network.uplink_name(claimed.index)).exists()
        inside = second.paths.base.stat().st_ino
        with suppress(LabError):  # where no control group can be made there is nothing to remove
            second.break_("quota", "fra1", "de")
        assert second.up() is False, "a second up does nothing"
        assert second.paths.base.stat().st_ino == inside
        assert traces(second.name)["mounts"] == [
            line for line in traces(second.name)["mounts"] if " /run/netns/" in line
        ], "hosts' mounts stay in the hosts"
        assert lab.is_up
        assert second.is_up
        assert "ops" not in subprocess.run(["getent", "passwd"], capture_output=True, text=True, check=True).stdout
    finally:
        assert second.down() is True
    assert traces(second.name) == NOTHING
    assert interfaces() == links
    assert digests() == before
    assert second.down() is False, "a second down finds nothing"
    assert lab.status()[0].faults == ()
    assert lab.is_up


def test_hosts_keep_no_other_namespace_alive_and_cannot_write_to_the_machine(lab: Lab) -> None:
    for host in ("jump", "sin1", "client3"):
        assert "nsfs" not in lab.run(host, ["cat", "/proc/1/mountinfo"]).stdout
        told = lab.run(host, ["sh", "-c", "touch /usr/share/x /etc/x /var/lib/x; mount -t tmpfs none /mnt"])
        assert told.stderr.count("Read-only file system") == 3
    assert f"/{lab.name}/" not in Path("/proc/self/mountinfo").read_text()
    assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if line.split()[4] == "/mnt"]


@pytest.mark.parametrize("after", [0.3, 0.9, 1.5])
@pytest.mark.usefixtures("lab")
def test_down_cleans_up_after_an_up_that_was_killed(after: float) -> None:
    name, links = f"k{os.getpid()}", interfaces()
    up = subprocess.Popen(
        [sys.executable, "-m", "anyconsole.lab", "up", "--name", name],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        time.sleep(after)
        up.kill()
        up.wait(timeout=10)
    finally:
        Lab(name).down()
    assert traces(name) == NOTHING
    assert interfaces() == links


def test_a_host_that_died_takes_all_of_itself_along_and_the_next_up_builds_anew(lab: Lab) -> None:
    hurt = Lab(f"h{os.getpid()}")
    try:
        hurt.up()
        first = control.first_process(hurt.paths, "ams1")
        inode = network.namespace_inode(hurt.paths.namespace("ams1"))
        assert len(processes.members({inode})) >= 8
        os.kill(first, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while processes.members({inode}) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert processes.members({inode}) == []
        told: list[str] = []
        assert hurt.up(told.append) is True
        assert any("removing" in line for line in told)
        assert hurt.is_up
    finally:
        hurt.down()
    assert lab.is_up


def test_commands_on_a_lab_that_is_not_there_say_how_to_build_it() -> None:
    if reason := requirements.unmet():
        pytest.skip(reason)
    absent = Lab("absent")
    for command in (
        absent.status,
        absent.heal,
        lambda: absent.break_("sshd", "fra1"),
        lambda: absent.run("fra1", ["true"]),
    ):
        with pytest.raises(LabError, match=r"no lab 'absent'.*lab up --name absent"):
            command()
