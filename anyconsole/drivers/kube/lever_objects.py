"""Our levers as Calico's objects: which are pulled on a node, the objects without them, and the objects with those pulled that should be.

What is ours for one node: BGPFilters of its sessions, copies of BGPPeers that name them, and entries in its BGPConfiguration and on its
Node. A BGPPeer for several nodes isn't edited but for its `nodeSelector`: nodes with a label of ours are left to the copy. That label is
the one switch that moves a node over, and the session keeps its name, so it isn't restarted. Pure; `levers` decides what to pull.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Final

import msgspec

from anyconsole.drivers.export_verdict import GRACEFUL_SHUTDOWN
from anyconsole.drivers.kube.advertising import (
    NOTE,
    CalicoObjects,
    ObjectKey,
    advertised_with,
    is_ours,
    is_within,
    labels_of,
    listed,
    local_as,
    network,
    peer_of,
)
from anyconsole.drivers.kube.calico import EXCLUDE_LABEL, MANAGED_BY, OWNER, canonical, speaker_of
from anyconsole.drivers.kube.values import Json, part
from anyconsole.model.inventory import NodeSpec, Peer, SoftRecipe

__all__ = ["Pulled", "pull", "pulled_on", "recipe_of", "release"]

_NODE: Final = "anyconsole.io/node"
_SESSION: Final = "anyconsole.io/session"
_COPY_OF: Final = "anyconsole.io/copy-of"
_TAGGED: Final = "anyconsole.io/soft-prefixes"
_COPIED: Final = "anyconsole.io/copied-from"
_EXCLUDED_WAS: Final = "anyconsole.io/exclude-label-was"
"""On a Node whose exclude label is ours: the value that it had before, "" for none."""

_SWITCH: Final = "drain.anyconsole.io/"
"""Labels of a Node: "/BGPPeer" leaves the sessions of that BGPPeer to the node's copy of it."""

_PREPENDS: Final = 3
_MAX_OPERATIONS: Final = 10


class Pulled(msgspec.Struct, frozen=True, kw_only=True):
    """Which levers are pulled on a node: that of the whole node, prefixes of all sessions, and (session's address, route) of one.

    What is tagged or rejected takes all routes inside it along, what is depreferred is each route by itself.
    """

    exclude: bool = False
    tagged: frozenset[str] = frozenset()
    rejected: frozenset[tuple[str, str]] = frozenset()
    depreferred: frozenset[tuple[str, str]] = frozenset()

    def __or__(self, other: Pulled) -> Pulled:
        return Pulled(
            exclude=self.exclude or other.exclude,
            tagged=self.tagged | other.tagged,
            rejected=self.rejected | other.rejected,
            depreferred=self.depreferred | other.depreferred,
        )

    @property
    def any(self) -> bool:
        """Whether there is any."""
        return self != Pulled()


def pulled_on(objects: CalicoObjects, node: NodeSpec) -> Pulled:
    """Which of our levers are pulled on a node now."""
    kube = node.address
    speaker = speaker_of(node)
    rejected: set[tuple[str, str]] = set()
    depreferred: set[tuple[str, str]] = set()
    for session in speaker.sessions if speaker is not None else ():
        named = listed(part(objects.get("BGPPeer", peer_of(objects, kube, session.name) or ""), "spec"), "filters")
        for name in _filter_names(kube, session.name):
            rules = part(objects.get("BGPFilter", name), "spec") if name in named else {}
            for rule in (*listed(rules, "exportV4"), *listed(rules, "exportV6")):
                if isinstance(rule, dict) and network(rule.get("cidr")) is not None:
                    kept = rejected if rule.get("action") == "Reject" else depreferred
                    kept.add((session.name, str(rule["cidr"])))
    return Pulled(
        exclude=_EXCLUDED_WAS in _annotations(objects.get("Node", kube)),
        tagged=frozenset(_annotations(objects.get("BGPConfiguration", f"node.{kube}")).get(_TAGGED, "").split()),
        rejected=frozenset(rejected),
        depreferred=frozenset(depreferred),
    )


def release(objects: CalicoObjects, node: NodeSpec) -> CalicoObjects:
    """The objects without what is ours for this node, and all else as it was."""
    kube = node.address
    ours = {
        key for key, obj in objects.found.items()
        if key[0] in ("BGPFilter", "BGPPeer") and is_ours(obj) and _annotations(obj).get(_NODE) == kube
    }  # fmt: skip
    found = {key: obj for key, obj in objects.found.items() if key not in ours}
    filters = {name for kind, name in ours if kind == "BGPFilter"}
    copied = {_annotations(obj).get(_COPY_OF) for (kind, _), obj in found.items() if kind == "BGPPeer" and is_ours(obj)}
    for key, obj in list(found.items()):
        if key[0] == "BGPPeer":
            found[key] = _released_peer(obj, key[1], filters, is_copied=key[1] in copied)
    for key, left in (_released_node(objects, kube), _released_configuration(objects, kube)):
        found.pop(key, None)
        if left is not None:
            found[key] = left
    return msgspec.structs.replace(objects, found=found)


def _released_peer(obj: Json, name: str, filters: set[str], *, is_copied: bool) -> Json:
    spec = dict(part(obj, "spec"))
    named = listed(spec, "filters")
    kept = [n for n in named if not (isinstance(n, str) and n in filters)]
    if kept != named:
        spec["filters"] = kept
        if not kept:
            del spec["filters"]
    if not is_copied and isinstance(spec.get("nodeSelector"), str):
        spec["nodeSelector"] = _without_switch(spec["nodeSelector"], name)
    return obj | {"spec": spec}


def _released_node(objects: CalicoObjects, kube: str) -> tuple[ObjectKey, Json | None]:
    obj = objects.get("Node", kube)
    if obj is None:
        return ("Node", kube), None
    labels = {key: value for key, value in labels_of(obj).items() if not key.startswith(_SWITCH)}
    was = _annotations(obj).get(_EXCLUDED_WAS)
    if was is not None:
        labels.pop(EXCLUDE_LABEL, None)
        labels |= {EXCLUDE_LABEL: was} if was else {}
    return ("Node", kube), _marked(obj, labels, {NOTE: None, _EXCLUDED_WAS: None})


def _released_configuration(objects: CalicoObjects, kube: str) -> tuple[ObjectKey, Json | None]:
    key = ("BGPConfiguration", f"node.{kube}")
    obj = objects.found.get(key)
    marks = _annotations(obj)
    if obj is None or _TAGGED not in marks:
        return key, obj
    spec = dict(part(obj, "spec"))
    if _COPIED in marks:
        spec.pop("prefixAdvertisements", None)
        if is_ours(obj) and not spec:
            return key, None
    else:
        ours = [_tag(prefix) for prefix in marks[_TAGGED].split()]
        spec["prefixAdvertisements"] = [e for e in listed(spec, "prefixAdvertisements") if e not in ours]
    return key, _marked(obj, labels_of(obj), {_TAGGED: None, _COPIED: None}) | {"spec": spec}


def pull(
    objects: CalicoObjects, node: NodeSpec, wanted: Pulled, peers: Mapping[str, Peer], note: str
) -> tuple[CalicoObjects, dict[str, str]]:
    """The objects with our levers pulled on a node, and by session why one can't be.

    Args:
        objects: Without levers of ours on this node (`release`).
        node: The node.
        wanted: What should be pulled.
        peers: The peer of each session, by the session's name.
        note: Who and why, for the Node.
    """
    work = _Work(objects, node.address)
    if wanted.tagged:
        work.tag(wanted.tagged)
    refused = {}
    for session in sorted({s for s, _ in wanted.rejected | wanted.depreferred}):
        rejected = sorted(prefix for s, prefix in wanted.rejected if s == session)
        depreferred = sorted(prefix for s, prefix in wanted.depreferred if s == session)
        if why := work.filter(session, peers.get(session), rejected, depreferred):
            refused[session] = why
    work.mark(note, exclude=wanted.exclude)
    return msgspec.structs.replace(objects, found=work.found), refused


class _Work:
    """The objects of a cluster while levers are pulled on one of its nodes."""

    def __init__(self, objects: CalicoObjects, kube: str) -> None:
        self.objects = objects
        self.kube = kube
        self.found = dict(objects.found)
        self.switches: dict[str, str] = {}

    def tag(self, prefixes: frozenset[str]) -> None:
        """Announce prefixes with GRACEFUL_SHUTDOWN on all sessions: in the node's own list, which hides the default one."""
        key = ("BGPConfiguration", f"node.{self.kube}")
        tags = [_tag(prefix) for prefix in sorted(prefixes)]
        obj = self.found.get(key)
        marks: dict[str, str | None] = {_TAGGED: " ".join(sorted(prefixes))}
        if obj is None:
            obj = self._new(*key, {}, {MANAGED_BY: OWNER})
        spec = part(obj, "spec")
        if isinstance(spec.get("prefixAdvertisements"), list):
            kept = list(spec["prefixAdvertisements"])
        else:
            # Names of communities are the default configuration's own: their values are what is copied.
            name, default = advertised_with(self.objects, self.kube)
            kept = [{"cidr": str(cidr), "communities": list(added)} for cidr, added in default if added]
            marks[_COPIED] = name
        obj = _marked(obj, labels_of(obj), marks)
        self.found[key] = obj | {"spec": spec | {"prefixAdvertisements": kept + tags}}

    def filter(self, session: str, peer: Peer | None, rejected: list[str], depreferred: list[str]) -> str:
        """Filter what one session exports. Returns why that can't be done, else ""."""
        base = peer_of(self.objects, self.kube, session)
        obj = self.found.get(("BGPPeer", base or ""))
        if base is None or obj is None or _COPY_OF in _annotations(obj):
            return "no BGPPeer names its address (it is of the mesh or of a peerSelector), so nothing can be filtered there alone"
        spec = part(obj, "spec")
        is_alone = spec.get("node") == self.kube or [name for name, _ in self.objects.of("Node")] == [self.kube]
        if not spec.get("nodeSelector") and not is_alone:
            return (
                f"BGPPeer {base} is for all nodes: to filter one of them its sessions would be restarted on each;"
                " with nodeSelector all() they would not"
            )
        filters = self._filters(session, peer, spec, rejected, depreferred)
        if spec.get("nodeSelector"):
            self._split(base, obj, filters)
        else:
            self.found["BGPPeer", base] = obj | {"spec": spec | {"filters": filters}}
        return ""

    def _filters(
        self, session: str, peer: Peer | None, spec: Json, rejected: list[str], depreferred: list[str]
    ) -> list[object]:
        """Makes our filters of a session. Returns the names of all.

        The one that rejects comes first, as nothing may accept before it. The one that accepts comes last: what others reject stays so.
        """
        hard, soft = _filter_names(self.kube, session)
        rules = [{"cidr": prefix, "matchOperator": "In", "action": "Reject"} for prefix in rejected]
        first = self._filter(hard, session, rules)
        asn = local_as(self.objects, self.kube, spec)
        # Equal: a route inside the prefix that nobody meant to announce must not be accepted with it.
        accepts = [
            {
                "cidr": prefix,
                "matchOperator": "Equal",
                "action": "Accept",
                "operations": self._operations(peer, prefix, asn),
            }
            for prefix in depreferred
        ]
        return [*first, *listed(spec, "filters"), *self._filter(soft, session, accepts)]

    def _filter(self, name: str, session: str, rules: list[Json]) -> list[str]:
        if not rules:
            return []
        family = 6 if ":" in canonical(session) else 4
        made = self._new("BGPFilter", name, {f"exportV{family}": rules}, {MANAGED_BY: OWNER})
        self.found["BGPFilter", name] = _marked(made, labels_of(made), {_NODE: self.kube, _SESSION: session})
        return [name]

    def _operations(self, peer: Peer | None, prefix: str, asn: int) -> list[Json]:
        """What de-prefers a prefix towards a peer, and the communities that it would get behind the filters, where it doesn't come by."""
        route = ip_network(prefix)
        _, lists = advertised_with(self.objects, self.kube)
        usual = [community for cidr, added in lists if is_within(route, cidr) for community in added]
        made = recipe_of(peer, asn)
        known = [part(o, "addCommunity").get("value") for o in made]
        made += [{"addCommunity": {"value": c}} for c in dict.fromkeys(usual) if c not in known]
        return made[:_MAX_OPERATIONS]

    def _split(self, base: str, obj: Json, filters: list[object]) -> None:
        """Leave a BGPPeer's sessions on this node to a copy of it with these filters."""
        spec = part(obj, "spec")
        chosen = _without_switch(str(spec["nodeSelector"]), base)
        switch, mine = _switch(base), _short(self.kube)
        name = f"anyconsole-{_slug(self.kube)}-{_digest(self.kube, base)}"
        copy = self._new(
            "BGPPeer",
            name,
            spec | {"nodeSelector": f'({chosen}) && {switch} == "{mine}"', "filters": filters},
            {MANAGED_BY: OWNER},
        )
        self.found["BGPPeer", name] = _marked(copy, labels_of(copy), {_NODE: self.kube, _COPY_OF: base})
        self.found["BGPPeer", base] = obj | {"spec": spec | {"nodeSelector": f"({chosen}) && !has({switch})"}}
        self.switches[switch] = mine

    def mark(self, note: str, *, exclude: bool) -> None:
        """Write on the Node what is to be there: this is what takes effect at once."""
        obj = self.found.get(("Node", self.kube))
        if obj is None:
            return
        labels = labels_of(obj) | self.switches
        marks: dict[str, str | None] = {NOTE: note or None}
        if exclude and labels.get(EXCLUDE_LABEL) != "true":
            marks[_EXCLUDED_WAS] = labels.get(EXCLUDE_LABEL, "")
            labels[EXCLUDE_LABEL] = "true"
        self.found["Node", self.kube] = _marked(obj, labels, marks)

    def _new(self, kind: str, name: str, spec: Json, labels: dict[str, str]) -> Json:
        metadata = {"name": name, "labels": labels}
        return {"apiVersion": self.objects.api.group_version, "kind": kind, "metadata": metadata, "spec": spec}


def recipe_of(peer: Peer | None, asn: int) -> list[Json]:
    """The operations of a BGPFilter that de-prefer towards a peer, by its recipe in the profile."""
    recipes = peer.soft if peer is not None else (SoftRecipe.GSHUT,)
    made: list[Json] = []
    if SoftRecipe.GSHUT in recipes:
        made.append({"addCommunity": {"value": GRACEFUL_SHUTDOWN}})
    if peer is not None and SoftRecipe.COMMUNITY in recipes and peer.community:
        made.append({"addCommunity": {"value": peer.community}})
    if SoftRecipe.PREPEND in recipes:
        made.append({"prependASPath": {"prefix": [asn] * _PREPENDS}})
    return made


def _tag(prefix: str) -> Json:
    return {"cidr": prefix, "communities": [GRACEFUL_SHUTDOWN]}


def _annotations(obj: Json | None) -> dict[str, str]:
    return {k: v for k, v in part(part(obj, "metadata"), "annotations").items() if isinstance(v, str)}


def _marked(obj: Json, labels: dict[str, str], marks: Mapping[str, str | None]) -> Json:
    """An object with these labels, and with annotations added, or taken away where they are None."""
    annotations = {k: v for k, v in (_annotations(obj) | dict(marks)).items() if v is not None}
    rest = {k: v for k, v in part(obj, "metadata").items() if k not in ("labels", "annotations")}
    metadata = rest | ({"labels": labels} if labels else {}) | ({"annotations": annotations} if annotations else {})
    return obj | {"metadata": metadata}


def _switch(peer: str) -> str:
    return _SWITCH + _short(peer)


def _without_switch(selector: str, peer: str) -> str:
    """A selector as it was before nodes were left to copies."""
    end = f") && !has({_switch(peer)})"
    return selector[1 : -len(end)] if selector.startswith("(") and selector.endswith(end) else selector


def _filter_names(kube: str, session: str) -> tuple[str, str]:
    """Our two filters of a session: at most 45 characters, so that Calico keeps the name for BIRD's function."""
    rest = f"{_slug(kube)}-{_digest(kube, canonical(session))}"
    return f"anyconsole-hard-{rest}", f"anyconsole-soft-{rest}"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:18].strip("-")


def _short(name: str) -> str:
    """A name as a label may have it: 63 characters."""
    return name if len(name) <= 63 else f"{name[:50].rstrip('.-')}-{_digest(name)}"


def _digest(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:10]
