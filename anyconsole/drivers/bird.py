"""BIRD, read through its control socket: daemon, drain state in its memory, sessions, and what it exports per prefix and session.

Reads only: the framing sends `restrict` first on every connection. Never asks for an unfiltered table (seconds and tens of MB on a full
one); one exact-prefix lookup per announcement costs 0.05 ms. Standard library only: this module travels to the nodes.
"""

# ruff: noqa: B905  -- travels to nodes with Python 3.7
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anyconsole.drivers.ask import FRESH, CollectError, Read, Talk
from anyconsole.drivers.bird_reply import (
    BirdRefusedError,
    Protocol,
    in_ranges,
    parse_config_status,
    parse_drain_file,
    parse_eval,
    parse_export,
    parse_protocol,
    parse_protocols,
    parse_ranges,
    parse_status,
    session_state,
    small_ranges,
    steady_time,
)
from anyconsole.drivers.export_verdict import ABSENT, UNKNOWN, export_row, judge
from anyconsole.drivers.parse_error import printable
from anyconsole.drivers.speaker_rows import announcements_of, down_rows, not_running, session_row, speaker_row

if TYPE_CHECKING:
    from anyconsole.drivers.ask import Asking, Batch, Collector, Reply, Row, Spec, State

__all__ = ["DAEMON", "collect"]

DAEMON = "bird"

LOOKUPS_PER_ROUND = 256
"""Exact-prefix lookups in one round. With more announcements than this they take turns."""

_OVERFLOW = "<line overflow>"
"""What BIRD says instead of a value longer than some 500 characters."""

_DOWN_WORDS = ("No valid tables", "Requested 'show route export' to protocols which aren't accepting exports")

DETAILS_PER_ROUND = 1
"""`show protocols all` of sessions that did not change: for route counts only, so they take turns."""

_DRAIN_FILE_LIMIT = 32768
"""Bytes of the drain file that are read; a set that goes on behind them is not known."""

_FIRST = (
    "show status",
    "configure status",
    "show protocols",
    *tuple("eval DRAIN_" + what for what in ("SERIAL", "NOTE", "HARD", "SOFT")),
)


def collect(spec: Spec, state: State, _now: float) -> Collector:
    """One round over one BIRD. See `anyconsole.drivers.ask` for the contract."""
    drain_file = spec.get("drain_file", "")
    # The file after the memory: between moving it and `configure` both are asked again, and a difference has to last.
    replies = yield _talk(spec, _FIRST) + ([Read(drain_file, _DRAIN_FILE_LIMIT)] if drain_file else [])
    if not_running(replies[0]):
        state.clear()
        return down_rows(spec, DAEMON, printable(replies[0].text))
    on_disk = _on_disk(spec, replies[len(_FIRST)], replies[5:7]) if drain_file else {}
    replies = [_seen(r) for r in replies[: len(_FIRST)]]
    status = parse_status(replies[0].data)
    protocols = {p.name: p for p in parse_protocols(replies[2].data) if p.proto == "BGP"}
    hard, soft = _eval(replies[5]), _eval(replies[6])
    rows = [
        speaker_row(
            spec,
            DAEMON,
            running=True,
            version=status.version,
            router_id=status.router_id,
            detail="" if status.state == "Daemon is up and running" else status.state,
            last_reconfigured=_steady(state, "reconfigured", status.last_reconfigured),
            pending=_pending(state, replies[1], status.server_time),
            drain_serial=_serial(_eval(replies[3])),
            drain_note=(_eval(replies[4]) or "")[:300],
            **on_disk,
        )
    ]
    for field, value, name in (("drain_hard", hard, "DRAIN_HARD"), ("drain_soft", soft, "DRAIN_SOFT")):
        rows[0][field] = yield from _pairs(spec, name, value)
    rows.extend((yield from _sessions(spec, state, protocols)))
    rows.extend((yield from _exports(spec, state, protocols, status.version)))
    return rows


def _talk(spec: Spec, commands: tuple[str, ...] | list[str]) -> Batch:
    for command in commands:
        if not command.isprintable():
            raise CollectError(f"not a command for BIRD: {printable(command, 100)}")
    return [Talk(spec["socket"], "bird", command.encode() + b"\n") for command in commands]


def _seen(reply: Reply) -> Reply:
    if reply.fault:
        raise CollectError(reply.text or reply.fault)
    return reply


def _eval(reply: Reply) -> str | None:
    try:
        return parse_eval(_seen(reply).data)
    except BirdRefusedError as refusal:
        if refusal.code == 8000:
            return _OVERFLOW
        return None  # the daemon has no such symbol: a configuration without our drain file


def _serial(value: str | None) -> int | None:
    return int(value) if value is not None and value.isdigit() and len(value) <= 10 else None


def _on_disk(spec: Spec, reply: Reply, in_memory: list[Reply]) -> dict[str, object]:
    """What the drain file says, as fields of the speaker's row. A file that may not be read is not known, and no fault of the node's."""
    if reply.fault:
        missing = printable(reply.text or reply.fault, 200) if reply.fault == "absent" else ""
        return {"disk_serial": None, "disk_fault": missing}
    said = parse_drain_file(reply.data)
    if said.serial is None:
        return {
            "disk_serial": None,
            "disk_fault": "{} has no line that defines DRAIN_SERIAL".format(spec["drain_file"]),
        }
    fields: dict[str, object] = {"disk_serial": said.serial, "disk_note": said.note}
    cells = {(t["number"], s["number"]) for s, t, _ in announcements_of(spec)}
    for name, ranges, memory in (("disk_hard", said.hard, in_memory[0]), ("disk_soft", said.soft, in_memory[1])):
        # Told as `_pairs` tells those in memory, so that the two can be compared.
        if ranges is not None:
            small = set() if memory.data.startswith(b"8000") else small_ranges(ranges)
            fields[name] = sorted(small | {c for c in cells if in_ranges(ranges, c)})
    return fields


def _steady(state: State, key: str, new: str) -> str:
    state[key] = steady_time(state.get(key, new), new)
    return str(state[key])


def _pending(state: State, reply: Reply, server_time: str) -> str:
    try:
        doing, left = parse_config_status(reply.data)
    except BirdRefusedError:  # 1.6 has no such command
        return ""
    if left is None:
        state.pop("undo_at", None)
        return "" if doing == "Daemon is up and running" else doing
    clock = server_time.rsplit(" ", maxsplit=1)[-1].split(".", maxsplit=1)[0].split(":")
    if len(clock) != 3 or not all(c.isdigit() for c in clock):
        return "unconfirmed"
    # A count-down would be a change every second: say the moment instead, steady against rounding.
    at = int(clock[0]) * 3600 + int(clock[1]) * 60 + int(clock[2]) + round(left)
    if abs(state.get("undo_at", -9) - at) > 2:
        state["undo_at"] = at
    at = state["undo_at"] % 86400
    return f"unconfirmed, undo at {at // 3600:02d}:{at // 60 % 60:02d}:{at % 60:02d}"


def _pairs(spec: Spec, name: str, value: str | None) -> Asking[list[tuple[int, int]]]:
    """Generator: the (tenant, session) pairs of a drain set; asks for each cell where the set is too long for BIRD to print."""
    if value is None:
        return []
    cells = sorted({(t["number"], s["number"]) for s, t, _ in announcements_of(spec)})
    if value != _OVERFLOW:
        ranges = parse_ranges(value)
        return sorted(small_ranges(ranges) | {c for c in cells if in_ranges(ranges, c)})
    replies = yield _talk(spec, [f"eval ({tenant},{session}) ~ {name}" for tenant, session in cells])
    return [c for c, r in zip(cells, replies) if parse_eval(_seen(r).data) == "TRUE"]


def _sessions(spec: Spec, state: State, protocols: dict[str, Protocol]) -> Asking[list[Row]]:
    """Generator: session rows. Details (counts, neighbour) are asked for at once after a change, else by turns."""
    names = [s["name"] for s in spec["sessions"]]
    known = [n for n in names if n in protocols]
    seen: dict[str, Any] = state.setdefault("details", {})
    before: dict[str, Any] = state.setdefault("shown", {})
    since: dict[str, str] = state.setdefault("since", {})
    local: dict[str, str] = state.setdefault("local", {})
    for name in known:
        since[name] = steady_time(since.get(name, protocols[name].since), protocols[name].since)
    shown = {n: (protocols[n].state, protocols[n].info, since[n]) for n in known}
    wanted = [n for n in known if n not in seen or before.get(n) != shown[n]]
    turn = state["turn"] = state.get("turn", -1) + 1
    wanted += [known[(turn + i) % len(known)] for i in range(min(DETAILS_PER_ROUND, len(known)))]
    replies = yield _talk(spec, ["show protocols all " + n for n in wanted])
    for name, reply in zip(wanted, replies):
        try:
            seen[name] = parse_protocol(_seen(reply).data)
        except BirdRefusedError:  # it went between two commands; the next round says so
            seen.pop(name, None)
    state["shown"] = shown
    rows: list[Row] = []
    for name in names:
        if name not in protocols:
            rows.append(session_row(spec, name, "Absent", info="BIRD has no protocol of this name"))
            continue
        word, info = session_state(protocols[name])
        row = session_row(spec, name, word, since=since[name], info=info)
        detail = seen.get(name)
        if detail is not None:
            # A session that went down shows no source address, but what the peer may still hold came from it.
            row["local"] = local[name] = detail.local or local.get(name, "")
            row["neighbor"], row["neighbor_as"] = detail.neighbor, detail.neighbor_as
            row["imported"], row["exported"] = detail.imported, detail.exported
            if detail.message and word != "Established" and detail.message not in info:
                row["info"] = (info + ": " if info else "") + detail.message
            if detail.local_as is not None:
                state["own_as"] = detail.local_as
        rows.append(row)
    return rows


def _exports(spec: Spec, state: State, protocols: dict[str, Protocol], version: str) -> Asking[list[Row]]:
    """Generator: export rows of all announcements; those of sessions that aren't up need no question."""
    cells = list(announcements_of(spec))
    up = {n for n, p in protocols.items() if session_state(p)[0] == "Established"}
    last: dict[tuple[str, str], Row] = state.setdefault("exports", {})
    ask = [i for i, (session, _, _) in enumerate(cells) if session["name"] in up]
    turn = state.get("export_turn", 0) % len(ask) if ask else 0
    chosen = (ask[turn:] + ask[:turn])[: len(ask) if state.get(FRESH) else LOOKUPS_PER_ROUND]
    state["export_turn"] = turn + len(chosen)
    replies = yield _talk(
        spec, ["show route {} export {} all".format(cells[i][2], cells[i][0]["name"]) for i in chosen]
    )
    answered = dict(zip(chosen, replies))
    # BIRD 2 and later show the path before the own AS is added on the way out, 1.6 with it.
    base = 1 if version.startswith("1.") else 0
    rows = []
    for i, (session, _tenant, prefix) in enumerate(cells):
        key = (session["name"], prefix)
        if session["name"] not in up:
            row = export_row(
                spec["section"], spec["speaker"], key[0], prefix, ABSENT, detail="session is not established"
            )
        elif i in answered:
            row = _export(spec, session, prefix, _seen(answered[i]), base, state.get("own_as"))
        else:
            row = last.get(key) or export_row(
                spec["section"], spec["speaker"], key[0], prefix, UNKNOWN, detail="not asked yet"
            )
        last[key] = row
        rows.append(row)
    return rows


def _export(spec: Spec, session: dict[str, Any], prefix: str, reply: Reply, base: int, own_as: int | None) -> Row:
    section, speaker, name = spec["section"], spec["speaker"], session["name"]
    try:
        route = parse_export(reply.data, prefix)
    except BirdRefusedError as refusal:
        # Down by now: 1.6 says 8005, later ones 9001, which also means that the command makes no sense to them.
        if refusal.code == 8005 or (refusal.code == 9001 and refusal.text.startswith(_DOWN_WORDS)):
            return export_row(section, speaker, name, prefix, ABSENT, detail="session is down: " + refusal.text)
        return export_row(section, speaker, name, prefix, UNKNOWN, detail=str(refusal))
    if route is None:
        return export_row(section, speaker, name, prefix, ABSENT)
    exported, why = judge(
        route.communities,
        route.as_path,
        route.med,
        own_as=own_as,
        base=base,
        soft_community=session.get("community", ""),
    )
    return export_row(
        section,
        speaker,
        name,
        prefix,
        exported,
        communities=route.communities,
        as_path=route.as_path,
        med=route.med,
        detail=why,
    )
