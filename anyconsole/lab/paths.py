"""Where a lab keeps its files: everything is below one directory of the volatile /run, so a reboot leaves nothing."""

from __future__ import annotations

import re
from pathlib import Path

from anyconsole.errors import LabError

__all__ = ["LAB_ROOT", "LabPaths", "profile_path"]

LAB_ROOT = Path("/run/anyconsole/lab")
_NAME = re.compile(r"[a-z0-9]{1,16}")


class LabPaths:
    """The files of the lab called `name`. Raises LabError for a name that can't be one."""

    def __init__(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise LabError(f"{name!r} can't be a lab's name: use 1 to 16 of a-z and 0-9")
        self.name = name
        self.base = LAB_ROOT / name
        self.state = self.base / "state.json"
        self.breaks = self.base / "breaks.json"
        self.profile = self.base / "lab.toml"
        self.ssh_config = self.base / "ssh_config"
        self.known_hosts = self.base / "known_hosts"
        self.client_key = self.base / "id_ed25519"
        self.zones = self.base / "zones"
        self.zone_keys = self.base / "zone-keys"
        self.lock = LAB_ROOT / f"{name}.lock"

    def host(self, host: str) -> Path:
        """Directory with everything that is `host`'s own."""
        return self.base / "hosts" / host

    def control(self, host: str) -> Path:
        """Control socket of the host's first process."""
        return self.host(host) / "control.sock"

    def namespace(self, host: str) -> str:
        """Name of the host's network namespace."""
        return f"anyc-{self.name}-{host}"


def profile_path(name: str = "default") -> Path:
    """The profile of the lab called `name`; it is there once the lab is up. Raises LabError for an impossible name."""
    return LabPaths(name).profile
