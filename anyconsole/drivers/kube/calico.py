"""Calico in a cluster: in which API group its objects are served, where, and what a CalicoNodeStatus says of a node's BIRDs.

Pure: objects in, facts out. What Calico makes of its objects is `advertising`, how they are changed `levers`, what BIRD exports `exports`.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import msgspec

from anyconsole.drivers.drain_lists import drain_serial
from anyconsole.drivers.kube.values import NAME, WORD, Json, moment, part, parts, text
from anyconsole.model.facts import SessionState, SessionStatus, SpeakerStatus
from anyconsole.model.inventory import Family, NodeSpec, SessionSpec, SpeakerSpec

if TYPE_CHECKING:
    from anyconsole.drivers.kube.advertising import NodeDrain

__all__ = [
    "EXCLUDE_LABEL",
    "KINDS",
    "MANAGED_BY",
    "OWNER",
    "CalicoApi",
    "calico_api",
    "canonical",
    "good_until",
    "node_path",
    "node_status_body",
    "node_status_name",
    "node_status_of",
    "serial_of",
    "speaker_of",
]

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
OWNER: Final = "anyconsole"
"""The value of that label on what we made. Nothing else is ever deleted."""

EXCLUDE_LABEL: Final = "node.kubernetes.io/exclude-from-external-load-balancers"

KINDS: Final = {
    "CalicoNodeStatus": "caliconodestatuses",
    "BGPPeer": "bgppeers",
    "BGPConfiguration": "bgpconfigurations",
    "BGPFilter": "bgpfilters",
    "IPPool": "ippools",
    "ClusterInformation": "clusterinformations",
}
"""The kinds that are read, and their names in paths. All of them belong to no namespace."""

# Where both are served, the first is a view of the second by Calico's own API server, which checks what is written.
_PREFERRED: Final = ("projectcalico.org/v3", "crd.projectcalico.org/v1")

_PEERS: Final = 4096


class CalicoApi(msgspec.Struct, frozen=True):
    """The API group and version in which a cluster serves Calico's objects, as "projectcalico.org/v3"."""

    group_version: str

    def path(self, kind: str, name: str = "") -> str:
        """The path of an object, or of the collection."""
        return f"/apis/{self.group_version}/{KINDS[kind]}" + (f"/{name}" if name else "")


def calico_api(api_groups: object) -> CalicoApi | None:
    """The one to use by an APIGroupList (GET /apis); None if there is no Calico in the cluster."""
    served = {
        text(version, "groupVersion")
        for group in parts(api_groups, "groups", 1024)
        for version in parts(group, "versions")
    }
    return next((CalicoApi(known) for known in _PREFERRED if known in served), None)


def node_path(name: str = "") -> str:
    """The path of a Node, or of all."""
    return "/api/v1/nodes" + (f"/{name}" if name else "")


def node_status_name(node: NodeSpec) -> str:
    """The name of our CalicoNodeStatus for a node."""
    return f"anyconsole.{node.address}"


def node_status_body(api: CalicoApi, node: NodeSpec, period: float) -> Json:
    """The CalicoNodeStatus that asks a node's Calico to tell of itself each `period` seconds (1 to 10)."""
    return {
        "apiVersion": api.group_version,
        "kind": "CalicoNodeStatus",
        "metadata": {"name": node_status_name(node), "labels": {MANAGED_BY: OWNER}},
        "spec": {
            "node": node.address,
            "classes": ["Agent", "BGP", "Routes"],
            "updatePeriodSeconds": max(1, min(10, round(period))),
        },
    }


def good_until(obj: object) -> float:
    """Until when a CalicoNodeStatus may be believed: two periods after it was last updated. 0 if it never was, or has no period.

    A calico-node that hangs leaves its last words standing, and the API server serves them as before.
    """
    spec = part(obj, "spec")
    period = spec.get("updatePeriodSeconds")
    updated = moment(part(obj, "status"), "lastUpdated")
    if updated is None or type(period) is not int or not 0 < period <= 86400:
        return 0.0
    # Times are told in whole seconds.
    return updated + 2 * period + 1


def speaker_of(node: NodeSpec) -> SpeakerSpec | None:
    """The Calico of a node of the profile."""
    return next((speaker for speaker in node.speakers if speaker.kind == "calico"), None)


def node_status_of(
    obj: object, node: NodeSpec, at: float, drain: NodeDrain | None = None
) -> list[SpeakerStatus | SessionStatus]:
    """What a CalicoNodeStatus says of a node: its speaker and the sessions that the profile names.

    Nothing if Calico hasn't filled it in yet, or it is about another node.

    Args:
        obj: The CalicoNodeStatus, as it was parsed.
        node: Whose it is.
        at: When it was received. The facts were true at its `lastUpdated`, which may be long ago.
        drain: The node's drain state, which is in other objects; None if that isn't known.
    """
    speaker = speaker_of(node)
    status = part(obj, "status")
    updated = moment(status, "lastUpdated")
    if speaker is None or updated is None or text(part(obj, "spec"), "node") != node.address:
        return []
    seen = _Seen(node.name, speaker, min(updated, at), status)
    return [seen.speaker_status(drain), *(seen.session(session) for session in speaker.sessions)]


def serial_of(drain: NodeDrain) -> int:
    """The number that tells a drain state from others. What was pulled by hand has none of ours, but isn't nothing."""
    return drain.serial if drain.serial is not None else drain_serial(list(drain.hard), list(drain.soft))


_STATES: Final[Mapping[str, SessionState]] = {
    "Idle": SessionState.IDLE,
    "Connect": SessionState.CONNECT,
    "Active": SessionState.ACTIVE,
    "OpenSent": SessionState.OPEN_SENT,
    "OpenConfirm": SessionState.OPEN_CONFIRM,
    "Established": SessionState.ESTABLISHED,
    "Close": SessionState.IDLE,
}
"""Calico's words. BIRD's others (Passive, Down) reach us as none at all."""

_BIRDS: Final = {Family.IPV4: ("bird", "birdV4", "peersV4"), Family.IPV6: ("bird6", "birdV6", "peersV6")}


class _Seen:
    """One CalicoNodeStatus, as facts."""

    def __init__(self, node: str, speaker: SpeakerSpec, at: float, status: Json) -> None:
        self.where: dict[str, Any] = {"node": node, "section": speaker.name, "at": at, "speaker": speaker.name}
        self.families = sorted({session.family for session in speaker.sessions}) or [Family.IPV4]
        self.birds = {family: part(part(status, "agent"), _BIRDS[family][1]) for family in Family}
        bgp = part(status, "bgp")
        self.peers = {
            family: {address: peer for peer in parts(bgp, _BIRDS[family][2], _PEERS) if (address := _address(peer))}
            for family in Family
        }

    def runs(self, family: Family) -> bool:
        """Whether the BIRD of a family does: by its own state, or by its sessions where that isn't told."""
        state = text(self.birds[family], "state", WORD)
        return state == "Ready" or (not state and bool(self.peers[family]))

    def speaker_status(self, drain: NodeDrain | None) -> SpeakerStatus:
        up = [family for family in self.families if self.runs(family)]
        shown = self.birds[up[0] if up else self.families[0]]
        down = [f"{_BIRDS[family][0]} is not ready" for family in self.families if family not in up]
        known: dict[str, Any] = {}
        if drain is not None:
            known = {
                "drain_hard": drain.hard,
                "drain_soft": drain.soft,
                "drain_note": drain.note,
                "drain_serial": serial_of(drain),
                "pending": drain.pending,
            }
        return SpeakerStatus(
            **self.where,
            daemon="calico",
            running=bool(up),
            version=text(shown, "version", WORD),
            router_id=text(shown, "routerID", WORD),
            last_reconfigured=text(shown, "lastReconfigurationTime", WORD),
            detail=", ".join(down),
            **known,
        )

    def session(self, session: SessionSpec) -> SessionStatus:
        where = self.where | {"session": session.name}
        peer = self.peers[session.family].get(canonical(session.name))
        if peer is None:
            bird = _BIRDS[session.family][0]
            missing = "Calico has no session with this peer" if self.runs(session.family) else f"{bird} is not running"
            return SessionStatus(**where, state=SessionState.ABSENT, info=missing)
        said = text(peer, "state", WORD)
        state = _STATES.get(said, SessionState.UNKNOWN)
        info = (
            "" if state is not SessionState.UNKNOWN else (said or "Calico doesn't tell its state: passive, or disabled")
        )
        return SessionStatus(
            **where, state=state, info=info, since=text(peer, "since", WORD), neighbor=text(peer, "peerIP", NAME)
        )


def canonical(address: str) -> str:
    """An IP address as RFC 5952 writes it; "" if it is none."""
    try:
        return str(ip_address(address.partition("%")[0]))
    except ValueError:
        return ""


def _address(peer: Json) -> str:
    return canonical(text(peer, "peerIP"))
