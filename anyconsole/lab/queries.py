"""Continuous queries from vantage points of a lab while something is changed in it, each one accounted for.

with QueryLoad(lab, tenant="de", clients=("client1", "client3")) as load:
    ...
assert load.result.lost == 0, load.result
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from anyconsole.errors import LabError
from anyconsole.lab import querier
from anyconsole.lab.lab import Lab
from anyconsole.lab.processes import PYTHON
from anyconsole.lab.query_result import Query, QueryResult, Stream
from anyconsole.lab.topology import TENANTS

__all__ = ["QueryLoad"]

PATIENCE = 2.0
"""Seconds after which a query without an answer is lost."""

_FAMILIES = ("ipv4", "ipv6")
_START_PATIENCE = 10.0
_END_PATIENCE = PATIENCE + 5.0


class QueryLoad:
    """Queries for one tenant, `rate` a second per family from each client, for as long as the context lasts.

    When the context is entered every client has had an answer in each family. When it is left every query is settled, and no process
    is left.
    """

    def __init__(
        self, lab: Lab, *, tenant: str = "de", rate: float = 200.0, clients: Sequence[str] = ("client1", "client3")
    ) -> None:
        self._lab = lab
        self._tenant = next(t for t in TENANTS if t.name == tenant)
        self._rate = rate
        self._names = tuple(clients)
        self._clients: list[_Client] = []
        self._result: QueryResult | None = None

    def __enter__(self) -> Self:
        config = {
            "name": self._tenant.zone,
            "addresses": [self._tenant.address4, self._tenant.address6],
            "rate": self._rate,
            "patience": PATIENCE,
        }
        try:
            for name in self._names:
                self._clients.append(_Client(self._lab, name, config))
            self.wait_until(lambda load: load._all_answered(), _START_PATIENCE, "an answer to every client")
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        try:
            for client in self._clients:
                client.stop_asking()
            for client in self._clients:
                client.wait(_END_PATIENCE)
            self._result = QueryResult(streams=tuple(s for c in self._clients for s in c.streams(self._rate)))
        finally:
            self._kill()

    def _kill(self) -> None:
        for client in self._clients:
            client.kill()

    def _all_answered(self) -> bool:
        return all(any(not q.lost for q in queries) for client in self._clients for queries in client.queries)

    @property
    def result(self) -> QueryResult:
        """What became of every query. Raises LabError as long as the load lasts."""
        if self._result is None:
            raise LabError("the queries have not come to their end")
        return self._result

    @property
    def so_far(self) -> QueryResult:
        """What is settled by now. A lost query is settled after PATIENCE seconds, an answered one is seen within 0.1 s."""
        return QueryResult(streams=tuple(s for c in self._clients for s in c.streams(self._rate)))

    @property
    def lost(self) -> int:
        """Queries that are known to be lost by now."""
        return sum(client.lost for client in self._clients)

    def answering(self, seconds: float = 0.5) -> dict[tuple[str, str], set[str]]:
        """Which nodes answered each client and family, of the queries sent in the last seconds."""
        since = time.monotonic() - seconds
        found: dict[tuple[str, str], set[str]] = {}
        for client in self._clients:
            for family, queries in zip(_FAMILIES, client.queries, strict=True):
                recent = queries[-int(self._rate * (seconds + 1)) :]
                found[client.name, family] = {q.node for q in recent if q.sent_at >= since and q.node}
        return found

    def wait_until(self, condition: Callable[[QueryLoad], bool], seconds: float, what: str) -> float:
        """Wait until the load shows something; returns how long it took. Raises LabError that says `what` didn't come."""
        began = time.monotonic()
        while not condition(self):
            for client in self._clients:
                client.check()
            if time.monotonic() > began + seconds:
                raise LabError(f"{what}: not within {seconds:.0f} s; answering now: {self.answering()}")
            time.sleep(0.02)
        return time.monotonic() - began


class _Client:
    """The process in one client, and what it has told so far."""

    def __init__(self, lab: Lab, name: str, config: dict[str, Any]) -> None:
        self.name = name
        self.queries: tuple[list[Query], list[Query]] = ([], [])
        self.lost = 0
        self._began_at = 0.0
        self._last_words = ""
        self._last: dict[str, list[int]] | None = None
        source = Path(querier.__file__).read_text()
        # nsenter waits outside of the host: when it is killed, what it started in there has to go too.
        argv = ["setpriv", "--pdeathsig", "KILL", PYTHON, "-I", "-S", "-c", source, json.dumps(config)]
        self._process = subprocess.Popen(
            lab.enter_command(name, argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"queries of {name}")
        self._reader.start()

    def _read(self) -> None:
        for line in cast("IO[bytes]", self._process.stdout):
            if not line.endswith(b"\n"):  # killed in the middle of it
                return
            said = json.loads(line)
            if "rows" in said:
                for position, number, sent, answered, nsid, rcode, error in said["rows"]:
                    # The lab's NSID is TENANT.NODE.
                    query = Query(number, sent, answered, nsid.rpartition(".")[2], rcode, error)
                    self.queries[position].append(query)
                    self.lost += query.lost
            elif "began" in said:
                self._began_at = said["began"]
            else:
                self._last = said

    def check(self) -> None:
        """Raise LabError if the process has ended."""
        if self._process.poll() is not None:
            self._fail(f"ended with {self._process.returncode}")

    def _fail(self, what: str) -> None:
        self.kill()
        raise LabError(f"the queries of {self.name}: {what}; {self._last_words.strip()[-300:]}")

    def stop_asking(self) -> None:
        """Send no more; answers are still waited for."""
        cast("IO[bytes]", self._process.stdin).close()

    def wait(self, seconds: float) -> None:
        """Until every query is settled and told. Raises LabError."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._fail(f"still running {seconds:.0f} s after its end")
        self._reader.join()
        if self._process.returncode != 0 or self._last is None:
            self._fail(f"ended with {self._process.returncode}")

    def streams(self, rate: float) -> tuple[Stream, ...]:
        """What it has told."""
        last = self._last or {"strays": [0, 0], "dropped": [0, 0]}
        return tuple(
            Stream(
                client=self.name,
                family=family,
                rate=rate,
                began_at=self._began_at,
                queries=tuple(sorted(self.queries[position], key=lambda q: q.number)),
                strays=last["strays"][position],
                dropped=last["dropped"][position],
            )
            for position, family in enumerate(_FAMILIES)
        )

    def kill(self) -> None:
        """End it whatever it does, if it hasn't ended."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None and not pipe.closed:
                if pipe is self._process.stderr:
                    self._last_words = pipe.read().decode(errors="replace")
                pipe.close()
