"""The watcher on the node under test: what it tells is what the kernel counted, and what it can't know it says it can't."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import hashlib
import importlib.resources
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyconsole.drivers.load import watcher
from anyconsole.drivers.load.bundle import bootstrap
from anyconsole.drivers.load.local_channel import LocalChannel
from anyconsole.drivers.load.watcher import Unreadable
from anyconsole.drivers.load.watching import Watched, Watching, instances_of
from anyconsole.errors import LoadError
from anyconsole.lab import Lab, requirements
from anyconsole.lab.accounts import OPERATOR
from anyconsole.model.load_counters import InstanceCounters, NodeConditions, NodeCounters, UdpCounters
from anyconsole.profile.load import load_profile
from tests.drivers.samples import mutated, sample


def text(*parts: str) -> str:
    return sample(*parts).decode("latin-1")


# --- files of the kernel


def test_sockets_are_told_by_address_with_what_waits_in_them_and_what_they_lost() -> None:
    assert watcher.udp_sockets(text("proc", "udp.behind"), 53) == [
        [15362754, "198.51.100.53", 53, 0, 0],
        [15362753, "198.51.100.53", 53, 0, 0],
        [15363278, "192.0.2.53", 53, 7488, 191],
        [15363276, "192.0.2.53", 53, 0, 0],
    ]
    assert watcher.udp_sockets(text("proc", "udp6"), 53)[0] == [13936908, "2001:db8:de::53", 53, 0, 0]
    assert watcher.udp_sockets(text("proc", "udp6"), 5) == []


def test_counters_of_the_network() -> None:
    assert watcher.snmp(text("proc", "net-snmp"))["in_datagrams"] == 29646
    assert watcher.snmp6(text("proc", "net-snmp6"))["out_datagrams"] == 29641
    assert watcher.softnet("00000010 00000002 00000001 0\n00000020 00000001 00000000 0\n") == [48, 3, 1]
    assert watcher.softnet(text("proc", "softnet_stat"))[1:] == [0, 0x36 + 0x43]
    assert watcher.interfaces(text("proc", "net-dev")) == {
        "mgmt": [1793, 0, 0], "ix1": [1277, 0, 0], "transit": [60549, 0, 0],
    }  # fmt: skip


def test_cores_of_the_host() -> None:
    first, second = watcher.cores(text("proc", "stat.host"))
    assert first[1:] == pytest.approx([15795.97 + 9.31, 2.66, 208.41])
    assert second[0] == pytest.approx(24112.18)
    assert watcher.cpu_model(text("proc", "cpuinfo")) == "Intel(R) Xeon(R) Processor"
    assert watcher.cpu_model("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n") == "ARM 0x41/0xd0c"


def test_time_for_want_of_a_cpu_is_told_where_the_kernel_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("33343913 753668222 847\n")
    (tmp_path / "off").write_text("0 0 0\n")
    assert watcher.run_times(f"{tmp_path}/kept") == pytest.approx((0.0333, 0.7537), abs=1e-4)
    assert watcher.run_times(f"{tmp_path}/off") is None
    assert watcher.run_times(f"{tmp_path}/absent") is None


PARSERS: tuple[tuple[Callable[[str], object], tuple[bytes, ...]], ...] = (
    (lambda content: watcher.udp_sockets(content, 53), (sample("proc", "udp.behind"), sample("proc", "udp6"))),
    (watcher.snmp, (sample("proc", "net-snmp"),)),
    (watcher.snmp6, (sample("proc", "net-snmp6"),)),
    (watcher.softnet, (sample("proc", "softnet_stat"),)),
    (watcher.interfaces, (sample("proc", "net-dev"),)),
    (watcher.cores, (sample("proc", "stat.host"),)),
    (watcher.Stat, (sample("proc", "stat.nsd"),)),
    (lambda content: watcher.cpu_group(content, text("proc", "mountinfo.cgroup")), (sample("proc", "cgroup"),)),
)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_whatever_a_kernel_says_is_understood_or_unknown_for_a_reason(data: st.DataObject) -> None:
    parse, originals = data.draw(st.sampled_from(PARSERS))
    content = data.draw(mutated(originals)).decode("latin-1")
    unknown: dict[str, str] = {}
    if watcher.asked(unknown, "it", lambda: parse(content)) is None:
        assert unknown["it"].isprintable()
        assert len(unknown["it"]) <= 200


# --- CPU quotas


def test_servers_of_nsd_stay_the_same_however_often_they_are_forked_anew() -> None:
    """Each question for its statistics ends NSD's servers: what they used until then only their parent knows, to the tick."""
    workers = watcher.Workers()
    parent = [10, "main", 0.5, 0.0]
    told = workers.take([parent, [21, "server 1", 0.0, 0.0], [22, "server 2", 0.0, 0.0]], ended_cpu=7.0)
    assert told == [parent, [21, "server 1", 0.0, 0.0], [22, "server 2", 0.0, 0.0]]
    workers.take([parent, [21, "server 1", 0.6, 0.1], [22, "server 2", 0.0, 0.0]], ended_cpu=7.0)
    # Another second was used after they were last seen, and the new ones are at work already.
    told = workers.take([parent, [31, "server 1", 0.2, 0.0], [32, "server 2", 0.1, 0.0]], ended_cpu=8.6)
    assert [row[:2] for row in told] == [[10, "main"], [31, "server 1"], [32, "server 2"]]
    assert [round(row[2], 3) for row in told] == [0.5, 1.8, 0.1]
    assert told[1][3] == pytest.approx(0.1 * 1.6 / 0.6), "it waited for a CPU as often as before"
    again = workers.take([parent, [31, "server 1", 0.2, 0.0], [32, "server 2", 0.1, 0.0]], ended_cpu=8.6)
    assert again == told, "nothing is counted twice"


def test_cgroup_of_version_1_is_found_beside_an_idle_version_2() -> None:
    membership, mounts = text("proc", "cgroup"), text("proc", "mountinfo.cgroup")
    assert watcher.cpu_group(membership, mounts) == ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu", False)
    below = membership.replace("cpu:/\n", "cpu:/system.slice/nsd.service\n")
    assert watcher.cpu_group(below, mounts)[0] == "/sys/fs/cgroup/cpu/system.slice/nsd.service"


@pytest.fixture
def pod(tmp_path: Path) -> tuple[Path, str]:
    """Cgroups of version 2 as the kubelet makes them: no quota at the top, one for the pod, a wider one for its container."""
    groups = {
        "": ("", "usage_usec 9\n"),
        "kubepods": ("max 100000", "nr_periods 0\nnr_throttled 0\nthrottled_usec 0\n"),
        "kubepods/pod7": ("150000 100000", "usage_usec 1\nnr_periods 1200\nnr_throttled 31\nthrottled_usec 2500000\n"),
        "kubepods/pod7/nsd": ("200000 100000", "nr_periods 1200\nnr_throttled 0\nthrottled_usec 0\n"),
    }
    for name, (limit, stat) in groups.items():
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "cpu.stat").write_text(stat)
        if limit:
            (folder / "cpu.max").write_text(limit + "\n")
    return tmp_path, f"1 0 0:1 / {tmp_path} rw - cgroup2 cgroup2 rw\n"


def test_of_nested_quotas_the_tightest_counts(pod: tuple[Path, str]) -> None:
    top, mounts = pod
    found = watcher.cpu_group("0::/kubepods/pod7/nsd\n", mounts)
    assert found == (f"{top}/kubepods/pod7/nsd", str(top), True)
    directory, limit = watcher.tightest(*found)
    assert (directory, limit) == (f"{top}/kubepods/pod7", 1.5)
    assert watcher.throttling(directory, is_v2=True) == {
        "group": directory, "periods": 1200, "throttled": 31, "seconds": 2.5,
    }  # fmt: skip


def test_no_quota_is_a_fact_and_a_hidden_cgroup_is_not_one(pod: tuple[Path, str]) -> None:
    top, mounts = pod
    assert watcher.tightest(f"{top}/kubepods", str(top), is_v2=True) == (f"{top}/kubepods", None)
    assert watcher.throttling(str(top), is_v2=True)["periods"] == 0
    with pytest.raises(Unreadable, match="not visible here"):
        watcher.tightest(f"{top}/elsewhere", str(top), is_v2=True)
    with pytest.raises(Unreadable, match="not below what is mounted"):
        watcher.cpu_group("0::/../../pod8\n", mounts)
    with pytest.raises(Unreadable, match="no cgroup"):
        watcher.cpu_group("0::/x\n", "1 0 0:1 / /proc rw - proc proc rw\n")


# --- rate limits in configurations


@pytest.mark.parametrize(
    ("kind", "config", "said"),
    [
        ("nsd", "server:\n  rrl-ratelimit: 0\n", "off"),
        ("nsd", "server:\n  rrl-ratelimit: 200 # a lot\n  rrl-slip: 2\n", "ratelimit 200, slip 2"),
        ("nsd", "server:\n  # rrl-ratelimit: 0\n", "ratelimit 200 (default, where NSD is built with it)"),
        ("knot", "server:\n  identity: x\n", "off"),
        ("knot", "mod-rrl:\n  - id: d\n    rate-limit: 100\n    slip: 2\ntemplate:\n  - id: default\n    global-module: mod-rrl/d\n",
         "rate-limit 100, slip 2"),
        ("knot", "mod-rrl:\n  - id: d\n    rate-limit: 100\n", "off"),
        ("nsd", "server:\n  rrl-slip: 4\n", "ratelimit 200 (default, where NSD is built with it)"),
        ("nsd", "server:\n  rrl-slip: 4\n  rrl-whitelist-ratelimit: 9\n  rrl-ratelimit: 5\n", "ratelimit 5, whitelist-ratelimit 9, slip 4"),
        ("knot", "mod-rrl:\n  - id: d\ntemplate:\n  - id: default\n    module: [mod-stats, mod-rrl/d]\n", "rate-limit 50 (default)"),
        ("bind", "options { rate-limit { slip 3; responses-per-second 5; }; };", "responses-per-second 5, slip 3"),
        ("bind", "options { /* rate-limit { responses-per-second 5; }; */ };", "off"),
        ("bind", "options { rate-limit { responses-per-second 0; }; };", "off"),
    ],
)  # fmt: skip
def test_rate_limits_are_told_in_words(kind: str, config: str, said: str) -> None:
    assert watcher.rate_limits(kind, config) == said


@pytest.mark.parametrize(
    ("kind", "config"),
    [("nsd", "server:\n  include: /etc/nsd/rrl.conf\n"), ("knot", "include: x\n"), ("bind", 'include "rrl.conf";\n'), ("pdns", "x")],
)  # fmt: skip
def test_rate_limits_that_may_be_elsewhere_are_unknown(kind: str, config: str) -> None:
    with pytest.raises(Unreadable):
        watcher.rate_limits(kind, config)


def test_it_runs_on_python_3_7_with_the_standard_library_alone() -> None:
    source = importlib.resources.files("anyconsole.drivers.load").joinpath("watcher.py").read_text("utf-8")
    tree = ast.parse(source, feature_version=(3, 7))
    imported = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    names = {a.name for n in imported if isinstance(n, ast.Import) for a in n.names}
    names |= {str(n.module) for n in imported if isinstance(n, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
    assert "from __future__ import annotations" in source


# --- the engine's side, told lies


class Liar:
    """A channel whose other end says whatever it likes."""

    def __init__(self, *said: bytes) -> None:
        self.said = said
        self.is_aborted = False
        self.last_words = "killed"

    def write(self, data: bytes) -> None:
        pass

    async def lines(self) -> AsyncIterator[bytes]:
        for line in self.said:
            yield line

    def close(self) -> None:
        pass

    def abort(self) -> None:
        self.is_aborted = True


HELLO = b'{"ev":"hello","watcher":1}'
CONDITIONS = b'{"ev":"conditions","host":{},"instances":{"de":{}}}'
SAMPLE = b'{"ev":"sample","at":5,"clock":9,"cost":0,"host":{},"instances":{"de":{}}}'


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ((), "lost: killed"),
        ((b"\xff{",), "dropped"),
        ((HELLO.replace(b"1", b"2"),), "version 2"),
        ((HELLO, b'{"ev":"error","why":"no"}'), "no"),
        ((HELLO, SAMPLE), "out of turn"),
        ((HELLO, CONDITIONS.replace(b"de", b"nic")), "tells of nic"),
        ((HELLO, CONDITIONS, SAMPLE.replace(b'"de":{}', b'"de":{"cpu":-1}')), "dropped"),
        ((HELLO, CONDITIONS, SAMPLE.replace(b'"de":{}', b'"de":{"tasks":[[1,"\\u001b[2J",0,0]]}')), "dropped"),
        ((HELLO, b"[" * 100_000), "dropped"),
    ],
)
async def test_a_node_that_talks_rubbish_is_dropped_and_named(said: tuple[bytes, ...], told: str) -> None:
    watching = Watching("fra1", channel := Liar(*said), [Watched(name="de", kind="nsd", addresses=("192.0.2.53",))])
    with pytest.raises(LoadError, match=rf"^watcher on fra1: .*{told}"):
        await watching.start()
    assert str(watching.error).isprintable()
    await watching.stop()
    assert channel.is_aborted


@pytest.mark.parametrize(
    "more", [(SAMPLE.replace(b'"clock":9', b'"clock":8'),), (SAMPLE,) * 1000], ids=["a clock that runs backwards", "a flood"]
)  # fmt: skip
async def test_a_node_that_turns_bad_later_is_dropped_too(more: tuple[bytes, ...]) -> None:
    watching = Watching("fra1", channel := Liar(HELLO, CONDITIONS, SAMPLE, *more), [
        Watched(name="de", kind="nsd", addresses=("192.0.2.53",)),
    ])  # fmt: skip
    await watching.start()
    with pytest.raises(LoadError, match="watcher on fra1: dropped"):
        await watching.sample()
    assert channel.is_aborted
    assert watching.latest is not None
    assert watching.latest.instances["de"] == InstanceCounters()
    await watching.stop()


# --- real name servers in a network namespace

DE, NIC = "192.0.2.53", "198.51.100.53"

NSD = """\
server:
  ip-address: {address}
  server-count: 2
  reuseport: yes
  receive-buffer-size: 4096
  rrl-ratelimit: 0
  username: root
  chroot: ""
  database: ""
  pidfile: {folder}/nsd.pid
  xfrdfile: {folder}/xfrd
  zonelistfile: {folder}/zonelist
  logfile: {folder}/nsd.log
remote-control:
  control-enable: no
"""
KNOT = """\
server:
  rundir: {folder}
  pidfile: {folder}/knot.pid
  listen: {address}@53
  udp-workers: 2
  tcp-workers: 1
  background-workers: 1
database:
  storage: {folder}
"""
ASK = """\
import socket, sys
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.connect((sys.argv[1], 53))
link.settimeout(5)
for number in range(int(sys.argv[2])):
    link.send(b"\\0\\1\\0\\0\\0\\1\\0\\0\\0\\0\\0\\0\\0\\0\\2\\0\\1")
    if "answered" in sys.argv:
        link.recv(512)
"""


class Servers:
    """NSD for de with two processes and tiny buffers, Knot for nic with two threads, in a network namespace like a pod's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.namespace = f"watched-{os.getpid()}"
        self.inside = ["ip", "netns", "exec", self.namespace]
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.instances = (
            Watched(name="de", kind="nsd", addresses=(DE,), pid_file=f"{folder}/nsd.pid", config=f"{folder}/nsd.conf"),
            Watched(name="nic", kind="knot", addresses=(NIC,), pid_file=f"{folder}/knot.pid"),
        )

    def start(self) -> None:
        run("ip", "netns", "add", self.namespace)
        run("ip", "-n", self.namespace, "link", "set", "lo", "up")
        for address, name, config, argv in (
            (DE, "nsd", NSD, ["nsd", "-d", "-c"]),
            (NIC, "knot", KNOT, ["knotd", "-c"]),
        ):
            run("ip", "-n", self.namespace, "addr", "add", f"{address}/32", "dev", "lo")
            path = self.folder / f"{name}.conf"
            path.write_text(config.format(folder=self.folder, address=address))
            quiet = subprocess.DEVNULL
            command = [*self.inside, *argv, str(path)]
            self.daemons.append(
                subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
            )
        deadline = time.monotonic() + 10
        while not all(self.serves(address) for address in (DE, NIC)):
            assert time.monotonic() < deadline, "NSD or Knot doesn't start"
            time.sleep(0.05)

    def serves(self, address: str) -> bool:
        argv = [*self.inside, "kdig", f"@{address}", ".", "+time=1", "+retry=0"]
        return subprocess.run(argv, stdout=subprocess.DEVNULL, check=False, timeout=5).returncode == 0

    def stop(self) -> None:
        for daemon in self.daemons:
            os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait(5)
        subprocess.run(["ip", "netns", "del", self.namespace], check=False, timeout=10)

    def ask(self, address: str, count: int, *how: str) -> None:
        run(*self.inside, sys.executable, "-ISc", ASK, address, str(count), *how)


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, timeout=20)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    if reason := requirements.unmet():
        pytest.skip(reason)
    servers = Servers(tmp_path_factory.mktemp("servers"))
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()


@contextlib.asynccontextmanager
async def watching(
    instances: Sequence[Watched], prefix: Sequence[str] = (), node: str = "fra1"
) -> AsyncIterator[tuple[NodeConditions, Watching]]:
    channel = await LocalChannel.open(prefix, "watcher")
    watched = Watching(node, channel, instances)
    try:
        yield await watched.start(), watched
    finally:
        await watched.stop()
        await channel.process.wait()


def udp_of(counters: NodeCounters, instance: str) -> UdpCounters:
    udp = counters.instances[instance].udp
    assert udp is not None
    return udp


@pytest.mark.lab
async def test_what_a_small_receive_buffer_loses_is_counted_at_that_socket_to_the_packet(servers: Servers) -> None:
    async with watching(servers.instances, servers.inside) as (conditions, watched):
        before = await watched.sample()
        tasks = before.instances["de"].tasks
        assert tasks is not None
        workers = [task.id for task in tasks if "server " in task.name]
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        try:
            servers.ask(DE, 200)
            while_stuck = await watched.sample()
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
    lost = udp_of(while_stuck, "de").receive_buffer_errors - udp_of(before, "de").receive_buffer_errors
    sockets = while_stuck.instances["de"].sockets
    assert sockets is not None
    full = [socket for socket in sockets if socket.drops]
    assert [socket.drops for socket in full] == [lost]
    assert 100 < lost < 200
    assert full[0].queued > 0
    assert full[0].address == DE
    assert len(sockets) == conditions.instances["de"].workers == len(workers) == 2
    assert conditions.instances["de"].rcvbuf == 8192
    others = while_stuck.instances["nic"].sockets
    assert others is not None
    assert not any(socket.drops for socket in others)


@pytest.mark.lab
async def test_load_moves_the_counters_of_the_server_that_has_it(servers: Servers) -> None:
    async with watching(servers.instances) as (conditions, watched):
        before = await watched.sample()
        servers.ask(NIC, 3000, "answered")
        after = await watched.sample()
        idle = await watched.sample()
    seen = [counters.instances["nic"] for counters in (before, after)]
    assert udp_of(after, "nic").in_datagrams - udp_of(before, "nic").in_datagrams >= 3000
    assert udp_of(idle, "nic") == udp_of(after, "nic")
    assert [row.cpu is not None for row in seen] == [True, True]
    first, last = ({task.id: task.cpu for task in row.tasks or ()} for row in seen)
    # One flow goes to one of Knot's workers: nearly all that it used is that thread's.
    assert 0 < max(last[id_] - cpu for id_, cpu in first.items()) <= (seen[1].cpu or 0) - (seen[0].cpu or 0) + 0.02
    assert conditions.instances["nic"].workers == 2
    # From outside its network namespace, as with a pod: its counters can be read, the size of its buffers can't.
    assert "another network namespace" in conditions.instances["nic"].unknown["rcvbuf"]
    assert after.cost - before.cost < 0.1


@pytest.mark.lab
async def test_what_is_not_there_is_unknown_and_never_zero(servers: Servers) -> None:
    gone = Watched(name="gone", kind="nsd", addresses=("203.0.113.53",), pid_file="/nonexistent/pid")
    other = Watched(name="other", kind="bind", addresses=(DE,), pid_file=f"{servers.folder}/nsd.pid")
    async with watching((gone, other), servers.inside) as (conditions, watched):
        found = (await watched.sample()).instances
    assert found["gone"] == InstanceCounters(unknown=found["gone"].unknown)
    assert set(found["gone"].unknown) == {"pid", "cpu", "tasks", "throttling", "sockets", "udp", "udp6"}
    assert "/nonexistent/pid: No such file" in found["gone"].unknown["pid"]
    assert "203.0.113.53" in found["gone"].unknown["sockets"]
    assert conditions.instances["gone"].config_hash is None
    assert conditions.instances["gone"].unknown["rrl"] == "no configuration file is known"
    # The process is another program, so it isn't looked at; the sockets at its address are there all the same.
    assert "is not bind but nsd" in found["other"].unknown["pid"]
    assert len(found["other"].sockets or ()) == 2


@pytest.fixture
def throttled() -> Iterator[tuple[Path, int]]:
    """A cgroup that may use a tenth of a core, and a process in it that wants all of one."""
    group, _, is_v2 = watcher.cpu_group(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    folder = Path(group, f"anyconsole-test-{os.getpid()}")
    try:
        folder.mkdir()
        name, limit = ("cpu.max", "10000 100000") if is_v2 else ("cpu.cfs_quota_us", "10000")
        (folder / name).write_text(limit)
    except OSError as error:
        with contextlib.suppress(OSError):
            folder.rmdir()
        pytest.skip(f"no cgroup with a CPU quota can be made here: {error}")
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        (folder / "cgroup.procs").write_text(str(busy.pid))
        yield folder, busy.pid
    finally:
        busy.kill()
        busy.wait(5)
        deadline = time.monotonic() + 5
        while folder.exists() and time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # until the kernel has let go of the process
                folder.rmdir()


@pytest.mark.lab
async def test_a_cpu_quota_and_its_throttling_are_seen(servers: Servers, throttled: tuple[Path, int]) -> None:
    folder, pid = throttled
    limited = Watched(name="busy", kind="", addresses=(DE,), pid=pid)
    async with watching((limited, servers.instances[0])) as (conditions, watched), asyncio.timeout(10):
        # Unasked: the next sample comes by itself within a second.
        while (
            (first := watched.latest) is None
            or (throttling := first.instances["busy"].throttling) is None
            or throttling.throttled < 2
        ):
            await asyncio.sleep(0.02)
        found = first.instances
        assert watched.age is not None
        assert watched.age < 1
    assert throttling.group == str(folder)
    assert throttling.periods >= throttling.throttled
    assert throttling.seconds > 0.05
    assert conditions.instances["busy"].cpu_limit == pytest.approx(0.1)
    assert not conditions.instances["busy"].is_unlimited
    assert found["de"].throttling is not None
    assert found["de"].throttling.throttled == 0


@pytest.mark.lab
async def test_an_operator_reads_all_of_it_without_privileges(lab: Lab) -> None:
    inventory = load_profile(str(lab.profile_path))
    operator = ["setpriv", f"--reuid={OPERATOR}", f"--regid={OPERATOR}", "--init-groups"]

    async def look(node: str) -> tuple[NodeConditions, NodeCounters]:
        prefix = lab.enter_command(node, operator)
        async with watching(instances_of(inventory, node), prefix, node) as (conditions, watched):
            return conditions, await watched.sample()

    hidden = False
    try:
        watcher.cpu_limit(os.getpid())
    except Unreadable:
        hidden = True  # a machine without control groups has none to show to its lab
    nodes = ("fra1", "ams1", "sin1")  # NSD, Knot, BIND
    for node, (conditions, counters) in zip(nodes, await asyncio.gather(*map(look, nodes)), strict=True):
        watched = {instance.name: instance for instance in instances_of(inventory, node)}
        assert not counters.host.unknown
        assert not conditions.host.unknown
        for tenant in inventory.tenants:
            seen, setup = counters.instances[tenant.name], conditions.instances[tenant.name]
            assert set(seen.unknown) == ({"throttling"} if hidden else set()), node
            assert set(setup.unknown) == ({"cpu_limit"} if hidden else set()), node
            assert setup.is_unlimited is not hidden
            assert seen.tasks
            assert {socket.address for socket in seen.sockets or ()} == set(watched[tenant.name].addresses)
            assert (setup.workers, setup.rrl) == (1, "off")
            config = next(i.config for i in inventory.node(node).instances if i.tenant == tenant.name)
            content = lab.run(node, ["cat", config]).stdout
            assert setup.config_hash == hashlib.sha256(content.encode()).hexdigest()


def test_it_ends_when_nobody_listens_even_if_stuck_in_writing() -> None:
    # The same program with a shorter patience: five seconds would be a long test.
    source = importlib.resources.files("anyconsole.drivers.load").joinpath("watcher.py").read_text("utf-8")
    hasty = source.replace("SILENCE = 5\n", "SILENCE = 1\n")
    assert hasty != source
    argv = [sys.executable, "-ISc", hasty + "\nmain()"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b'{"op":"watch","instances":[]}\n' + b'{"op":"sample","id":1}\n' * 400)
        process.stdin.flush()
        # Nobody reads: 400 samples are more than a pipe holds, and its input stays open.
        assert process.wait(5) == -signal.SIGALRM
        assert process.stdout.read(1 << 20).count(b'"sample"') < 400


def test_a_node_with_more_rows_than_a_line_holds_tells_the_rest(capfd: pytest.CaptureFixture[str]) -> None:
    rows = [[number, "thread", 0.0, 0.0] for number in range(20_000)]
    watcher.tell({"ev": "sample", "instances": {"de": {"cpu": 7.5, "tasks": rows, "sockets": None, "unknown": {}}}})
    told = capfd.readouterr().out
    assert len(told) < 1000
    assert json.loads(told)["instances"]["de"] == {"cpu": 7.5, "unknown": {"tasks": "too many on this node to tell"}}


def test_it_ends_with_its_input() -> None:
    command, program = bootstrap("watcher")
    ended = subprocess.run(["/bin/sh", "-c", command], input=program, capture_output=True, timeout=10, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b'{"ev":"hello","watcher":1}\n', b"")
