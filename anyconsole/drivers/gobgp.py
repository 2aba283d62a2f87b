"""GoBGP, read through `gobgp -j`: sessions, drain state in its prefix sets, and the computed adj-out.

Each command is a process of 30-70 ms, so a round asks for little. Before 4.6 the adj-out is computed from the policy, not remembered from
what was sent: a withdrawal it shows may never have gone out. There a route counts as absent only if the node has none for the prefix, or
if the drain that took it out saw the withdrawal leave and noted that in AC-WITHDRAWN-PEER (`gobgp_transaction.py`); else it is unknown.
Standard library only: it travels to the nodes.
"""

# ruff: noqa: B905, FURB188  -- travels to nodes with Python 3.7
from __future__ import annotations

import json
import re
import time
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, NamedTuple

from anyconsole.drivers.ask import FRESH, CollectError, Get, Run, Talk
from anyconsole.drivers.drain_lists import ListEntry, drain_pairs, drain_serial, list_entry
from anyconsole.drivers.export_verdict import ABSENT, UNKNOWN, export_row, judge
from anyconsole.drivers.frr_reply import same_address
from anyconsole.drivers.parse_error import ParseError, printable
from anyconsole.drivers.speaker_rows import announcements_of, down_rows, session_row, speaker_row

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anyconsole.drivers.ask import Ask, Batch, Collector, Reply, Row, Spec, State

__all__ = [
    "COMPUTED",
    "DAEMON",
    "DrainMark",
    "Neighbor",
    "api_target",
    "collect",
    "drain_mark",
    "gobgp",
    "knock",
    "parse_adj_out",
    "parse_global",
    "parse_neighbors",
    "parse_prefix_sets",
    "parse_rib",
    "parse_version",
]

DAEMON = "gobgp"

COMPUTED = "adj-out is computed, not sent (GoBGP < 4.6)"

DEADLINE = 2.0
"""Seconds a round may take."""

EXPORTS_EVERY = 2.5
"""Seconds between looks at exports and policy."""

_STATES = {1: "Idle", 2: "Connect", 3: "Active", 4: "OpenSent", 5: "OpenConfirm", 6: "Established"}
_ADMIN = {1: "Admin down", 2: "Limit hit"}
_FAMILIES = {(1, 1): "ipv4", (2, 1): "ipv6"}
"""By AFI and SAFI."""


class Neighbor(NamedTuple):
    """A neighbour in `gobgp -j neighbor`. `since` is epoch seconds, 0 if never; `families` are those of its unicast routes."""

    state: str
    asn: int | None
    since: int
    received: int | None
    advertised: int | None
    local: str
    families: tuple[str, ...]


class DrainMark(NamedTuple):
    """The drain state's own data. `until` is the epoch second at which it is taken back, 0 if it was confirmed."""

    serial: int
    until: int
    note: str


def collect(spec: Spec, state: State, now: float) -> Collector:
    """One round over one gobgpd."""
    asks: Batch = [gobgp(spec, "neighbor")]
    if "router_id" not in state:
        asks += [gobgp(spec, "global"), Run(("gobgp", "--version"))]
    replies = yield asks
    if replies[0].fault:
        # The client says no more than that it waited in vain: whether anybody listens is another question.
        (there,) = yield [knock(spec)]
        if there.fault == "absent":
            state.clear()
            return down_rows(spec, DAEMON, printable(there.text))
    for reply in replies:
        _seen(reply)
    neighbors = {same_address(a): n for a, n in parse_neighbors(replies[0].data).items()}
    if len(replies) > 1:
        state["own_as"], state["router_id"] = parse_global(replies[1].data)
        state["version"] = parse_version(replies[2].data)
    up = [s["name"] for s in spec["sessions"] if _is_up(neighbors.get(same_address(s["name"])))]
    is_due = now - state.get("exports_at", -60.0) >= EXPORTS_EVERY - 0.05 or bool(state.get(FRESH))
    if is_due or set(up) != set(state.get("adj_out", ())):
        afis = {s["name"]: s["family"] for s in spec["sessions"]}
        asks = [gobgp(spec, "policy", "prefix")]
        asks += [gobgp(spec, "neighbor", n, "adj-out", "-a", afis[n]) for n in up]
        replies = yield asks
        state["lists"] = parse_prefix_sets(_seen(replies[0]).data)
        state["adj_out"] = {n: _adj_out(r) for n, r in zip(up, replies[1:])}
        state["routeless"] = set()
        gone = _not_sent(spec, state)
        if gone:
            replies = yield [gobgp(spec, "global", "rib", p, "-a", "ipv6" if ":" in p else "ipv4") for p in gone]
            state["routeless"] = {p for p, r in zip(gone, replies) if not parse_rib(_seen(r).data)}
        state["exports_at"] = now
    lists = state["lists"]
    hard, soft = drain_pairs(spec, lists, "HARD"), drain_pairs(spec, lists, "SOFT")
    mark = drain_mark(lists) or DrainMark(drain_serial(hard, soft), 0, "")
    rows = [
        speaker_row(
            spec,
            DAEMON,
            running=True,
            version=state["version"],
            router_id=state["router_id"],
            pending=_pending(mark),
            drain_serial=mark.serial,
            drain_note=mark.note,
            drain_hard=hard,
            drain_soft=soft,
        )
    ]
    rows.extend(_session(spec, s["name"], neighbors.get(same_address(s["name"]))) for s in spec["sessions"])
    rows.extend(_export(spec, s, prefix, state) for s, _tenant, prefix in announcements_of(spec))
    return rows


def gobgp(spec: Spec, *words: str) -> Run:
    """The client's command that asks this daemon. Raises CollectError."""
    path, host, port = api_target(spec)
    where = ("--target", "unix://" + path) if path else ("-u", host, "-p", str(port))
    return Run(("gobgp", "-j", *where, *words))


def _pending(mark: DrainMark) -> str:
    return time.strftime("unconfirmed, undo at %H:%M:%S", time.gmtime(mark.until)) if mark.until else ""


def api_target(spec: Spec) -> tuple[str, str, int]:
    """The API's socket path, or its host and port."""
    target = spec["socket"]
    if target.startswith(("unix://", "/")):
        return target[7:] if target.startswith("unix://") else target, "", 0
    host, _, port = target.rpartition(":")
    if not host or not port.isdigit():
        raise CollectError("socket of GoBGP must be a path, unix://path or host:port, not " + printable(target))
    return "", host.strip("[]"), int(port)


def knock(spec: Spec) -> Ask:
    """What tells whether anybody listens at the API: "absent" if not. Raises CollectError."""
    path, host, port = api_target(spec)
    return Talk(path, "connect", b"") if path else Get(host, port, "/")


def _seen(reply: Reply) -> Reply:
    if reply.fault:
        raise CollectError(reply.text or reply.fault)
    return reply


def _is_up(neighbor: Neighbor | None) -> bool:
    return neighbor is not None and neighbor.state == "Established"


def _adj_out(reply: Reply) -> dict[str, tuple[list[str], list[int], int | None]] | None:
    if reply.fault == "failed" and "not established" in reply.text:
        return None
    return parse_adj_out(_seen(reply).data)


def _session(spec: Spec, name: str, neighbor: Neighbor | None) -> Row:
    if neighbor is None:
        return session_row(spec, name, "Absent", info="gobgpd has no such neighbour")
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(neighbor.since)) if neighbor.since else ""
    return session_row(
        spec,
        name,
        neighbor.state,
        local=neighbor.local,
        since=since,
        neighbor=same_address(name),
        neighbor_as=neighbor.asn,
        imported=neighbor.received,
        exported=neighbor.advertised,
    )


def _is_computed(version: str) -> bool:
    numbers = re.findall("[0-9]+", version)
    return tuple(int(n) for n in numbers[:2]) < (4, 6)


def _not_sent(spec: Spec, state: State) -> list[str]:
    """The prefixes that some session's adj-out lacks, without evidence of a withdrawal."""
    missing = set()
    for session, _tenant, prefix in announcements_of(spec):
        routes = state["adj_out"].get(session["name"])
        if routes is not None and prefix not in routes and not _saw_withdrawal(session["peer"], prefix, state):
            missing.add(prefix)
    return sorted(missing) if _is_computed(state["version"]) else []


def _saw_withdrawal(peer: str, prefix: str, state: State) -> bool:
    network = ip_network(prefix)
    return any(entry.matches(network) for entry in state["lists"].get("AC-WITHDRAWN-" + peer.upper(), ()))


def _absence(peer: str, prefix: str, state: State, caveat: str) -> tuple[str, str]:
    """What it means that an adj-out lacks a prefix, and the detail to it."""
    if not caveat:
        return ABSENT, ""
    if _saw_withdrawal(peer, prefix, state):
        return ABSENT, "the drain saw the withdrawal leave"
    return (ABSENT, "no route for it on this node") if prefix in state["routeless"] else (UNKNOWN, caveat)


def _export(spec: Spec, session: dict[str, Any], prefix: str, state: State) -> Row:
    section, speaker, name = spec["section"], spec["speaker"], session["name"]
    caveat = COMPUTED if _is_computed(state["version"]) else ""
    if name not in state["adj_out"]:
        return export_row(section, speaker, name, prefix, ABSENT, detail="session is not established")
    routes = state["adj_out"][name]
    if routes is None:
        return export_row(section, speaker, name, prefix, UNKNOWN, detail="session went while it was asked")
    if prefix not in routes:
        exported, why = _absence(session["peer"], prefix, state, caveat)
        return export_row(section, speaker, name, prefix, exported, detail=why)
    communities, as_path, med = routes[prefix]
    exported, why = judge(
        communities, as_path, med, own_as=state["own_as"], base=1, soft_community=session.get("community", "")
    )
    return export_row(
        section,
        speaker,
        name,
        prefix,
        exported,
        communities=communities,
        as_path=as_path,
        med=med,
        detail="; ".join(w for w in (why, caveat) if w),
    )


def _json(content: bytes) -> object:
    text = content.decode("utf-8", "replace")
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        raise ParseError("gobgp's output is not JSON", text[-100:]) from None
    return value


def _number(part: dict[str, Any], name: str) -> int | None:
    value = part.get(name)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ParseError("not a number: " + name, str(value))
    return value


def _part(whole: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        whole = whole.get(name, {})
        if not isinstance(whole, dict):
            raise ParseError(f"gobgp: {name} is not an object", str(whole))
    return whole


def parse_global(content: bytes) -> tuple[int, str]:
    """`global`: own AS and router ID."""
    value = _json(content)
    if not isinstance(value, dict) or not isinstance(value.get("router_id"), str) or not _number(value, "asn"):
        raise ParseError("gobgp: no global configuration", str(value))
    return int(value["asn"]), printable(value["router_id"], 40)


def parse_version(content: bytes) -> str:
    """`gobgp --version`."""
    match = re.match(r"gobgp version (\S+)", content.decode("utf-8", "replace"))
    if match is None:
        raise ParseError("gobgp: no version", content[:100].decode("utf-8", "replace"))
    return printable(match.group(1), 40)


def parse_neighbors(content: bytes) -> dict[str, Neighbor]:
    """`neighbor`, or `neighbor X`: neighbours by address."""
    value = _json(content)
    found = {}
    for neighbor in value if isinstance(value, list) else [value]:
        if not isinstance(neighbor, dict):
            raise ParseError("gobgp: not a neighbour", str(neighbor))
        state = _part(neighbor, "state")
        address = state.get("neighbor_address") or _part(neighbor, "conf").get("neighbor_address")
        if not isinstance(address, str):
            raise ParseError("gobgp: a neighbour has no address", str(neighbor))
        word = _STATES.get(_number(state, "session_state") or 0, "Unknown")
        word = _ADMIN.get(_number(state, "admin_state") or 0, word)
        counts = {"received": 0, "advertised": 0}
        families: list[str] = []
        afis = neighbor.get("afi_safis", [])
        if not isinstance(afis, list):
            raise ParseError("gobgp: afi_safis is not a list", str(afis))
        for afi in afis:
            if not isinstance(afi, dict):
                raise ParseError("gobgp: not an afi_safi", str(afi))
            for name in counts:
                counts[name] += _number(_part(afi, "state"), name) or 0
            family = _part(afi, "state", "family")
            families.append(_FAMILIES.get((_number(family, "afi") or 0, _number(family, "safi") or 0), ""))
        times = _part(neighbor, "timers", "state")
        moment = _number(_part(times, "uptime" if word == "Established" else "downtime"), "seconds")
        local = _part(neighbor, "transport").get("local_address", "")
        found[address] = Neighbor(
            word,
            _number(state, "peer_asn"),
            moment or 0,
            counts["received"],
            counts["advertised"],
            same_address(local) if isinstance(local, str) and word == "Established" else "",
            tuple(f for f in families if f),
        )
    return found


def parse_adj_out(content: bytes) -> dict[str, tuple[list[str], list[int], int | None]]:
    """`neighbor X adj-out`: (communities, path with the own AS, MED) by prefix."""
    value = _json(content)
    if not isinstance(value, dict):
        raise ParseError("gobgp: adj-out is not an object", str(value))
    routes = {}
    for prefix, paths in value.items():
        if not isinstance(paths, list) or not paths or not isinstance(paths[0], dict):
            raise ParseError("gobgp: a prefix without a path", prefix)
        communities: list[str] = []
        as_path: list[int] = []
        med = None
        attributes = paths[0].get("attrs", [])
        if not isinstance(attributes, list):
            raise ParseError("gobgp: attributes are not a list", prefix)
        for attribute in attributes:
            if not isinstance(attribute, dict):
                raise ParseError("gobgp: not an attribute", str(attribute))
            kind = attribute.get("type")
            if kind == 2:
                as_path = _as_path(attribute)
            elif kind == 4:
                med = _number(attribute, "metric")
            elif kind == 8:
                communities = [f"{c >> 16}:{c & 0xFFFF}" for c in _numbers(attribute.get("communities", []))]
        routes[prefix] = (communities, as_path, med)
    return routes


def parse_rib(content: bytes) -> bool:
    """`global rib P`: whether there is a route for the prefix."""
    value = _json(content)
    if not isinstance(value, dict):
        raise ParseError("gobgp: rib is not an object", str(value))
    return bool(value)


def _as_path(attribute: dict[str, Any]) -> list[int]:
    segments = attribute.get("as_paths", [])
    if not isinstance(segments, list):
        raise ParseError("gobgp: not an AS path", str(segments))
    path: list[int] = []
    for segment in segments:
        if not isinstance(segment, dict):
            raise ParseError("gobgp: not a segment of an AS path", str(segment))
        path += _numbers(segment.get("asns", []))
    return path[:64]


def _numbers(value: object) -> list[int]:
    if not isinstance(value, list) or any(type(v) is not int or not 0 <= v < 1 << 32 for v in value):
        raise ParseError("gobgp: not a list of numbers", str(value))
    return value[:64]


def parse_prefix_sets(content: bytes) -> dict[str, list[ListEntry]]:
    """`policy prefix`: entries by prefix set. A set holds one family, so that "NAME/6" is the IPv6 half of "NAME"."""
    value = _json(content)
    if value is None:
        return {}
    if not isinstance(value, list):
        raise ParseError("gobgp: prefix sets are not a list", str(value))
    lists: dict[str, list[ListEntry]] = {}
    for prefix_set in value:
        if not isinstance(prefix_set, dict) or not isinstance(prefix_set.get("name"), str):
            raise ParseError("gobgp: a prefix set has no name", str(prefix_set))
        prefixes = prefix_set.get("prefixes", [])
        if not isinstance(prefixes, list):
            raise ParseError("gobgp: prefixes of a set are not a list", str(prefixes))
        for entry in prefixes:
            if not isinstance(entry, dict):
                raise ParseError("gobgp: not an entry of a prefix set", str(entry))
            name = prefix_set["name"]
            lists.setdefault(name[:-2] if name.endswith("/6") else name, []).append(
                list_entry(
                    entry.get("ip_prefix"),
                    permit=True,
                    low=_number(entry, "mask_length_min"),
                    high=_number(entry, "mask_length_max"),
                )
            )
    return lists


def drain_mark(lists: Iterable[str]) -> DrainMark | None:
    """The drain state's own data, which is the name of a prefix set; None if there is none.

    While a change is unconfirmed there are two, and for a moment after its confirmation too.
    """
    found = (re.match(r"AC-STATE,serial=([0-9]{1,10}),until=([0-9]{1,10}),note=(\S*)$", name) for name in lists)
    marks = [DrainMark(int(m.group(1)), int(m.group(2)), _unquoted(m.group(3))) for m in found if m]
    confirmed = [m for m in marks if not m.until]
    waiting = [m for m in marks if m.serial not in {c.serial for c in confirmed}]
    return max(waiting or confirmed, default=None)


def _unquoted(text: str) -> str:
    """A note as it was before it became part of a name (RFC 3986, section 2.1)."""
    return printable(
        re.sub(
            "(?:%[0-9A-F]{2})+", lambda m: bytes.fromhex(m.group().replace("%", "")).decode("utf-8", "replace"), text
        )
    )
