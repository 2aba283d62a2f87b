"""FRR's bgpd, read through its vty socket: sessions, drain state in its prefix lists, and what it advertises per prefix and session.

FRR 8 does not show the communities it sends: a soft drain by community alone can't be told from none, and is reported as unknown.
Standard library only: this module travels to the nodes.
"""

# ruff: noqa: B905  -- travels to nodes with Python 3.7
from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from anyconsole.drivers.ask import FRESH, CollectError, Talk
from anyconsole.drivers.drain_lists import ListEntry, drain_pairs, drain_serial
from anyconsole.drivers.export_verdict import ABSENT, ANNOUNCED, GRACEFUL_SHUTDOWN, UNKNOWN, export_row, judge
from anyconsole.drivers.frr_reply import (
    AdvertisedRoute,
    Carrier,
    FrrRefusedError,
    PeerSummary,
    parse_advertised,
    parse_carrier,
    parse_local_address,
    parse_neighbor,
    parse_prefix_lists,
    parse_route_communities,
    parse_summary,
    parse_version,
    same_address,
)
from anyconsole.drivers.parse_error import printable
from anyconsole.drivers.quantise import steady
from anyconsole.drivers.speaker_rows import announcements_of, down_rows, not_running, session_row, speaker_row

if TYPE_CHECKING:
    from anyconsole.drivers.ask import Asking, Batch, Collector, Reply, Row, Spec, State

__all__ = ["DAEMON", "collect"]

DAEMON = "frr"

NEIGHBOURS_PER_ROUND = 4
"""Sessions that are up and asked in one round for our own address; once it is known, again only after they came up anew."""

PREFIXES_PER_ROUND = 64
"""Lookups of local communities in one round; with more prefixes they take turns."""

_FIRST = ("show version", "show bgp summary json", "show ip prefix-list json", "show ipv6 prefix-list json")


def collect(spec: Spec, state: State, _now: float) -> Collector:
    """One round over one bgpd. See `anyconsole.drivers.ask` for the contract."""
    replies = yield _talk(spec, _FIRST)
    if not_running(replies[0]):
        state.clear()
        return down_rows(spec, DAEMON, printable(replies[0].text))
    for reply in replies:
        _seen(reply)
    version = parse_version(replies[0].data)
    router_id, own_as, summary = parse_summary(replies[1].data)
    peers = {(family, same_address(a)): p for (family, a), p in summary.items()}
    lists: dict[str, list[ListEntry]] = {}
    for reply in replies[2:4]:
        for name, entries in parse_prefix_lists(reply.data).items():
            lists.setdefault(name, []).extend(entries)
    hard, soft = drain_pairs(spec, lists, "HARD"), drain_pairs(spec, lists, "SOFT")
    carrier = parse_carrier(replies[2].data)
    rows = [
        speaker_row(
            spec,
            DAEMON,
            running=True,
            version=version,
            router_id=router_id,
            drain_serial=carrier.serial if carrier else drain_serial(hard, soft),
            drain_note=carrier.note if carrier else "",
            pending=_pending(carrier),
            drain_hard=hard,
            drain_soft=soft,
        )
    ]
    rows.extend((yield from _sessions(spec, state, peers)))
    rows.extend((yield from _exports(spec, state, peers, own_as, set(soft))))
    return rows


def _talk(spec: Spec, commands: list[str] | tuple[str, ...]) -> Batch:
    for command in commands:
        if not command.isprintable():
            raise CollectError(f"not a command for bgpd: {printable(command, 100)}")
    return [Talk(spec["socket"], "frr", c.encode() + b"\0") for c in commands]


def _seen(reply: Reply) -> Reply:
    if reply.fault:
        raise CollectError(reply.text or reply.fault)
    return reply


def _pending(carrier: Carrier | None) -> str:
    """It stays pending after its time-out for as long as the daemon says so: then nobody has undone it."""
    if carrier is None or not carrier.until:
        return ""
    return "unconfirmed, undo at " + time.strftime("%H:%M:%S", time.gmtime(carrier.until))


def _local_addresses(spec: Spec, state: State, peers: dict[str, PeerSummary | None]) -> Asking[dict[str, str]]:
    """Generator: our own address by session, of those that are up."""
    known: dict[str, tuple[int, str]] = state.setdefault("locals", {})
    up = {n: int(steady(state, "up " + n, p.since, 2)) for n, p in peers.items() if p and p.state == "Established"}
    ask = [n for n, since in up.items() if known.get(n, (None, ""))[0] != since][:NEIGHBOURS_PER_ROUND]
    replies = (yield _talk(spec, [f"show bgp neighbors {n} json" for n in ask])) if ask else []
    for name, reply in zip(ask, replies):
        known[name] = (up[name], parse_local_address(_seen(reply).data))
    return {n: known[n][1] for n in up if n in known}


def _sessions(spec: Spec, state: State, peers: dict[tuple[str, str], PeerSummary]) -> Asking[list[Row]]:
    """Generator: session rows; a session that is down is asked why."""
    keys = {s["name"]: (s["family"], same_address(s["name"])) for s in spec["sessions"]}
    down = [n for n, k in keys.items() if k in peers and peers[k].state not in ("Established", "Admin down")]
    replies = (yield _talk(spec, [f"show bgp neighbors {n} json" for n in down])) if down else []
    whys = dict(zip(down, replies))
    local: dict[str, str] = yield from _local_addresses(spec, state, {n: peers.get(k) for n, k in keys.items()})
    rows: list[Row] = []
    for name, key in keys.items():
        peer = peers.get(key)
        if peer is None:
            rows.append(session_row(spec, name, "Absent", info="bgpd has no such neighbour in this family"))
            continue
        word, info = peer.state, peer.info
        if name in whys:
            why, by_peer = parse_neighbor(_seen(whys[name]).data)
            info = ": ".join(w for w in (info, why) if w)
            word = "Peer admin down" if by_peer else word
        since = ""
        if peer.since:
            # bgpd works the moment out anew each time and is one second off now and then.
            at = int(steady(state, "since " + name, peer.since, 2))
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))
        rows.append(
            session_row(
                spec,
                name,
                word,
                since=since,
                info=info,
                local=local.get(name, ""),
                neighbor=key[1],
                neighbor_as=peer.asn,
                imported=peer.received,
                exported=peer.sent,
            )
        )
    return rows


def _exports(
    spec: Spec,
    state: State,
    peers: dict[tuple[str, str], PeerSummary],
    own_as: int | None,
    soft: set[tuple[int, int]],
) -> Asking[list[Row]]:
    """Generator: export rows of all announcements."""
    up = {}
    for session in spec["sessions"]:
        peer = peers.get((session["family"], same_address(session["name"])))
        if peer is not None and peer.state == "Established":
            up[session["name"]] = session["family"]
    replies = yield _talk(spec, [f"show bgp {f} unicast neighbors {n} advertised-routes json" for n, f in up.items()])
    advertised = {n: parse_advertised(_seen(r).data)[1] for n, r in zip(up, replies)}
    local: dict[str, list[str]] = yield from _local_communities(spec, state)
    rows = []
    for session, tenant, prefix in announcements_of(spec):
        name = session["name"]
        if name not in advertised:
            rows.append(
                export_row(spec["section"], spec["speaker"], name, prefix, ABSENT, detail="session is not established")
            )
            continue
        route = advertised[name].get(prefix)
        is_soft = (tenant["number"], session["number"]) in soft
        rows.append(_export(spec, session, prefix, route, local.get(prefix, []), own_as, is_soft=is_soft))
    return rows


def _local_communities(spec: Spec, state: State) -> Asking[dict[str, list[str]]]:
    """Generator: communities that are on the routes themselves, by prefix (`bgp graceful-shutdown` puts one on all)."""
    prefixes = sorted({p for _, _, p in announcements_of(spec)})
    known: dict[str, list[str]] = state.setdefault("local", {})
    turn = state.get("turn", 0) % len(prefixes) if prefixes else 0
    chosen = (prefixes[turn:] + prefixes[:turn])[: len(prefixes) if state.get(FRESH) else PREFIXES_PER_ROUND]
    state["turn"] = turn + len(chosen)
    replies = yield _talk(
        spec, ["show bgp {} unicast {} json".format("ipv6" if ":" in p else "ipv4", p) for p in chosen]
    )
    for prefix, reply in zip(chosen, replies):
        try:
            known[prefix] = parse_route_communities(_seen(reply).data)
        except FrrRefusedError:  # not in the table
            known[prefix] = []
    return known


def _export(
    spec: Spec,
    session: dict[str, Any],
    prefix: str,
    route: AdvertisedRoute | None,
    communities: list[str],
    own_as: int | None,
    *,
    is_soft: bool,
) -> Row:
    section, speaker, name = spec["section"], spec["speaker"], session["name"]
    if route is None:
        return export_row(section, speaker, name, prefix, ABSENT)
    exported, why = judge(
        communities, route.as_path, route.med, own_as=own_as, base=0, soft_community=session.get("community", "")
    )
    if exported == ANNOUNCED and is_soft:
        exported, why = UNKNOWN, "drained soft, and FRR does not show the communities it sends"
    elif is_soft:
        why += ", communities not shown by FRR" if GRACEFUL_SHUTDOWN not in communities else ""
    return export_row(
        section,
        speaker,
        name,
        prefix,
        exported,
        communities=communities,
        as_path=route.as_path,
        med=route.med,
        detail=why,
    )
