"""Query sets from a tenant's zone, from its text or by transfer: its names, and names that aren't there, in a given mix.

The same zone, mix and seed give the same set on every machine: order comes from a hash, not from a random generator.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import dns.asyncquery
import dns.exception
import dns.rdatatype
import dns.xfr
import dns.zone
import msgspec

from anyconsole.drivers.load.agent import TYPES
from anyconsole.drivers.load.query_set import WELL_MIXED, QuerySet, plain_name, under
from anyconsole.drivers.parse_error import printable
from anyconsole.errors import LoadError
from anyconsole.model.inventory import QueryKind

__all__ = ["USUAL", "ZoneNames", "from_transfer", "from_zone_text", "mixed", "zone_names"]

USUAL: Mapping[QueryKind, float] = {QueryKind.A: 0.75, QueryKind.AAAA: 0.15, QueryKind.NXDOMAIN: 0.1}

Record = tuple[str, str]
"""Owner as a plain name, and type."""

_MAX_TEXT = 64 << 20
_TRANSFER_PATIENCE = 60.0
_TRANSFER_PAUSE = 0.5
_SPECIAL = re.compile(r'["();]')
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[();]|(?:[^\s"();\\]|\\.)+|(\S)')
_TTL = re.compile(r"(?:[0-9]+[wdhms]?)+", re.IGNORECASE)
_CLASSES = ("IN", "CH", "HS")
_TYPE = re.compile(r"[A-Z][A-Z0-9-]{0,15}")
_META = ("SOA", "NS", "RRSIG", "NSEC", "NSEC3", "NSEC3PARAM", "DNSKEY", "DS", "CDS", "CDNSKEY", "ZONEMD", "DNAME")


class ZoneNames(msgspec.Struct, frozen=True, kw_only=True):
    """What can be asked of a zone: `types` of every name it answers for, its `delegated` names, and how many records were `unusable`."""

    zone: str
    types: Mapping[str, frozenset[str]]
    delegated: frozenset[str]
    unusable: int = 0

    def holders(self, kind: str) -> list[str]:
        """Names that have this type, or are delegated and answered with a referral."""
        return [n for n, types in self.types.items() if kind in types or n in self.delegated]


def from_zone_text(
    text: str, zone: str, mix: Mapping[QueryKind, float] = USUAL, *, count: int = WELL_MIXED, seed: int = 1
) -> QuerySet:
    """`count` queries for names of a zone file.

    Raises:
        LoadError: not a zone file, naming the line; or there is nothing in it to ask for.
    """
    if len(text) > _MAX_TEXT:
        raise LoadError(f"zone {zone}: {len(text) >> 20} MiB of text, of which {_MAX_TEXT >> 20} are allowed")
    skipped: Counter[str] = Counter()
    names = zone_names(_records(text, zone, skipped), zone)
    return mixed(names, mix, count=count, seed=seed, left_out=skipped)


async def from_transfer(
    zone: str,
    server: str,
    mix: Mapping[QueryKind, float] = USUAL,
    *,
    port: int = 53,
    count: int = WELL_MIXED,
    seed: int = 1,
) -> QuerySet:
    """`count` queries for names of a zone that `server` transfers to this host (AXFR).

    Raises:
        LoadError: the transfer failed, or there is nothing in it to ask for.
    """
    try:
        try:
            transferred = await _transfer(zone, server, port)
        except (EOFError, ConnectionError):
            # A name server that has too many TCP clients at the moment hangs up on the newest one.
            await asyncio.sleep(_TRANSFER_PAUSE)
            transferred = await _transfer(zone, server, port)
    except (dns.exception.DNSException, OSError, EOFError, ValueError) as error:
        why = printable(str(error), 200) or type(error).__name__
        raise LoadError(f"zone {zone}: transfer from {server} failed: {why}") from error
    records = (
        (name.to_text(), dns.rdatatype.to_text(rdataset.rdtype)) for name, rdataset in transferred.iterate_rdatasets()
    )
    return mixed(zone_names(records, zone), mix, count=count, seed=seed)


async def _transfer(zone: str, server: str, port: int) -> dns.zone.Zone:
    transferred = dns.zone.Zone(zone, relativize=False)
    await dns.asyncquery.inbound_xfr(server, transferred, port=port, lifetime=_TRANSFER_PATIENCE)
    return transferred


def zone_names(records: Iterable[Record], zone: str) -> ZoneNames:
    """Sort out which names the zone itself answers for: nothing below a delegation or a DNAME.

    Raises:
        LoadError: nothing is left, or `zone` is no name.
    """
    apex = plain_name(zone)
    if apex is None:
        raise LoadError(f"zone {printable(zone, 80)!r}: not a name that every engine can write")
    found: dict[str, set[str]] = {}
    unusable = 0
    for owner, kind in records:
        name = plain_name(owner)
        if name is None or not under(name, frozenset((apex,))):
            unusable += 1
        else:
            found.setdefault(name, set()).add(kind)
    delegated = frozenset(n for n, types in found.items() if "NS" in types and n != apex)
    closed = delegated | {n for n, types in found.items() if "DNAME" in types}
    types = {n: frozenset(t) for n, t in found.items() if not under(_parent(n), closed)}
    if not types:
        raise LoadError(f"zone {apex}: not one name in it")
    return ZoneNames(zone=apex, types=types, delegated=delegated, unusable=unusable)


def mixed(
    names: ZoneNames,
    mix: Mapping[QueryKind, float],
    *,
    count: int = WELL_MIXED,
    seed: int = 1,
    left_out: Mapping[str, int] | None = None,
) -> QuerySet:
    """Queries in these shares, every name as often as the next. A zone without any A is asked for what it has most of instead.

    Raises:
        LoadError: the zone has nothing to ask for, or answers for every name where NXDOMAIN is wanted.
    """
    stand_in = "A" if names.holders("A") else _commonest(names)
    lines: list[str] = []
    asked: Counter[str] = Counter()
    for kind, number in _counts(mix, count).items():
        asked[kind.value if stand_in == "A" or kind is QueryKind.NXDOMAIN else stand_in] += number
    for asked_for, number in asked.items():
        if asked_for == QueryKind.NXDOMAIN:
            lines += (f"{name} {stand_in}" for name in _absent(names, number, seed))
        else:
            # Where nobody has an AAAA, those with an A are asked for it all the same: that's what resolvers do.
            chosen = names.holders(asked_for) or names.holders(stand_in)
            if not chosen:
                raise LoadError(f"zone {names.zone}: nothing in it can be asked for")
            lines += (f"{name} {asked_for}" for name in _spread(chosen, number, seed))
    words = [f"{number / count:.0%} {asked_for}" for asked_for, number in asked.items()]
    lines.sort(key=_Order(seed))
    reasons = {**(left_out or {}), **({"unusable records": names.unusable} if names.unusable else {})}
    return QuerySet(lines=tuple(lines), source=f"zone {names.zone}: {', '.join(words)}", left_out=reasons)


class _Order:
    """Sort key that is as good as chance: the hash of seed, value, and how often the value was there before."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._seen: Counter[str] = Counter()

    def __call__(self, value: str) -> bytes:
        self._seen[value] += 1
        return hashlib.sha256(f"{self._seed} {self._seen[value]} {value}".encode()).digest()


def _counts(mix: Mapping[QueryKind, float], count: int) -> dict[QueryKind, int]:
    """Whole numbers of queries that add up to `count`."""
    total = sum(mix.values())
    if count < 1 or total <= 0 or min(mix.values()) < 0:
        raise LoadError(f"no mix to ask for: {count} queries, {dict(mix)}")
    numbers = {kind: int(count * share / total) for kind, share in mix.items() if share > 0}
    largest = max(numbers, key=lambda kind: mix[kind])
    numbers[largest] += count - sum(numbers.values())
    return numbers


def _commonest(names: ZoneNames) -> str:
    askable = Counter(t for types in names.types.values() for t in types if t in TYPES and t not in _META)
    return askable.most_common(1)[0][0] if askable else "SOA"


def _spread(chosen: list[str], number: int, seed: int) -> Iterator[str]:
    """`number` names by turns; a wildcard stands for a new name each time."""
    chosen = sorted(chosen, key=_Order(seed))
    for position in range(number):
        name = chosen[position % len(chosen)]
        yield _label(seed, "w", position) + name[1:] if name.startswith("*.") else name


def _absent(names: ZoneNames, number: int, seed: int) -> Iterator[str]:
    """Names that the zone denies: below one that it answers for, and that no wildcard covers."""
    parents = [names.zone]
    if f"*.{names.zone}" in names.types:
        parents = [
            name for name in names.types
            if f"*.{name}" not in names.types and not name.startswith("*.") and name not in names.delegated
            and "DNAME" not in names.types[name] and name != names.zone
        ]  # fmt: skip
    # A label of 13 characters must still fit in.
    parents = [name for name in parents if len(name) < 240]
    if not parents:
        raise LoadError(f"zone {names.zone}: answers for every name, so none can be asked for that isn't there")
    found, position = 0, 0
    while found < number:
        name = f"{_label(seed, 'n', position)}.{parents[position % len(parents)]}"
        position += 1
        if name not in names.types:
            found += 1
            yield name


def _label(seed: int, kind: str, position: int) -> str:
    return kind + hashlib.sha256(f"{seed} {kind} {position}".encode()).hexdigest()[:12]


def _parent(name: str) -> str:
    return name.partition(".")[2]


def _records(text: str, zone: str, skipped: Counter[str]) -> Iterator[Record]:
    """Owner and type of each record of a zone file (RFC 1035, 5.1). Its data are of no interest, and never read.

    It takes a tenth of the time of parsing them, which counts where there are a hundred thousand.
    """
    origin = zone.rstrip(".") + "."
    owner = origin
    entry: list[str] = []
    depth = began = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if not depth:
            entry, began = ([""] if line[:1] in (" ", "\t") else []), number
        if depth or _SPECIAL.search(line):
            depth = _tokens(line, depth, entry, f"zone {zone} line {number}")
        else:
            entry += line.split()
        if depth or not any(entry):
            continue
        if entry[0].startswith("$"):
            if entry[0].upper() == "$ORIGIN" and len(entry) > 1:
                origin = _absolute(entry[1], origin)
            elif entry[0].upper() != "$TTL":
                skipped["directives that were not followed"] += 1
            continue
        owner = _absolute(entry[0], origin) if entry[0] else owner
        fields = iter(entry[1:])
        kind = next((f.upper() for f in fields if not _TTL.fullmatch(f) and f.upper() not in _CLASSES), "")
        if not _TYPE.fullmatch(kind) or next(fields, None) is None:
            raise LoadError(f"zone {zone} line {began}: no record: {printable(' '.join(entry), 80)!r}")
        yield owner, kind
    if depth:
        raise LoadError(f"zone {zone} line {began}: a parenthesis without end")


def _tokens(line: str, depth: int, entry: list[str], where: str) -> int:
    """Add the line's fields to the entry; returns how many parentheses are open."""
    for match in _TOKEN.finditer(line):
        field = match[0]
        if match[1] is not None:
            raise LoadError(f"{where}: a quote or escape without end")
        if field == ";":
            break
        if field in ("(", ")"):
            depth += 1 if field == "(" else -1
            if depth < 0:
                raise LoadError(f"{where}: a parenthesis that was never opened")
        else:
            entry.append(field)
    return depth


def _absolute(name: str, origin: str) -> str:
    if name == "@":
        return origin
    return name if name.endswith(".") else f"{name}.{origin.lstrip('.')}"
