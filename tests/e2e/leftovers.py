"""What a console leaves behind: its own processes here, and its logins and probes on the hosts of a lab."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from anyconsole.lab import Lab, network, processes
from anyconsole.lab.topology import HOSTS

__all__ = ["gone", "logins", "wait_until_gone"]


def logins(lab: Lab) -> list[str]:
    """Every SSH session on the lab's hosts and whatever runs in one, as "host: pid command"."""
    found = []
    for host in HOSTS:
        inode = network.namespace_inode(lab.paths.namespace(host))
        commands = {pid: _command(pid) for pid in processes.members({inode})}
        sessions = {
            pid for pid, command in commands.items() if command.startswith("sshd: ") and "[listener]" not in command
        }
        inside = {pid for pid in commands if _is_below(pid, sessions)}
        found += [f"{host}: {pid} {commands[pid][:80]}" for pid in sorted(sessions | inside)]
    return found


def wait_until_gone(look: Callable[[], list[str]], seconds: float = 8.0) -> None:
    """Wait until `look` finds nothing. Raises AssertionError with what it found."""
    deadline = time.monotonic() + seconds
    while left := look():
        assert time.monotonic() < deadline, "left behind:\n" + "\n".join(left)
        time.sleep(0.1)


def gone(pids: list[int]) -> Callable[[], list[str]]:
    """A look for those of some processes that still run."""
    handles = {pid: os.pidfd_open(pid) for pid in pids}  # so that a number that is used again is not mistaken for it

    def look() -> list[str]:
        left = []
        for pid in list(handles):
            state = Path(f"/proc/self/fdinfo/{handles[pid]}").read_text()
            if "Pid:\t-1" in state or _state(pid) == "Z":
                os.close(handles.pop(pid))
            else:
                left.append(f"here: {pid} {_command(pid)}")
        return left

    return look


def _is_below(pid: int, ancestors: set[int]) -> bool:
    while pid > 1:
        pid = int(_fields(pid)[1] or 0)
        if pid in ancestors:
            return True
    return False


def _fields(pid: int) -> list[str]:
    """State, parent and so on; of a process that is gone: nothing and no parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["", ""]


def _state(pid: int) -> str:
    return _fields(pid)[0]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
