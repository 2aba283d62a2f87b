"""What a node's BIRDs export: questions that are asked in its calico-node pod with `birdcl`, and its answers as Export facts.

One exec asks for everything. Every question is restricted (`-r` sends `restrict` first), and about one route and one session: never an
unfiltered table. The names of BIRD's protocols are only known once it was asked, so the first answer is of UNKNOWN exports and names.

With `externalTrafficPolicy: Local` Calico announces service addresses, and the border routers the prefix around them. So a prefix counts as
exported if the service addresses inside it are, or it is itself, and as absent only if none of these is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from anyconsole.drivers.bird_reply import BirdRefusedError, Protocol, parse_export, parse_protocols, session_state
from anyconsole.drivers.export_verdict import judge
from anyconsole.drivers.kube.advertising import Cell, cells_of
from anyconsole.drivers.kube.calico import canonical, speaker_of
from anyconsole.drivers.parse_error import ParseError, printable
from anyconsole.model.facts import Export, Exported
from anyconsole.model.inventory import Family, Inventory, NodeSpec, SessionSpec

__all__ = ["CONTAINER", "POD_LABEL", "Answers", "question", "read_answers"]

CONTAINER: Final = "calico-node"
POD_LABEL: Final = "k8s-app=calico-node"
"""The pods that have a BIRD; the one with the node's name in `spec.nodeName` is asked."""

_SCRIPT: Final = """
for ask; do
  printf '\\n@@ ask %s\\n' "$ask"
  case $ask in
    4*) birdcl -v -r -s /var/run/calico/bird.ctl "${ask#4 }" 2>&1 </dev/null ;;
    6*) birdcl6 -v -r -s /var/run/calico/bird6.ctl "${ask#6 }" 2>&1 </dev/null ;;
  esac
  printf '\\n@@ end %s\\n' "$?"
done
"""

_PROTOCOLS: Final = "show protocols"
_DIGIT: Final = {Family.IPV4: "4", Family.IPV6: "6"}
_DAEMON: Final = {Family.IPV4: "bird", Family.IPV6: "bird6"}
_NO_DAEMON: Final = re.compile(rb"Unable to connect to server control socket[^\n]*(No such file|Connection refused)")
_VERSION: Final = re.compile(rb"0001 BIRD (?:\S*birdv)?([0-9]+)\.")
_PROTOCOL_NAME: Final = re.compile(r"(?:Global|Node|Mesh|Local_Workload)_([0-9a-f_]+?)(?:_port_[0-9]+)?")


class Answers(NamedTuple):
    """What came of a question: facts, and the names of BIRD's protocols by session. With other names than were asked with, ask again."""

    facts: tuple[Export, ...]
    names: dict[str, str]


def question(inventory: Inventory, node: NodeSpec, names: Mapping[str, str]) -> list[str]:
    """The command to run in a node's calico-node container.

    Args:
        inventory: The profile.
        node: The node.
        names: The names of its protocols by session, as the last answer told them; none at first.
    """
    speaker = speaker_of(node)
    families = sorted({session.family for session in speaker.sessions}) if speaker is not None else []
    asks = [f"{_DIGIT[family]} {_PROTOCOLS}" for family in families]
    asks += [
        _ask(cell, route, names) for cell in cells_of(inventory, node) for route in cell.routes if _name(cell, names)
    ]
    return ["sh", "-c", _SCRIPT, "sh", *asks]


def _name(cell: Cell, names: Mapping[str, str]) -> str:
    """The protocol to ask for, "" if it isn't known or is no name that BIRD could have."""
    name = names.get(cell.session.name, "")
    return name if _PROTOCOL_NAME.fullmatch(name) else ""


def _ask(cell: Cell, route: str, names: Mapping[str, str]) -> str:
    return f"{_DIGIT[cell.session.family]} show route {route} export {_name(cell, names)} all"


def read_answers(output: bytes, inventory: Inventory, node: NodeSpec, names: Mapping[str, str], at: float) -> Answers:
    """What the command said. What wasn't asked, or not understood, is unknown; never an error.

    Args:
        output: Its standard output; it may end anywhere.
        inventory: The profile.
        node: The node.
        names: Those that were asked with.
        at: When it ended.
    """
    said = _answers(output)
    speaker = speaker_of(node)
    if speaker is None:
        return Answers((), {})
    daemons = {family: _Daemon(said.get(f"{_DIGIT[family]} {_PROTOCOLS}"), _DAEMON[family]) for family in Family}
    now = {s.name: name for s in speaker.sessions if (name := daemons[s.family].name_of(s))}
    common: dict[str, Any] = {"node": node.name, "section": speaker.name, "speaker": speaker.name}
    facts = []
    for cell in cells_of(inventory, node):
        daemon = daemons[cell.session.family]
        for prefix in cell.prefixes:
            # The name asked with is that of another protocol by now, or none was known: what was said is about nothing.
            known = now.get(cell.session.name) == names.get(cell.session.name)
            told = common | {"session": cell.session.name, "prefix": prefix, "at": at}
            routes = [
                _fact(
                    told,
                    cell,
                    route,
                    daemon,
                    said.get(_ask(cell, route, names)) if known and _name(cell, names) else None,
                )
                for route in (prefix, *cell.addresses(prefix))
            ]
            facts.append(_together(routes[0], dict(zip(cell.addresses(prefix), routes[1:], strict=True))))
    return Answers(tuple(facts), now)


def _answers(output: bytes) -> dict[str, bytes]:
    """The replies by what was asked; one that was cut off before its end isn't among them."""
    said: dict[str, bytes] = {}
    asked, lines = "", list[bytes]()
    for line in output.split(b"\n"):
        if line.startswith(b"@@ ask "):
            asked, lines = line[7:].decode("utf-8", "replace"), []
        elif line in (b"@@ end 0", b"@@ end 1"):  # 1: BIRD refused; any other: birdcl was ended before BIRD did
            said[asked] = b"\n".join(lines)
        else:
            lines.append(line)
    return said


class _Daemon:
    """One of the two BIRDs, by its `show protocols`. `fault` says why that isn't known, `runs` is False if it surely doesn't run."""

    def __init__(self, reply: bytes | None, title: str) -> None:
        self.title = title
        self.fault = "not asked" if reply is None else ""
        self.runs = reply is None or _NO_DAEMON.search(reply) is None
        # BIRD 2 and later show the path before the own AS is added on the way out, 1.6 with it.
        version = _VERSION.search(reply or b"")
        self.base = 0 if version is not None and int(version[1]) > 1 else 1
        self.protocols: dict[str, Protocol] = {}
        try:
            rows = parse_protocols(_wire(reply)) if reply is not None and self.runs else []
        except ParseError as error:
            self.fault = printable(str(error), 200)
            return
        self.protocols = {row.name: row for row in rows if row.proto == "BGP"}

    def name_of(self, session: SessionSpec) -> str:
        """The name of a session's protocol; that which is established if there are several."""
        address = re.sub("[.:]", "_", canonical(session.name))
        named = [name for name in self.protocols if (m := _PROTOCOL_NAME.fullmatch(name)) and m[1] == address]
        return max(named, key=self.is_up, default="")

    def is_up(self, name: str) -> bool:
        """Whether a session is established."""
        return session_state(self.protocols[name])[0] == "Established"


def _together(itself: Export, addresses: Mapping[str, Export]) -> Export:
    """What is exported of a prefix, by itself and by the service addresses inside it."""
    unknown = [fact for fact in (itself, *addresses.values()) if fact.exported is Exported.UNKNOWN]
    if unknown or not addresses or (itself.exported is not Exported.ABSENT):
        return unknown[0] if unknown else itself
    sent = {address: fact for address, fact in addresses.items() if fact.exported is not Exported.ABSENT}
    if not sent:
        return itself
    if missing := [address for address in addresses if address not in sent]:
        words = f"{', '.join(sent)} exported, {', '.join(missing)} not"
        return msgspec.structs.replace(itself, exported=Exported.UNKNOWN, detail=printable(words, 200))
    # The least depreferred is what counts.
    return next((fact for fact in sent.values() if fact.exported is Exported.ANNOUNCED), next(iter(sent.values())))


def _fact(where: dict[str, Any], cell: Cell, shown: str, daemon: _Daemon, reply: bytes | None) -> Export:
    """What is exported of one route on one session."""

    def told(exported: Exported, detail: str = "") -> Export:
        return Export(**where, exported=exported, detail=detail)

    name = daemon.name_of(cell.session)
    if not daemon.runs:
        return told(Exported.ABSENT, f"{daemon.title} is not running")
    if daemon.fault:
        return told(Exported.UNKNOWN, daemon.fault)
    if not name:
        return told(Exported.ABSENT, f"{daemon.title} has no session with {cell.session.name}")
    if not daemon.is_up(name):
        return told(Exported.ABSENT, "session is not established")
    if reply is None:
        return told(Exported.UNKNOWN, "not asked yet")
    try:
        route = parse_export(_wire(reply), shown)
    except BirdRefusedError as refusal:
        # Down by now.
        return told(Exported.ABSENT if refusal.code == 8005 else Exported.UNKNOWN, printable(str(refusal), 200))
    except ParseError as error:
        return told(Exported.UNKNOWN, printable(str(error), 200))
    if route is None:
        return told(Exported.ABSENT)
    verdict, why = judge(
        route.communities, route.as_path, route.med, own_as=None, base=daemon.base, soft_community=cell.peer.community
    )
    return Export(
        **where,
        exported=Exported(verdict),
        communities=tuple(route.communities),
        as_path=tuple(route.as_path),
        med=route.med,
        detail=why,
    )


def _wire(shown: bytes) -> bytes:
    """What `birdcl -v` shows of a reply, as it was on the control socket: it indents by five, and leaves out lines with code 0."""
    if re.search(rb"^0001 BIRD .*\n+0016 ", shown, re.MULTILINE) is None:
        raise ParseError("birdcl did not reach BIRD", shown.strip()[:200].decode("utf-8", "replace"))
    lines = []
    for line in shown.split(b"\n"):
        if line.startswith((b"0001 ", b"0016 ")) or not line:
            continue
        lines.append(b" " + line[5:] if line.startswith(b"     ") else line)
    is_ended = bool(lines) and re.match(rb"[0-9]{4} ", lines[-1]) is not None
    return b"\n".join([*lines, *([] if is_ended else [b"0000 "]), b""])
