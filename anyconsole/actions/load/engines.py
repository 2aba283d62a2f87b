"""What load tests have to know of each engine, the program that makes the queries: what it takes, and what it can't tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from anyconsole.drivers.load import dnsperf, kxdpgun_agent
from anyconsole.model.inventory import LoadEngine
from anyconsole.model.load import Transport, Untold

__all__ = ["ENGINES", "Engine"]


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """An engine. `program` is that of `drivers.load` which is sent, `words` are those of plans.

    `shortest` are seconds below which a trial says nothing, `wait` those for which it takes answers whatever it is told (None: as long as
    it is told), `edns` the size that it offers (None: what it is told). One that doesn't keep `seconds` apart has no self-test, no priming,
    and asks from one address. Without `latency` no percentile can be guarded.
    """

    program: str
    words: str
    transports: tuple[Transport, ...] = (Transport.UDP,)
    shortest: float = 1.0
    seconds: bool = False
    latency: bool = True
    wait: float | None = None
    edns: int | None = None
    untold: Untold = ()

    def flows_of(self, flows: int, transport: Transport, generators: int) -> int:  # noqa: ARG002 - not all are alike
        """Sockets of each generator if so many are wanted of all."""
        return max(1, flows // generators)


class _Dnsperf(Engine, frozen=True, kw_only=True):
    def flows_of(self, flows: int, transport: Transport, generators: int) -> int:
        return dnsperf.flows_of(flows, transport, generators)


class _Kxdpgun(Engine, frozen=True, kw_only=True):
    def flows_of(self, flows: int, transport: Transport, generators: int) -> int:  # noqa: ARG002 - a new port each time
        return kxdpgun_agent.PORTS


ENGINES: Final[Mapping[LoadEngine, Engine]] = {
    LoadEngine.AGENT: Engine(program="agent", words="the load agent", seconds=True),
    LoadEngine.DNSPERF: _Dnsperf(
        program="dnsperf_agent",
        words="dnsperf under our load agent",
        transports=tuple(Transport),
        shortest=dnsperf.MIN_SECONDS,
        edns=dnsperf.EDNS_SIZE,
        untold=("truncated",),
    ),
    LoadEngine.KXDPGUN: _Kxdpgun(
        program="kxdpgun_agent",
        words="kxdpgun under our load agent",
        latency=False,
        wait=kxdpgun_agent.WAIT,
        untold=("late", "truncated"),
    ),
}
