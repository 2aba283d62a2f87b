"""Offers queries to one name server of the lab at a fixed rate, and counts what became of them."""

from __future__ import annotations

import re

import msgspec

from anyconsole.lab import Lab
from anyconsole.lab.topology import Tenant, node, unicast

__all__ = ["Offered", "offer"]


class Offered(msgspec.Struct, frozen=True):
    """How many queries were sent and how many got no answer within a second."""

    sent: int
    lost: int


def offer(lab: Lab, host: str, tenant: Tenant, rate: int, *, seconds: int = 1, address: str = "") -> Offered:
    """Ask the name server of a tenant on a node, at `address` or its unicast IPv4 address, from client1."""
    here = node(host)
    assert here is not None
    argv = [
        "dnsperf", "-s", address or unicast(here, tenant)[0], "-d", f"/srv/queries/{tenant.name}.txt", "-Q", str(rate), "-q", str(2 * rate),
        "-t", "1", "-c", "20", "-l", str(seconds), "-O", "suppress=timeouts",
    ]  # fmt: skip
    told = lab.run("client1", argv).stdout
    sent, lost = (int(re.search(rf"Queries {word}: +(\d+)", told)[1]) for word in ("sent", "lost"))  # type: ignore[index]
    return Offered(sent, lost)
