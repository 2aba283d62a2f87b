"""The lab's processes as seen from outside: starting a host, finding and ending whatever lives in its network namespace.

A process is only ever ended through a pidfd and after it was seen to be in one of the lab's namespaces: never by name.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from anyconsole.errors import LabError
from anyconsole.lab import hostinit
from anyconsole.lab.paths import LabPaths

__all__ = ["PYTHON", "end_members", "enter_command", "members", "owned", "start_host"]

PYTHON = "/usr/bin/python3"
"""The interpreter that runs inside hosts: the system's, because the user's own may be hidden there."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PATIENCE = 10.0


def start_host(paths: LabPaths, host: str) -> None:
    """Start a host's first process in new namespaces, detached from this process and from its terminal."""
    argv = [
        "setsid", "--fork",
        "nsenter", f"--net=/run/netns/{paths.namespace(host)}",
        "unshare", "--mount", "--uts", "--pid", "--ipc", "--fork", "--kill-child", "--propagation", "slave",
        PYTHON, "-I", "-S", hostinit.__file__, str(paths.host(host) / "init.json"), str(paths.control(host)),
    ]  # fmt: skip
    with (paths.host(host) / "init.log").open("ab") as log:
        subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env={"PATH": _PATH, "LANG": "C.UTF-8"}, timeout=10,
            check=True,
        )  # fmt: skip


def enter_command(pid: int, argv: Iterable[str]) -> list[str]:
    """The command that runs `argv` as root inside the host whose first process is `pid`."""
    # No --root: it would be opened out here. Entering the mount namespace already moves to the host's own root.
    return ["nsenter", "--target", str(pid), "--mount", "--uts", "--ipc", "--net", "--pid", *argv]


def members(inodes: set[int]) -> list[int]:
    """Processes that live in one of these network namespaces. Dead ones that nobody has collected yet don't count."""
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in numbers if _network_of(pid) in inodes]


def owned(pids: Iterable[int], user: int) -> list[int]:
    """Those of these processes that run as a user."""
    found = []
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}").stat().st_uid == user:
                found.append(pid)
    return found


def _network_of(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def end_members(inodes: set[int]) -> None:
    """Kill everything in these network namespaces and wait until it is gone. Raises LabError if something stays."""
    deadline = time.monotonic() + _PATIENCE
    while left := members(inodes):
        for pid in left:
            _kill_if_member(pid, inodes)
        if time.monotonic() > deadline:
            raise LabError(f"processes {left} of the lab don't end, even on SIGKILL; see /proc/PID/stack")
        time.sleep(0.02)


def _kill_if_member(pid: int, inodes: set[int]) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # The handle pins the process: what is checked now is what gets the signal, even if the number is used again.
        if pid != os.getpid() and _network_of(pid) in inodes:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        os.close(handle)
