"""What can be broken on purpose, as the command line explains it. How each is done and undone is in `faults`."""

from __future__ import annotations

__all__ = ["ALIASES", "KINDS"]

KINDS = {
    "nameserver": "HOST [TENANT]: stop the name server of a tenant (of every tenant)",
    "speaker": "HOST: stop the routing daemon",
    "sshd": "HOST: freeze sshd and every open SSH session",
    "link": "HOST PEER: cut the link to PEER on HOST's side",
    "session": "HOST SESSION: shut one BGP session down",
    "serial": "HOST [TENANT]: let the zone of a tenant (of every tenant) fall one SOA serial behind",
    "rrl": "HOST [TENANT]: response rate limiting for a tenant (every tenant): 5 equal answers a second to a network",
    "silentrrl": "HOST [TENANT]: the same, and what is too much gets no answer at all instead of a truncated one now and then",
    "smallbuffer": "HOST [TENANT]: a UDP receive buffer of 4 KiB for the name server of a tenant (of every tenant); not on Knot",
    "workers": "HOST [TENANT]: two workers for the name server of a tenant (of every tenant); not on BIND",
    "quota": "HOST TENANT: no more than a tenth of a core for the name server of a tenant",
}

ALIASES = {"bird": "speaker"}
"""Other words for kinds."""
