"""The header of a load test's record: who tested what, from where, with what, under which conditions. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from anyconsole import __version__
from anyconsole.actions.load.answer import Goal
from anyconsole.actions.load.engines import ENGINES
from anyconsole.actions.load.record import (
    NANOSECONDS,
    Conditions,
    GeneratorHost,
    Header,
    Instance,
    Target,
    Workload,
)  # fmt: skip
from anyconsole.actions.load.record import Goal as RecordedGoal
from anyconsole.actions.load.request import (
    LoadRequest,
    address_of,
    engine_of,
    flows_of,
    generators_of,
    port_of,
    zone_of,
)
from anyconsole.actions.plan import Plan
from anyconsole.drivers.load.messages import Hello, Setup
from anyconsole.drivers.load.query_set import QuerySet
from anyconsole.model.inventory import LoadEngine, LoadTarget, family_of
from anyconsole.model.load import Trial
from anyconsole.model.load_counters import InstanceConditions, NodeConditions
from anyconsole.model.store import FleetStore

__all__ = ["header_of"]


def header_of(
    store: FleetStore,
    plan: Plan,
    request: LoadRequest,
    target: LoadTarget,
    *,
    runid: str,
    change: str,
    goal: Goal,
    queries: QuerySet,
    conditions: NodeConditions | None,
    proof: Trial,
    hosts: Mapping[str, Hello],
    limits: dict[str, float],
    engines: Sequence[str],
    now: float,
) -> Header:
    """The first row of the record; conditions that aren't known stay empty.

    `hosts` is what each generator said of its host, `limits` what it could do in its self-test; `engines` are programs that make the
    queries ("" is our own agent).
    """
    address = address_of(target, request.family)
    setup = Setup(address=address, max_rate=goal.cap, max_seconds=1)
    name = engine_of(store, request)
    engine, is_ours = ENGINES[name], name is LoadEngine.AGENT
    params = (f"flows={request.flows}", f"nsid-every={setup.nsid_every}", f"bufsize={setup.bufsize}")
    rtt = proof.counts.latency.percentile(0.5)
    senders = tuple(
        GeneratorHost(
            host=g.name,
            cpu_model=hosts[g.name].cpu_model if g.name in hosts else "",
            kernel=hosts[g.name].kernel if g.name in hosts else "",
            flows=flows_of(store, request),
            src_addrs=g.sources if is_ours else _asks_from(g.sources, address),
            selftest_max_qps=limits.get(g.name),
            rtt_ms=rtt * 1000 if rtt is not None else None,
        )
        for g in generators_of(store, request)
    )
    return Header(
        runid=runid,
        generator="anyconsole" if is_ours else str(name),
        generator_version=__version__ if is_ours else ", ".join(said.removeprefix(f"{name} ") for said in engines),
        generator_params=params if is_ours else (f"flows={flows_of(store, request)}", f"protocol={request.protocol}"),
        timeout=store.inventory.load.timeout if engine.wait is None else engine.wait,
        since=round(now * NANOSECONDS),
        x=Conditions(
            purpose=request.purpose,
            operator=request.operator,
            reason=request.reason,
            ticket=request.ticket,
            profile=plan.profile,
            change=change,
            console_version=__version__,
            pair_id=request.pair,
            repeat=request.repeat,
            target=_target(store, target, address, port_of(target, request), conditions, proof),
            generators=senders,
            workload=Workload(
                file_sha256=queries.sha256,
                lines=len(queries.lines),
                edns=setup.bufsize if engine.edns is None else engine.edns,
                do=setup.dnssec,
                mix=queries.mix,
                source=queries.source,
                protocol=request.protocol,
            ),
            goal=RecordedGoal(
                loss=goal.loss,
                exceed=goal.exceed,
                width=goal.width,
                trial_s=goal.trial_seconds,
                prime_s=goal.prime_seconds,
                confirm_s=goal.confirm_seconds,
                p99_guard_ms=goal.p99_guard * 1000 if goal.p99_guard is not None else None,
                cap_qps=goal.cap,
            ),
        ),
    )


def _asks_from(sources: Sequence[str], address: str) -> tuple[str, ...]:
    """The address that a program which has but one asks from; none is what the host chooses."""
    return tuple(source for source in sources if family_of(source) is family_of(address))[:1]


def _target(
    store: FleetStore,
    target: LoadTarget,
    address: str,
    port: int,
    conditions: NodeConditions | None,
    proof: Trial,
) -> Target:
    node = store.inventory.node(target.node)
    status = store.instance(target.node, target.tenant)
    zone = zone_of(store, target)
    known = conditions.instances.get(target.tenant) if conditions is not None else None
    known = known or InstanceConditions()
    return Target(
        name=target.name,
        stack=node.name,
        kind=str(node.stack),
        tenant=target.tenant,
        node=target.node,
        instance=(
            Instance(
                name=f"{target.tenant}@{target.node}",
                identity=next(iter(proof.counts.identities), ""),
                ip=address,
                version=f"{status.daemon} {status.version}" if status is not None else "",
                workers=known.workers,
                rcvbuf=known.rcvbuf,
                cpu_limit=known.cpu_limit,
                cpuset=known.cpuset or "",
                rrl=known.rrl or "",
                kernel=(conditions.host.kernel or "") if conditions is not None else "",
                config_hash=known.config_hash or "",
            ),
        ),
        address=address,
        port=port,
        path="service",
        zone=zone,
        zone_serial=status.serials.get(zone) if status is not None else None,
    )
