"""The service addresses that Calico may announce: one list for the whole cluster, in which others have entries too. Pure.

The list is one value to the API server, so it is written as a whole, and only where it is still what it was. Entries have no owner; an
annotation beside them remembers which ones are ours, and no other is ever taken out.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any, Final

import msgspec

from anyconsole.drivers.kube.calico import CalicoApi
from anyconsole.drivers.kube.render import Object
from anyconsole.drivers.kube.script import Call, Verb

__all__ = ["ANNOTATION", "Listed", "announce", "cidrs_of", "entries_of", "withdraw"]

ANNOTATION: Final = "anyconsole.io/service-addresses"
_KIND: Final = "BGPConfiguration"
_NAME: Final = "default"


class Listed(msgspec.Struct, frozen=True):
    """The calls that change the list (none if it is as wanted already), and BGPConfiguration "default" as it is then."""

    calls: tuple[Call, ...]
    after: Object | None


def cidrs_of(addresses: Iterable[str]) -> list[str]:
    """Service addresses as they are listed: each by itself, for a wider prefix would be announced by every node."""
    return [f"{address}/{ip_address(address).max_prefixlen}" for address in addresses]


def entries_of(live: Object | None) -> tuple[list[str], list[str]]:
    """The CIDRs that are listed, and those of them that are ours."""
    listed = [str(entry.get("cidr")) for entry in _entries(live)]
    ours = str((_part(live, "metadata").get("annotations") or {}).get(ANNOTATION) or "").split()
    return listed, [cidr for cidr in ours if cidr in listed]


def announce(api: CalicoApi, live: Object | None, cidrs: Iterable[str]) -> Listed:
    """List these too. What is listed already stays whose it is."""
    listed, ours = entries_of(live)
    missing = [cidr for cidr in dict.fromkeys(cidrs) if cidr not in listed]
    if not missing:
        return Listed((), live)
    return _changed(api, live, [*_entries(live), *({"cidr": cidr} for cidr in missing)], [*ours, *missing])


def withdraw(api: CalicoApi, live: Object | None, cidrs: Iterable[str]) -> Listed:
    """List these no longer, as far as they are ours."""
    _, ours = entries_of(live)
    unwanted = set(ours) & set(cidrs)
    if not unwanted:
        return Listed((), live)
    kept = [entry for entry in _entries(live) if entry.get("cidr") not in unwanted]
    return _changed(api, live, kept, [cidr for cidr in ours if cidr not in unwanted])


def _changed(api: CalicoApi, live: Object | None, entries: list[Any], ours: list[str]) -> Listed:
    annotation = " ".join(sorted(ours)) or None
    if live is None:
        made = {
            "apiVersion": api.group_version,
            "kind": _KIND,
            "metadata": {"name": _NAME, "annotations": {ANNOTATION: annotation}},
            "spec": {"serviceExternalIPs": entries},
        }
        return Listed((Call(verb=Verb.CREATE, path=api.path(_KIND), body=made),), made)
    metadata, spec = _part(live, "metadata"), _part(live, "spec")
    annotations = metadata.get("annotations") or {}
    path = api.path(_KIND, _NAME)
    had = {
        "metadata": {"annotations": {ANNOTATION: annotations.get(ANNOTATION)}},
        "spec": {"serviceExternalIPs": spec.get("serviceExternalIPs")},
    }
    body = {"metadata": {"annotations": {ANNOTATION: annotation}}, "spec": {"serviceExternalIPs": entries}}
    after = {
        **live,
        "metadata": {**metadata, "annotations": {**annotations, ANNOTATION: annotation}},
        "spec": {**spec, "serviceExternalIPs": entries},
    }
    return Listed((Call(verb=Verb.EXPECT, path=path, body=had), Call(verb=Verb.MERGE, path=path, body=body)), after)


def _entries(live: Object | None) -> list[Any]:
    return [entry for entry in _part(live, "spec").get("serviceExternalIPs") or () if isinstance(entry, dict)]


def _part(live: Object | None, key: str) -> dict[str, Any]:
    found = (live or {}).get(key)
    return found if isinstance(found, dict) else {}
