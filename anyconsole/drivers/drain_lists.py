"""Drain state kept in prefix lists named AC-HARD-<PEER> and AC-SOFT-<PEER>, as FRR and GoBGP hold it: lists in, pairs out.

Standard library only: this module travels to the nodes.
"""

from __future__ import annotations

import ipaddress
import zlib
from typing import TYPE_CHECKING, NamedTuple

from anyconsole.drivers.parse_error import ParseError
from anyconsole.drivers.speaker_rows import announcements_of

if TYPE_CHECKING:
    from anyconsole.drivers.ask import Spec

__all__ = ["ListEntry", "drain_pairs", "drain_serial", "list_entry"]


class ListEntry(NamedTuple):
    """One entry of a prefix list: a prefix inside `network` whose length is within the bounds is permitted or denied."""

    permit: bool
    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    low: int
    high: int

    def matches(self, prefix: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
        """True if the entry decides about `prefix`."""
        return (
            prefix.version == self.network.version
            and self.low <= prefix.prefixlen <= self.high
            and int(prefix.network_address) & int(self.network.netmask) == int(self.network.network_address)
        )


def list_entry(prefix: object, *, permit: bool, low: object = None, high: object = None) -> ListEntry:
    """An entry from a daemon's words; without bounds only the exact prefix matches. Raises ParseError."""
    try:
        network = ipaddress.ip_network(str(prefix), strict=False)
    except ValueError:
        raise ParseError("not a prefix in a prefix list", str(prefix)) from None
    most = network.prefixlen if low is None and high is None else network.max_prefixlen
    bounds = []
    for given, default in ((low, network.prefixlen), (high, most)):
        bound = default if given is None else given
        if not isinstance(bound, int) or not 0 <= bound <= network.max_prefixlen:
            raise ParseError("not a prefix length in a prefix list", str(bound))
        bounds.append(bound)
    return ListEntry(permit, network, bounds[0], bounds[1])


def drain_pairs(spec: Spec, lists: dict[str, list[ListEntry]], level: str) -> list[tuple[int, int]]:
    """The (tenant, session) pairs that the lists of `level` (HARD or SOFT) cover, sorted."""
    pairs = set()
    for session, tenant, prefix in announcements_of(spec):
        network = ipaddress.ip_network(prefix)
        for entry in lists.get("AC-{}-{}".format(level, session["peer"].upper()), ()):
            if entry.matches(network):
                if entry.permit:
                    pairs.add((tenant["number"], session["number"]))
                break
    return sorted(pairs)


def drain_serial(hard: list[tuple[int, int]], soft: list[tuple[int, int]]) -> int:
    """A number that tells two drain states apart where the daemon keeps no serial; 0 if nothing is drained."""
    return zlib.crc32(repr((hard, soft)).encode()) if hard or soft else 0
