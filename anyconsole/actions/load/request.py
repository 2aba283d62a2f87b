"""Load tests, on paper: which targets are meant, from where, how fast and how long, and who would feel it.

A target is one instance at addresses that are its alone, listed in the profile. Nothing on its node is changed; what a load test does to it
ends by itself three seconds after the console does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import StrEnum

import msgspec

from anyconsole.actions.load.engines import ENGINES
from anyconsole.actions.load.permitted import asked_for, denied_words
from anyconsole.actions.load.search import MOST_CONFIRMS
from anyconsole.actions.plan import Plan, Step
from anyconsole.drivers.kube.generator_job import GeneratorJob, generator_job
from anyconsole.drivers.kube.node_lock import NodeLock, node_lock
from anyconsole.errors import AnyconsoleError
from anyconsole.model.facts import LinkState
from anyconsole.model.inventory import Family, Generator, LoadEngine, LoadTarget, TargetClass, family_of
from anyconsole.model.load import Transport
from anyconsole.model.store import FleetStore

__all__ = [
    "SILENCE",
    "LoadRequest",
    "Purpose",
    "address_of",
    "asked_of",
    "asked_seconds",
    "cap_of",
    "engine_of",
    "entries_of",
    "flows_of",
    "generators_of",
    "jobs_of",
    "lock_of",
    "make_plan",
    "port_of",
    "queries_file",
    "request_of",
    "seconds_of",
    "targets_of",
    "zone_of",
]  # fmt: skip

SILENCE = 3
"""Seconds after which a generator that hears nothing from its console falls silent (loadtest.md, 6.1)."""

JOB_SHARE, JOB_SECONDS = 2.0, 600
"""The Job of generators is ended by Kubernetes after so many times the seconds of queries, and so many seconds: none takes as long."""

SEARCH_SECONDS = 180
"""Longest a search may take before its confirmation; a usual one takes 45."""


MOST_ROUNDS = 20
"""Turns in which two targets are compared at most."""

_COUNTED = ("what its name server counts before and after each trial tells where queries and answers are lost",)

_NAMES = {LoadEngine.AGENT: "the agent", LoadEngine.DNSPERF: "dnsperf", LoadEngine.KXDPGUN: "kxdpgun"}
_PROTOCOLS = {Transport.UDP: "UDP", Transport.TCP: "TCP", Transport.DOT: "TLS"}


class Purpose(StrEnum):
    """What a load test is for."""

    SEARCH = "search"
    """Find the highest rate at which at most the goal's share is lost."""
    FIXED = "fixed"
    RAMP = "ramp"
    SOAK = "soak"


class LoadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants measured. An empty part of the scope means all listed targets; rates are queries/s, times are seconds.

    `rate` is that of a fixed run or a soak, and where a ramp ends; `cap` is never exceeded (0: as the target allows). `loss`, `width` and
    `p99_guard` are the profile's unless said. `confirm` is how long a search holds what it found. `queries` is a file of queries, "" for
    what the target has. `protocol` is what they travel in; `engine` makes them in place of what the profile says of the generators.
    `pair` joins runs that are to be compared. With `rounds` two targets are tested so often in turns, A B B A A B ..., and `repeat` is the
    turn of one run. `force`, `window_until` and `second` are what a production target wants besides.
    """

    purpose: Purpose = Purpose.SEARCH
    targets: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    generators: tuple[str, ...] = ()
    family: Family | None = None
    rate: float = 0.0
    seconds: float = 0.0
    cap: float = 0.0
    loss: float | None = None
    width: float | None = None
    p99_guard: float | None = None
    confirm: float = 30.0
    flows: int = 256
    queries: str = ""
    protocol: Transport = Transport.UDP
    engine: LoadEngine | None = None
    pair: str = ""
    rounds: int = 0
    repeat: int = 0
    reason: str = ""
    ticket: str = ""
    operator: str = ""
    force: bool = False
    window_until: float = 0.0
    second: str = ""


def targets_of(store: FleetStore, request: LoadRequest) -> list[LoadTarget]:
    """The targets that are meant. Raises AnyconsoleError for names that nothing is called, and where none is left."""
    load = store.inventory.load
    known = {t.name: t for t in load.targets}
    if unknown := [name for name in request.targets if name not in known]:
        raise AnyconsoleError(
            f"{', '.join(unknown)}: no [[load.target]] of profile {store.inventory.name} is called so; "
            f"there are {', '.join(known) or 'none'}"
        )
    found = [
        t
        for t in load.targets
        if (not request.targets or t.name in request.targets)
        and (not request.nodes or t.node in request.nodes)
        and (not request.tenants or t.tenant in request.tenants)
    ]
    if not found:
        raise AnyconsoleError(
            "nothing here is a target of load tests: only what [[load.target]] of the profile lists ever is"
        )
    return found


def generators_of(store: FleetStore, request: LoadRequest) -> list[Generator]:
    """The generators that are meant, those in clusters pod by pod. Raises AnyconsoleError if there is none."""
    return [member for entry in entries_of(store, request) for member in entry.members]


def entries_of(store: FleetStore, request: LoadRequest) -> list[Generator]:
    """The generators that are meant, as they are in the profile. Raises AnyconsoleError if there is none."""
    known = {g.name: g for g in store.inventory.generators}
    if unknown := [name for name in request.generators if name not in known]:
        raise AnyconsoleError(f"{', '.join(unknown)}: no [[generator]] of the profile is called so")
    if not known:
        raise AnyconsoleError("the profile names no [[generator]]: nothing could make the queries")
    return [known[name] for name in request.generators or known]


def engine_of(store: FleetStore, request: LoadRequest) -> LoadEngine:
    """What makes the queries, on all of the generators. Raises AnyconsoleError if they differ."""
    if request.engine is not None:
        return request.engine
    by_engine: dict[LoadEngine, list[str]] = {}
    for generator in generators_of(store, request):
        by_engine.setdefault(generator.engine, []).append(generator.name)
    if len(by_engine) > 1:
        named = "; ".join(f"{', '.join(names)}: {engine}" for engine, names in by_engine.items())
        raise AnyconsoleError(
            f"generators of one load test need the same engine ({named}): choose with --generator, or say --engine"
        )
    return next(iter(by_engine))


def port_of(target: LoadTarget, request: LoadRequest) -> int:
    """The port that is asked."""
    return target.dot_port if request.protocol is Transport.DOT else target.port


def queries_file(target: LoadTarget, request: LoadRequest) -> str:
    """The file with the queries, "" for names of the zone as the target transfers it."""
    return request.queries or target.queries


def address_of(target: LoadTarget, family: Family | None) -> str:
    """The address that is asked: the first of the wanted family. Raises AnyconsoleError if it has none."""
    for address in target.addresses:
        if family is None or family_of(address) is family:
            return address
    raise AnyconsoleError(f"{target.name} has no {family} address")


def cap_of(store: FleetStore, request: LoadRequest, target: LoadTarget) -> float:
    """The rate that is never exceeded: the least of what was asked for, what the target allows and what the generators may do."""
    allowed = min(target.max_qps, sum(g.max_qps for g in generators_of(store, request)))
    return float(min(request.cap, allowed) if request.cap else allowed)


def asked_seconds(request: LoadRequest) -> float:
    """How long a course that is no search goes on."""
    return float(request.seconds or (3600 if request.purpose is Purpose.SOAK else 60))


def seconds_of(store: FleetStore, request: LoadRequest, target: LoadTarget) -> float:
    """Seconds that queries may flow at most."""
    if request.purpose is Purpose.SEARCH:
        longer = ENGINES[engine_of(store, request)].shortest
        return float(min(target.max_seconds, SEARCH_SECONDS * longer + MOST_CONFIRMS * request.confirm))
    return asked_seconds(request)


def flows_of(store: FleetStore, request: LoadRequest) -> int:
    """Sockets of each generator."""
    count = len(generators_of(store, request))
    return ENGINES[engine_of(store, request)].flows_of(request.flows, request.protocol, count)


def asked_of(plan: Plan) -> LoadRequest:
    """The request that a load test's plan was made from. Raises AnyconsoleError if it can't be read."""
    try:
        return msgspec.convert(plan.request, LoadRequest)
    except msgspec.ValidationError as error:
        raise AnyconsoleError(f"the request of this load test can't be read: {error}") from error


def make_plan(store: FleetStore, request: LoadRequest, now: float) -> Plan:
    """The plan of a load test: one step for each target, or for each turn of two. Raises AnyconsoleError for what makes no sense."""
    _check(request)
    _check_engine(store, request)
    targets = targets_of(store, request)
    virtual = [t for t in targets if store.inventory.node(t.node).cluster and not queries_file(t, request)]
    if virtual:
        names = ", ".join(target.name for target in virtual)
        missing_file = "no zone can be transferred from a name server in a cluster"
        words = f"{names}: {missing_file}: give --queries FILE, or `queries` in its [[load.target]]"
        asked = asked_for(lock_of(store, request, virtual[0], now), jobs_of(store, request, virtual[0], now))
        raise AnyconsoleError("; ".join((*denied_words(store, asked), words)))
    turns = [(target, 0) for target in targets]
    if request.rounds:
        turns = list(_turns(targets, request))
    request = msgspec.structs.replace(request, targets=tuple(t.name for t in targets), nodes=(), tenants=())
    missing = [f"{g.name} is {_state(store, g)}" for g in entries_of(store, request) if _state(store, g)]
    if request.force and len(targets) > 1:
        raise AnyconsoleError("one production target at a time")
    return Plan(
        action="loadtest",
        title=f"load test: {_purpose_words(request)} of {', '.join(t.name for t in targets)}",
        profile=store.inventory.name,
        made_at=now,
        reason=request.reason,
        ticket=request.ticket,
        request=msgspec.to_builtins(request),
        type_to_confirm=_word_to_type(store, targets),
        steps=tuple(_step(store, request, target, turn, now) for target, turn in turns),
        in_order=bool(request.rounds),
        missing=tuple(missing),
    )


def _turns(targets: list[LoadTarget], request: LoadRequest) -> Iterator[tuple[LoadTarget, int]]:
    """Which target is tested when, and in which turn: each turn begins with the one that ended the last, so that a drift cancels out."""
    if len(targets) != 2 or len(request.targets) != 2:
        raise AnyconsoleError("two targets are compared in turns: name both")
    if len({queries_file(target, request) for target in targets}) > 1:
        raise AnyconsoleError(
            "the two would be asked different things: give --queries FILE, or both the same `queries` in the profile"
        )
    if not request.pair:
        raise AnyconsoleError("runs in turns need the id of their pair")
    a, b = sorted(targets, key=lambda target: request.targets.index(target.name))
    for turn in range(1, request.rounds + 1):
        yield from ((target, turn) for target in ((a, b) if turn % 2 else (b, a)))


def request_of(plan: Plan, step: Step) -> LoadRequest:
    """What one step of a plan asks for: the plan's request, and the step's turn. Raises AnyconsoleError."""
    request = asked_of(plan)
    if not request.rounds:
        return request
    return msgspec.structs.replace(request, repeat=plan.steps.index(step) // 2 + 1)


def _check(request: LoadRequest) -> None:
    if request.purpose is not Purpose.SEARCH and request.rate <= 0:
        raise AnyconsoleError(f"a {request.purpose} run needs a rate (queries per second)")
    for name, value in (("rate", request.rate), ("seconds", request.seconds), ("cap", request.cap)):
        if value < 0:
            raise AnyconsoleError(f"{name} {value:g}: less than nothing")
    if request.loss is not None and not 0 <= request.loss < 1:
        raise AnyconsoleError(f"loss {request.loss:g}: a share from 0 to 1 is meant (0.01 is 1 %)")
    if request.width is not None and not 0 < request.width <= 0.5:
        raise AnyconsoleError(f"width {request.width:g}: a share from 0 to 0.5 is meant (0.01 is 1 %)")
    if not 1 <= request.confirm <= 3600:
        raise AnyconsoleError(f"confirm {request.confirm:g}: 1 to 3600 seconds are meant")
    if not 0 <= request.rounds <= MOST_ROUNDS:
        raise AnyconsoleError(f"rounds {request.rounds}: 1 to {MOST_ROUNDS} can be had")
    if not 1 <= request.flows <= 4096:
        raise AnyconsoleError(f"flows {request.flows}: 1 to 4096 can be had")


def _check_engine(store: FleetStore, request: LoadRequest) -> None:
    name = engine_of(store, request)
    engine = ENGINES[name]
    wanted = generators_of(store, request)
    if request.protocol not in engine.transports:
        raise AnyconsoleError(
            f"{request.protocol}: only dnsperf asks over it, but {', '.join(g.name for g in wanted)} asks with {_NAMES[name]}: "
            'say --engine dnsperf, or set engine = "dnsperf" in the profile'
        )
    if name is LoadEngine.KXDPGUN and (shared := [g.name for g in wanted if not (g.dedicated and g.interface)]):
        raise AnyconsoleError(
            f"generator {', '.join(shared)}: kxdpgun takes a network interface away from its host: "
            "set dedicated = true and interface in the profile if it has nothing else to do"
        )
    if request.p99_guard is not None and not engine.latency:
        raise AnyconsoleError(f"{name} measures no latency: it can't keep a guard on p99")
    if name is LoadEngine.AGENT:
        return
    shortest = request.confirm if request.purpose is Purpose.SEARCH else request.seconds or engine.shortest
    if shortest < engine.shortest:
        raise AnyconsoleError(
            f"{name} says nothing of use in less than {engine.shortest:g} s, {shortest:g} were asked for"
        )


def _state(store: FleetStore, generator: Generator) -> str:
    link = store.link(generator.link)
    return (
        ""
        if link is not None and link.state is LinkState.LIVE
        else f"not connected ({link.state if link else 'unknown'})"
    )


def _purpose_words(request: LoadRequest) -> str:
    match request.purpose:
        case Purpose.SEARCH:
            return "search for the best rate"
        case Purpose.RAMP:
            return f"ramp to {request.rate:,.0f} q/s"
        case _:
            return f"{request.purpose} run at {request.rate:,.0f} q/s"


def _word_to_type(store: FleetStore, targets: list[LoadTarget]) -> str:
    """Whatever may be felt outside, or is more than one target, wants its name typed."""
    if any(t.class_ is not TargetClass.LAB for t in targets):
        return targets[0].name
    return store.inventory.name if len(targets) > 1 else ""


def jobs_of(store: FleetStore, request: LoadRequest, target: LoadTarget, planned_at: float) -> list[GeneratorJob]:
    """The Jobs of the generators in clusters. Raises AnyconsoleError."""
    seconds, test = _longest(store, request, target), _test(request, target, planned_at)
    return [
        generator_job(store.inventory, entry, tested=target.node, seconds=seconds, test=test)
        for entry in entries_of(store, request)
        if entry.cluster
    ]


def lock_of(store: FleetStore, request: LoadRequest, target: LoadTarget, planned_at: float) -> NodeLock | None:
    """The lock of a target's node that is in a cluster; None for a node that is held over SSH. Raises AnyconsoleError."""
    node = store.inventory.node(target.node)
    if not node.cluster:
        return None
    return node_lock(node, seconds=_longest(store, request, target), test=_test(request, target, planned_at))


def _longest(store: FleetStore, request: LoadRequest, target: LoadTarget) -> int:
    """Seconds after which no test goes on, and what is left of one in a cluster has ended."""
    return math.ceil(JOB_SHARE * seconds_of(store, request, target)) + JOB_SECONDS


def _test(request: LoadRequest, target: LoadTarget, planned_at: float) -> str:
    """Names the test in a cluster: no two at any time are called the same."""
    return f"{request.operator} {target.name} {planned_at:.3f}"


def _step(store: FleetStore, request: LoadRequest, target: LoadTarget, turn: int, planned_at: float) -> Step:
    address = address_of(target, request.family)
    generators = generators_of(store, request)
    jobs = jobs_of(store, request, target, planned_at)
    makes = [f"{job.generator.cluster}: make generators\n{job.begin}" for job in jobs]
    deletes = [f"{job.generator.cluster}: at the end, however it ends\n{job.end}" for job in jobs]
    if lock := lock_of(store, request, target, planned_at):
        makes.insert(0, f"{lock.cluster}: hold {target.node}\n{lock.begin}")
        deletes.append(f"{lock.cluster}: give {target.node} back, however it ends\n{lock.end}")
    return Step(
        host=target.node,
        part=target.name,
        title=f"{_purpose_words(request)}, {target.tenant} at {address} {_place(target, request)}{_in_turn(request, turn)}",
        apply="\n".join((*makes, *_commands(store, generators, address, target, request), *deletes)),
        confirm="",
        revert="",
        hold=SILENCE,
        diff="",
        about=tuple(_about(store, request, target, generators)),
        proof=(
            "200 queries first: every NSID is this instance's",
            *(() if store.inventory.node(target.node).cluster else _COUNTED),
        ),
    )


def _in_turn(request: LoadRequest, turn: int) -> str:
    return f", turn {turn} of {request.rounds} in pair {request.pair}" if turn else ""


def _about(store: FleetStore, request: LoadRequest, target: LoadTarget, generators: list[Generator]) -> Iterator[str]:
    load = store.inventory.load
    loss = load.loss if request.loss is None else request.loss
    guard = load.p99_guard_ms / 1000 if request.p99_guard is None else request.p99_guard
    engine = ENGINES[engine_of(store, request)]
    flows = flows_of(store, request) * len(generators)
    timely = f"p99 under {guard * 1000:.0f} ms" if engine.latency else "latency not known"
    within = f"answers within {load.timeout:g} s"
    if engine.wait is not None:
        within = f"answers until {engine.wait:g} s after its last query"
    yield f"from  {', '.join(g.name for g in generators)}, {flows} flows"
    yield f"never over {cap_of(store, request, target):,.0f} q/s, nor longer than {seconds_of(store, request, target):,.0f} s"
    yield f"goal  at most {loss:.2%} lost, {timely}, {within}"
    yield f"asks  {queries_file(target, request) or f'names of {zone_of(store, target)} ({_mix(store)})'}"
    others = [i.tenant for i in store.inventory.node(target.node).instances if i.tenant != target.tenant]
    yield f"felt  by {target.tenant} on {target.node}, and its neighbours there: {', '.join(others) or 'none'}"


def _mix(store: FleetStore) -> str:
    return ", ".join(f"{share:.0%} {kind}" for kind, share in store.inventory.load.mix.items())


def zone_of(store: FleetStore, target: LoadTarget) -> str:
    """The zone that is asked for."""
    return target.zone or store.inventory.tenant(target.tenant).zones[0]


def _place(target: LoadTarget, request: LoadRequest) -> str:
    """The port, and the protocol where it isn't the usual one."""
    over = "" if request.protocol is Transport.UDP else f" over {_PROTOCOLS[request.protocol]}"
    return f"port {port_of(target, request)}{over}"


def _commands(
    store: FleetStore, generators: list[Generator], address: str, target: LoadTarget, request: LoadRequest
) -> Iterator[str]:
    cap = cap_of(store, request, target)
    engine = engine_of(store, request)
    whole = sum(g.max_qps for g in generators)
    for generator in generators:
        share = cap * generator.max_qps / whole
        taken = f" on interface {generator.interface}" if engine is LoadEngine.KXDPGUN else ""
        yield (
            f"{generator.name}$ python3 -c BOOTSTRAP    # {ENGINES[engine].words}{taken}, over standard input: "
            f"{address} {_place(target, request)}, {share:,.0f} q/s and {seconds_of(store, request, target):,.0f} s at most, "
            f"silent after {SILENCE} s without this console"
        )
