"""What a load test needs while it lasts: its node held, a watcher there, generators that were proved and know their limits.

Everything ends with its context, in parallel and however hosts behave; what is left falls silent by itself.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol, Self

import msgspec

from anyconsole.actions.action import Said
from anyconsole.actions.load.engines import ENGINES
from anyconsole.actions.load.guards import strangers
from anyconsole.actions.load.request import (
    LoadRequest,
    address_of,
    cap_of,
    engine_of,
    flows_of,
    generators_of,
    port_of,
    queries_file,
    seconds_of,
)
from anyconsole.drivers.load.bundle import bootstrap
from anyconsole.drivers.load.generator import Channel, Generator, Generators, Watch
from anyconsole.drivers.load.messages import Hello, MessageError, Setup
from anyconsole.drivers.load.pod_watching import PodWatching
from anyconsole.drivers.load.query_set import QuerySet, from_capture, from_dnstap, from_file
from anyconsole.drivers.load.watching import Follow, Watcher, Watching, instances_of
from anyconsole.drivers.load.zone_mix import from_transfer
from anyconsole.drivers.ssh.fault import plain
from anyconsole.errors import AnyconsoleError, LoadError
from anyconsole.model import inventory as profile
from anyconsole.model.facts import InstanceStatus
from anyconsole.model.inventory import LoadEngine, LoadTarget, family_of
from anyconsole.model.load import Order, Phase, Transport, Trial
from anyconsole.model.store import FleetStore

__all__ = [
    "Finder",
    "Hold",
    "LoadHands",
    "generators",
    "held",
    "prove",
    "queries_in_file",
    "queries_of",
    "setups_of",
    "shares_of",
    "watched",
]

PROOFS: Final = 200
PROOF_SECONDS: Final = 4.0
"""Queries at least, and seconds that they take, which prove where packets go before the first real second (loadtest.md, 6.4)."""

SLACK: Final = 2.0
"""Seconds that a generator may add up to more than was planned: trials begin and end a little apart."""

LOCK_DEADLINE: Final = 10.0
HOLD_BEAT: Final = 5.0

_log = logging.getLogger(__name__)


class Finder(Protocol):
    """What load tests ask of a cluster."""

    async def find(self, paths: Iterable[str]) -> list[dict[str, Any] | None]:
        """Objects as they are, None for what isn't there. Raises AnyconsoleError."""


class LoadHands(Protocol):
    """How load tests reach hosts."""

    async def look(self, hosts: Collection[str], deadline: float) -> set[str]:
        """Look at hosts afresh; returns those that were seen. What was seen is in the store."""

    async def execute(self, host: str, script: str, deadline: float) -> Said:
        """Run a script of a host, or of a cluster's API. Raises AnyconsoleError: then it may or may not have run."""

    async def open_channel(self, host: str, program: str) -> Channel:
        """Start one of the programs of `drivers.load` on a host, or in the pod that a generator is. Raises AnyconsoleError."""

    async def open_reader(self, node: str, tenant: str) -> Channel:
        """Have the container of a tenant's name server on a node in a cluster show its counters. Raises AnyconsoleError."""

    async def await_generators(self, names: Collection[str], deadline: float) -> None:
        """Wait until the pods that generators are run. Raises AnyconsoleError, saying what keeps them."""

    def in_cluster(self, name: str) -> Finder:
        """What can be asked of a cluster. Raises AnyconsoleError."""

    def forward(self, host: str, address: str, port: int) -> AbstractAsyncContextManager[int]:
        """A port on 127.0.0.1 that leads to an address as `host` sees it. Raises AnyconsoleError."""


class Hold:
    """A host that is ours alone to test from, or on, while the context lasts. `is_lost` once it isn't any more."""

    def __init__(self, hands: LoadHands, host: str) -> None:
        self._hands = hands
        self.host = host
        self.is_lost = False
        self._channel: Channel | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Take it. Raises AnyconsoleError if somebody else has it."""
        channel = self._channel = await self._hands.open_channel(self.host, "lock")
        said: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._tasks = [asyncio.create_task(self._listen(channel, said), name=f"lock of {self.host}")]
        channel.write(bootstrap("lock")[1])
        try:
            async with asyncio.timeout(LOCK_DEADLINE):
                word = await said
        except TimeoutError:
            word = b"no answer in time"
        except BaseException:
            await self.__aexit__()
            raise
        if word != b"locked":
            await self.__aexit__()
            if word == b"taken":
                raise LoadError(f"{self.host}: somebody else runs a load test there")
            why = channel.last_words or plain(word.decode("utf-8", "replace")[:200])
            raise LoadError(f"{self.host}: can't be held for a load test: {why}")
        self._tasks.append(asyncio.create_task(self._beat(channel), name=f"hold {self.host}"))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        if self._channel is not None:
            self._channel.close()
            self._channel.abort()

    async def _listen(self, channel: Channel, said: asyncio.Future[bytes]) -> None:
        try:
            async for line in channel.lines():
                if not said.done():
                    said.set_result(line)
        except MessageError as error:
            _log.warning("lock of %s: %s", self.host, error)
        self.is_lost = True
        if not said.done():
            said.set_result(b"")

    async def _beat(self, channel: Channel) -> None:
        while True:
            await asyncio.sleep(HOLD_BEAT)
            channel.write(b"\n")


@asynccontextmanager
async def held(hands: LoadHands, hosts: Collection[str]) -> AsyncIterator[tuple[Hold, ...]]:
    """Hosts that are ours alone while the context lasts: a node, or it is measured twice; generators, or their limits don't hold.

    Raises:
        AnyconsoleError: Somebody else has one of them; then we have none.
    """
    holds = tuple(Hold(hands, host) for host in dict.fromkeys(hosts))
    taken = await asyncio.gather(*(hold.__aenter__() for hold in holds), return_exceptions=True)
    try:
        if failed := next((one for one in taken if isinstance(one, BaseException)), None):
            raise failed
        yield holds
    finally:
        for hold in holds:
            await hold.__aexit__()


@asynccontextmanager
async def watched(hands: LoadHands, store: FleetStore, node: str, follow: Follow) -> AsyncIterator[Watcher]:
    """A watcher on the node. One that can't be had is told by its `error`: then the test knows less of its server."""
    if store.inventory.node(node).cluster:
        watching: Watcher = await _in_pods(hands, store, node, follow)
    else:
        pids = {status.tenant: status.pid for status in store.of_node(node, InstanceStatus)}
        channel = await hands.open_channel(node, "watcher")
        watching = Watching(node, channel, instances_of(store.inventory, node, pids), follow)
    try:
        yield watching
    finally:
        await watching.stop()


async def _in_pods(hands: LoadHands, store: FleetStore, node: str, follow: Follow) -> PodWatching:
    """A watcher of all name servers that the node has in pods."""

    async def one(tenant: str) -> Channel | str:
        try:
            return await hands.open_reader(node, tenant)
        except AnyconsoleError as error:
            return str(error)

    found = instances_of(store.inventory, node)
    channels = await asyncio.gather(*(one(instance.name) for instance in found))
    by_tenant = dict(zip((instance.name for instance in found), channels, strict=True))
    return PodWatching(node, by_tenant, {instance.name: 53 for instance in found}, follow)


async def queries_in_file(request: LoadRequest, target: LoadTarget, zone: str) -> QuerySet | None:
    """What is asked if it is in a file, None if it isn't. Raises LoadError, naming the file, and the target whose `queries` it is."""
    file = Path(queries_file(target, request))
    if not file.name:
        return None
    reader = {".pcap": from_capture, ".pcapng": from_capture, ".dnstap": from_dnstap}.get(file.suffix, from_file)
    try:
        return await asyncio.to_thread(reader, file, [zone])
    except LoadError as error:
        if request.queries:
            raise
        raise LoadError(f'`queries` of [[load.target]] "{target.name}": {error}') from error


async def queries_of(
    hands: LoadHands, store: FleetStore, request: LoadRequest, target: LoadTarget, zone: str
) -> QuerySet:
    """What is asked: names of the zone as its own name server transfers it to itself. Raises AnyconsoleError."""
    address = address_of(target, request.family)
    async with hands.forward(target.node, address, target.port) as port:
        try:
            return await from_transfer(zone, "127.0.0.1", store.inventory.load.mix, port=port)
        except LoadError as error:
            words = f"{error}. Let the name server transfer it to {address} itself, or give a file of queries"
            raise LoadError(words) from error


def _setup(
    store: FleetStore, request: LoadRequest, target: LoadTarget, generator: profile.Generator, share: float
) -> Setup:
    address = address_of(target, request.family)
    sources = tuple(s for s in generator.sources if family_of(s) is family_of(address))
    return Setup(
        address=address,
        port=port_of(target, request),
        max_rate=cap_of(store, request, target) * share,
        max_seconds=seconds_of(store, request, target) + SLACK,
        timeout=store.inventory.load.timeout,
        sources=sources,
        flows=flows_of(store, request),
        processes=generator.processes,
        transport=request.protocol,
        **_taken(store, generator) if engine_of(store, request) is LoadEngine.KXDPGUN else {},
    )


def _taken(store: FleetStore, generator: profile.Generator) -> dict[str, Any]:
    """The interface that kxdpgun may take, and what name servers answer from: the interface must carry none of that."""
    inventory = store.inventory
    served = [
        *(a for tenant in inventory.tenants for a in (*tenant.prefixes, *tenant.addresses)),
        *(a for target in inventory.load.targets for a in target.addresses),
    ]
    return {"interface": generator.interface, "services": tuple(dict.fromkeys(served))}


def shares_of(wanted: Sequence[profile.Generator]) -> dict[str, float]:
    """Which part of the rate each generator carries: as much as its limit allows."""
    whole = sum(g.max_qps for g in wanted)
    return {g.name: g.max_qps / whole for g in wanted}


def setups_of(store: FleetStore, request: LoadRequest, target: LoadTarget) -> dict[str, Setup]:
    """What each generator is told."""
    wanted = generators_of(store, request)
    shares = shares_of(wanted)
    return {g.name: _setup(store, request, target, g, shares[g.name]) for g in wanted}


@asynccontextmanager
async def generators(
    hands: LoadHands, store: FleetStore, request: LoadRequest, target: LoadTarget, queries: QuerySet, watch: Watch
) -> AsyncIterator[Generators]:
    """The generators, prepared. Raises AnyconsoleError."""
    program = ENGINES[engine_of(store, request)].program
    made = await _made(hands, setups_of(store, request, target), queries.text, watch, program)
    async with Generators(made) as all_of_them:
        yield all_of_them


async def _made(
    hands: LoadHands, setups: dict[str, Setup], text: str, watch: Watch | None, program: str = "agent"
) -> list[Generator]:
    opened = await asyncio.gather(*(hands.open_channel(name, program) for name in setups), return_exceptions=True)
    if failed := [one for one in opened if isinstance(one, BaseException)]:
        for one in opened:
            if not isinstance(one, BaseException):
                one.abort()
        raise failed[0]
    channels = dict(zip(setups, (one for one in opened if not isinstance(one, BaseException)), strict=True))
    return [Generator(name, channels[name], setup, text, watch, program=program) for name, setup in setups.items()]


async def prove(
    hands: LoadHands, store: FleetStore, request: LoadRequest, target: LoadTarget, queries: QuerySet
) -> tuple[Trial, dict[str, Hello]]:
    """Ask a few questions that all want the NSID, from many ports of every generator: they must reach the target and nobody else.

    Returns:
        What came of it, and what each generator said of its host.

    Raises:
        AnyconsoleError: They don't, or nothing answers.
    """
    wanted = generators_of(store, request)
    count = len(wanted)
    # Our own agent asks, over UDP, whatever is to come: nothing else tells an NSID.
    asked = msgspec.structs.replace(request, protocol=Transport.UDP, engine=LoadEngine.AGENT)
    each = math.ceil(PROOFS / count)
    rate = (each + 0.5) / PROOF_SECONDS  # half a query more, so that rounding doesn't cost one
    setups = {g.name: _proof_setup(_setup(store, asked, target, g, 1 / count), each, rate) for g in wanted}
    made = await _made(hands, setups, queries.text, None)
    async with Generators(made) as provers:
        trial = await provers.trial(Order(phase=Phase.PROOF, rate=rate * count, seconds=PROOF_SECONDS))
    where = f"{target.name} at {address_of(target, request.family)}"
    if trial.void:
        raise LoadError(f"{where}: where packets go could not be proved: {trial.void}")
    if not trial.counts.answered:
        raise LoadError(f"{where}: nothing answered {trial.counts.sent} queries")
    if wrong := strangers(store, target, trial.counts.identities):
        raise LoadError(f"{where}: {', '.join(wrong)} answered, which is not {target.tenant} on {target.node}")
    return trial, provers.hellos


def _proof_setup(setup: Setup, flows: int, rate: float) -> Setup:
    return msgspec.structs.replace(
        setup,
        max_rate=rate,
        max_seconds=PROOF_SECONDS + 1,
        flows=flows,
        processes=1,
        nsid_every=1,
    )
