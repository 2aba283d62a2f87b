"""Query sets: what a load test asks, in which order, the same for every generator and engine, and known by its hash.

They come from a file in dnsperf's format, a packet capture or a dnstap sample (here), or from a tenant's zone (`zone_mix`). Nobody is
asked for anything outside the zones of the target: a random flood would hit its parents and resolvers. Whatever is read may be
anybody's: it is bounded, and what can't be used is left out and counted, or refused with file and position.
"""

from __future__ import annotations

import hashlib
import re
import stat
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from anyconsole.drivers.load.agent import TYPES
from anyconsole.drivers.load.capture import packets_to_name_servers
from anyconsole.drivers.load.dnstap import queries_seen
from anyconsole.drivers.parse_error import ParseError, printable
from anyconsole.errors import LoadError

__all__ = [
    "MAX_LINES",
    "WELL_MIXED",
    "QuerySet",
    "from_capture",
    "from_dnstap",
    "from_file",
    "plain_name",
    "question_of",
    "under",
]

MAX_LINES = 100_000
"""More queries than this are left out: a generator encodes all of them before it begins."""

WELL_MIXED = 10_000
"""A set of fewer names measures caches and per-name rate limits too."""

OUTSIDE = "outside the target's zones"
BEYOND = f"beyond the first {MAX_LINES:,}"

_MAX_TEXT = 64 << 20
_MAX_CAPTURE = 1 << 30
_PLAIN = re.compile(r"(?:[a-z0-9_*/+=:-]{1,63}\.)*[a-z0-9_*/+=:-]{1,63}\.?|\.")
_TYPE_OF = {number: name for name, number in TYPES.items()}


class QuerySet(msgspec.Struct, frozen=True, kw_only=True):
    """Queries in order, one "name TYPE" a line: lower case, without the final dot.

    `source` says in words where they come from, `left_out` what of it was not taken, by reason.
    """

    lines: tuple[str, ...]
    source: str
    left_out: dict[str, int] = {}

    @property
    def text(self) -> str:
        """What is written to a file for engines that read one; what the hash is of."""
        return "".join(f"{line}\n" for line in self.lines)

    @property
    def sha256(self) -> str:
        """Sets with the same hash ask the same: only such results may be compared."""
        return hashlib.sha256(self.text.encode("ascii")).hexdigest()

    @property
    def mix(self) -> dict[str, float]:
        """Share of each type, most frequent first."""
        counts = Counter(line.rpartition(" ")[2] for line in self.lines)
        return {kind: n / len(self.lines) for kind, n in counts.most_common()}

    @property
    def names(self) -> int:
        """How many different names are asked for; see WELL_MIXED."""
        return len({line.rpartition(" ")[0] for line in self.lines})


def from_file(path: Path, zones: Sequence[str]) -> QuerySet:
    """The queries of a file in dnsperf's format: "name TYPE" a line, ";" begins a comment.

    Raises:
        LoadError: naming the file, and the line that can't be understood; or nothing in it is under `zones`.
    """
    with _opened(path, _MAX_TEXT) as file:
        return collect(_file_lines(file, str(path)), zones, f"file {path.name}", str(path))


def from_capture(path: Path, zones: Sequence[str]) -> QuerySet:
    """The queries of a pcap or pcapng file, in the order in which they were seen, with their natural repetitions.

    Raises:
        LoadError: naming the file, and the byte at which it can't be understood; or nothing in it is under `zones`.
    """
    with _opened(path, _MAX_CAPTURE) as file:
        queries = map(question_of, packets_to_name_servers(file, str(path)))
        return collect(queries, zones, f"packet capture {path.name}", str(path))


def from_dnstap(path: Path, zones: Sequence[str]) -> QuerySet:
    """The queries of a dnstap file, in the order in which they were logged, with their natural repetitions.

    Raises:
        LoadError: naming the file, and the byte at which it can't be understood; or nothing in it is under `zones`.
    """
    with _opened(path, _MAX_CAPTURE) as file:
        queries = map(question_of, queries_seen(file, str(path)))
        return collect(queries, zones, f"dnstap sample {path.name}", str(path))


def collect(queries: Iterable[tuple[str, str]], zones: Sequence[str], source: str, path: str) -> QuerySet:
    """The set of those (name, type) that are under `zones`. A type of "" is left out for the reason that stands in the name's place.

    Raises:
        LoadError: none is left.
    """
    lines: list[str] = []
    left_out: Counter[str] = Counter()
    wanted = frozenset(z for z in map(plain_name, zones) if z is not None)
    for name, kind in queries:
        if not kind:
            left_out[name] += 1
        elif not under(name, wanted):
            left_out[OUTSIDE] += 1
        elif len(lines) == MAX_LINES:
            left_out[BEYOND] += 1
        else:
            lines.append(f"{name} {kind}")
    if not lines:
        reasons = ", ".join(f"{n} {why}" for why, n in left_out.most_common()) or "it holds none"
        raise LoadError(f"{path}: no query for a name under {', '.join(zones) or 'any zone'} ({reasons})")
    return QuerySet(lines=tuple(lines), source=source, left_out=dict(left_out))


def plain_name(text: str) -> str | None:
    """A name as every engine reads it: lower case, no final dot, no escapes. None for one that can't be written so."""
    name = text.lower()
    if len(name) > 254 or not _PLAIN.fullmatch(name):
        return None
    return name.removesuffix(".") or "."


def under(name: str, zones: frozenset[str]) -> bool:
    """Whether a plain name is one of these zones' names or below it."""
    while name not in zones:
        _, dot, name = name.partition(".")
        if not dot:
            return False
    return True


def question_of(message: bytes) -> tuple[str, str]:
    """Name and type that a DNS message asks for; ("reason", "") if it is nothing to be asked again."""
    try:
        _, flags, questions = struct.unpack_from(">3H", message)
        if flags & 0x8000:
            return "responses", ""
        name, at = _wire_name(message, 12)
        kind, dns_class = struct.unpack_from(">2H", message, at)
    except (struct.error, ParseError):
        return "cut off or no DNS", ""
    if flags & 0x7800 or questions != 1 or dns_class != 1 or kind not in _TYPE_OF:
        return "no plain query", ""
    plain = plain_name(name)
    return (plain, _TYPE_OF[kind]) if plain is not None else ("names that not every engine can write", "")


def _wire_name(message: bytes, at: int) -> tuple[str, int]:
    labels: list[str] = []
    while at < len(message):
        length = message[at]
        if length == 0:
            return ".".join(labels) or ".", at + 1
        label = message[at + 1 : at + 1 + length]
        # Questions are never compressed; a dot within a label can't be told from one between labels.
        if length > 63 or len(label) < length or len(labels) > 127:
            break
        labels.append(label.decode("latin-1").replace(".", "\\."))
        at += 1 + length
    raise ParseError("no name", message[:32].hex())


def _file_lines(file: BinaryIO, path: str) -> Iterator[tuple[str, str]]:
    for number, raw in enumerate(file, start=1):
        line = raw[:600].decode("ascii", "replace").strip()
        if not line or line.startswith(";"):
            continue
        name, _, kind = line.partition(" ")
        plain, kind = plain_name(name), kind.strip().upper()
        if plain is None or kind not in TYPES:
            what = f"no type to ask for: {printable(kind, 40)!r}" if plain else "no plain name"
            raise LoadError(f'{path} line {number}: {what}; expected "name TYPE", got {printable(line, 80)!r}')
        yield plain, kind


def _opened(path: Path, limit: int) -> BinaryIO:
    try:
        status = path.stat()  # first: opening a pipe would wait for somebody to write into it
        if not stat.S_ISREG(status.st_mode):
            raise LoadError(f"{path}: no file")
        if status.st_size > limit:
            raise LoadError(f"{path}: {status.st_size >> 20} MiB, of which {limit >> 20} are allowed")
        return path.open("rb")
    except OSError as error:
        raise LoadError(f"{path}: can't be read: {error.strerror}") from error
