"""The engine's end of a probe: bytes in, facts out. No I/O, no clock of its own, and no trust in what a node sends."""

from __future__ import annotations

import statistics
from collections import deque
from typing import Any, TypeAlias

import msgspec

from anyconsole.drivers.ask import Row
from anyconsole.drivers.parse_error import printable
from anyconsole.drivers.probe.facts_of import RowError, fact_of
from anyconsole.drivers.probe.row_keys import KEY_FIELDS
from anyconsole.model.facts import Beat, Gone, HostHealth, Key, Observation

__all__ = ["MAX_FACTS", "MAX_LINE", "FactTracker", "ProbeError", "ProbeStream", "ProbeUnsupportedError", "Update"]

Update: TypeAlias = Observation | Beat | Gone

MAX_LINE = 256 * 1024
MAX_FACTS = 5000
"""Distinct things one node may report (the store holds no more either)."""

MAX_PREAMBLE = 65536
"""Bytes of chatter from login scripts that may come before the hello."""

PING_EVERY = 10.0

_FLOOD_RATE, _FLOOD_BURST = 1 << 20, 8 << 20
"""Bytes per second a node may send on average, and how many at once."""

_RAW_LIMIT = 512 * 1024


class ProbeError(Exception):
    """The probe broke its protocol: the session should be ended. The message is printable."""


class ProbeUnsupportedError(ProbeError):
    """The node has no Python the probe can run on: fall back."""


class FactTracker:
    """What one node reported so far: turns rows of sections into updates, and finds out what is gone.

    `sections` are those it was asked for (None: any); it can't invent others. `limit` is how many facts it may hold.
    """

    def __init__(self, node: str, sections: frozenset[str] | None = None, limit: int = MAX_FACTS) -> None:
        self.node = node
        self._asked = sections
        self._limit = limit
        self._facts: dict[str, dict[Key, Observation]] = {}

    def knows(self, section: str) -> bool:
        """True if the node was asked for this section."""
        return self._asked is None or section in self._asked

    def replace(
        self, section: str, rows: list[Row], now: float, clock_offset: float = 0.0, *, everything: bool = False
    ) -> list[Update]:
        """All that a section holds, seen at `now`: changed facts (or everything), a Beat, and Gone for what it no longer holds.

        Raises RowError, and then nothing has changed.
        """
        old = self._facts.get(section, {})
        new: dict[Key, Observation] = {}
        for row in rows:
            fact = self._fact(section, row, now, clock_offset)
            new[fact.key] = fact
        self._check_size(len(new) - len(old))
        self._facts[section] = new
        updates: list[Update] = [f for k, f in new.items() if everything or not _same(old.get(k), f)]
        updates.extend(Gone(key=k) for k in old if k not in new)
        updates.append(Beat(node=self.node, at=now, sections=(section,)))
        return updates

    def change(self, rows: list[Row], now: float, clock_offset: float) -> list[Update]:
        """Rows that are new or changed, seen at `now`. Raises RowError."""
        updates: list[Update] = []
        for row in rows:
            fact = self._fact(None, row, now, clock_offset)
            held = self._facts.setdefault(fact.section, {})
            if not _same(held.get(fact.key), fact):
                held[fact.key] = fact
                updates.append(fact)
        self._check_size()
        return updates

    def remove(self, keys: list[list[str]]) -> list[Update]:
        """Things that went, by row key. Raises RowError."""
        updates: list[Update] = []
        for words in keys:
            if not words or words[0] not in KEY_FIELDS or len(words) != len(KEY_FIELDS[words[0]]) + 1:
                raise RowError(f"not a key: {printable(repr(words), 100)}")
            key = (words[0], self.node, *words[1:])
            updates.extend(Gone(key=key) for held in self._facts.values() if held.pop(key, None) is not None)
        return updates

    def reclock(self, now: float, clock_offset: float) -> list[Update]:
        """The host's fact with another clock offset, if it is known."""
        for held in self._facts.values():
            for key, fact in held.items():
                if isinstance(fact, HostHealth):
                    held[key] = msgspec.structs.replace(fact, clock_offset=clock_offset, at=now)
                    return [held[key]]
        return []

    def sections(self) -> frozenset[str]:
        """Sections that reported so far."""
        return frozenset(self._facts)

    def _fact(self, section: str | None, row: Row, now: float, clock_offset: float) -> Observation:
        fact = fact_of(self.node, row, now, clock_offset)
        if section is not None and fact.section != section:
            raise RowError(f"row of section {fact.section} among those of {section}")
        if not self.knows(fact.section):
            raise RowError(f"row of section {printable(fact.section, 100)}, which nobody asked for")
        return fact

    def _check_size(self, more: int = 0) -> None:
        if sum(map(len, self._facts.values())) + more > self._limit or len(self._facts) > self._limit:
            raise RowError(f"more than {self._limit} facts from one node")


def _same(old: Observation | None, new: Observation) -> bool:
    return old is not None and msgspec.structs.replace(old, at=new.at) == new


class _Line(msgspec.Struct, frozen=True):
    """Any line of a probe; which fields are there says what it is."""

    h: int | None = None
    v: int = 1
    error: str = ""
    s: int | None = None
    t: float = 0.0
    f: list[dict[str, Any]] | None = None
    d: list[dict[str, Any]] = []
    x: list[list[str]] = []
    ok: list[str] = []
    err: dict[str, str] = {}
    m: int = 0
    id: int | None = None
    n: int = 0
    raw: str = ""
    look: list[str] | None = None
    more: bool = False
    python: str = ""
    boot: str = ""
    sections: list[str] = []


class ProbeStream:
    """One session with the probe of one node.

    `hello` is None until it spoke; `errors` are the sections it can't see now; `frames` counts what it said, for a node whose every
    section fails is not silent. Give it the `tracker` of the node's last session, so that what went in between is found to be gone.
    """

    def __init__(self, node: str, tracker: FactTracker | None = None) -> None:
        self.node = node
        self.tracker = tracker if tracker is not None else FactTracker(node)
        self.hello: dict[str, str] | None = None
        self.errors: dict[str, str] = {}
        self.frames = 0
        self._decoder = msgspec.json.Decoder(_Line)
        self._buffer = bytearray()
        self._preamble = 0
        self._budget = float(_FLOOD_BURST)
        self._fed_at: float | None = None
        self._seq: int | None = None
        self._key_wanted = False
        self._seen_key = False
        self._pinged_at = float("-inf")
        self._partial: list[Row] | None = None
        self._offsets: deque[float] = deque(maxlen=15)
        self._offset = 0.0
        self._next_id = 0
        self._raw: dict[int, list[str]] = {}
        self._raw_done: dict[int, str] = {}
        self._looks_done: dict[int, frozenset[str]] = {}

    def feed(self, data: bytes, now: float) -> list[Update]:
        """Bytes as they came, in any pieces, at engine time `now` (epoch seconds); returns what they tell.

        Raises:
            ProbeUnsupportedError: the node can't run the probe.
            ProbeError: garbage, an over-long line, a flood. Nothing after it may be fed.
        """
        self._spend(len(data), now)
        self._buffer += data
        *lines, rest = self._buffer.split(b"\n")
        if len(rest) > MAX_LINE:
            raise ProbeError(f"line of more than {MAX_LINE} bytes: {printable(rest[:80].decode('utf-8', 'replace'))!r}")
        self._buffer = rest
        updates: list[Update] = []
        for line in lines:
            updates.extend(self._line(bytes(line), now))
        return updates

    def requests(self, now: float) -> bytes:
        """What to write to the probe now ("" most of the time): keep-alive, and the wish for a keyframe. Call about once a second.

        `now` is a monotonic clock: with the wall clock set back no keep-alive would go out until it caught up.
        """
        wanted = b""
        if now - self._pinged_at >= PING_EVERY:
            self._pinged_at = now
            wanted += b'{"ping":1}\n'
        if self._key_wanted:
            self._key_wanted = False
            wanted += b'{"key":1}\n'
        return wanted

    def request_raw(self, section: str) -> tuple[int, bytes]:
        """A request for the last raw replies of a section: its number and the bytes to write. The answer comes out of `take_raw`."""
        self._next_id += 1
        if len(self._raw) >= 16:
            del self._raw[min(self._raw)]
        self._raw[self._next_id] = []
        return self._next_id, msgspec.json.encode({"id": self._next_id, "op": "raw", "section": section}) + b"\n"

    def take_raw(self) -> dict[int, str]:
        """Finished raw replies by number, once. The text is exactly what the daemon said: strip control characters before display."""
        done, self._raw_done = self._raw_done, {}
        return done

    def request_look(self) -> tuple[int, bytes]:
        """A request to look at every section but DNS now: its number and the bytes to write. The answer comes out of `take_looks`."""
        self._next_id += 1
        return self._next_id, msgspec.json.encode({"id": self._next_id, "op": "look"}) + b"\n"

    def take_looks(self) -> dict[int, frozenset[str]]:
        """Looks that are over, once: by number, the sections that were seen. What `feed` returned until then tells what was seen."""
        done, self._looks_done = self._looks_done, {}
        return done

    def _spend(self, size: int, now: float) -> None:
        if self._fed_at is not None:
            self._budget = min(_FLOOD_BURST, self._budget + max(0.0, now - self._fed_at) * _FLOOD_RATE)
        self._fed_at = now
        self._budget -= size
        if self._budget < 0:
            raise ProbeError(f"flood: more than {_FLOOD_RATE} bytes a second")

    def _line(self, line: bytes, now: float) -> list[Update]:
        if len(line) > MAX_LINE:
            raise ProbeError(f"line of more than {MAX_LINE} bytes: {printable(line[:80].decode('utf-8', 'replace'))!r}")
        if self.hello is None:
            return self._before_hello(line)
        try:
            message = self._decoder.decode(line)
            if message.id is not None and message.look is not None:
                return self._look_over(message.id, message.look)
            if message.id is not None:
                return self._raw_chunk(message)
            if message.s is None:
                raise RowError("neither a frame nor a reply")
            return self._frame(message, message.s, now)
        except (msgspec.DecodeError, UnicodeDecodeError, RowError, RecursionError) as error:
            said = printable(line[:160].decode("utf-8", "replace"))
            raise ProbeError(f"{printable(str(error), 200)}: {said!r}") from error

    def _before_hello(self, line: bytes) -> list[Update]:
        """Login scripts may chat before the probe starts."""
        self._preamble += len(line) + 1
        if self._preamble > MAX_PREAMBLE:
            raise ProbeError("no hello from the probe in the first 64 KB")
        if not line.startswith(b'{"h":'):
            return []
        try:
            message = self._decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProbeError(f"not a hello: {printable(line[:160].decode('utf-8', 'replace'))!r}") from error
        if message.h != 1:
            raise ProbeUnsupportedError(printable(message.error, 200) or "the node can't run the probe")
        if message.v != 1:
            raise ProbeError(f"probe speaks version {message.v}, not 1")
        self.hello = {"python": printable(message.python, 20), "boot": printable(message.boot, 80)}
        return []

    def _look_over(self, number: int, sections: list[str]) -> list[Update]:
        if len(sections) > 1000 or len(self._looks_done) > 1000:
            raise RowError("too many looks or sections")
        if number <= self._next_id:
            self._looks_done[number] = frozenset(s for s in sections if self.tracker.knows(s))
        return []

    def _raw_chunk(self, message: _Line) -> list[Update]:
        chunks = self._raw.get(message.id) if message.id is not None else None
        if message.id is None or chunks is None:
            return []  # an answer nobody waits for any more
        if message.n != len(chunks) or sum(map(len, chunks)) > _RAW_LIMIT:
            raise RowError("raw reply out of order or too long")
        chunks.append(message.raw)
        if not message.more:
            self._raw_done[message.id] = "".join(self._raw.pop(message.id))
        return []

    def _frame(self, message: _Line, seq: int, now: float) -> list[Update]:
        in_order = self._seq is None or seq == self._seq + 1
        self._seq = seq
        self.frames += 1
        updates = self._clock(message.t, now)
        if message.f is not None:
            return updates + self._key_part(message, message.f, now)
        if self._partial is not None or not in_order:
            # Something was lost. What this line says is still true; what it doesn't say is not known: ask for everything.
            self._partial = None
            self._key_wanted = True
        updates += self.tracker.change(message.d, now, self._offset)
        if not message.m:
            updates += self.tracker.remove(message.x)
            updates += self._looked(message, now)
        return updates

    def _key_part(self, message: _Line, rows: list[Row], now: float) -> list[Update]:
        self._partial = (self._partial or []) + rows
        if len(self._partial) > MAX_FACTS:
            raise RowError(f"more than {MAX_FACTS} rows in a keyframe")
        if message.m:
            return []
        whole, self._partial = self._partial, None
        by_section: dict[str, list[Row]] = {section: [] for section in message.ok if self.tracker.knows(section)}
        for row in whole:
            section = row.get("section")
            if not isinstance(section, str) or section not in by_section:
                raise RowError("row of a section that wasn't looked at")
            by_section[section].append(row)
        # The first keyframe of a session tells everything, whatever the last session's tracker knows: updates may have been lost with it.
        first, self._seen_key = not self._seen_key, True
        updates: list[Update] = []
        for section, section_rows in by_section.items():
            told = self.tracker.replace(section, section_rows, now, self._offset, everything=first)
            updates += [u for u in told if not isinstance(u, Beat)]
        return updates + self._looked(message, now)

    def _looked(self, message: _Line, now: float) -> list[Update]:
        if len(message.ok) + len(message.err) > 1000:
            raise RowError("too many sections")
        self.errors = {printable(k, 100): printable(v, 300) for k, v in message.err.items() if self.tracker.knows(k)}
        seen = tuple(printable(s, 100) for s in message.ok if self.tracker.knows(s))
        return [Beat(node=self.node, at=now, sections=seen)] if seen else []

    def _clock(self, sent: float, now: float) -> list[Update]:
        """The node's clock minus ours. A line is late by its way, never early: of several, those that came fastest tell."""
        if not 0 < sent < 1e11:
            raise RowError("time of a line is not a time")
        self._offsets.append(sent - now)
        best = statistics.fmean(sorted(self._offsets)[-3:])
        if abs(best - self._offset) < 0.1:
            return []
        self._offset = round(best, 2)
        return self.tracker.reclock(now, self._offset)
