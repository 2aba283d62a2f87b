"""What the container of a name server shows tells of CPU, throttling and drops, as a watcher on a host does; what it hides is unknown."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyconsole.actions.load.counters import reading_of
from anyconsole.actions.load.limit import Cause, Watched, limit_of
from anyconsole.drivers.load import pod_watching, watcher
from anyconsole.drivers.load.local_channel import LocalChannel
from anyconsole.drivers.load.pod_counters import (
    END,
    READING,
    clock_of,
    files_of,
    host_conditions,
    host_of,
    instance_conditions,
    instance_of,
)
from anyconsole.drivers.load.pod_watching import PodWatching
from anyconsole.errors import LoadError
from anyconsole.model.load_counters import NodeCounters
from tests.actions.test_load_limit import trial

V2 = """\
==> /sys/fs/cgroup/cpu.stat <==
usage_usec 7250000
user_usec 4000000
system_usec 3250000
nr_periods 120
nr_throttled 48
throttled_usec 2500000

==> /sys/fs/cgroup/cpu.max <==
50000 100000

==> /proc/net/udp <==
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
   20: 00000000:0035 00000000:0000 07 00000000:00000500 00:00000000 00000000 65532        0 4711 2 0000000000000000 31
   21: 3500007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 4712 2 0000000000000000 7

==> /proc/uptime <==
5000.25 1.00

"""
"""As a container with half a core prints it, beside a resolver on its host's network."""


async def channel(*argv: str) -> LocalChannel:
    pipe = asyncio.subprocess.PIPE
    return LocalChannel(await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe))


@contextlib.asynccontextmanager
async def watching(
    channels: Mapping[str, LocalChannel | str], ports: Mapping[str, int] | None = None
) -> AsyncIterator[tuple[PodWatching, list[NodeCounters]]]:
    heard: list[NodeCounters] = []
    made = PodWatching("hv1", channels, ports or {}, lambda _, sample: heard.append(sample))
    try:
        yield made, heard
    finally:
        await made.stop()
        for each in channels.values():
            if isinstance(each, LocalChannel):
                await each.process.wait()


def test_what_a_container_prints_is_read_with_its_limit_and_without_its_neighbours() -> None:
    files = files_of(V2.splitlines())
    found = instance_of(files, 53)
    assert (found.cpu, clock_of(files)) == (7.25, 5000.25)
    assert found.throttling is not None
    assert (found.throttling.periods, found.throttling.throttled, found.throttling.seconds) == (120, 48, 2.5)
    assert [(s.address, s.drops, s.queued) for s in found.sockets or ()] == [("0.0.0.0", 31, 0x500)]  # noqa: S104
    assert set(found.unknown) == {"tasks", "udp", "udp6"}
    assert (instance_conditions(files).cpu_limit, instance_conditions(files).is_unlimited) == (0.5, False)
    free = files_of(V2.replace("50000 100000", "max 100000").splitlines())
    assert (instance_conditions(free).cpu_limit, instance_conditions(free).is_unlimited) == (None, True)


def test_a_cgroup_that_is_not_the_containers_own_tells_nothing() -> None:
    files = files_of(V2.replace("==> /sys/fs/cgroup/cpu.max <==", "==> /etc/motd <==").splitlines())
    found = instance_of(files, 53)
    assert (found.cpu, found.throttling) == (None, None)
    assert found.unknown["throttling"] == "the container doesn't see a cgroup of its own"
    assert instance_conditions(files).unknown["cpu_limit"] == found.unknown["throttling"]


PATHS = [line.split()[1] for line in V2.splitlines() if line.startswith("==>")]
PATHS += ["/proc/stat", "/proc/net/snmp", "/proc/net/snmp6", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"]
HEADS = [f"==> {path} <==" for path in (*PATHS, "/etc/passwd")]
WORDS = st.sampled_from([*HEADS, *V2.splitlines(), "cpu0 1 2 3 4 5 6 7 8", "Udp: a", "-1"])
LINES = st.lists(WORDS | st.text("0123456789 :-max", max_size=12), max_size=24)


@given(LINES)
def test_whatever_a_container_prints_is_counted_or_unknown(lines: list[str]) -> None:
    files = files_of(lines)
    assert set(files) <= set(PATHS)
    for found in (instance_of(files, 53), instance_conditions(files), host_of(files), host_conditions(files)):
        for field in ("cpu", "throttling", "cpu_limit", "cores"):
            if getattr(found, field, 0) is None and not getattr(found, "is_unlimited", False):
                assert found.unknown[field]


async def test_a_container_that_shows_nothing_costs_what_it_would_have_told_and_no_more() -> None:
    here = await channel("sh", "-c", READING)
    async with watching({"de": here, "nic": "no name server of nic runs on hv1"}) as (made, heard):
        conditions = await made.start()
        assert conditions.instances["nic"].unknown == {"cpu_limit": "nic: no name server of nic runs on hv1"}
        sample = await made.sample()
        assert sample.host.cores
        assert len(sample.host.cores) == conditions.host.cores == os.cpu_count()
        assert conditions.host.kernel == os.uname().release
        assert sample.instances["nic"].cpu is None
        assert heard[0].clock <= sample.clock
        here.process.kill()
        with pytest.raises(LoadError, match=r"lost: .*; nic: no name server"):
            await made.sample()
        assert made.error is not None
    async with watching({"de": "no permission"}) as (made, heard):
        with pytest.raises(LoadError, match="pods of hv1: de: no permission"):
            await made.start()
        assert heard == []


async def test_a_container_that_hangs_is_not_waited_for_and_its_late_answer_is_nobody_elses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pod_watching, "DEADLINE", 0.3)
    slow = (
        f"read -r _; sleep 1; printf '{V2}{END.decode()}\\n'; while read -r _; do printf '{V2}{END.decode()}\\n'; done"
    )
    async with watching({"de": await channel("sh", "-c", slow)}) as (made, _):
        with pytest.raises(LoadError, match=r"no counters within 0\.3 s"):
            await made.start()
        await asyncio.sleep(1.2)
        assert (await made.sample()).instances["de"].cpu == 7.25


@pytest.mark.parametrize("said", [f"{END.decode()}\\n{END.decode()}\\n", "x\\n" * 20_000])
async def test_a_container_that_says_too_much_is_not_believed(said: str) -> None:
    async with watching({"de": await channel("sh", "-c", f"read -r _; printf '{said}'; sleep 5")}) as (made, _):
        with contextlib.suppress(LoadError):
            await made.start()
        async with asyncio.timeout(5):
            while made.error is None:
                await asyncio.sleep(0.01)
        assert "dropped" in str(made.error)


async def test_what_a_full_socket_drops_is_counted() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as full,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking,
    ):
        full.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        full.bind(("0.0.0.0", 0))  # noqa: S104 - as a name server in a pod does
        port = full.getsockname()[1]
        async with watching({"de": await channel("sh", "-c", READING)}, {"de": port}) as (made, _):
            await made.start()
            before = await made.sample()
            for _ in range(200):
                asking.sendto(b"x" * 100, ("127.0.0.1", port))
            after = await made.sample()
    first, last = (reading_of(sample, None, "de") for sample in (before, after))
    assert first.socket_drops is not None
    assert last.socket_drops is not None
    assert sum(last.socket_drops.values()) - sum(first.socket_drops.values()) > 100
    assert (last.receive_errors or 0) - (first.receive_errors or 0) > 100


@pytest.fixture
def limited() -> Iterator[tuple[list[str], Path]]:
    """A cgroup that may use a tenth of a core with a process in it that wants all of one, and how to look at it as from inside."""
    group, _, is_v2 = watcher.cpu_group(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    name = f"anyconsole-pod-{os.getpid()}"
    folders = [Path(group, name)] if is_v2 else [Path(group, name), Path("/sys/fs/cgroup/cpuacct", name)]
    seen = ["/sys/fs/cgroup"] if is_v2 else ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpuacct"]
    try:
        for folder in folders:
            folder.mkdir(exist_ok=True)
        file, limit = ("cpu.max", "10000 100000") if is_v2 else ("cpu.cfs_quota_us", "10000")
        (folders[0] / file).write_text(limit)
    except OSError as error:
        for folder in folders:
            with contextlib.suppress(OSError):
                folder.rmdir()
        pytest.skip(f"no cgroup with a CPU quota can be made here: {error}")
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        for folder in folders:
            (folder / "cgroup.procs").write_text(str(busy.pid))
        mounts = "; ".join(f"mount --bind {a} {b}" for a, b in zip(folders, seen, strict=True))
        yield ["unshare", "-m", "sh", "-c", f"{mounts}; {READING}"], folders[0]
    finally:
        busy.kill()
        busy.wait(5)
        deadline = time.monotonic() + 5
        while any(folder.exists() for folder in folders) and time.monotonic() < deadline:
            for folder in folders:
                with contextlib.suppress(OSError):  # until the kernel has let go of the process
                    folder.rmdir()


@pytest.mark.lab
async def test_a_name_server_in_a_pod_that_is_held_back_by_its_quota_is_told_so(
    limited: tuple[list[str], Path],
) -> None:
    argv, _ = limited
    async with watching({"de": await channel(*argv)}) as (made, _):
        conditions = await made.start()
        before = await made.sample()
        await asyncio.sleep(1.2)
        after = await made.sample()
    assert conditions.instances["de"].cpu_limit == pytest.approx(0.1)
    first, last = before.instances["de"].cpu, after.instances["de"].cpu
    assert first is not None
    assert last is not None
    assert 0.02 < last - first < 0.4, "the tenth of a core that it may use"
    seconds = after.clock - before.clock
    target = Watched(
        name="de on hv1", before=reading_of(before, None, "de"), after=reading_of(after, None, "de"), seconds=seconds
    )  # fmt: skip
    found = limit_of(trial(lost=5_000), [target])
    assert found.cause is Cause.CPU_QUOTA, found
    assert "de on hv1 had used up its CPU quota" in found.words
