"""What a load test needs while it lasts: its node held, a watcher there, generators that were proved and know their limits.

Everything ends with its context, in parallel and however hosts behave; what is left falls silent by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

import msgspec

from anyconsole.actions.load_guards import strangers
from anyconsole.actions.load_test import LoadRequest, address_of, cap_of, generators_of, seconds_of
from anyconsole.drivers.load.bundle import bootstrap
from anyconsole.drivers.load.generator import Channel, Generator, Generators, Watch
from anyconsole.drivers.load.messages import Setup
from anyconsole.drivers.load.query_set import QuerySet, from_capture, from_dnstap, from_file
from anyconsole.drivers.load.watching import Follow, Watching, instances_of
from anyconsole.drivers.load.zone_mix import from_transfer
from anyconsole.errors import LoadError
from anyconsole.model import inventory as profile
from anyconsole.model.facts import InstanceStatus
from anyconsole.model.inventory import LoadTarget, family_of
from anyconsole.model.load import Order, Phase, Trial
from anyconsole.model.store import FleetStore

__all__ = ["LoadHands", "generators", "held", "prove", "queries_of", "setups_of", "shares_of", "watched"]

PROOFS: Final = 200
PROOF_RATE: Final = 50.0
"""Queries, and queries per second, that prove where packets go before the first real second (loadtest.md, 6.4)."""

LOCK_DEADLINE: Final = 10.0


class LoadHands(Protocol):
    """How load tests reach hosts."""

    async def open_channel(self, host: str, program: str) -> Channel:
        """Start one of the programs of `drivers.load` on a host. Raises AnyconsoleError."""

    def forward(self, host: str, address: str, port: int) -> AbstractAsyncContextManager[int]:
        """A port on 127.0.0.1 that leads to an address as `host` sees it. Raises AnyconsoleError."""


@asynccontextmanager
async def held(hands: LoadHands, node: str) -> AsyncIterator[None]:
    """The node is ours alone to test. Raises AnyconsoleError if somebody else tests it."""
    channel = await hands.open_channel(node, "lock")
    try:
        channel.write(bootstrap("lock")[1])
        said = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOCK_DEADLINE):
                async for line in channel.lines():
                    said = line
                    break
        if said == b"taken":
            raise LoadError(f"{node}: somebody else runs a load test there")
        if said != b"locked":
            raise LoadError(
                f"{node}: can't be held for a load test: {channel.last_words or said.decode(errors='replace')[:200]}"
            )
        yield
    finally:
        channel.close()
        channel.abort()


@asynccontextmanager
async def watched(hands: LoadHands, store: FleetStore, node: str, follow: Follow) -> AsyncIterator[Watching]:
    """A watcher on the node. One that can't be had is told by its `error`: then the test knows less of its server."""
    pids = {status.tenant: status.pid for status in store.of_node(node, InstanceStatus)}
    channel = await hands.open_channel(node, "watcher")
    watching = Watching(node, channel, instances_of(store.inventory, node, pids), follow)
    try:
        yield watching
    finally:
        await watching.stop()


async def queries_of(
    hands: LoadHands, store: FleetStore, request: LoadRequest, target: LoadTarget, zone: str
) -> QuerySet:
    """What is asked: a file's queries, or names of the zone as its own name server transfers it to itself. Raises AnyconsoleError."""
    if request.queries:
        path = Path(request.queries)
        reader = {".pcap": from_capture, ".pcapng": from_capture, ".dnstap": from_dnstap}.get(path.suffix, from_file)
        return await asyncio.to_thread(reader, path, [zone])
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
    count = len(generators_of(store, request))
    return Setup(
        address=address,
        port=target.port,
        max_rate=cap_of(store, request, target) * share,
        max_seconds=2 * seconds_of(request, target),
        timeout=store.inventory.load.timeout,
        sources=sources,
        flows=max(1, request.flows // count),
        processes=generator.processes,
    )


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
    made = await _made(hands, setups_of(store, request, target), queries.text, watch)
    async with Generators(made) as all_of_them:
        yield all_of_them


async def _made(hands: LoadHands, setups: dict[str, Setup], text: str, watch: Watch | None) -> list[Generator]:
    opened = await asyncio.gather(*(hands.open_channel(name, "agent") for name in setups), return_exceptions=True)
    if failed := [one for one in opened if isinstance(one, BaseException)]:
        for one in opened:
            if not isinstance(one, BaseException):
                one.abort()
        raise failed[0]
    channels = dict(zip(setups, (one for one in opened if not isinstance(one, BaseException)), strict=True))
    return [Generator(name, channels[name], setup, text, watch) for name, setup in setups.items()]


async def prove(
    hands: LoadHands, store: FleetStore, request: LoadRequest, target: LoadTarget, queries: QuerySet
) -> Trial:
    """Ask a few questions that all want the NSID, from many ports of every generator: they must reach the target and nobody else.

    Raises:
        AnyconsoleError: They don't, or nothing answers.
    """
    wanted = generators_of(store, request)
    count = len(wanted)
    setups = {g.name: _proof_setup(_setup(store, request, target, g, 1 / count), count) for g in wanted}
    made = await _made(hands, setups, queries.text, None)
    async with Generators(made, dict.fromkeys(setups, 1.0)) as provers:
        trial = await provers.trial(Order(phase=Phase.PROOF, rate=PROOF_RATE, seconds=PROOFS / PROOF_RATE))
    where = f"{target.name} at {address_of(target, request.family)}"
    if trial.void:
        raise LoadError(f"{where}: where packets go could not be proved: {trial.void}")
    if not trial.counts.answered:
        raise LoadError(f"{where}: nothing answered {trial.counts.sent} queries")
    if wrong := strangers(store, target, trial.counts.identities):
        raise LoadError(f"{where}: {', '.join(wrong)} answered, which is not {target.tenant} on {target.node}")
    return trial


def _proof_setup(setup: Setup, count: int) -> Setup:
    return msgspec.structs.replace(
        setup,
        max_rate=PROOF_RATE,
        max_seconds=PROOFS / PROOF_RATE + 1,
        flows=PROOFS // count,
        processes=1,
        nsid_every=1,
    )
