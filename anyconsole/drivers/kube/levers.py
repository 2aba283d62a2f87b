"""Drains on a node in a cluster: which of Calico's levers bring a wanted drain state about, as changes of objects, and how they are undone.

The narrowest lever that does it is taken: the exclude label for everything, the node's BGPConfiguration for a tenant soft on all sessions,
BGPFilters for the rest. On the way no announcement is drained less than both before and after, none more, and no session goes down. What
isn't ours is left as it is; where that keeps the state from what is wanted, the plan says so. Pure: `Levers` is carried out as a script.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

import msgspec

from anyconsole.drivers.kube.advertising import (
    NOTE,
    CalicoObjects,
    Cell,
    Level,
    NodeDrain,
    ObjectKey,
    cells_of,
    effect_on,
    is_within,
    network,
)
from anyconsole.drivers.kube.calico import node_path
from anyconsole.drivers.kube.lever_objects import Pulled, pull, pulled_on, recipe_of, release
from anyconsole.drivers.kube.script import Call, Verb
from anyconsole.drivers.kube.values import Json, part, text
from anyconsole.model.inventory import Family, Inventory, NodeSpec, SoftRecipe

__all__ = ["Levers", "ObjectChange", "applied", "plan_levers"]

_FILTERS_SINCE: Final = (3, 26)
_OPERATIONS_SINCE: Final = (3, 32)


class ObjectChange(msgspec.Struct, frozen=True, kw_only=True):
    """One object before and after, None where it isn't there."""

    kind: str
    name: str
    path: str
    before: Json | None
    after: Json | None

    @property
    def title(self) -> str:
        """What happens to which object."""
        verb = "create" if self.before is None else "delete" if self.after is None else "change"
        return f"{verb} {self.kind} {self.name}"

    @property
    def patch(self) -> Json:
        """The JSON merge patch that makes the one of the other. As an expectation it says: the change is in effect."""
        return _merge_patch(_mapped(self.before or {}), _mapped(self.after or {}))

    def inverse(self) -> ObjectChange:
        """The change that takes this one back."""
        return msgspec.structs.replace(self, before=self.after, after=self.before)

    def calls(self) -> list[Call]:
        """The change as calls. They are refused if somebody else changed what it is about since it was planned."""
        if self.before is None:
            return [Call(verb=Verb.CREATE, path=self.path.rpartition("/")[0], body=self.after, note=self.title)]
        # Of a Node nothing but what is changed matters: its kubelet writes to it all the time.
        expected = self.inverse().patch if self.after is not None and self.kind == "Node" else self._expectation()
        expect = Call(verb=Verb.EXPECT, path=self.path, body=expected, note=self.title)
        if self.after is None:
            return [expect, Call(verb=Verb.DELETE, path=self.path)]
        return [expect, Call(verb=Verb.MERGE, path=self.path, body=self.patch)]

    def lenient_calls(self, *, only_if_done: bool) -> list[Call]:
        """The change as calls that may be carried out again and again, and when it was made already.

        With `only_if_done` it is left out unless the change that it takes back was made.
        """
        if self.before is None:
            collection = self.path.rpartition("/")[0]
            return [Call(verb=Verb.CREATE, path=collection, body=self.after, unless_exists=True, note=self.title)]
        if self.after is None:
            return [Call(verb=Verb.DELETE, path=self.path, if_exists=True, note=self.title)]
        merge = Call(verb=Verb.MERGE, path=self.path, body=self.patch, if_exists=True, note=self.title)
        if not only_if_done:
            return [merge]
        return [Call(verb=Verb.EXPECT, path=self.path, body=self.inverse().patch, else_skip=True), merge]

    def _expectation(self) -> Json:
        before = self.before or {}
        whole: Json = {"spec": before.get("spec")}
        return whole | (self.inverse().patch if self.after is not None else {}) | whole


class Levers(msgspec.Struct, frozen=True, kw_only=True):
    """How a wanted drain state is brought about.

    `changes` are in the order in which they are safe. `refused` says what of the state can't be had and why:
    then the changes bring about the rest. `cautions` are what one should know before.
    """

    changes: tuple[ObjectChange, ...] = ()
    refused: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()

    @property
    def undo(self) -> tuple[ObjectChange, ...]:
        """What takes all changes back."""
        return tuple(change.inverse() for change in reversed(self.changes))

    def undo_calls(self) -> list[Call]:
        """The calls that take back as much of the changes as was made, as often as they are carried out.

        What an object went through on the way is gone through again only where it got that far; where it began, it always ends.
        """
        undo = self.undo
        calls = []
        for place, change in enumerate(undo):
            is_passed = any((later.kind, later.name) == (change.kind, change.name) for later in undo[place + 1 :])
            calls += change.lenient_calls(only_if_done=is_passed)
        return calls


def plan_levers(objects: CalicoObjects, inventory: Inventory, node: NodeSpec, wanted: NodeDrain) -> Levers:
    """The changes that turn the drain state of a node into `wanted`. Total: what can't be done is said.

    Pairs that the node doesn't have are left out. Without a note in `wanted` the one that is there stays.
    """
    cells = cells_of(inventory, node)
    if objects.get("Node", node.address) is None:
        return Levers(refused=(f"there is no node {node.address} in the cluster",))
    targets = _targets(cells, wanted)
    chosen, refused = _choose(objects, cells, targets)
    before = pulled_on(objects, node)
    peers = {cell.session.name: cell.peer for cell in cells}
    annotations = part(part(objects.get("Node", node.address), "metadata"), "annotations")
    clean = release(objects, node)
    changes: list[ObjectChange] = []
    reached = objects
    unable: dict[str, str] = {}
    # First everything that is to be pulled beside what is, then let go of what isn't to be: never less drained than before and after.
    for levers, order in ((before | chosen, _PULLING), (chosen, _RELEASING)):
        note = (wanted.note or text(annotations, NOTE)) if levers.any else ""
        then, unable = pull(clean, node, levers, peers, note)
        changes += _changes(reached, then, order)
        reached = then
    for cell in cells:
        if (why := unable.get(cell.session.name)) and _is_filtered(cell, chosen):
            refused[cell.pair] = f"{cell.title} can't be {_WORDS[targets[cell.pair]]} by itself: {why}"
        if effect_on(reached, node.address, cell).level is targets[cell.pair]:
            refused.pop(cell.pair, None)
        elif cell.pair not in refused:
            refused[cell.pair] = _obstacle(reached, node, cell, targets[cell.pair])
    return Levers(
        changes=tuple(changes),
        refused=tuple(refused.values()),
        cautions=tuple(_cautions(chosen)),
    )


def applied(objects: CalicoObjects, changes: Iterable[ObjectChange]) -> CalicoObjects:
    """The objects as they are after these changes."""
    found = dict(objects.found)
    for change in changes:
        found.pop((change.kind, change.name), None)
        if change.after is not None:
            found[change.kind, change.name] = change.after
    return msgspec.structs.replace(objects, found=found)


Pair: TypeAlias = tuple[int, int]

_WORDS: Final = {Level.SERVE: "served", Level.SOFT: "soft", Level.HARD: "hard"}


def _targets(cells: list[Cell], wanted: NodeDrain) -> dict[Pair, Level]:
    hard, soft = set(wanted.hard), set(wanted.soft)
    return {c.pair: Level.HARD if c.pair in hard else Level.SOFT if c.pair in soft else Level.SERVE for c in cells}


def _choose(objects: CalicoObjects, cells: list[Cell], targets: dict[Pair, Level]) -> tuple[Pulled, dict[Pair, str]]:
    """The levers for a state, and by pair why there is none."""
    refused: dict[Pair, str] = {}
    if cells and all(level is Level.HARD for level in targets.values()):
        return Pulled(exclude=True), refused
    tagged: set[str] = set()
    rejected: set[tuple[str, str]] = set()
    depreferred: set[tuple[str, str]] = set()
    groups: dict[tuple[int, Family], list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell.tenant.number, cell.session.family].append(cell)
    for group in groups.values():
        announced = [cell for cell in group if targets[cell.pair] is not Level.HARD]
        soft = [cell for cell in announced if targets[cell.pair] is Level.SOFT]
        is_everywhere = len(soft) == len(announced) and all(SoftRecipe.GSHUT in cell.peer.soft for cell in soft)
        for cell in group:
            filtered = {(cell.session.name, prefix) for prefix in cell.prefixes}
            if targets[cell.pair] is Level.HARD:
                if why := _no_filters(objects):
                    refused[cell.pair] = f"{cell.title} can't be hard by itself: {why}"
                else:
                    rejected |= filtered
            elif targets[cell.pair] is Level.SOFT and is_everywhere:
                tagged.update(cell.prefixes)
            elif targets[cell.pair] is Level.SOFT:
                if why := _no_operations(objects, cell):
                    refused[cell.pair] = f"{cell.title} can't be soft by itself: {why}"
                else:  # a rule that accepts names each route: what else is inside the prefix nobody meant to announce
                    depreferred |= {(cell.session.name, route) for route in cell.routes}
    return Pulled(tagged=frozenset(tagged), rejected=frozenset(rejected), depreferred=frozenset(depreferred)), refused


def _no_filters(objects: CalicoObjects) -> str:
    if objects.calico is not None and objects.calico < _FILTERS_SINCE:
        return f"BGPFilters came with Calico 3.26, this is {_dotted(objects.calico)}"
    return ""


def _no_operations(objects: CalicoObjects, cell: Cell) -> str:
    """Why a BGPFilter can't de-prefer a cell on its session alone; "" if it can."""
    if objects.calico is None:
        return "filters that set communities came with Calico 3.32, and the version of this one isn't known"
    if objects.calico < _OPERATIONS_SINCE:
        return (
            f"filters that set communities came with Calico 3.32, this is {_dotted(objects.calico)};"
            " soft on all its sessions of the family, or hard on this one, can be done"
        )
    if not recipe_of(cell.peer, 0):
        return f"{cell.peer.name} has no recipe that a BGPFilter can follow"
    for name, pool in objects.of("IPPool"):
        spec = part(pool, "spec")
        cidr = network(spec.get("cidr"))
        inside = [r for r in cell.routes if cidr is not None and (route := network(r)) and is_within(route, cidr)]
        if spec.get("disableBGPExport") is True and inside:
            return f"IPPool {name} keeps {inside[0]} from being announced, which an accepting filter would undo"
    return ""


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _is_filtered(cell: Cell, chosen: Pulled) -> bool:
    return any((cell.session.name, route) in chosen.rejected | chosen.depreferred for route in cell.routes)


def _obstacle(objects: CalicoObjects, node: NodeSpec, cell: Cell, target: Level) -> str:
    """What isn't ours and keeps a cell from its target once our levers are pulled."""
    effect = effect_on(objects, node.address, cell)
    if effect.level > target:
        return f"{cell.title} stays {_WORDS[effect.level]}: {effect.cause} isn't ours"
    return f"{cell.title} can't be {_WORDS[target]}: {effect.cause or 'something else'} decides before our lever does"


def _cautions(chosen: Pulled) -> Iterable[str]:
    if chosen.exclude:
        yield "the exclude label takes out every service of the node, also those that the profile doesn't name"
    if chosen.tagged:
        yield "the node's own BGPConfiguration hides changes of prefixAdvertisements in the default one until it is undrained"
    if chosen.depreferred:
        yield "while soft towards single peers, a prefix that a host interface holds would be announced there even if its pods fail"


def _pulling(change: ObjectChange) -> int:
    """Filters before who names them, copies before nodes are left to them, the Node's switches last of what takes effect."""
    if change.after is None:
        return 8 if change.kind == "BGPFilter" else 7
    if change.kind == "BGPPeer":
        return 1 if change.before is None else 2
    return {"BGPFilter": 0, "BGPConfiguration": 3, "Node": 4}[change.kind]


def _releasing(change: ObjectChange) -> int:
    """The Node's switches first, then copies that nothing uses, and filters that nobody names."""
    kinds = {"Node": 0, "BGPConfiguration": 1, "BGPPeer": 2, "BGPFilter": 4}
    return kinds[change.kind] + (1 if change.after is None else 0)


_Order: TypeAlias = Callable[[ObjectChange], int]
_PULLING: Final[_Order] = _pulling
_RELEASING: Final[_Order] = _releasing


def _changes(before: CalicoObjects, after: CalicoObjects, order: _Order) -> list[ObjectChange]:
    keys: list[ObjectKey] = sorted({*before.found, *after.found})
    found = [
        ObjectChange(
            kind=kind,
            name=name,
            path=node_path(name) if kind == "Node" else before.api.path(kind, name),
            before=before.get(kind, name),
            after=after.get(kind, name),
        )
        for kind, name in keys
        if before.get(kind, name) != after.get(kind, name)
    ]
    return sorted(found, key=order)


def _mapped(obj: Json) -> Json:
    """An object that has both maps of metadata, so that a patch takes single keys away and never all of them."""
    return obj | {"metadata": {"labels": {}, "annotations": {}} | part(obj, "metadata")}


def _merge_patch(before: Json, after: Json) -> dict[str, Any]:
    """The JSON merge patch (RFC 7396) that makes `after` of `before`."""
    patch: dict[str, Any] = dict.fromkeys(before.keys() - after.keys())
    for key, value in after.items():
        was = before.get(key)
        if isinstance(was, dict) and isinstance(value, dict):
            if inner := _merge_patch(was, value):
                patch[key] = inner
        elif key not in before or was != value:
            patch[key] = value
    return patch
