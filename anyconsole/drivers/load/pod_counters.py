"""What a name server's container shows of itself: its cgroup, its network namespace, its host's CPUs, as files that are printed together.

Nothing is brought into the container: `READING` needs a shell and `head`, as nearly every image has them, and prints all files once for
each line that it hears. What isn't there, or isn't the container's own, is unknown. Pure but for the text of that program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from anyconsole.drivers.load.watcher import Unreadable, asked, cores, plain, snmp, snmp6, softnet, udp_sockets
from anyconsole.model.load_counters import HostConditions, HostCounters, InstanceConditions, InstanceCounters

__all__ = ["END", "READING", "clock_of", "files_of", "host_conditions", "host_of", "instance_conditions", "instance_of"]

_S = TypeVar("_S", bound=msgspec.Struct)

_V2: Final = "/sys/fs/cgroup"
_V1: Final = "/sys/fs/cgroup/cpu"
_USED: Final = "/sys/fs/cgroup/cpuacct/cpuacct.usage"
_FILES: Final = (
    f"{_V2}/cpu.stat", f"{_V2}/cpu.max", f"{_V1}/cpu.stat", f"{_V1}/cpu.cfs_quota_us", f"{_V1}/cpu.cfs_period_us", _USED,
    "/proc/net/udp", "/proc/net/udp6", "/proc/net/snmp", "/proc/net/snmp6", "/proc/net/softnet_stat", "/proc/stat", "/proc/loadavg",
    "/proc/uptime", "/proc/sys/kernel/osrelease",
)  # fmt: skip

END: Final = b"==> end <=="
"""The line after the last file."""

READING: Final = f"while read -r _; do head -n 4096 {' '.join(_FILES)} 2>/dev/null; echo '{END.decode()}'; done"
"""For `sh -c`. `head` names each of several files; one process for a look is all that it costs."""


def files_of(lines: Iterable[str]) -> dict[str, str]:
    """The files that were printed, by path."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines:
        path = line.removeprefix("==> ").removesuffix(" <==")
        if path in _FILES and line == f"==> {path} <==":
            current = found[path] = []
        else:
            current.append(line)
    return {path: "\n".join(content).strip("\n") for path, content in found.items()}


def clock_of(files: Mapping[str, str]) -> float:
    """Seconds since its host was started, to 10 ms. Raises Unreadable."""
    try:
        return float(_read(files, "/proc/uptime").split()[0])
    except (ValueError, IndexError):
        raise Unreadable("/proc/uptime is not understood") from None


def instance_of(files: Mapping[str, str], port: int) -> InstanceCounters:
    """The counters of the name server whose container this is, in a pod where nobody else listens on its port."""
    unknown = {"tasks": "the processes of a pod aren't looked into"}

    def sockets() -> list[list[Any]]:
        bound = udp_sockets(_read(files, "/proc/net/udp"), port) + udp_sockets(files.get("/proc/net/udp6", ""), port)
        # On its host's network there may be a resolver beside it.
        found = [row for row in bound if not row[1].startswith("127.") and row[1] != "::1"]
        if not found:
            raise Unreadable(f"no UDP socket at port {port}")
        return found

    return _made(
        InstanceCounters,
        unknown,
        cpu=lambda: _cpu(files),
        throttling=lambda: _throttling(files),
        sockets=sockets,
        udp=lambda: snmp(_read(files, "/proc/net/snmp")),
        udp6=lambda: snmp6(_read(files, "/proc/net/snmp6")),
    )


def instance_conditions(files: Mapping[str, str]) -> InstanceConditions:
    """How it is set up, as far as its cgroup says."""
    why = "not looked for in a pod"
    unknown = dict.fromkeys(("workers", "rcvbuf", "cpuset", "rrl", "config_hash"), why)
    limit = asked(unknown, "cpu_limit", lambda: (_limit(files),))
    known = {"cpu_limit": limit[0], "is_unlimited": limit[0] is None} if limit is not None else {}
    return msgspec.convert({**known, "unknown": unknown}, InstanceConditions)


def host_of(files: Mapping[str, str]) -> HostCounters:
    """The counters of its host, which containers see as they are. Its interfaces aren't the container's."""
    return _made(
        HostCounters,
        {"interfaces": "a pod has its own"},
        load1=lambda: float(_read(files, "/proc/loadavg").split()[0]),
        cores=lambda: cores(_read(files, "/proc/stat")),
        softnet=lambda: softnet(_read(files, "/proc/net/softnet_stat")),
    )


def host_conditions(files: Mapping[str, str]) -> HostConditions:
    """What its host is."""
    return _made(
        HostConditions,
        {"cpu_model": "not looked for in a pod"},
        kernel=lambda: plain(_read(files, "/proc/sys/kernel/osrelease").strip()),
        cores=lambda: len(cores(_read(files, "/proc/stat"))),
    )


def _made(kind: type[_S], unknown: dict[str, str], **looks: Callable[[], Any]) -> _S:
    """What each look finds. A stranger's numbers that no counter can have are not known either."""
    found: dict[str, Any] = {}
    for name, look in looks.items():
        value = asked(unknown, name, look)
        try:
            msgspec.convert({name: value}, kind)
        except msgspec.ValidationError as error:
            unknown[name] = plain(f"not understood: {error}")
        else:
            found[name] = value
    return msgspec.convert({**found, "unknown": unknown}, kind)


def _is_v2(files: Mapping[str, str]) -> bool:
    """True with version 2. Raises Unreadable where what is seen isn't the container's own: the top of all groups has no limit to set."""
    if f"{_V2}/cpu.max" in files:
        return True
    if f"{_V1}/cpu.cfs_quota_us" in files:
        return False
    raise Unreadable("the container doesn't see a cgroup of its own")


def _cpu(files: Mapping[str, str]) -> float:
    if _is_v2(files):
        return int(_pairs(files, f"{_V2}/cpu.stat")["usage_usec"]) / 1e6
    return int(_read(files, _USED)) / 1e9


def _throttling(files: Mapping[str, str]) -> dict[str, Any]:
    is_v2 = _is_v2(files)
    found = _pairs(files, f"{_V2 if is_v2 else _V1}/cpu.stat")
    spent = int(found.get("throttled_usec", 0)) / 1e6 if is_v2 else int(found["throttled_time"]) / 1e9
    return {
        "group": _V2 if is_v2 else _V1,
        "periods": int(found.get("nr_periods", 0)),
        "throttled": int(found.get("nr_throttled", 0)),
        "seconds": spent,
    }


def _limit(files: Mapping[str, str]) -> float | None:
    """Cores that it may use, None for all."""
    if _is_v2(files):
        limit, period = _read(files, f"{_V2}/cpu.max").split()
    else:
        limit, period = _read(files, f"{_V1}/cpu.cfs_quota_us"), _read(files, f"{_V1}/cpu.cfs_period_us")
    return None if limit == "max" or int(limit) < 0 else int(limit) / int(period)


def _pairs(files: Mapping[str, str], path: str) -> dict[str, str]:
    return dict(line.split() for line in _read(files, path).splitlines())


def _read(files: Mapping[str, str], path: str) -> str:
    if path not in files:
        raise Unreadable(f"{path}: not shown")
    return files[path]
