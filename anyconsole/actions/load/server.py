"""The server's side of a load test: what its node counts meanwhile, as rows for the screen, seconds for the record, and the limit at last.

All of it comes from counters that the node shows anyway; where the watcher is lost or may not read, it stays unknown.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

import msgspec

from anyconsole.actions.load.answer import Answer, Ending
from anyconsole.actions.load.counters import (
    busiest,
    cpu_spent,
    difference,
    drops_of,
    held_back,
    number_in,
    reading_of,
    throttled_share,
)
from anyconsole.actions.load.guards import Baseline, baseline_of, moves, strangers
from anyconsole.actions.load.limit import Limit, Watched, catchment, limit_of
from anyconsole.actions.load.record import HostNoise, InstanceSecond
from anyconsole.drivers.load.watching import Watcher
from anyconsole.errors import LoadError
from anyconsole.model.facts import Counted, SessionState, SessionStatus
from anyconsole.model.inventory import LoadTarget
from anyconsole.model.load import Phase, Transport, Trial
from anyconsole.model.load_counters import (
    InstanceConditions,
    InstanceCounters,
    NodeConditions,
    NodeCounters,
)
from anyconsole.model.load_view import InstanceRow
from anyconsole.model.store import FleetStore
from anyconsole.model.views.catchment import node_of_nsid

__all__ = ["Look", "Server"]

IDLE_OVER: Final = 3.0
"""Seconds over which a node's idle time is judged."""
SAMPLES_KEPT: Final = 300


Look: TypeAlias = Callable[[], Awaitable[object]]
"""Has the node's daemons looked at: what they tell is in the store when it returns."""


class _Moment(msgspec.Struct, frozen=True):
    """What was true between two trials: the node's counters, the name server's own, and its BGP. None where nobody told."""

    counters: NodeCounters | None
    counted: Counted | None
    baseline: Baseline


class _Span(msgspec.Struct, frozen=True):
    """A trial, and what was true before and after it."""

    trial: Trial
    before: _Moment
    after: _Moment


class Server:
    """One target's node during one test."""

    def __init__(
        self,
        store: FleetStore,
        target: LoadTarget,
        loss: float,
        p99_guard: float | None = None,
        protocol: Transport = Transport.UDP,
        look: Look | None = None,
    ) -> None:
        """Without `look` nothing is known of what the name server itself counts."""
        self._store = store
        self._target = target
        self._loss = loss
        self._p99_guard = p99_guard
        self._protocol = protocol
        self._look = look
        self._watching: Watcher | None = None
        self._samples: deque[NodeCounters] = deque(maxlen=SAMPLES_KEPT)
        self._before: _Moment | None = None
        self._spans: list[_Span] = []
        self._usual_network = 0.0
        self._usual_rate = 0.0
        self.conditions: NodeConditions | None = None

    async def watch(self, watching: Watcher) -> None:
        """What tells of the node from now on, when nothing has been sent yet."""
        self._watching = watching
        rates = self._store.rates(self._target.node, self._target.tenant, "probe")
        self._usual_rate = rates.qps if rates is not None else 0.0
        with contextlib.suppress(LoadError):  # `trouble` says why
            self.conditions = await watching.start()

    def sampled(self, node: str, sample: NodeCounters) -> None:  # noqa: ARG002 - there is one node
        """A sample came."""
        self._samples.append(sample)

    @property
    def trouble(self) -> str:
        """Why nothing is known of the node's counters; "" if it is."""
        return str(self._watching.error or "") if self._watching is not None else "not watched"

    # --- around a trial

    async def begin(self, now: float) -> None:
        """A trial is about to begin."""
        if not self._spans:
            self._usual_network = self._network()
        counted = await self._count()  # first: NSD forks its servers anew for it, whose CPU is told from then on
        self._before = _Moment(await self._sample(), counted, baseline_of(self._store, self._target, now))

    async def ended(self, trial: Trial, now: float) -> None:
        """A trial is over, which had begun."""
        assert self._before is not None  # noqa: S101 - `begin` was called
        sample = await self._sample()
        after = _Moment(sample, await self._count(), baseline_of(self._store, self._target, now))
        self._spans.append(_Span(trial, self._before, after))

    async def _count(self) -> Counted | None:
        """The name server's own counters as they stand now; None where it doesn't tell, or not in time."""
        if self._look is None:
            return None
        before = self._counted()
        await self._look()
        counted = self._counted()
        return counted if counted is not None and (before is None or counted.moment != before.moment) else None

    def _counted(self) -> Counted | None:
        rates = self._store.rates(self._target.node, self._target.tenant, "probe")
        return rates.counted if rates is not None else None

    async def _sample(self) -> NodeCounters | None:
        if self._watching is None:
            return None
        try:
            return await self._watching.sample()
        except LoadError:
            return None  # what isn't known is shown as unknown, and `trouble` says why

    # --- while it runs

    @property
    def idle(self) -> float | None:
        """Share of the node's CPU time that nobody used in the last seconds."""
        first, last = self._recent()
        spent = cpu_spent(first, last, lambda core: core.total)
        left = cpu_spent(first, last, lambda core: core.idle)
        return left / spent if left is not None and spent else None

    @property
    def taken(self) -> float | None:
        """Share of it that went in the same time to the instance under test, and to the network more than before there was load."""
        first, last = self._recent()
        spent = cpu_spent(first, last, lambda core: core.total)
        network = cpu_spent(first, last, lambda core: core.softirq)
        if first is None or last is None or network is None or not spent:
            return None
        before, after = (s.instances.get(self._target.tenant) for s in (first, last))
        if before is None or after is None or before.cpu is None or after.cpu is None or before.pid != after.pid:
            return None
        return (after.cpu - before.cpu) / spent + max(0.0, network / spent - self._usual_network)

    def _network(self) -> float:
        """Share of the node's CPU time that went to the network since the watcher began; 0 if it isn't known."""
        if len(self._samples) < 2:
            return 0.0
        first, last = self._samples[0], self._samples[-1]
        network, spent = (cpu_spent(first, last, what) for what in (lambda core: core.softirq, lambda core: core.total))
        return network / spent if network is not None and spent else 0.0

    def _recent(self) -> tuple[NodeCounters, NodeCounters] | tuple[None, None]:
        """The samples at both ends of the last seconds; none if they are too few."""
        recent = [s for s in self._samples if s.clock >= self._samples[-1].clock - IDLE_OVER - 0.5]
        if len(recent) < 2 or recent[-1].clock - recent[0].clock < IDLE_OVER - 1:
            return None, None
        return recent[0], recent[-1]

    def rows(self, identities: Mapping[str, int], now: float) -> tuple[InstanceRow, ...]:
        """The target's instance and its neighbours."""
        answers = sum(identities.values())
        sessions = self._store.of_node(self._target.node, SessionStatus)
        up = sum(s.state is SessionState.ESTABLISHED for s in sessions)
        rows = []
        for spec in self._store.inventory.node(self._target.node).instances:
            is_target = spec.tenant == self._target.tenant
            own = [n for n in identities if n and node_of_nsid(self._store, n) == self._target.node]
            rates = self._store.qps(self._target.node, spec.tenant, now)
            second = self._second(spec.tenant)
            rows.append(
                InstanceRow(
                    node=self._target.node,
                    tenant=spec.tenant,
                    identity=own[0] if is_target and own else "",
                    share=sum(identities[n] for n in own) / answers if is_target and answers else None,
                    served=rates.qps if rates is not None else None,
                    busy=second.cpu,
                    throttled=throttled_share(self._pair(spec.tenant)),
                    drops=second.rcvbuf_err,
                    bgp=f"{up}/{len(sessions)} up",
                    is_target=is_target,
                )
            )
        return tuple(rows)

    def seconds(self, now: float, identities: Mapping[str, int] | None = None) -> dict[str, InstanceSecond]:
        """What each instance of the node did in the last second; `identities` are the NSIDs that answered in it."""
        told = {}
        for spec in self._store.inventory.node(self._target.node).instances:
            rates = self._store.qps(self._target.node, spec.tenant, now)
            second = self._second(spec.tenant)
            told[spec.tenant] = msgspec.structs.replace(second, served=round(rates.qps) if rates is not None else None)
        own = self._target.tenant
        if own in told:
            told[own] = msgspec.structs.replace(told[own], share=self._share(identities or {}))
        return told

    def _pair(self, tenant: str) -> tuple[InstanceCounters, InstanceCounters, float] | None:
        """The last two samples of an instance and the seconds between them."""
        if len(self._samples) < 2:
            return None
        one, two = self._samples[-2], self._samples[-1]
        before, after = one.instances.get(tenant), two.instances.get(tenant)
        if before is None or after is None or before.pid != after.pid or two.clock <= one.clock:
            return None
        return before, after, two.clock - one.clock

    def _second(self, tenant: str) -> InstanceSecond:
        pair = self._pair(tenant)
        if pair is None:
            return InstanceSecond()
        before, after, seconds = pair
        cpu = (after.cpu - before.cpu) / seconds if before.cpu is not None and after.cpu is not None else None
        drops = difference(drops_of(before), drops_of(after))
        return InstanceSecond(
            cpu=cpu,
            throttled=difference(held_back(before), held_back(after)),
            rcvbuf_err=round(drops / seconds) if drops is not None else None,
        )

    # --- at the end

    def limit(self, answer: Answer) -> Limit | None:
        """What limited the result; None where nothing was limited, or nothing can be said."""
        if not self._spans or answer.ending is Ending.NOTHING_ANSWERS:
            return None
        if answer.ending is Ending.ABORTED:  # it says nothing of its target, but perhaps why
            return catchment([self._watched(self._spans[-1])])
        span = self._telling(answer)
        if span is None:
            return None
        rest = next((s.trial for s in self._spans if s.trial.counts.loss <= self._loss and not s.trial.void), None)
        return limit_of(span.trial, [self._watched(span)], loss=self._loss, rest=rest)

    def _telling(self, answer: Answer) -> _Span | None:
        """The trial that speaks of the limit: the lowest rate that failed, the climb's last; else what was void, or slow."""
        failed = [s for s in self._spans if not s.trial.void and s.trial.counts.loss > self._loss]
        if failed:
            return min(failed, key=lambda s: (s.trial.order.phase is Phase.CLIMB, s.trial.order.rate))
        if answer.ending is Ending.GENERATOR_LIMITED:
            return next((s for s in reversed(self._spans) if s.trial.void), None)
        slow = [s for s in self._spans if not s.trial.void and self._is_slow(s.trial)]
        return slow[-1] if slow else self._spans[-1] if answer.ending is Ending.LATENCY_LIMITED else None

    def _is_slow(self, trial: Trial) -> bool:
        p99 = trial.counts.latency.percentile(0.99)
        return p99 is not None and self._p99_guard is not None and p99 > self._p99_guard

    def _watched(self, span: _Span) -> Watched:
        conditions = self._instance_conditions
        tenant = self._target.tenant
        # Readings surround priming and the last answers' way: what was used then was used while there was load.
        order = span.trial.order
        first, last = span.before.counters, span.after.counters
        between = last.clock - first.clock if first and last else 0.0
        seconds = min(between, order.prime_seconds + order.seconds)
        before, after = (reading_of(m.counters, m.counted, tenant) for m in (span.before, span.after))
        if span.before.counted and span.after.counted and before.served is not None and after.served is not None:
            others = self._usual_rate * (span.after.counted.moment - span.before.counted.moment)
            after = msgspec.structs.replace(after, served=max(before.served, after.served - round(others)))
        workers = conditions.workers if conditions is not None else None
        before, after = busiest(before, after, workers or 1)
        if self._protocol is not Transport.UDP:  # UDP's counters tell nothing of these queries
            before, after = (msgspec.structs.replace(r, datagrams=None, receive_errors=None) for r in (before, after))
        return Watched(
            name=f"{tenant} on {self._target.node}",
            before=before,
            after=after,
            seconds=seconds,
            rate_limit=number_in(conditions.rrl) if conditions is not None else None,
            has_moved=bool(next(moves(self._target, span.before.baseline, span.after.baseline), "")),
            share=self._share(span.trial.counts.identities),
        )

    def _share(self, told: Mapping[str, int]) -> float | None:
        """Of the answers that told an NSID, those that came from the target; None where none did."""
        if not (whole := sum(told.values())):
            return None
        return 1 - sum(told[name] for name in told if strangers(self._store, self._target, [name])) / whole

    @property
    def _instance_conditions(self) -> InstanceConditions | None:
        return self.conditions.instances.get(self._target.tenant) if self.conditions is not None else None

    @property
    def noise(self) -> HostNoise | None:
        """What else the node did: stolen time, load average; None if it isn't known."""
        if len(self._samples) < 2:
            return None
        first, last = self._samples[0], self._samples[-1]
        spent = cpu_spent(first, last, lambda core: core.total)
        stolen = cpu_spent(first, last, lambda core: core.steal)
        return HostNoise(steal=stolen / spent if stolen is not None and spent else None, loadavg=last.host.load1)

    def cpu_per_million(self) -> float | None:
        """CPU seconds of the name server for a million queries, over all sound trials; None if it isn't known."""
        cpu = sent = 0.0
        for span in self._spans:
            first, last = span.before.counters, span.after.counters
            if first is None or last is None or span.trial.void:
                continue
            before, after = (s.instances.get(self._target.tenant) for s in (first, last))
            if before is None or after is None or before.cpu is None or after.cpu is None or before.pid != after.pid:
                continue
            order = span.trial.order
            cpu += after.cpu - before.cpu
            sent += span.trial.counts.sent + order.prime_rate * order.prime_seconds
        return cpu / sent * 1e6 if sent and cpu else None
