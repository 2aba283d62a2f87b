"""Parsers of what BIRD says on its control socket, for the dialects 1.6, 2.x and 3.x. Total: a value or a ParseError.

Standard library only: this module travels to the nodes.
"""

# ruff: noqa: FURB188  -- travels to nodes with Python 3.7
from __future__ import annotations

import re
from typing import NamedTuple

from anyconsole.drivers.parse_error import ParseError, printable

__all__ = [
    "BirdRefusedError", "DrainFile", "Protocol", "ProtocolDetail", "Route", "Status", "TableRoute", "in_ranges", "parse_config_status",
    "parse_drain_file", "parse_eval", "parse_export", "parse_first_network", "parse_protocol", "parse_protocols", "parse_ranges",
    "parse_routes", "parse_status", "reply_lines", "session_state", "small_ranges", "steady_time",
]  # fmt: skip


class BirdRefusedError(ParseError):
    """BIRD answered with an error code (8xxx: it can't, 9xxx: it doesn't understand)."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = printable(text)
        super().__init__(f"BIRD refused ({code:04d})", text)


class Status(NamedTuple):
    """`show status`. Times are BIRD's own words."""

    version: str
    router_id: str
    server_time: str
    last_reconfigured: str
    state: str


class Protocol(NamedTuple):
    """A row of `show protocols`."""

    name: str
    proto: str
    table: str
    state: str
    since: str
    info: str


class ProtocolDetail(NamedTuple):
    """What `show protocols all NAME` adds for a BGP session. Counts are sums over channels, None while there is none."""

    neighbor: str
    neighbor_as: int | None
    local: str
    local_as: int | None
    imported: int | None
    exported: int | None
    message: str


class Route(NamedTuple):
    """The exported form of one prefix."""

    communities: list[str]
    as_path: list[int]
    med: int | None


class TableRoute(NamedTuple):
    """One of the paths of a prefix in the table. `source` is the neighbour it came from, "" if that is no neighbour."""

    protocol: str
    best: bool
    source: str
    next_hop: str
    local_pref: int | None
    route: Route


def reply_lines(reply: bytes) -> list[tuple[int, str]]:
    """A whole reply as (code, text) lines, asynchronous lines left out.

    Raises:
        BirdRefusedError: the last line has an error code.
        ParseError: the reply is not whole, or a line has no code.
    """
    text = reply.decode("utf-8", "replace")
    if not text.endswith("\n"):
        raise ParseError("BIRD's reply ends in the middle of a line", text[-200:].rsplit("\n", 1)[-1])
    lines: list[tuple[int, str]] = []
    code = -1
    ended = False
    for line in text[:-1].split("\n"):
        if line[:1] == "+":
            continue
        if ended:
            raise ParseError("BIRD's reply goes on after its last line", line)
        if line[:1] == " ":
            if code < 0:
                raise ParseError("BIRD's reply begins with a continuation", line)
            lines.append((code, line[1:]))
            continue
        if not re.match(r"[0-9]{4}[ -]", line):
            raise ParseError("line without a reply code", line)
        code = int(line[:4])
        lines.append((code, line[5:]))
        ended = line[4] == " "
    if not ended:
        raise ParseError("BIRD's reply is not whole", lines[-1][1] if lines else "")
    if code >= 8000:
        raise BirdRefusedError(code, lines[-1][1])
    return lines


def parse_status(reply: bytes) -> Status:
    """`show status`."""
    version = router_id = now = reconfigured = state = None
    for code, text in reply_lines(reply):
        if code == 1000:
            version = text
        elif code == 1011:
            for prefix in ("Router ID is ", "Current server time is ", "Last reconfiguration on "):
                if text.startswith(prefix):
                    value = text[len(prefix) :]
                    if prefix[0] == "R":
                        router_id = value
                    elif prefix[0] == "C":
                        now = value
                    else:
                        reconfigured = value
        elif code == 13:
            state = text
    if version is None or router_id is None or now is None or reconfigured is None or state is None:
        raise ParseError("show status lacks a line", state or "")
    if version.startswith("BIRD "):
        version = version[5:]
    return Status(printable(version), printable(router_id), printable(now), printable(reconfigured), printable(state))


_SINCE = re.compile(
    r"\s*((?:[0-9]{4}-[0-9]{2}-[0-9]{2}(?: [0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?)?"
    r"|[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?)(?=\s|$)|\S+)\s*(.*)$"
)


def parse_protocols(reply: bytes) -> list[Protocol]:
    """`show protocols`: every protocol, in the daemon's order."""
    protocols = []
    headed = False
    for code, text in reply_lines(reply):
        if code == 2002:
            if text.split()[:5] != ["Name", "Proto", "Table", "State", "Since"] and text.split()[:5] != [
                "name", "proto", "table", "state", "since",
            ]:  # fmt: skip
                raise ParseError("unknown heading of show protocols", text)
            headed = True
        elif code == 1002:
            if not headed:
                raise ParseError("show protocols has no heading", text)
            protocols.append(_protocol_row(text))
    if not headed:
        raise ParseError("show protocols has no heading")
    return protocols


def _protocol_row(text: str) -> Protocol:
    fields = text.split(None, 4)
    match = _SINCE.match(fields[4]) if len(fields) == 5 else None
    if match is None:
        raise ParseError("row of show protocols has too few columns", text)
    name, proto, table, state = (printable(f, 128) for f in fields[:4])
    if state not in ("up", "start", "stop", "flush", "down"):
        raise ParseError("unknown protocol state", text)
    return Protocol(name, proto, table, state, printable(match.group(1), 40), printable(match.group(2), 300))


_DETAIL = re.compile(
    r"(BGP state|Neighbor address|Neighbor AS|Source address|Local AS|Message|Routes|Last error): +(.*)$"
)
_ROUTES = re.compile(r"([0-9]+) (imported|exported)\b")


def parse_protocol(reply: bytes) -> ProtocolDetail:
    """`show protocols all NAME` of one BGP session."""
    found: dict[str, str] = {}
    counts: dict[str, int] = {}
    headed = False
    for code, text in reply_lines(reply):
        if code == 1002:
            _protocol_row(text)
            headed = True
        elif code == 1006:
            match = _DETAIL.match(text.strip())
            if match is None:
                continue
            key, value = match.groups()
            if key == "Routes":
                for number, what in _ROUTES.findall(value):
                    counts[what] = counts.get(what, 0) + int(number)
            else:
                found.setdefault(key, value)
    if not headed or "BGP state" not in found:
        raise ParseError("show protocols all is not about a BGP session")
    return ProtocolDetail(
        printable(found.get("Neighbor address", ""), 80),
        _asn(found.get("Neighbor AS")),
        printable(found.get("Source address", ""), 80),
        _asn(found.get("Local AS")),
        counts.get("imported"),
        counts.get("exported"),
        printable(found.get("Message", "") or found.get("Last error", ""), 200),
    )


def _asn(text: str | None) -> int | None:
    return int(text) if text is not None and re.match(r"[0-9]{1,10}$", text) else None


def parse_config_status(reply: bytes) -> tuple[str, float | None]:
    """`configure status`: what the daemon is doing, and the seconds until an unconfirmed configuration is undone (None: nothing is)."""
    doing, left = "", None
    for code, text in reply_lines(reply):
        if code in (3, 4, 5, 6):
            doing = printable(text)
        elif code == 22:
            match = re.search(r"undo in ([0-9]+(?:\.[0-9]+)?) s", text)
            if match is None:
                raise ParseError("unconfirmed configuration without a time", text)
            left = float(match.group(1))
    if not doing:
        raise ParseError("configure status says nothing")
    return doing, left


def parse_eval(reply: bytes) -> str:
    """`eval EXPRESSION`: the value as BIRD prints it."""
    lines = reply_lines(reply)
    if len(lines) != 1 or lines[0][0] != 23:
        raise ParseError("eval did not give one value", lines[0][1])
    return printable(lines[0][1], 4000)


_RANGE = re.compile(r"\(([0-9]{1,5}),([0-9]{1,5})\)(?:\.\.\(([0-9]{1,5}),([0-9]{1,5})\))?$")


def parse_ranges(text: str) -> list[tuple[int, int]]:
    """A printed pair set, e.g. `[(0,0), (1,11)..(1,22)]`, as inclusive ranges of tenant << 16 | session."""
    if len(text) < 2 or text[0] != "[" or text[-1] != "]":
        raise ParseError("not a set of pairs", text)
    ranges = []
    body = text[1:-1].strip()
    for item in body.split(", ") if body else []:
        match = _RANGE.match(item.strip())
        if match is None:
            raise ParseError("not a pair or a range of pairs", item)
        low = int(match.group(1)) << 16 | int(match.group(2))
        high = low if match.group(3) is None else int(match.group(3)) << 16 | int(match.group(4))
        if high < low or high >= 1 << 32:
            raise ParseError("range of pairs runs backwards or too far", item)
        ranges.append((low, high))
    return ranges


def small_ranges(ranges: list[tuple[int, int]], limit: int = 256) -> set[tuple[int, int]]:
    """The pairs of ranges that are small enough to be listed; (0,0) is the dummy that keeps old BIRDs happy and is left out."""
    pairs: set[tuple[int, int]] = set()
    for low, high in ranges:
        if high - low < limit and len(pairs) < 4 * limit:
            pairs.update((n >> 16, n & 0xFFFF) for n in range(low, high + 1))
    pairs.discard((0, 0))
    return pairs


def in_ranges(ranges: list[tuple[int, int]], pair: tuple[int, int]) -> bool:
    """True if the set holds `pair`."""
    number = pair[0] << 16 | pair[1]
    return any(low <= number <= high for low, high in ranges)


_ROUTE = re.compile(r"(\S+)\s+\S.*\[\S+ .*\]")
_ATTRIBUTE = re.compile(r"\t(?:BGP\.|bgp_)(as_path|path|med|community|large_community):\s*(.*)$")


def parse_export(reply: bytes, prefix: str) -> Route | None:
    """`show route PREFIX export SESSION all`: the first (best) exported route, None if the prefix is not exported."""
    try:
        lines = reply_lines(reply)
    except BirdRefusedError as refusal:
        if refusal.code == 8001:  # Network not found: not even in the table
            return None
        raise
    route: Route | None = None
    for code, text in lines:
        attribute = _ATTRIBUTE.match(text)
        if attribute is not None:
            if route is None:
                raise ParseError("attribute before any route", text)
            route = _with_attribute(route, attribute.group(1), attribute.group(2), text)
        elif code == 1007 and not text.startswith(("Table ", "\t")) and text.strip():
            if route is not None:
                break  # a second route of the same prefix (ADD-PATH): the best one comes first
            match = _ROUTE.match(text)
            if match is None:
                raise ParseError("not a route", text)
            if match.group(1) != prefix:
                raise ParseError("BIRD showed another prefix than " + prefix, text)
            route = Route([], [], None)
    return route


def parse_first_network(reply: bytes) -> str:
    """`show route for X ...`: the network of the first route that is shown, "" if none is. Raises ParseError."""
    for code, text in reply_lines(reply):
        if code == 1007 and not text.startswith(("Table ", "\t")) and text.strip():
            match = _ROUTE.match(text)
            if match is None or not re.match(r"[0-9a-f.:]{2,43}/[0-9]{1,3}$", match.group(1)):
                raise ParseError("not a route", text)
            return match.group(1)
    return ""


def _with_attribute(route: Route, name: str, value: str, line: str) -> Route:
    value = value.strip()
    if name in ("as_path", "path"):
        path = re.findall(r"[0-9]{1,10}", value)
        if re.search(r"[^0-9 (){}]", value):
            raise ParseError("not an AS path", line)
        return route._replace(as_path=[int(asn) for asn in path[:64]])
    if name == "med":
        if not re.match(r"[0-9]{1,10}$", value):
            raise ParseError("not a MED", line)
        return route._replace(med=int(value))
    sets = re.findall(r"\(([0-9]+(?:, ?[0-9]+){1,2})\)", value)
    if re.sub(r"\([0-9]+(?:, ?[0-9]+){1,2}\)", "", value).strip():
        raise ParseError("not a list of communities", line)
    return route._replace(communities=(route.communities + [re.sub(", ?", ":", s) for s in sets[:64]])[:256])


_PATH = re.compile(r"(\S*)\s+(?:\S.*? )?\[(\S+) ([^\]]*)\](?: ([*!])(?= |$))?")
_VIA = re.compile(r"\bvia (\S+)")
_PREFERENCE = re.compile(r"\t(?:BGP\.|bgp_)(next_hop|local_pref):\s*(\S+)")
_LONGEST_PATH_LINE = 1000


def parse_routes(reply: bytes, prefix: str) -> list[TableRoute]:
    """`show route PREFIX all`: every path there is, the best one first; none if the prefix is not in the table."""
    try:
        lines = reply_lines(reply)
    except BirdRefusedError as refusal:
        if refusal.code == 8001:  # Network not found
            return []
        raise
    paths: list[TableRoute] = []
    for code, text in lines:
        if text.startswith("\t"):
            if not paths:
                raise ParseError("attribute before any route", text)
            paths[-1] = _with_detail(paths[-1], text)
        elif code == 1007 and text.strip() and not text.startswith("Table "):
            match = _PATH.match(text) if len(text) <= _LONGEST_PATH_LINE else None
            if match is None or not (match.group(1) or paths):
                raise ParseError("not a route", text)
            if match.group(1) not in ("", prefix):
                raise ParseError("BIRD showed another prefix than " + prefix, text)
            announced_by = re.search(r" from (\S+)$", match.group(3))
            paths.append(
                TableRoute(
                    printable(match.group(2), 128),
                    match.group(4) is not None,
                    _address(announced_by or _VIA.search(text)),
                    "",
                    None,
                    Route([], [], None),
                )
            )
    return paths


def _with_detail(path: TableRoute, text: str) -> TableRoute:
    attribute = _ATTRIBUTE.match(text)
    if attribute is not None:
        return path._replace(route=_with_attribute(path.route, attribute.group(1), attribute.group(2), text))
    preference = _PREFERENCE.match(text)
    if preference is not None:
        name, value = preference.groups()
        if name == "next_hop":
            return path._replace(next_hop=_address(preference, 2))
        if not re.match(r"[0-9]{1,10}$", value):
            raise ParseError("not a local preference", text)
        return path._replace(local_pref=int(value))
    # Where no other neighbour is named, the gateway is the one that announced it.
    return path if path.source else path._replace(source=_address(_VIA.match(text.strip())))


def _address(match: re.Match[str] | None, group: int = 1) -> str:
    return "" if match is None else printable(match.group(group).split("%", 1)[0], 80)


_FSM = {
    "Established": "Established",
    "OpenConfirm": "OpenConfirm",
    "OpenSent": "OpenSent",
    "Active": "Active",
    "Connect": "Connect",
    "Idle": "Idle",
    "Passive": "Passive",
    "Close": "Idle",
    "Down": "Idle",
}


def session_state(protocol: Protocol) -> tuple[str, str]:
    """The normalised state of a BGP session and its info without the state's own word."""
    word, _, rest = protocol.info.partition(" ")
    info = rest.strip() if word in _FSM else protocol.info
    if "imit exceeded" in info or "imit hit" in info:
        return "Limit hit", info
    if protocol.state == "down":
        return ("Idle" if info else "Admin down"), info
    state = _FSM.get(word, "Unknown" if protocol.state == "up" else "Idle")
    if state != "Established" and info.startswith("Received: Administrative"):
        return "Peer admin down", info
    return state, info


class DrainFile(NamedTuple):
    """What the text of a drain file says; ranges as `parse_ranges` gives them, None for what it doesn't say or says in other words."""

    serial: int | None
    note: str
    hard: list[tuple[int, int]] | None
    soft: list[tuple[int, int]] | None


_SERIAL_LINE = re.compile(rb"^[ \t]*define[ \t]+DRAIN_SERIAL[ \t]*=[ \t]*([0-9]{1,10})[ \t]*;", re.MULTILINE)
_NOTE_LINE = re.compile(r"^[ \t]*define[ \t]+DRAIN_NOTE[ \t]*=[ \t]*\"([^\"\n]*)\"[ \t]*;", re.MULTILINE)
_SET_TEXT = r"^[ \t]*define[ \t]+DRAIN_{}[ \t]*=[ \t]*\[([^;\]]*)\][ \t]*;"
_MEMBER = re.compile(
    r"\(([0-9]{1,5})(?:\.\.([0-9]{1,5}))?,(?:([0-9]{1,5})(?:\.\.([0-9]{1,5}))?|(\*))\)(?:\.\.\(([0-9]{1,5}),([0-9]{1,5})\))?"
)
_MOST_RANGES = 4096


def parse_drain_file(content: bytes) -> DrainFile:
    """The text of a drain file, whoever wrote it. Total: what isn't understood is None."""
    found = _SERIAL_LINE.findall(content)
    text = content.decode("utf-8", "replace")
    note = _NOTE_LINE.findall(text)
    return DrainFile(
        int(found[0]) if found else None,
        printable(note[0], 300) if len(note) == 1 else "",
        _written_ranges(text, "HARD"),
        _written_ranges(text, "SOFT"),
    )


def _written_ranges(text: str, name: str) -> list[tuple[int, int]] | None:
    """A set of pairs as it is written in a configuration, e.g. `[ (0,0), (1,11..12), (2,*) ]`."""
    found = re.findall(_SET_TEXT.format(name), text, re.MULTILINE)
    if len(found) != 1:
        return None
    body = re.sub(r"\s+", "", re.sub(r"#[^\n]*", "", found[0]))
    ranges: list[tuple[int, int]] = []
    place = 0
    while place < len(body):
        match = _MEMBER.match(body, place)
        if match is None or body[match.end() : match.end() + 1] not in ("", ","):
            return None
        place = match.end() + 1
        tenant, last_tenant, session, last_session, any_session, to_tenant, to_session = match.groups()
        low, high = (0, 65535) if any_session else (int(session), int(last_session or session))
        first, last = int(tenant), int(last_tenant or tenant)
        if to_tenant is not None:
            members = [(first << 16 | low, int(to_tenant) << 16 | int(to_session))]
        elif last - first > _MOST_RANGES:
            return None
        else:
            members = [(t << 16 | low, t << 16 | high) for t in range(first, last + 1)]
        is_one_pair = not (last_tenant or last_session or any_session)
        if not members or max(first, last, low, high) > 65535 or (to_tenant is not None and not is_one_pair):
            return None
        if any(end < start or end >= 1 << 32 for start, end in members) or len(ranges) > _MOST_RANGES:
            return None
        ranges += members
    return ranges


def steady_time(old: str, new: str) -> str:
    """`old` if both are the same moment but for the millisecond's jitter BIRD prints with, else `new`."""
    a, b = _milliseconds(old), _milliseconds(new)
    return old if a is not None and b is not None and old[:-12] == new[:-12] and abs(a - b) <= 10 else new


def _milliseconds(text: str) -> int | None:
    match = re.search(r"([0-9]{2}):([0-9]{2}):([0-9]{2})\.([0-9]{3})$", text)
    if match is None:
        return None
    hours, minutes, seconds, ms = (int(g) for g in match.groups())
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + ms
