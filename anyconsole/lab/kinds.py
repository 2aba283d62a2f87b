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
}

ALIASES = {"bird": "speaker"}
"""Other words for kinds."""
