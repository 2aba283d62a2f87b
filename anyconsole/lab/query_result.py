"""What became of a load of queries, every one accounted for: answered by which node, refused, or lost. Pure values and sums.

Times are seconds of the monotonic clock, so they compare with `time.monotonic()` of whoever changed something meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import msgspec

__all__ = ["Burst", "Query", "QueryResult", "Stream", "Turn"]

_RCODES = {1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 9: "NOTAUTH"}


class Query(msgspec.Struct, frozen=True, array_like=True):
    """One query. `node` is who answered (from the NSID), `error` what the network said about it ("ENETUNREACH")."""

    number: int
    sent_at: float
    answered_at: float | None
    node: str = ""
    rcode: int = 0
    error: str = ""

    @property
    def lost(self) -> bool:
        """True if nobody answered in time."""
        return self.answered_at is None

    @property
    def good(self) -> bool:
        """True if it was answered, and not with an error."""
        return self.answered_at is not None and self.rcode == 0


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """All queries of one client to one address, in the order in which they were sent.

    `strays` are answers that nobody waited for (a wrong id, twice, too late, or broken), `dropped` those for which the client had no room.
    """

    client: str
    family: str
    rate: float
    began_at: float
    queries: tuple[Query, ...]
    strays: int = 0
    dropped: int = 0

    @property
    def lateness(self) -> float:
        """Seconds by which the latest query was sent after one was due: more than a few ms says that the machine was too busy.

        Queries that a sender left out, whose numbers are missing, were due as well.
        """
        due = [query.number + 1 for query in self.queries[:-1]]
        first = [query.number for query in self.queries[:1]]
        late = (q.sent_at - self.began_at - n / self.rate for q, n in zip(self.queries, first + due, strict=True))
        return max(late, default=0.0)

    @property
    def bursts(self) -> tuple[Burst, ...]:
        """Every unbroken row of queries without a good answer."""
        found: list[Burst] = []
        bad: list[Query] = []
        for query in self.queries:
            if not query.good:
                bad.append(query)
            elif bad:
                found.append(self._burst(bad, query.sent_at))
                bad = []
        if bad:
            found.append(self._burst(bad, bad[-1].sent_at + 1 / self.rate))
        return tuple(found)

    def _burst(self, bad: list[Query], over_at: float) -> Burst:
        return Burst(client=self.client, family=self.family, began_at=bad[0].sent_at, over_at=over_at, queries=len(bad))

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Who answered, from when on."""
        found: list[Turn] = []
        for query in self.queries:
            if query.node and (not found or found[-1].node != query.node):
                found.append(Turn(client=self.client, family=self.family, at=query.sent_at, node=query.node))
        return tuple(found)


class Burst(msgspec.Struct, frozen=True, kw_only=True):
    """Queries in a row without a good answer; `over_at` is when the first one was sent that had one again."""

    client: str
    family: str
    began_at: float
    over_at: float
    queries: int

    @property
    def seconds(self) -> float:
        """How long nobody would have got an answer."""
        return self.over_at - self.began_at


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """From `at` on this node answered this client."""

    client: str
    family: str
    at: float
    node: str


class QueryResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of all queries. `sent` is always `answered + failed + lost`."""

    streams: tuple[Stream, ...]

    @property
    def sent(self) -> int:
        """Queries in all."""
        return sum(len(s.queries) for s in self.streams)

    @property
    def answered(self) -> int:
        """Queries with a good answer."""
        return self._count(lambda q: q.good)

    @property
    def failed(self) -> int:
        """Queries whose answer was an error."""
        return self._count(lambda q: not q.good and not q.lost)

    @property
    def lost(self) -> int:
        """Queries that nobody answered in time, whether the network said why or not."""
        return self._count(lambda q: q.lost)

    def _count(self, condition: Callable[[Query], bool]) -> int:
        return sum(condition(q) for q in self._queries())

    def _queries(self) -> Iterator[Query]:
        for stream in self.streams:
            yield from stream.queries

    @property
    def by_node(self) -> Mapping[str, int]:
        """Good answers of each node."""
        return Counter(q.node for q in self._queries() if q.good)

    @property
    def errors(self) -> Mapping[str, int]:
        """Why queries failed or were lost, where anybody said it: rcodes, and errors of the network (which says only some)."""
        words = (q.error if q.lost else _RCODES.get(q.rcode, f"RCODE{q.rcode}") for q in self._queries() if not q.good)
        return Counter(word for word in words if word)

    @property
    def strays(self) -> int:
        """Answers that nobody waited for."""
        return sum(s.strays for s in self.streams)

    @property
    def dropped(self) -> int:
        """Answers that came, and the client had no room for: not the network's fault."""
        return sum(s.dropped for s in self.streams)

    @property
    def lateness(self) -> float:
        """Seconds by which the latest query was sent after one was due."""
        return max((s.lateness for s in self.streams), default=0.0)

    @property
    def bursts(self) -> tuple[Burst, ...]:
        """Every row of queries without a good answer, the earliest first."""
        return tuple(sorted((b for s in self.streams for b in s.bursts), key=lambda b: b.began_at))

    @property
    def longest_gap(self) -> float:
        """Seconds for which one client got no answer in one family, at most."""
        return max((burst.seconds for burst in self.bursts), default=0.0)

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Who answered whom, from when on, the earliest first."""
        return tuple(sorted((t for s in self.streams for t in s.turns), key=lambda t: t.at))

    def between(self, begin: float = float("-inf"), end: float = float("inf")) -> QueryResult:
        """Only the queries that were sent in this time. Strays and drops, which have no time, are left out."""
        return QueryResult(
            streams=tuple(
                msgspec.structs.replace(
                    s, queries=tuple(q for q in s.queries if begin <= q.sent_at < end), strays=0, dropped=0
                )
                for s in self.streams
            )
        )

    def of(self, client: str) -> QueryResult:
        """Only one client's."""
        return QueryResult(streams=tuple(s for s in self.streams if s.client == client))

    def __str__(self) -> str:
        """One line for assertions: counts, who answered, and every burst of losses."""
        first = min((s.began_at for s in self.streams), default=0.0)
        bursts = "; ".join(
            f"{b.client} {b.family} at {b.began_at - first:.3f} s: {b.queries} in {b.seconds * 1000:.0f} ms"
            for b in self.bursts
        )
        return (
            f"{self.lost} lost and {self.failed} failed of {self.sent}; by {dict(self.by_node)}; errors {dict(self.errors)}; "
            f"{self.strays} strays, {self.dropped} dropped, at most {self.lateness * 1000:.0f} ms late; bursts: {bursts or 'none'}"
        )
