"""What a node and its name server count, made into readings and figures. Pure; what isn't known stays None."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from anyconsole.actions.load.limit import Reading
from anyconsole.model.facts import Counted
from anyconsole.model.load_counters import Core, InstanceCounters, NodeCounters, Task

__all__ = [
    "busiest", "cpu_spent", "difference", "drops_of", "held_back", "number_in", "reading_of", "throttled_share",
]  # fmt: skip


def cpu_spent(first: NodeCounters | None, last: NodeCounters | None, what: Callable[[Core], float]) -> float | None:
    """CPU seconds of one sort between two samples, of all cores; None if it isn't known."""
    before, after = (s.host.cores if s is not None else None for s in (first, last))
    if not before or not after or len(before) != len(after):
        return None
    return sum(what(b) - what(a) for a, b in zip(before, after, strict=True))


def reading_of(sample: NodeCounters | None, counted: Counted | None, tenant: str) -> Reading:
    """What is known of an instance at one moment: of its node's sample, and of what its name server counted."""
    reading = Reading(
        served=counted.taken if counted is not None else None,
        withheld=counted.withheld if counted is not None else None,
    )
    counters = sample.instances.get(tenant) if sample is not None else None
    if sample is None or counters is None:
        return reading
    udps = [u for u in (counters.udp, counters.udp6) if u is not None]
    held = counters.throttling
    interfaces = sample.host.interfaces
    return msgspec.structs.replace(
        reading,
        cpu=_by_task(counters.tasks, lambda task: task.cpu),
        waited=_by_task(counters.tasks, lambda task: task.waited),
        periods=held.periods if held is not None else None,
        throttled=held.throttled if held is not None else None,
        datagrams=sum(u.in_datagrams for u in udps) if udps else None,
        receive_errors=sum(u.receive_buffer_errors for u in udps) if udps else None,
        socket_drops={f"{s.address} {s.port} {s.inode}": s.drops for s in counters.sockets}
        if counters.sockets is not None
        else None,
        softnet_drops=sample.host.softnet.dropped if sample.host.softnet is not None else None,
        nic_drops=sum(i.dropped for i in interfaces.values()) if interfaces is not None else None,
    )


def _by_task(tasks: Sequence[Task] | None, value: Callable[[Task], float | None]) -> dict[str, float] | None:
    """Seconds by task. A name that is one task's alone says which it is: processes are forked anew under it."""
    if tasks is None:
        return None
    names = Counter(task.name for task in tasks)
    known = {
        task.name if names[task.name] == 1 else f"{task.name}/{task.id}": seconds
        for task in tasks
        if (seconds := value(task)) is not None
    }
    return known or None


def busiest(before: Reading, after: Reading, workers: int) -> tuple[Reading, Reading]:
    """Only the tasks that answer queries: of a name server's, those that did most. The others (transfers, control) idle by nature."""
    if before.cpu is None or after.cpu is None:
        return before, after
    used = {task: cpu - before.cpu[task] for task, cpu in after.cpu.items() if task in before.cpu}
    kept = sorted(used, key=lambda task: used[task], reverse=True)[:workers]
    return _only(before, kept), _only(after, kept)


def _only(reading: Reading, tasks: Sequence[str]) -> Reading:
    cpu, waited = (
        {task: seconds[task] for task in tasks if task in seconds} if seconds is not None else None
        for seconds in (reading.cpu, reading.waited)
    )
    return msgspec.structs.replace(reading, cpu=cpu, waited=waited)


def drops_of(counters: InstanceCounters) -> int | None:
    """What its sockets dropped."""
    return sum(s.drops for s in counters.sockets) if counters.sockets is not None else None


def held_back(counters: InstanceCounters) -> int | None:
    """CPU periods in which its cgroup was held back."""
    return counters.throttling.throttled if counters.throttling is not None else None


def difference(before: int | None, after: int | None) -> int | None:
    """By how much a counter grew; None if it isn't known, or began anew."""
    return after - before if before is not None and after is not None and after >= before else None


def throttled_share(pair: tuple[InstanceCounters, InstanceCounters, float] | None) -> float | None:
    """Share of the CPU periods in which it was held back."""
    if pair is None or pair[0].throttling is None or pair[1].throttling is None:
        return None
    periods = pair[1].throttling.periods - pair[0].throttling.periods
    return (pair[1].throttling.throttled - pair[0].throttling.throttled) / periods if periods > 0 else 0.0


def number_in(words: str | None) -> int | None:
    """The rate in a rate limit's words: 0 where they say that there is none, None where it isn't known."""
    if words is None:
        return None
    found = re.search(r"\d+", words)
    return int(found.group()) if found else 0
