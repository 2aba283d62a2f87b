"""Where raw output and logs of an object are: the sections and log files of its node, its own first."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from anyconsole.model.facts import Key
from anyconsole.model.inventory import InstanceSpec, Inventory, NodeSpec, SpeakerSpec
from anyconsole.tui.scope import scope_of

__all__ = ["Source", "logs_of", "sections_of"]


class Source(msgspec.Struct, frozen=True):
    """One thing to read: `what` is a section of the node, or the path of a log on it."""

    node: str
    label: str
    what: str


_Spec: TypeAlias = SpeakerSpec | InstanceSpec | NodeSpec
_Found: TypeAlias = tuple[_Spec, Source]


def sections_of(inventory: Inventory, key: Key) -> list[Source]:
    """What can be asked for raw: the object's own section first, then the others of its node."""
    if key[0] == "catchment":
        vantage = key[1].partition("/")[0]
        return [Source(vantage, "dns", "dns")]
    found: list[_Found] = [
        *((s, Source(n.name, s.name, s.name)) for n in inventory.nodes for s in n.speakers),
        *(
            (i, Source(n.name, f"{i.kind}:{i.tenant}", f"{i.kind}:{i.tenant}"))
            for n in inventory.nodes
            for i in n.instances
        ),
        *((n, Source(n.name, what, what)) for n in inventory.nodes for what in ("host", "dns")),
    ]
    return _own_first(inventory, key, found)


def logs_of(inventory: Inventory, key: Key) -> list[Source]:
    """Logs that can be followed: the object's own first, then the others of its node; those the profile names no path for are left out."""
    found: list[_Found] = [
        *((s, Source(n.name, s.name, s.log)) for n in inventory.nodes for s in n.speakers),
        *((i, Source(n.name, f"{i.kind}:{i.tenant}", i.log)) for n in inventory.nodes for i in n.instances),
    ]
    return _own_first(inventory, key, [(spec, source) for spec, source in found if source.what])


def _own_first(inventory: Inventory, key: Key, found: list[_Found]) -> list[Source]:
    scope = scope_of(inventory, key)
    if not scope.node:
        return [s for spec, s in found if isinstance(spec, InstanceSpec) and spec.tenant == scope.tenant]

    def distance(spec: _Spec) -> int:
        match spec:
            case SpeakerSpec(name=name):
                if key[0] in ("session", "announcement", "drain"):
                    return 0 if key[2] == name else 2
                return 1
            case InstanceSpec(tenant=tenant):
                return 2 if not scope.tenant else 1 if scope.session else 0 if tenant == scope.tenant else 3
            case _:
                return 4

    mine = [(spec, source) for spec, source in found if source.node == scope.node]
    return [source for _, source in sorted(mine, key=lambda pair: distance(pair[0]))]
