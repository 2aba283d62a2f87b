"""A name server's process as procfs shows it to an unprivileged user: alive, memory, uptime, and whether it is inside its chroot.

`/proc/PID/root` of another user can't be read, but `/proc/PID/mountinfo` can, and the kernel writes it relative to the process's own root:
mounts outside that root are left out, and the mount the root lies on is called "/". Standard library only: it travels to the nodes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from anyconsole.drivers.ask import Read
from anyconsole.drivers.parse_error import ParseError
from anyconsole.drivers.quantise import coarse_uptime, steady

if TYPE_CHECKING:
    from anyconsole.drivers.ask import Asking, Spec, State

__all__ = [
    "INSIDE",
    "OUTSIDE",
    "UNKNOWN",
    "Mount",
    "chroot_verdict",
    "parse_mounts",
    "parse_pid",
    "parse_stat",
    "parse_uptime",
    "process_row",
]

INSIDE, OUTSIDE, UNKNOWN = "inside", "outside", "unknown"

_TICKS = 100
"""USER_HZ: clock ticks per second in /proc, the same on every Linux architecture that matters here."""

_CHROOT_EVERY = 15
"""Rounds between looks at an unchanged process's mounts."""


class Mount(NamedTuple):
    """A line of mountinfo: the device and the directory in it that is mounted at `point`."""

    identity: int
    device: str
    root: str
    point: str


def parse_pid(content: bytes) -> int:
    """The number in a pid file."""
    text = content.decode("ascii", "replace").strip()
    if not re.match(r"[1-9][0-9]{0,9}$", text):
        raise ParseError("not a process id", text)
    return int(text)


def parse_stat(content: bytes) -> tuple[str, str, int]:
    """Of `/proc/PID/stat`: the command's name, the state's letter, and the start in clock ticks after boot."""
    text = content.decode("utf-8", "replace")
    fields = text[text.rfind(")") + 1 :].split()
    if ")" not in text or len(fields) < 22 or not fields[19].isdigit() or not text.endswith("\n"):
        raise ParseError("not a process's stat", text)
    return text[text.find("(") + 1 : text.rfind(")")], fields[0], int(fields[19])


def parse_uptime(content: bytes) -> float:
    """Seconds since boot."""
    match = re.match(rb"([0-9]+\.[0-9]{2}) [0-9]+\.[0-9]{2}\n$", content)
    if match is None:
        raise ParseError("not /proc/uptime", content.decode("ascii", "replace"))
    return float(match.group(1))


def parse_mounts(content: bytes) -> list[Mount]:
    """`/proc/PID/mountinfo`."""
    text = content.decode("utf-8", "surrogateescape")
    if text and not text.endswith("\n"):
        raise ParseError("mountinfo ends in the middle of a line", text[-200:].rsplit("\n", 1)[-1])
    mounts = []
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) < 10 or not fields[0].isdigit() or not re.match(r"[0-9]+:[0-9]+$", fields[2]):
            raise ParseError("not a line of mountinfo", line)
        mounts.append(Mount(int(fields[0]), fields[2], _unescaped(fields[3]), _unescaped(fields[4])))
    return mounts


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), path)


def chroot_verdict(chroot: str, mine: list[Mount], its: list[Mount]) -> str:
    """Whether a process with mounts `its` lives inside the directory `chroot`, seen by one with mounts `mine` and the real root."""
    if not chroot:
        return UNKNOWN
    chroot = chroot.rstrip("/") or "/"
    top = _last(its, "/")
    if top is None:
        # Its root is a plain directory below some mount: it was chrooted. Nothing tells into which directory.
        return INSIDE
    if _last(its, chroot) is not None:
        return OUTSIDE  # it sees the directory by its full name
    place, own_top = _last(mine, chroot), _last(mine, "/")
    if place is not None and (top.device, top.root) == (place.device, place.root):
        return INSIDE
    if own_top is None:
        return UNKNOWN
    if (top.device, top.root) == (own_top.device, own_top.root):
        return OUTSIDE
    if top.device == own_top.device and top.root == own_top.root.rstrip("/") + chroot:
        return INSIDE  # a bind mount of the directory that only its own mount namespace has
    return UNKNOWN


def _last(mounts: list[Mount], point: str) -> Mount | None:
    found = None
    for mount in mounts:
        if mount.point == point:
            found = mount  # a later mount covers an earlier one
    return found


def process_row(spec: Spec, state: State, name: str, pid_hint: int = 0) -> Asking[dict[str, Any]]:
    """Generator over asks: what procfs says of an instance: pid, started, stopped, uptime, rss, chroot. {} if there is no such process.

    The process is the pid file's, or else `pid_hint` (what the daemon or the kernel said). Its command must begin with `name`, for a pid
    file outlives its process and the number may be somebody else's by now.
    """
    pid = pid_hint
    if spec.get("pid_file"):
        replies = yield [Read(spec["pid_file"], 64)]
        if not replies[0].fault:
            try:
                pid = parse_pid(replies[0].data)
            except ParseError:
                pid = pid_hint  # being written just now
    if not pid:
        return {}
    base = f"/proc/{pid}/"
    stat, cmdline, status, uptime = yield [
        Read(base + "stat"),
        Read(base + "cmdline", 4096),
        Read(base + "status"),
        Read("/proc/uptime", 64),
    ]
    if stat.fault:
        return {}
    command, letter, start = parse_stat(stat.data)
    # NSD's processes call themselves "xfrd" and "server 1": the command line tells what was started.
    program = cmdline.data.split(b"\0")[0].decode("utf-8", "replace").rsplit("/", 1)[-1]
    if letter in ("Z", "X") or not (program or command).startswith(name):
        return {}
    row: dict[str, Any] = {"pid": pid, "started": start, "stopped": letter in ("T", "t")}
    if not uptime.fault:
        row["uptime"] = coarse_uptime(parse_uptime(uptime.data) - start / _TICKS)
    rss = re.search(rb"^VmRSS:\s+([0-9]+) kB$", status.data, re.MULTILINE)
    if rss is not None:
        size = int(rss.group(1)) * 1024
        row["rss"] = int(steady(state, "rss", size, max(262144, size / 50)))
    if spec.get("chroot"):
        row["chroot"] = yield from _chroot(spec["chroot"], state, pid, start)
    return row


def _chroot(chroot: str, state: State, pid: int, start: int) -> Asking[str]:
    """Generator: the chroot verdict of one process. It is asked rarely: who is inside stays there until he ends."""
    known: tuple[tuple[int, int], int, str] = state.get("chroot", ((0, 0), 0, UNKNOWN))
    if known[0] == (pid, start) and known[1] > 0:
        state["chroot"] = (known[0], known[1] - 1, known[2])
        return known[2]
    its, mine = yield [Read(f"/proc/{pid}/mountinfo", 262144), Read("/proc/self/mountinfo", 262144)]
    verdict = UNKNOWN
    if not its.fault and not mine.fault:
        verdict = chroot_verdict(chroot, parse_mounts(mine.data), parse_mounts(its.data))
    state["chroot"] = ((pid, start), _CHROOT_EVERY, verdict)
    return verdict
