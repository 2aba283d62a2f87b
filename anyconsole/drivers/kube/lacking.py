"""Which permissions calls need and don't have, by what was found to be denied: told before anything is tried. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from anyconsole.drivers.kube.script import Call, needed
from anyconsole.model.pods import Permission

__all__ = ["lacking", "missing"]


def lacking(calls: Iterable[Call], denied: Iterable[Permission]) -> tuple[Permission, ...]:
    """What the calls need and may not do."""
    return missing(needed(calls), denied)


def missing(wanted: Iterable[Permission], denied: Iterable[Permission]) -> tuple[Permission, ...]:
    """What of this we may not do. One that is denied in all namespaces (namespace "") is denied in each."""
    refused = set(denied)
    return tuple(p for p in wanted if {p, msgspec.structs.replace(p, namespace="")} & refused)
