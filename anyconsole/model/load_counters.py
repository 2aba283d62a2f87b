"""What a node under a load test counted, as it was read there: totals that only grow while a process lives, never rates. Pure values.

Two of them say what happened between. What couldn't be read is None, never 0, and `unknown` says why, by the field's name. Text from the
node is printable ASCII, or it isn't taken. Small rows travel as arrays: there may be thousands of them a second.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

__all__ = [
    "Core", "HostConditions", "HostCounters", "InstanceConditions", "InstanceCounters", "Interface", "NodeConditions", "NodeCounters",
    "Softnet", "Task", "Throttling", "UdpCounters", "UdpSocket",
]  # fmt: skip

MAX_ROWS: Final = 4096
"""Rows of one kind that a node may tell of: more is no node that we know."""

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
_Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
_Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=300, pattern=r"^[ -~]*$")]
_Unknown: TypeAlias = Annotated[dict[_Text, _Text], msgspec.Meta(max_length=64)]


# --- a name server


class Task(msgspec.Struct, frozen=True, array_like=True):
    """A thread of a name server. `cpu` is seconds that it ran, `waited` seconds that it could have run but had no CPU.

    Of NSD's servers one number is one task, however often it was forked anew; `id` is that of the process that has it now.
    Where `waited` isn't known, `cpu` is only exact to 10 ms.
    """

    id: _Count
    name: _Text
    cpu: _Seconds
    waited: _Seconds | None


class UdpSocket(msgspec.Struct, frozen=True, array_like=True):
    """A socket that a name server receives on. `queued` are bytes in its buffer now, `drops` queries that found it full (or were bad)."""

    inode: _Count
    address: _Text
    port: _Count
    queued: _Count
    drops: _Count


class Throttling(msgspec.Struct, frozen=True, kw_only=True):
    """CPU quota (cfs bandwidth control): in `throttled` of `periods` the group wasn't let run any more, `seconds` in all.

    `group` is the directory of the cgroup with the tightest quota. Where no quota is set nothing is counted: all are 0.
    """

    group: _Text
    periods: _Count
    throttled: _Count
    seconds: _Seconds


class UdpCounters(msgspec.Struct, frozen=True, kw_only=True):
    """UDP of one family in the network namespace of a name server (SNMP's udpInDatagrams and so on), whoever else uses it."""

    in_datagrams: _Count
    no_ports: _Count
    in_errors: _Count
    receive_buffer_errors: _Count
    out_datagrams: _Count
    send_buffer_errors: _Count


class InstanceCounters(msgspec.Struct, frozen=True, kw_only=True):
    """A name server. Its process is `pid`, `started` clock ticks after boot: another one has other counters.

    `cpu` is seconds of all its processes, to 10 ms each, with threads and child processes that have ended.
    `served` are queries by its own count, which the watcher doesn't ask for: that is for whoever asks the name server anyway.
    """

    pid: _Count | None = None
    started: _Count | None = None
    cpu: _Seconds | None = None
    tasks: Annotated[tuple[Task, ...], msgspec.Meta(max_length=MAX_ROWS)] | None = None
    throttling: Throttling | None = None
    sockets: Annotated[tuple[UdpSocket, ...], msgspec.Meta(max_length=MAX_ROWS)] | None = None
    udp: UdpCounters | None = None
    udp6: UdpCounters | None = None
    served: _Count | None = None
    unknown: _Unknown = {}


# --- its host


class Core(msgspec.Struct, frozen=True, array_like=True):
    """Seconds of a CPU. `idle` includes waiting for disks; `steal` went to other virtual machines, `softirq` mostly to the network."""

    total: _Seconds
    idle: _Seconds
    steal: _Seconds
    softirq: _Seconds


class Softnet(msgspec.Struct, frozen=True, array_like=True):
    """Packets between network card and protocols: `dropped` found the backlog full, `squeezed` counts rounds that ran out of budget."""

    processed: _Count
    dropped: _Count
    squeezed: _Count


class Interface(msgspec.Struct, frozen=True, array_like=True):
    """What a network interface received: whole packets, broken ones, and those it had no room for."""

    packets: _Count
    errors: _Count
    dropped: _Count


class HostCounters(msgspec.Struct, frozen=True, kw_only=True):
    """The host: load average of a minute, its CPUs in their order, its network."""

    load1: _Seconds | None = None
    cores: Annotated[tuple[Core, ...], msgspec.Meta(max_length=MAX_ROWS)] | None = None
    softnet: Softnet | None = None
    interfaces: Annotated[dict[_Text, Interface], msgspec.Meta(max_length=MAX_ROWS)] | None = None
    unknown: _Unknown = {}


class NodeCounters(msgspec.Struct, frozen=True, kw_only=True):
    """All of them at one moment: `at` is epoch seconds by the node's clock, `clock` its monotonic one. `cost` is CPU that looking took.

    `instances` go by tenant. `id` is that of the question that it answers, 0 if nobody asked.
    """

    at: _Seconds
    clock: _Seconds
    cost: _Seconds
    host: HostCounters
    instances: Annotated[dict[_Text, InstanceCounters], msgspec.Meta(max_length=256)]
    id: _Count = 0


# --- what doesn't change during a test


class InstanceConditions(msgspec.Struct, frozen=True, kw_only=True):
    """How a name server is set up. `rcvbuf` is the smallest of its sockets' buffers as the kernel counts (twice what was asked for).

    `cpu_limit` is in cores, and `is_unlimited` says that there is none; `cpuset` are the CPUs it may use; `rrl` are its rate limits in
    words, from its configuration; `config_hash` is the SHA-256 of that file, without what it includes.
    """

    workers: _Count | None = None
    rcvbuf: _Count | None = None
    cpu_limit: _Seconds | None = None
    is_unlimited: bool = False
    cpuset: _Text | None = None
    rrl: _Text | None = None
    config_hash: _Text | None = None
    unknown: _Unknown = {}


class HostConditions(msgspec.Struct, frozen=True, kw_only=True):
    """What the host is."""

    kernel: _Text | None = None
    cpu_model: _Text | None = None
    cores: _Count | None = None
    unknown: _Unknown = {}


class NodeConditions(msgspec.Struct, frozen=True, kw_only=True):
    """Under which conditions a node is tested. `instances` go by tenant."""

    host: HostConditions
    instances: Annotated[dict[_Text, InstanceConditions], msgspec.Meta(max_length=256)]
