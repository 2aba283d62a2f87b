"""The lab as a whole: up, down, status, and running commands inside its hosts."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from pyroute2 import NetlinkError, netns

from anyconsole.errors import LabError
from anyconsole.lab import control, faults, limits, network, processes, quota, readiness, requirements, state
from anyconsole.lab.hosts import make_host
from anyconsole.lab.paths import LAB_ROOT, LabPaths
from anyconsole.lab.profile import profile_text
from anyconsole.lab.sshfiles import make_keys, write_client_files
from anyconsole.lab.state import Break, State
from anyconsole.lab.topology import HOSTS, NODES, SPEAKERS, node, uplink
from anyconsole.lab.zones import make_zones

__all__ = ["HostRow", "Lab"]

UP_DEADLINE = 30.0
"""Seconds until everything of a lab must be up."""

_INDEXES = range(1, 255)
_NETNS_MARK = LAB_ROOT / ".made-netns-mount"


class HostRow(msgspec.Struct, frozen=True, kw_only=True):
    """One host in `lab status`. `faults` says in words what is not as it should be."""

    host: str
    running: bool
    daemons: dict[str, bool]
    sessions: dict[str, str]
    faults: tuple[str, ...]


class Lab:
    """The lab called `name`, whether it is up or not.

    Args:
        name: Which one; several can be up side by side.
        speakers: Routing daemons (bird, frr, gobgp) that nodes are to run instead of their usual ones, by node.

    Raises:
        LabError: An impossible name, no such node, or no such daemon.
    """

    def __init__(self, name: str = "default", speakers: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.paths = LabPaths(name)
        self._speakers = dict(speakers or {})
        for host, kind in self._speakers.items():
            if node(host) is None:
                raise LabError(f"{host!r} is no node of the lab: {', '.join(n.name for n in NODES)}")
            if kind not in SPEAKERS:
                raise LabError(f"{host} can't run {kind!r}: it is one of {', '.join(SPEAKERS)}")

    @property
    def profile_path(self) -> Path:
        """The profile of this lab; it is there while the lab is up."""
        return self.paths.profile

    @property
    def ssh_config(self) -> Path:
        """The ssh_config of this lab, for `ssh -F`."""
        return self.paths.ssh_config

    @property
    def is_up(self) -> bool:
        """True if `up` came to its end and every host still runs."""
        found = state.load_state(self.paths)
        return found is not None and found.complete and all(self._runs(host) for host in HOSTS)

    def _runs(self, host: str) -> bool:
        try:
            control.first_process(self.paths, host)
        except LabError:
            return False
        return True

    def up(self, tell: Callable[[str], None] = lambda _: None) -> bool:
        """Build the lab and wait until all of it works. Returns False if it was up already.

        Args:
            tell: called with a line of progress now and then.

        Raises:
            LabError: naming what is missing on this machine, or what of the lab didn't come up and the end of its log.
        """
        requirements.check()
        with state.lock(self.paths.lock):
            if self.is_up:
                self._must_run_the_speakers()
                return False
            if self._leftovers():
                tell("removing what is left of an earlier lab of this name")
                self._remove()
            started = time.monotonic()
            claimed = self._claim()
            try:
                self._build(claimed, tell)
            except (OSError, NetlinkError, subprocess.SubprocessError) as error:
                raise LabError(
                    f"building lab {self.name!r} failed: {error}. If this is a container, it needs CAP_SYS_ADMIN and CAP_NET_ADMIN; "
                    f"`anyconsole lab down --name {self.name}` removes what was built"
                ) from error
            tell("waiting for BGP sessions and name servers")
            self.wait_until_well(started + UP_DEADLINE - time.monotonic())
            state.save_state(self.paths, msgspec.structs.replace(claimed, complete=True))
            tell(f"up after {time.monotonic() - started:.1f} s")
        return True

    def _must_run_the_speakers(self) -> None:
        for host, kind in self._speakers.items():
            here = state.node(self.paths, host)
            if here is not None and here.speaker != kind:
                raise LabError(
                    f"lab {self.name!r} is up and {host} runs {here.speaker} in it; `anyconsole lab down --name {self.name}` first"
                )

    def _claim(self) -> State:
        with state.lock(LAB_ROOT / ".index.lock"):
            taken = state.taken_indexes()
            index = next((i for i in _INDEXES if i not in taken and network.index_is_free(i)), None)
            if index is None:
                raise LabError("no free network in 198.18.0.0/16 is left on this machine; see `ip route`")
            self.paths.base.mkdir(mode=0o700)
            serial = int(datetime.now(UTC).strftime("%Y%m%d")) * 100 + 10
            claimed = State(index=index, serial=serial, speakers=self._speakers)
            state.save_state(self.paths, claimed)
            if not Path(netns.NETNS_RUN_DIR).exists():
                _NETNS_MARK.touch()
        return claimed

    def _build(self, claimed: State, tell: Callable[[str], None]) -> None:
        index = claimed.index
        tell(f"building lab {self.name!r}: {len(HOSTS)} hosts, jump is {uplink(index)[1].ip}")
        with ThreadPoolExecutor(max_workers=2) as pool:
            zones = pool.submit(make_zones, self.paths, claimed.serial)
            links = pool.submit(network.build_network, self.paths, index)
            make_keys(self.paths)
            write_client_files(self.paths, index)
            zones.result()
            for host in HOSTS:
                make_host(self.paths, host, index)
            links.result()
        for host in HOSTS:
            processes.start_host(self.paths, host)
        self.paths.profile.write_text(profile_text(self.paths))

    def wait_until_well(self, timeout: float = UP_DEADLINE) -> None:
        """Wait until every daemon runs, every session is Established and every service address answers.

        Raises:
            LabError: naming what is still wrong after `timeout` seconds, and the end of its log.
        """
        deadline = time.monotonic() + timeout
        waiting = list(HOSTS)
        with ThreadPoolExecutor(max_workers=4) as pool:
            while True:
                faults_of = dict(zip(waiting, pool.map(self._faults, waiting), strict=True))
                waiting = [host for host, found in faults_of.items() if found]
                if not waiting:
                    return
                if time.monotonic() > deadline:
                    raise LabError(self._what_failed({host: faults_of[host] for host in waiting}, timeout))
                time.sleep(0.2)

    def _faults(self, host: str) -> list[readiness.Fault]:
        return readiness.missing(self.paths, host)

    def _what_failed(self, faults_of: dict[str, list[readiness.Fault]], timeout: float) -> str:
        lines = [f"lab {self.name!r} is not well after {timeout:.0f} s:"]
        for host, found in faults_of.items():
            lines += [f"  {host}: {fault.text}" for fault in found]
            for daemon in dict.fromkeys(fault.daemon for fault in found):
                lines += [f"    {line}" for line in readiness.last_words(self.paths, host, daemon)]
        lines.append(
            f"Look around with `anyconsole lab shell --name {self.name} HOST`; `anyconsole lab down --name {self.name}` removes it."
        )
        return "\n".join(lines)

    def down(self) -> bool:
        """Remove everything of the lab and make sure it is gone. Returns False if there was nothing.

        Raises:
            LabError: naming what could not be removed.
        """
        requirements.check_root()
        with state.lock(self.paths.lock):
            found = bool(self._leftovers())
            self._remove()
            if left := self._leftovers():
                raise LabError(f"of lab {self.name!r} these are left: {'; '.join(left)}")
        self._remove_root()
        return found

    def _remove(self) -> None:
        index = self._index()
        inodes = {network.namespace_inode(self.paths.namespace(host)) for host in network.namespaces_of(self.paths)}
        processes.end_members(inodes)
        network.remove_namespaces(self.paths)
        # Whatever was just about to enter a namespace when its name went.
        processes.end_members(inodes)
        quota.remove_groups(self.paths)
        if index is not None:
            network.remove_uplink(index)
        if self.paths.base.exists():
            shutil.rmtree(self.paths.base)

    def _index(self) -> int | None:
        try:
            found = state.load_state(self.paths)
        except LabError:
            return None
        return None if found is None else found.index

    def _leftovers(self) -> list[str]:
        left = [f"namespace {self.paths.namespace(host)}" for host in network.namespaces_of(self.paths)]
        left += [f"control group {group}" for group in quota.groups_of(self.paths)]
        index = self._index()
        if index is not None and network.has_uplink(index):
            left.append(f"interface {network.uplink_name(index)}")
        if self.paths.base.exists():
            left.append(f"directory {self.paths.base}")
        return left

    def _remove_root(self) -> None:
        if _NETNS_MARK.exists() and not netns.listnetns():
            network.remove_namespace_directory()
            _NETNS_MARK.unlink()
        for folder in (LAB_ROOT, LAB_ROOT.parent):
            with suppress(OSError):  # not empty: another lab lives there, or moves in just now
                folder.rmdir()

    def status(self) -> list[HostRow]:
        """Every host with its daemons and sessions. Raises LabError if there is no such lab."""
        self._must_exist()
        with ThreadPoolExecutor(max_workers=4) as pool:
            return list(pool.map(self._row, HOSTS))

    def _row(self, host: str) -> HostRow:
        found = tuple(fault.text for fault in self._faults(host))
        try:
            rows = control.daemons(self.paths, host)
            sessions = readiness.session_states(self.paths, host)
        except control.HostDownError:
            return HostRow(host=host, running=False, daemons={}, sessions={}, faults=found)
        except (OSError, ValueError, subprocess.SubprocessError):
            sessions = {}
            rows = control.daemons(self.paths, host)
        return HostRow(
            host=host, running=True, daemons={r.name: r.running for r in rows}, sessions=sessions, faults=found
        )

    def _must_exist(self) -> None:
        requirements.check_root()
        if state.load_state(self.paths) is None:
            known = ", ".join(state.names()) or "none"
            raise LabError(
                f"there is no lab {self.name!r} (labs here: {known}); `anyconsole lab up --name {self.name}` builds it"
            )

    def enter_command(self, host: str, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` as root inside `host`. Raises LabError for an unknown host or one that is down."""
        self._must_exist()
        if host not in HOSTS:
            raise LabError(f"{host!r} is no host of the lab: {', '.join(HOSTS)}")
        return processes.enter_command(control.first_process(self.paths, host), argv)

    def run(self, host: str, argv: Sequence[str], timeout: float = 20.0) -> subprocess.CompletedProcess[str]:
        """Run a command as root inside `host` and wait for it. Raises LabError, subprocess.TimeoutExpired."""
        return subprocess.run(
            self.enter_command(host, argv),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def break_(self, kind: str, host: str, argument: str = "") -> Break:
        """Break something on purpose and remember it. Raises LabError; see `kinds.KINDS` for what there is."""
        self._must_exist()
        with state.lock(self.paths.lock):
            return faults.break_(self, kind, host, argument)

    def heal(self, host: str = "") -> tuple[Break, ...]:
        """Undo every break, or those of one host. Returns what was undone. Raises LabError."""
        self._must_exist()
        with state.lock(self.paths.lock):
            return faults.heal(self, host)

    def limit(self, host: str, rate: int, tenant: str = "") -> None:
        """Put a limit of queries a second in front of each name server of a node, or only one tenant's. Raises LabError; see `limits`."""
        self._must_exist()
        limits.limit(self, host, rate, tenant)

    def unlimit(self, host: str, tenant: str = "") -> None:
        """Take such limits away. Raises LabError."""
        self._must_exist()
        limits.unlimit(self, host, tenant)
