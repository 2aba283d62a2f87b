"""Since when every BGP session is up, as the routers at its other end say it: the same words whatever the node runs."""

from __future__ import annotations

import re
import time

from anyconsole.errors import LabError
from anyconsole.lab.lab import Lab
from anyconsole.lab.topology import ROUTERS

__all__ = ["Uptimes", "flapped", "uptimes"]

Uptimes = dict[tuple[str, str], float]
"""By router and session ("fra1_v4"): seconds since the epoch, as BIRD says it."""

_LINE = re.compile(r"^(\w+_v[46])\s+BGP\s+\S+\s+up\s+(\S+ [\d:]+)(\.\d+)?\s+Established", re.MULTILINE)
_JITTER = 0.05
"""Seconds by which BIRD's own word for the same moment differs from one time to the next: a millisecond, and room."""


def uptimes(lab: Lab) -> Uptimes:
    """All sessions that are up. Raises LabError if a router's daemon doesn't answer."""
    found: Uptimes = {}
    for router in ROUTERS:
        done = lab.run(router.name, ["birdc", "show", "protocols"])
        if done.returncode:
            raise LabError(f"{router.name}: birdc: {(done.stdout + done.stderr).strip()}")
        for name, whole, fraction in _LINE.findall(done.stdout):
            found[router.name, name] = time.mktime(time.strptime(whole, "%Y-%m-%d %H:%M:%S")) + float(fraction or 0)
    return found


def flapped(before: Uptimes, after: Uptimes) -> list[tuple[str, str]]:
    """Sessions that are down, or have been."""
    return [session for session, at in before.items() if session not in after or abs(after[session] - at) > _JITTER]
