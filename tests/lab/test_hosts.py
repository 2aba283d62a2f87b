"""What a lab host looks like from where the console and its user stand: reached through jump, unprivileged, on ordinary paths."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import tomllib
from ipaddress import ip_address
from pathlib import Path

import pytest

from anyconsole.lab import Lab, network, state
from anyconsole.lab.nameservers import chroot_of
from anyconsole.lab.topology import (
    CLIENTS,
    HOSTS,
    NODES,
    ROUTERS,
    TENANTS,
    Client,
    Node,
    management,
    sessions_of,
    sources,
    unicast,
    uplink,
)
from anyconsole.profile.load import load_profile

pytestmark = pytest.mark.lab

LANDS_ON = {
    "client1": {"de": "fra1", "nic": "fra1", "enum": "fra1"},
    "client2": {"de": "ams1", "nic": "ams1", "enum": "fra2"},
    "client3": {"de": "sin1", "nic": "sin1", "enum": "lon1"},
}
BIRD_NODES = [n.name for n in NODES if n.speaker == "bird"]


def ssh(lab: Lab, host: str, command: str, *options: str) -> subprocess.CompletedProcess[str]:
    argv = ["ssh", "-F", str(lab.ssh_config), "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", *options, host, command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("host", ["jump", "fra1", "lon1", "client2", "prometheus"])
def test_ssh_with_the_labs_own_files_reaches_every_kind_of_host(lab: Lab, host: str) -> None:
    done = ssh(lab, host, "hostname; id -un; cat /etc/hostname")
    assert done.stdout.split() == [host, "ops", host], done.stderr


def test_only_jump_is_reachable_from_the_machine(lab: Lab) -> None:
    claimed = state.load_state(lab.paths)
    assert claimed is not None
    assert open_port(claimed.index, str(uplink(claimed.index)[1].ip))
    for host in HOSTS[1:]:
        assert not open_port(claimed.index, str(management(host)[0].ip)), host


def open_port(index: int, address: str) -> bool:
    with socket.socket() as sock:
        # Out of the lab's own interface and no other: nothing of this test may leave the machine.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, network.uplink_name(index).encode() + b"\0")
        sock.settimeout(0.05)
        try:
            sock.connect((address, 22))
        except OSError:
            return False
        return True


def test_nobody_gets_in_with_a_password_or_an_unknown_key(lab: Lab) -> None:
    done = ssh(lab, "jump", "true", "-o", "PubkeyAuthentication=no")
    assert done.returncode == 255
    assert "Permission denied (publickey)" in done.stderr


def test_a_host_key_that_is_not_the_known_one_is_refused(lab: Lab, tmp_path: Path) -> None:
    wrong = tmp_path / "known_hosts"
    keys = {line.split()[0]: line for line in lab.paths.known_hosts.read_text().splitlines()}
    jump = next(line for names, line in keys.items() if names.startswith("jump,"))
    fra1 = next(line for names, line in keys.items() if names.startswith("fra1,"))
    wrong.write_text(f"jump,{uplink(1)[1].ip} {' '.join(fra1.split()[1:])}\n{jump.replace('jump', 'fra1', 1)}\n")
    done = ssh(
        lab, "jump", "true", "-o", f"UserKnownHostsFile={wrong}", "-o", "HostKeyAlias=jump", "-o", "LogLevel=INFO"
    )
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr


@pytest.mark.parametrize("node", NODES, ids=lambda n: n.name)
def test_the_login_is_unprivileged_and_may_read_what_it_needs(lab: Lab, node: Node) -> None:
    groups = {"ops", "bird" if node.speaker == "bird" else "frrvty", *(t.user for t in TENANTS)}
    speaker = "/run/bird/bird.ctl" if node.speaker == "bird" else "/var/run/frr/bgpd.vty"
    logs = [
        f"{chroot_of(t)}/log/{({'nsd': 'nsd', 'knot': 'knot', 'bind': 'named'})[node.name_server]}.log" for t in TENANTS
    ]
    logs.append("/var/log/bird.log" if node.speaker == "bird" else "/var/log/frr/frr.log")
    done = ssh(
        lab, node.name,
        f"id -Gn; for f in {speaker}; do test -w $f && echo yes; done; for f in {' '.join(logs)}; do test -r $f && echo yes; done; "
        "for f in /etc/passwd /etc/shadow /etc/ssh/ssh_host_ed25519_key /usr; do test -w $f && echo writable $f; done; "
        "python3 -c 'print(1)'",
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert set(lines[0].split()) == groups
    assert lines[1:] == ["yes"] * (len(logs) + 1) + ["1"]


@pytest.mark.parametrize("node", NODES, ids=lambda n: n.name)
def test_each_name_server_runs_as_its_own_user_in_its_own_chroot(lab: Lab, node: Node) -> None:
    files = {"nsd": "nsd.pid", "knot": "knot.pid", "bind": "named.pid"}
    for tenant in TENANTS:
        root = chroot_of(tenant)
        script = f"p=$(cat {root}/run/{files[node.name_server]}); stat -c %U /proc/$p; readlink /proc/$p/root; cat /proc/$p/mountinfo"
        user, inside, *mounts = lab.run(node.name, ["sh", "-c", script]).stdout.splitlines()
        assert (user, inside) == (tenant.user, root)
        # Seen by anybody, without ptrace rights: the file system root of the process is the chroot's own mount.
        top = [line.split() for line in mounts if line.split()[4] == "/"]
        assert [fields[3].endswith(f"/{node.name}{root}") for fields in top] == [True]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda c: c.name)
def test_clients_land_on_different_nodes_and_nsid_names_tenant_and_node(lab: Lab, client: object) -> None:
    name = getattr(client, "name")  # noqa: B009 - parametrize hands out objects
    for tenant in TENANTS:
        expected = f"{tenant.name}.{LANDS_ON[name][tenant.name]}"
        for address in (tenant.address4, tenant.address6):
            told = lab.run(name, ["kdig", f"@{address}", "+nsid", "+time=2", "+retry=0", "SOA", tenant.zone]).stdout
            assert f'"{expected}"' in told, told
            for question in ("id.server", "hostname.bind"):
                answer = lab.run(name, ["kdig", f"@{address}", "+short", "+time=2", "CH", "TXT", question]).stdout
                assert answer.strip() == f'"{expected}"'


def test_the_zone_of_one_tenant_is_signed(lab: Lab) -> None:
    for tenant in TENANTS:
        reply = lab.run(
            "client1", ["kdig", f"@{tenant.address4}", "+dnssec", "+noall", "+answer", "SOA", tenant.zone]
        ).stdout
        assert ("RRSIG" in reply) is tenant.signed


@pytest.mark.parametrize("host", BIRD_NODES)
def test_drain_state_is_empty_and_readable_from_the_daemon(lab: Lab, host: str) -> None:
    done = ssh(
        lab,
        host,
        "for e in DRAIN_SERIAL DRAIN_NOTE DRAIN_HARD DRAIN_SOFT; do birdc -r eval $e | tail -1; done; touch /etc/bird/x",
    )
    assert done.stdout.split("\n")[0] == "0"
    assert done.stdout.count("[(0,0)]") == 2
    assert done.returncode == 0, "the login may write drain.conf"


def test_transit_hides_its_alternative_path_until_a_soft_drain(breakable_lab: Lab) -> None:
    """The case RFC 8326 was written for, and the reason why soft and hard drains can be told apart here."""
    lab = breakable_lab
    drain = lab.paths.host("fra1") / "bird/drain.conf"
    original = drain.read_text()

    def paths(router: str) -> str:
        return lab.run(router, ["birdc", "show", "route", "192.0.2.0/24", "all"]).stdout

    assert paths("transit").count("BGP.as_path") == 1
    assert "[transit_v4" in paths("transit2").split("BGP.as_path")[0]
    try:
        drain.write_text(original.replace("DRAIN_SOFT = [ (0,0) ]", "DRAIN_SOFT = [ (0,0), (1,31) ]"))
        assert "Reconfigured" in lab.run("fra1", ["birdc", "configure"]).stdout
        wait(lambda: paths("transit").count("BGP.as_path") == 2)
        assert "fra1" not in lab.run("client1", ["kdig", "@192.0.2.53", "+short", "CH", "TXT", "id.server"]).stdout
        assert "fra1" in lab.run("client1", ["kdig", "@198.51.100.53", "+short", "CH", "TXT", "id.server"]).stdout
    finally:
        drain.write_text(original)
        lab.run("fra1", ["birdc", "configure"])
    wait(lambda: paths("transit").count("BGP.as_path") == 1)


def wait(condition: object, seconds: float = 10.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_prometheus_has_live_queries_per_second_of_every_node(lab: Lab) -> None:
    profile = tomllib.loads(lab.profile_path.read_text())
    query = f"{profile['prometheus']['url']}/api/v1/query?query={profile['prometheus']['qps']}"
    program = f"import urllib.request; print(urllib.request.urlopen('{query}', timeout=5).read().decode())"

    def busy() -> set[str]:
        series = json.loads(ssh(lab, "jump", f'python3 -c "{program}"').stdout)["data"]["result"]
        return {s["metric"]["node"] for s in series if s["metric"]["tenant"] and float(s["value"][1]) > 1}

    wait(lambda: busy() == {n.name for n in NODES}, 20)


def test_the_profile_says_what_the_lab_is(lab: Lab) -> None:
    profile = tomllib.loads(lab.profile_path.read_text())
    assert [n["name"] for n in profile["node"]] == [n.name for n in NODES]
    assert [v["name"] for v in profile["vantage"]] == ["client1", "client2", "client3"]
    assert Path(profile["ssh"]["config_file"]) == lab.ssh_config
    assert {g["name"]: g["peer"] for g in profile["looking_glass"]} == {r.name: r.peer for r in ROUTERS}
    assert all(Path(f).is_file() for f in [*profile["ssh"]["known_hosts"], *profile["ssh"]["identity_files"]])
    for spec, node in zip(profile["node"], NODES, strict=True):
        (speaker,) = spec["speaker"]
        names = [s["name"] for s in speaker["session"]]
        assert names == [s.name for s in sessions_of(node)]
        assert lab.run(node.name, ["test", "-S", speaker["socket"]]).returncode == 0
        (server,) = spec["name_server"]
        for tenant in TENANTS:
            for key in ("pid_file", "log", "config"):
                path = server[key].format(chroot=server["chroot"].format(tenant=tenant.name))
                assert lab.run(node.name, ["test", "-f", path]).returncode == 0, path
    assert all(ip_address(a) for t in profile["tenant"] for a in t["addresses"])


@pytest.mark.parametrize("client", CLIENTS, ids=lambda c: c.name)
def test_every_generator_reaches_every_load_target_at_addresses_that_are_its_alone(lab: Lab, client: Client) -> None:
    fleet = load_profile(str(lab.profile_path))
    targets = fleet.load.targets
    assert {(t.node, t.tenant) for t in targets} == {(n.name, t.name) for n in NODES for t in TENANTS}
    (generator,) = [g for g in fleet.generators if g.address == client.name]
    questions: list[str] = []
    expected: list[str] = []
    for target in targets:
        for address in target.addresses:
            sources = [s for s in generator.sources if (":" in s) == (":" in address)]
            # The first source is the one that is used unasked; the others take turns.
            source = sources[len(questions) % len(sources)]
            questions.append(f"kdig -b {source} @{address} +short +time=2 +retry=0 CH TXT id.server")
            expected += [f'"{identity}"' for identity in target.identity]
    assert lab.run(client.name, ["sh", "-c", "; ".join(questions)]).stdout.split() == expected


def test_load_sources_are_used_by_nobody_who_does_not_ask_for_them(lab: Lab) -> None:
    for client in CLIENTS:
        first = [str(s.ip) for s in sources(client)[:2]]
        told = [lab.run(client.name, ["ip", "route", "get", a]).stdout.split() for a in unicast(NODES[0], TENANTS[0])]
        assert [words[words.index("src") + 1] for words in told] == first
