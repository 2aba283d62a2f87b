"""What this machine must have before a lab can be built: root, Debian's daemons, IPv6, network namespaces."""

from __future__ import annotations

import os
from pathlib import Path

from anyconsole.errors import LabError

__all__ = ["check", "check_root", "missing_packages", "unmet"]

_NOT_ROOT = "the lab lives in network namespaces, which only root may make and enter: run it again with sudo"
_LIST = Path(__file__).with_name("packages.txt")


def missing_packages() -> list[str]:
    """Debian packages that the lab needs and this machine doesn't have."""
    rows = [line.split() for line in _LIST.read_text().splitlines() if line and not line.startswith("#")]
    return [package for package, purpose, program in rows if purpose == "lab" and not Path(program).exists()]


def unmet() -> str:
    """Why no lab can be built here and what to do, in one line; "" if one can."""
    if os.geteuid() != 0:
        return _NOT_ROOT
    if packages := missing_packages():
        script = Path(__file__).parents[2] / "scripts" / "install-debian"
        way = str(script) if script.exists() else f"apt-get install --no-install-recommends {' '.join(packages)}"
        return f"the lab needs Debian packages that are not installed: {' '.join(packages)}. Install them with: {way}"
    if not Path("/proc/net/if_inet6").exists():
        return "the lab is dual stack and this kernel has IPv6 switched off (ipv6.disable=1): switch it on"
    if not Path("/proc/self/ns/net").exists():
        return "this kernel has no network namespaces (CONFIG_NET_NS)"
    return ""


def check() -> None:
    """Raises LabError if no lab can be built here."""
    if reason := unmet():
        raise LabError(reason)


def check_root() -> None:
    """Raises LabError if this process is not root."""
    if os.geteuid() != 0:
        raise LabError(_NOT_ROOT)
