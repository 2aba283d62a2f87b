"""The watcher: reads what a node under a load test counts, once a second and whenever it is asked, while the test runs.

One file, standard library only, syntax of Python 3.7: it is pushed to the node and runs there without being installed, as whoever logs in.
It reads files of /proc, /sys/fs/cgroup and the configuration, and asks the kernel once for the sizes of socket buffers. It never talks to a
name server, starts no process, needs no privilege. What it may not read, or doesn't understand, is null and `unknown` says why.

Its first command is `watch`, with the instances; then `sample` asks for a sample now, and any other command says that somebody still
listens. It ends when its input ends, and when nothing was heard for five seconds, even if it is stuck in writing. It says `hello`,
`conditions` (once), `sample`, `error`; their content is that of `anyconsole.model.load_counters`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import ipaddress
import json
import os
import re
import resource
import select
import signal
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    _T = TypeVar("_T")

VERSION = 1

INTERVAL = 1.0
SILENCE = 5
SEARCH_EVERY = 10.0
"""Seconds between looks for processes and sockets that came since; when one is gone it is looked at once."""

_COMMANDS = {"nsd": "nsd", "knot": "knotd", "bind": "named"}
_MAX_FILE = 4 << 20
_MAX_LINE = 256 << 10
_MAX_ROWS = 4096
_TICK = 1 / 100
"""USER_HZ: a clock tick in /proc, the same on every Linux architecture that matters here."""

_SERVER = re.compile(r"(nsd: )?server \d")
"""What NSD calls the processes that answer."""

_UDP = ("InDatagrams", "NoPorts", "InErrors", "RcvbufErrors", "OutDatagrams", "SndbufErrors")
_OURS = ("in_datagrams", "no_ports", "in_errors", "receive_buffer_errors", "out_datagrams", "send_buffer_errors")


class Unreadable(Exception):  # noqa: N818 - what a value is, not what went wrong
    """A value that can't be known; the message says why."""


def read(path: str) -> str:
    """A file's content, read afresh. Raises Unreadable."""
    pieces = []
    size = 0
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            piece = b"-"
            while piece:
                piece = os.read(fd, 1 << 16)
                pieces.append(piece)
                size += len(piece)
                if size > _MAX_FILE:
                    raise Unreadable(f"{path}: more than {_MAX_FILE} bytes")
        finally:
            os.close(fd)
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error
    # One byte is one character: what is hashed and compared is what was read.
    return b"".join(pieces).decode("latin-1")


def numbers(path: str) -> list[int]:
    """The first number of each entry in a directory that is one: processes, threads, open files. Raises Unreadable."""
    try:
        return [int(name) for name in os.listdir(path) if name.isdigit()]  # noqa: PTH208 - pathlib is slow to import
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error


def plain(text: str, limit: int = 200) -> str:
    """What of a text is printable ASCII."""
    return "".join(c if " " <= c <= "~" else "?" for c in text[:limit]).strip()


def asked(unknown: dict[str, str], name: str, look: Callable[[], _T]) -> _T | None:
    """What `look` finds out, or None and the reason in `unknown`."""
    try:
        return look()
    except Unreadable as error:
        unknown[name] = plain(str(error))
    except (ValueError, IndexError, KeyError, struct.error) as error:
        unknown[name] = plain(f"not understood: {error!r}")
    return None


# --- files of /proc


class Stat:
    """What `/proc/PID/stat` says: a process's or a thread's."""

    def __init__(self, content: str) -> None:
        begin, end = content.index("("), content.rindex(")")
        fields = content[end + 2 :].split()
        self.name = plain(content[begin + 1 : end], 16)
        self.state, self.parent, self.group = fields[0], int(fields[1]), int(fields[2])
        self.cpu = (int(fields[11]) + int(fields[12])) * _TICK
        self.ended_cpu = (int(fields[13]) + int(fields[14])) * _TICK  # of children that have ended
        self.started = int(fields[19])


def udp_sockets(content: str, port: int) -> list[list[Any]]:
    """Of `/proc/net/udp` or `udp6` the sockets bound to a port: inode, address, port, bytes queued, drops."""
    rows = []
    mark = f":{port:04X} "
    for line in content.splitlines()[1:]:
        if mark not in line:
            continue
        fields = line.split()
        address, _, number = fields[1].partition(":")
        if int(number, 16) == port:
            queued = int(fields[4].split(":")[1], 16)
            rows.append([int(fields[9]), address_of(address), port, queued, int(fields[12])])
    return rows


def address_of(digits: str) -> str:
    """An address as procfs writes it: 32-bit words of this machine's byte order, in hexadecimal."""
    words = [int(digits[i : i + 8], 16) for i in range(0, len(digits), 8)]
    return str(ipaddress.ip_address(struct.pack(f"={len(words)}I", *words)))


def snmp(content: str) -> dict[str, int]:
    """UDP over IPv4, of `/proc/net/snmp`."""
    names, values = [line.split()[1:] for line in content.splitlines() if line.startswith("Udp:")]
    found = dict(zip(names, map(int, values)))  # noqa: B905 - Python 3.7 has no strict
    return {ours: found[theirs] for ours, theirs in zip(_OURS, _UDP)}  # noqa: B905


def snmp6(content: str) -> dict[str, int]:
    """UDP over IPv6, of `/proc/net/snmp6`."""
    found = dict(line.split() for line in content.splitlines() if line.startswith("Udp6"))
    return {ours: int(found["Udp6" + theirs]) for ours, theirs in zip(_OURS, _UDP)}  # noqa: B905


def softnet(content: str) -> list[int]:
    """Of `/proc/net/softnet_stat`, over all CPUs: packets processed, dropped, and rounds that were squeezed."""
    rows = [[int(word, 16) for word in line.split()[:3]] for line in content.splitlines()]
    return [sum(column) for column in zip(*rows)]  # noqa: B905


def interfaces(content: str) -> dict[str, list[int]]:
    """Of `/proc/net/dev`, for each interface but the loopback: packets received, errors, drops."""
    found = {}
    for line in content.splitlines()[2:]:
        name, _, rest = line.strip().partition(":")
        fields = [int(word) for word in rest.split()]
        if name != "lo":
            found[plain(name)] = [fields[1], fields[2], fields[3] + fields[4]]
    return found


def cores(content: str) -> list[list[float]]:
    """Of `/proc/stat`, for each CPU: seconds in all, idle, stolen, in soft interrupts."""
    found = []
    for line in content.splitlines():
        if re.match("cpu[0-9]", line):
            # user nice system idle iowait irq softirq steal; guest time is in user time already
            ticks = [int(word) for word in line.split()[1:9]]
            seconds = (sum(ticks), ticks[3] + ticks[4], ticks[7], ticks[6])
            found.append([value * _TICK for value in seconds])
    if not found:
        raise Unreadable("/proc/stat tells of no CPU")
    return found


def run_times(path: str) -> tuple[float, float] | None:
    """Seconds that a task ran and that it waited for a CPU, to the nanosecond; None where the kernel keeps no such statistics."""
    try:
        ran, waited, slices = map(int, read(path).split())
    except (Unreadable, ValueError):
        return None
    return (ran / 1e9, waited / 1e9) if slices else None


# --- cgroups


def cpu_group(membership: str, mounts: str) -> tuple[str, str, bool]:
    """The directory of the cgroup that limits a process's CPU, the top of its hierarchy, and whether that is version 2.

    `membership` is `/proc/PID/cgroup`, `mounts` our own mountinfo. Raises Unreadable.
    """
    paths = {}
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(","):
            paths["cgroup"] = path
        elif not controllers:
            paths["cgroup2"] = path
    kind = "cgroup" if "cgroup" in paths else "cgroup2"
    for line in mounts.splitlines():
        fields = line.split(" ")
        separator = fields.index("-")
        options = fields[separator + 3].split(",")
        if fields[separator + 1] != kind or (kind == "cgroup" and "cpu" not in options):
            continue
        root, top, path = fields[3].rstrip("/"), fields[4], paths.get(kind, "")
        if not path.startswith(root + "/") or "/.." in path:
            raise Unreadable(f"cgroup {path} is not below what is mounted here")
        return (top + path[len(root) :]).rstrip("/"), top, kind == "cgroup2"
    raise Unreadable("no cgroup with a CPU controller is mounted")


def quota(directory: str, is_v2: bool) -> float | None:
    """How many cores a cgroup may use itself, None if it has no limit of its own. Raises Unreadable."""
    if not os.path.isdir(directory):  # noqa: PTH112 - as above
        raise Unreadable(f"{directory}: not visible here")
    try:
        if is_v2:
            limit, period = read(directory + "/cpu.max").split()
        else:
            limit, period = read(directory + "/cpu.cfs_quota_us"), read(directory + "/cpu.cfs_period_us")
    except Unreadable as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno == errno.ENOENT:
            return None  # the top of the tree, or a group without the controller: nothing limits it
        raise
    return None if limit == "max" or int(limit) < 0 else int(limit) / int(period)


def tightest(directory: str, top: str, is_v2: bool) -> tuple[str, float | None]:
    """The cgroup above (or at) `directory` that allows the fewest cores, and how many; itself and None if none limits it."""
    found: tuple[str, float | None] = (directory, None)
    level = directory
    while True:
        limit = quota(level, is_v2)
        if limit is not None and (found[1] is None or limit < found[1]):
            found = (level, limit)
        if level == top:
            return found
        level = level.rpartition("/")[0]


def cpu_limit(pid: int) -> tuple[str, float | None, bool]:
    """The cgroup that limits a process's CPU most, to how many cores, and whether that is version 2. Raises Unreadable."""
    directory, top, is_v2 = cpu_group(read(f"/proc/{pid}/cgroup"), read("/proc/self/mountinfo"))
    return (*tightest(directory, top, is_v2), is_v2)


def throttling(directory: str, is_v2: bool) -> dict[str, Any]:
    """Of a cgroup's `cpu.stat` what tells of its quota."""
    found = dict(line.split() for line in read(directory + "/cpu.stat").splitlines())
    spent = int(found.get("throttled_usec", 0)) / 1e6 if is_v2 else int(found["throttled_time"]) / 1e9
    # Without a quota (or its controller) version 2 doesn't mention periods: there were none.
    return {
        "group": plain(directory, 300),
        "periods": int(found.get("nr_periods", 0)),
        "throttled": int(found.get("nr_throttled", 0)),
        "seconds": spent,
    }


# --- socket buffers (sock_diag(7))


def receive_buffers() -> dict[int, int]:
    """Size of the receive buffer of each UDP socket in our own network namespace, by inode. Raises Unreadable."""
    found: dict[int, int] = {}
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 4) as link:  # NETLINK_SOCK_DIAG
            link.settimeout(2)
            for family in (socket.AF_INET, socket.AF_INET6):
                # nlmsghdr (SOCK_DIAG_BY_FAMILY, REQUEST | DUMP), inet_diag_req_v2 that wants INET_DIAG_SKMEMINFO of any state.
                request = struct.pack("=BBBxI48x", family, socket.IPPROTO_UDP, 1 << 6, 0xFFFFFFFF)
                link.send(struct.pack("=IHHII", 16 + len(request), 20, 0x301, 1, 0) + request)
                while _take_buffers(link.recv(1 << 16), found):
                    pass
    except OSError as error:
        raise Unreadable(f"socket buffers: {error}") from error
    return found


def _take_buffers(data: bytes, found: dict[int, int]) -> bool:
    """One part of the kernel's answer; False at the end of it."""
    offset = 0
    while offset < len(data):
        length, kind = struct.unpack_from("=IH", data, offset)
        if kind == 2:  # NLMSG_ERROR
            number = -struct.unpack_from("=i", data, offset + 16)[0]
            raise OSError(number, os.strerror(number))
        if kind == 3 or length < 16:  # NLMSG_DONE
            return False
        inode = struct.unpack_from("=I", data, offset + 16 + 68)[0]
        place = offset + 16 + 72
        while place + 4 <= offset + length:
            size, attribute = struct.unpack_from("=HH", data, place)
            if attribute == 7:  # INET_DIAG_SKMEMINFO: bytes received, size of the buffer for them
                found[inode] = struct.unpack_from("=II", data, place + 4)[1]
            place += max(4, (size + 3) & ~3)
        offset += (length + 3) & ~3
    return True


# --- configuration


def rate_limits(kind: str, config: str) -> str:
    """The response rate limits that a name server's configuration sets, in words; the first number is the rate. Raises Unreadable."""
    if kind == "bind":
        config = re.sub(r"/\*.*?\*/|//[^\n]*", "", config, flags=re.DOTALL)
    config = re.sub(r"#[^\n]*", "", config)
    says = {"nsd": _nsd_limits, "knot": _knot_limits, "bind": _bind_limits}.get(kind)
    if says is None:
        raise Unreadable(f"rate limits of {kind} are not known")
    found = says(config)
    if not found and re.search(r"^\s*(- *)?include(-pattern)?[\s:]", config, re.MULTILINE):
        raise Unreadable("not in the configuration itself, and it includes other files")
    return found or ("ratelimit 200 (default, where NSD is built with it)" if kind == "nsd" else "off")


def _settings(config: str, *names: str) -> list[tuple[str, int]]:
    """Those of the settings that are there, in the order of `names`."""
    found = re.findall(r"(?<![a-z-])(%s)[:\s]\s*(\d+)" % "|".join(names), config)  # noqa: UP031 - braces
    return sorted(((name, int(value)) for name, value in found), key=lambda setting: names.index(setting[0]))


def _told(settings: list[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings)


def _nsd_limits(config: str) -> str:
    found = _settings(config, "rrl-ratelimit", "rrl-whitelist-ratelimit", "rrl-slip")
    if not found or found[0][0] != "rrl-ratelimit":
        return ""
    return _told(found).replace("rrl-", "") if any(value for name, value in found[:2] if name != "rrl-slip") else "off"


def _knot_limits(config: str) -> str:
    if not re.search(r"^\s*(?:- *)?(?:global-)?module:.*\bmod-rrl\b", config, re.MULTILINE):
        return ""
    found = _settings(config, "rate-limit", "instant-limit", "slip")
    return _told(found) if found and found[0][0] == "rate-limit" else "rate-limit 50 (default)"


def _bind_limits(config: str) -> str:
    limits = " ".join(re.findall(r"\brate-limit\s*\{([^}]*)\}", config))
    rates = ["responses-per-second", "all-per-second", "nxdomains-per-second", "nodata-per-second", "errors-per-second"]
    found = _settings(limits, *rates, "referrals-per-second", "slip", "window")
    if not limits:
        return ""
    return _told(found) if any(value for name, value in found if name.endswith("-per-second")) else "off"


# --- a name server


class Workers:
    """NSD's servers over time: it forks them anew for each reload, and for each question after its statistics. The number stays.

    What one used until its end only its parent knows, of all together: what each was last seen to have used says whose it was.
    """

    def __init__(self) -> None:
        self._seen: dict[int, list[Any]] = {}
        self._ended: dict[str, tuple[float, float]] = {}
        self._ended_cpu: float | None = None

    def take(self, rows: list[list[Any]], ended_cpu: float) -> list[list[Any]]:
        """Tasks, those of the servers as one row for each number, with all that ran under it before.

        Args:
            rows: Tasks as they are now: id, name, seconds run, seconds waited.
            ended_cpu: Seconds of all children that have ended, of all processes.
        """
        servers = {row[0]: row for row in rows if _SERVER.match(row[1])}
        gone = [row for pid, row in self._seen.items() if pid not in servers]
        used = sum(row[2] for row in gone)
        told = ended_cpu - (ended_cpu if self._ended_cpu is None else self._ended_cpu)
        for _, name, cpu, waited in gone:
            more = max(0.0, told - used) * (cpu / used if used else 1 / len(gone))
            waits = (waited or 0.0) * (1 + more / cpu if cpu else 1.0)  # nobody tells how long it waited: as before
            before = self._ended.get(name, (0.0, 0.0))
            self._ended[name] = (before[0] + cpu + more, before[1] + waits)
        self._seen, self._ended_cpu = servers, ended_cpu
        merged: dict[str, list[Any]] = {}
        for pid, name, cpu, waited in servers.values():
            ended = self._ended.get(name, (0.0, 0.0))
            row = merged.setdefault(name, [pid, name, ended[0], None if waited is None else ended[1]])
            row[2] += cpu
            row[3] = None if waited is None or row[3] is None else row[3] + waited
        return [row for row in rows if row[0] not in servers] + list(merged.values())


class Instance:
    """One name server: where its processes, sockets and cgroup are, as far as they were found."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.name: str = spec["name"]
        self.kind: str = spec.get("kind", "")
        self.pid_file: str = spec.get("pid_file", "")
        self.pid_hint: int = spec.get("pid") or 0
        self.config: str = spec.get("config", "")
        self.port: int = spec.get("port", 53)
        self.addresses = {str(ipaddress.ip_address(a)) for a in spec["addresses"]}
        self.main: tuple[int, int] = (0, 0)
        self.members: list[int] = []
        self.inodes: set[int] | None = None
        self.limit: tuple[str, float | None, bool] | None = None
        self.limit_unknown: dict[str, str] = {}
        self.searched = 0.0
        self.workers = Workers()

    def sample(self, clock: float) -> dict[str, Any]:
        """Its counters now."""
        unknown: dict[str, str] = {}
        row: dict[str, Any] = {}
        main = asked(unknown, "pid", lambda: self._find(clock))
        if main is None:
            self.main, self.members, self.inodes = (0, 0), [], None
            unknown.update(cpu=unknown["pid"], tasks=unknown["pid"], throttling=unknown["pid"])
        else:
            row["pid"], row["started"] = main
            row["cpu"] = asked(unknown, "cpu", self._cpu)
            row["tasks"] = asked(unknown, "tasks", self._tasks)
            row["throttling"] = asked(unknown, "throttling", lambda: throttling(*self._group()))
        row["sockets"] = asked(unknown, "sockets", self.sockets)
        if main is None and row["sockets"] is None:
            # Neither process nor sockets: nothing says that it lives in our own network namespace.
            unknown.update(udp=unknown["pid"], udp6=unknown["pid"])
        else:
            row["udp"] = asked(unknown, "udp", lambda: snmp(read(self._net("snmp"))))
            row["udp6"] = asked(unknown, "udp6", lambda: snmp6(read(self._net("snmp6"))))
        return dict(row, unknown=unknown)

    def _net(self, name: str) -> str:
        # That of the process, for a pod has a network of its own; anybody may read it.
        return f"/proc/{self.main[0] or 'self'}/net/{name}"

    def _find(self, clock: float) -> tuple[int, int]:
        """Its main process and when that started. Looks again for all that belongs to it where that is due."""
        main = self._find_main()
        gone = [pid for pid in self.members if not os.path.exists(f"/proc/{pid}")]  # noqa: PTH110 - as above
        if main != self.main or gone or clock - self.searched >= SEARCH_EVERY:
            self.members = self._find_members(main[0])
            self.inodes = self._find_inodes()
            self.limit_unknown = {}
            self.limit = asked(self.limit_unknown, "", lambda: cpu_limit(main[0]))
            self.main, self.searched = main, clock
        return main

    def _find_main(self) -> tuple[int, int]:
        pid = self.pid_hint
        if self.pid_file:
            try:
                pid = int(read(self.pid_file))
            except (Unreadable, ValueError):
                if not pid:
                    raise
        if not pid:
            raise Unreadable("no pid file is known")
        stat = Stat(read(f"/proc/{pid}/stat"))
        program = read(f"/proc/{pid}/cmdline").split("\0")[0].rpartition("/")[2] or stat.name
        # A pid file outlives its process, and the number may be somebody else's by now.
        if stat.state in "ZX" or not program.startswith(_COMMANDS.get(self.kind, "")):
            raise Unreadable(f"process {pid} is not {self.kind} but {program}")
        return pid, stat.started

    def _find_members(self, main: int) -> list[int]:
        """Processes below the main one, and those of its process group that were started alike: NSD's orphans after a reload."""
        stats = dict(_processes())
        command = read(f"/proc/{main}/cmdline")
        members = [main]
        for pid in members:
            members += [other for other, stat in stats.items() if stat.parent == pid]
        for pid, stat in stats.items():
            if pid not in members and main in stats and stat.group == stats[main].group:
                with contextlib.suppress(Unreadable):
                    if read(f"/proc/{pid}/cmdline") == command:
                        members.append(pid)
        return members

    def _find_inodes(self) -> set[int] | None:
        """Its open sockets, None where that isn't ours to see."""
        try:
            return {inode for pid in self.members for inode in _open_sockets(pid)}
        except Unreadable:
            return None

    def _cpu(self) -> float:
        stats = [Stat(read(f"/proc/{pid}/stat")) for pid in self.members]
        return sum(stat.cpu + stat.ended_cpu for stat in stats)

    def _tasks(self) -> list[list[Any]]:
        rows = []
        for pid in self.members:
            for task in numbers(f"/proc/{pid}/task"):
                base = f"/proc/{pid}/task/{task}/"
                try:
                    stat = Stat(read(base + "stat"))
                except Unreadable:
                    continue  # a thread that ended meanwhile
                cpu, waited = run_times(base + "schedstat") or (stat.cpu, None)
                rows.append([task, stat.name, cpu, waited])
        if len(rows) > _MAX_ROWS:
            raise Unreadable(f"{len(rows)} threads are too many to tell")
        if self.kind == "nsd":
            rows = self.workers.take(rows, sum(Stat(read(f"/proc/{pid}/stat")).ended_cpu for pid in self.members))
        return rows

    def sockets(self) -> list[list[Any]]:
        """Its UDP sockets: its own where that can be seen, otherwise those bound to its addresses, or to all of them."""
        bound = udp_sockets(read(self._net("udp")), self.port)
        with contextlib.suppress(Unreadable):  # a kernel without IPv6
            bound += udp_sockets(read(self._net("udp6")), self.port)
        if self.inodes:
            found = [row for row in bound if row[0] in self.inodes]
        else:
            found = [row for row in bound if row[1] in self.addresses]
            found = found or [row for row in bound if row[1] in ("0.0.0.0", "::")]  # noqa: S104 - compared, not bound
        if not found:
            raise Unreadable(f"no UDP socket at port {self.port} of {', '.join(sorted(self.addresses))}")
        if len(found) > _MAX_ROWS:
            raise Unreadable(f"{len(found)} sockets are too many to tell")
        return found

    def _group(self) -> tuple[str, bool]:
        return self._limit()[::2]

    def _limit(self) -> tuple[str, float | None, bool]:
        if self.limit is None:
            raise Unreadable(self.limit_unknown.get("", "its process was not found"))
        return self.limit

    def conditions(self, buffers: dict[int, int] | None) -> dict[str, Any]:
        """How it is set up. After a sample only: that finds its processes."""
        unknown: dict[str, str] = {}
        row: dict[str, Any] = {}
        row["workers"] = asked(unknown, "workers", self._workers)
        row["rcvbuf"] = asked(unknown, "rcvbuf", lambda: self._smallest_buffer(buffers))
        limit = asked(unknown, "cpu_limit", self._limit)
        if limit is not None:
            row["cpu_limit"], row["is_unlimited"] = limit[1], limit[1] is None
        row["cpuset"] = asked(unknown, "cpuset", self._cpuset)
        config = asked(unknown, "config_hash", self._configuration)
        if config is None:
            unknown["rrl"] = unknown["config_hash"]
        else:
            row["config_hash"] = hashlib.sha256(config.encode("latin-1")).hexdigest()
            row["rrl"] = asked(unknown, "rrl", lambda: plain(rate_limits(self.kind, config)))
        return dict(row, unknown=unknown)

    def _workers(self) -> int:
        """NSD's are processes; others open a socket for each worker (SO_REUSEPORT)."""
        if self.kind == "nsd":
            names = [Stat(read(f"/proc/{pid}/stat")).name for pid in self.members]
            count = sum(bool(_SERVER.match(name)) for name in names)
            if not count:
                raise Unreadable("NSD's processes don't say which of them are servers")
            return count
        bound = [tuple(row[1:3]) for row in self.sockets()]
        return max(map(bound.count, bound))

    def _smallest_buffer(self, buffers: dict[int, int] | None) -> int:
        if buffers is None:
            raise Unreadable("the kernel doesn't tell the sizes of socket buffers")
        sizes = [buffers[row[0]] for row in self.sockets() if row[0] in buffers]
        if not sizes:
            raise Unreadable("its sockets are in another network namespace")
        return min(sizes)

    def _cpuset(self) -> str:
        if not self.main[0]:
            raise Unreadable("its process was not found")
        return read(f"/proc/{self.main[0]}/status").split("Cpus_allowed_list:")[1].split()[0]

    def _configuration(self) -> str:
        if not self.config:
            raise Unreadable("no configuration file is known")
        return read(self.config)


def _processes() -> Iterator[tuple[int, Stat]]:
    for pid in numbers("/proc"):
        try:
            yield pid, Stat(read(f"/proc/{pid}/stat"))
        except (Unreadable, ValueError):
            continue


def _open_sockets(pid: int) -> Iterator[int]:
    """Inodes of a process's sockets. Raises Unreadable if it isn't ours to look into."""
    for fd in numbers(f"/proc/{pid}/fd"):
        try:
            link = os.readlink(f"/proc/{pid}/fd/{fd}")  # noqa: PTH115 - as above
        except OSError as error:
            if error.errno == errno.ENOENT:
                continue
            raise Unreadable(f"/proc/{pid}/fd: {error.strerror}") from error
        if link.startswith("socket:["):
            yield int(link[8:-1])


# --- the host


def host_sample() -> dict[str, Any]:
    """The host's counters now."""
    unknown: dict[str, str] = {}
    return {
        "load1": asked(unknown, "load1", lambda: float(read("/proc/loadavg").split()[0])),
        "cores": asked(unknown, "cores", lambda: cores(read("/proc/stat"))),
        "softnet": asked(unknown, "softnet", lambda: softnet(read("/proc/net/softnet_stat"))),
        "interfaces": asked(unknown, "interfaces", lambda: interfaces(read("/proc/net/dev"))),
        "unknown": unknown,
    }


def host_conditions() -> dict[str, Any]:
    """What the host is."""
    unknown: dict[str, str] = {}
    return {
        "kernel": plain(os.uname().release),
        "cpu_model": asked(unknown, "cpu_model", lambda: cpu_model(read("/proc/cpuinfo"))),
        "cores": asked(unknown, "cores", lambda: len(cores(read("/proc/stat")))),
        "unknown": unknown,
    }


def cpu_model(cpuinfo: str) -> str:
    """The CPU's name in `/proc/cpuinfo`; ARM has numbers instead."""
    found = dict(re.findall(r"^(model name|cpu model|CPU implementer|CPU part)\s*:\s*(.*?)\s*$", cpuinfo, re.MULTILINE))
    if "CPU part" in found:
        return plain(f"ARM {found.get('CPU implementer', '?')}/{found['CPU part']}")
    if not found:
        raise Unreadable("/proc/cpuinfo doesn't name the CPU")
    return plain(str(next(iter(found.values()))))


# --- the conversation


class Watcher:
    """Reads commands, writes samples."""

    def __init__(self) -> None:
        self._unread = b""
        self._instances: list[Instance] = []
        self._interval = INTERVAL

    def run(self) -> None:
        """Until the input ends."""
        tell({"ev": "hello", "watcher": VERSION})
        next_at: float | None = None
        while True:
            wait = None if next_at is None else max(0.0, next_at - time.monotonic())
            if select.select([0], [], [], wait)[0]:
                data = os.read(0, 1 << 16)
                if not data:
                    return
                for line in self._lines(data):
                    signal.alarm(SILENCE)
                    command = json.loads(line)
                    if command["op"] == "watch":
                        self._watch(command)
                        next_at = time.monotonic() + self._interval
                    elif command["op"] == "sample":
                        self._sample(command["id"])
            elif next_at is not None:
                self._sample(0)
                # Seconds that were missed are not made up for.
                next_at = max(next_at + self._interval, time.monotonic())

    def _lines(self, data: bytes) -> list[bytes]:
        lines = (self._unread + data).split(b"\n")
        self._unread = lines.pop()
        if len(self._unread) > _MAX_LINE:
            raise ValueError(f"a command of more than {_MAX_LINE} bytes")
        return lines

    def _watch(self, command: dict[str, Any]) -> None:
        self._interval = max(0.1, float(command.get("interval", INTERVAL)))
        self._instances = [Instance(spec) for spec in command["instances"]]
        first = self._look(0)
        buffers = asked({}, "", receive_buffers)
        conditions = {instance.name: instance.conditions(buffers) for instance in self._instances}
        tell({"ev": "conditions", "host": host_conditions(), "instances": conditions})
        tell(first)

    def _sample(self, number: int) -> None:
        tell(self._look(number))

    def _look(self, number: int) -> dict[str, Any]:
        at, clock = time.time(), time.monotonic()
        rows = {instance.name: instance.sample(clock) for instance in self._instances}
        host = host_sample()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cost = usage.ru_utime + usage.ru_stime
        return {"ev": "sample", "id": number, "at": at, "clock": clock, "cost": cost, "host": host, "instances": rows}


def tell(line: dict[str, Any]) -> None:
    """One line to the engine. Of a node that is too large to tell of, what has many rows is left out."""
    data = json.dumps(line, separators=(",", ":")).encode()
    if len(data) >= _MAX_LINE:
        for row in line.get("instances", {}).values():
            for name in ("tasks", "sockets"):
                if row.pop(name, None) is not None:
                    row["unknown"][name] = "too many on this node to tell"
        data = json.dumps(line, separators=(",", ":")).encode()
    data += b"\n"
    while data:
        data = data[os.write(1, data) :]


def main() -> NoReturn:
    """Run. The alarm ends it wherever it is, for nobody is there to tell any more."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.alarm(SILENCE)
    try:
        Watcher().run()
    except (ValueError, KeyError, TypeError) as error:
        tell({"ev": "error", "why": plain(f"not a command: {error!r}")})
    os._exit(0)
