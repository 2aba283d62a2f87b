"""A CPU quota on the processes of one name server, as a container's CPU limit is one, through the machine's control groups (v1 or v2)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from anyconsole.errors import LabError
from anyconsole.lab.paths import LabPaths

__all__ = ["can_be_set", "give_back", "groups_of", "hold_down", "remove_groups"]

PERIOD = 100_000
QUOTA = 10_000
"""Microseconds of CPU in each period: a tenth of one core, in the shape of a Kubernetes CPU limit."""

_ROOT = Path("/sys/fs/cgroup")


class _Tree(msgspec.Struct, frozen=True):
    """A hierarchy of control groups with CPU quotas. `controller` is what its line in /proc/PID/cgroup names, "" in v2."""

    root: Path
    settings: dict[str, str]
    controller: str


def can_be_set() -> bool:
    """True if this machine has control groups with CPU quotas, and we may make some."""
    try:
        return os.access(_tree().root, os.W_OK)
    except LabError:
        return False


def hold_down(paths: LabPaths, host: str, tenant: str, pids: Iterable[int]) -> None:
    """Put processes under the quota. Raises LabError where no control group with a CPU quota can be made."""
    tree = _tree()
    group = _group(tree, paths, host, tenant)
    try:
        if not tree.controller:
            (tree.root / "cgroup.subtree_control").write_text("+cpu")
        group.mkdir(exist_ok=True)
        for file, value in tree.settings.items():
            (group / file).write_text(value)
        for pid in pids:
            with suppress(ProcessLookupError):  # a worker that ended since it was seen
                (group / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        raise LabError(f"no CPU quota can be set on this machine: {error}") from error


def give_back(paths: LabPaths, host: str, tenant: str, like: int) -> None:
    """Put what is under the quota where process `like` is, and remove the group. Raises LabError."""
    tree = _tree()
    group = _group(tree, paths, host, tenant)
    if not group.is_dir():
        return
    lines = [line.split(":", 2) for line in Path(f"/proc/{like}/cgroup").read_text().splitlines()]
    place = next(path for _, controllers, path in lines if tree.controller in controllers.split(","))
    try:
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                (tree.root / place.lstrip("/") / "cgroup.procs").write_text(pid)
        group.rmdir()
    except OSError as error:
        raise LabError(f"the CPU quota of {tenant} on {host} can't be taken away: {error}") from error


def groups_of(paths: LabPaths) -> list[Path]:
    """Control groups that a lab has on this machine."""
    return [found for root in (_ROOT, _ROOT / "cpu") if root.is_dir() for found in root.glob(f"{_prefix(paths)}*")]


def remove_groups(paths: LabPaths) -> None:
    """Remove the lab's control groups, whose processes are gone."""
    for group in groups_of(paths):
        with suppress(OSError):  # said by whoever looks for leftovers
            group.rmdir()


def _prefix(paths: LabPaths) -> str:
    return f"anyc-{paths.name}-"


def _group(tree: _Tree, paths: LabPaths, host: str, tenant: str) -> Path:
    return tree.root / f"{_prefix(paths)}{host}-{tenant}"


def _tree() -> _Tree:
    if (_ROOT / "cpu" / "cgroup.procs").exists():
        settings = {"cpu.cfs_period_us": str(PERIOD), "cpu.cfs_quota_us": str(QUOTA)}
        return _Tree(_ROOT / "cpu", settings, "cpu")
    controllers = _ROOT / "cgroup.controllers"
    if controllers.exists() and "cpu" in controllers.read_text().split():
        return _Tree(_ROOT, {"cpu.max": f"{QUOTA} {PERIOD}"}, "")
    raise LabError(f"no CPU quota can be set on this machine: {_ROOT} has no control groups with a cpu controller")
