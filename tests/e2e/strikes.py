"""Drains that are struck at one boundary, several at once on different nodes, and what must be true once their node has settled.

A strike comes back as what is wrong, in words. What is struck is the console (`struck.py` kills itself there), or what lies between it
and its node, while it stands still at the boundary.
"""

from __future__ import annotations

import itertools
import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from anyconsole.actions.journal import Journal
from anyconsole.actions.journal_record import OPEN, JournalledChange
from anyconsole.actions.run import Outcome, StepState
from anyconsole.engine.client import EngineError
from anyconsole.lab import Lab, control
from anyconsole.lab.queries import QueryLoad
from anyconsole.lab.query_result import QueryResult
from anyconsole.model.facts import Exported, LinkState
from tests.e2e.consoles import StruckConsole, Watching
from tests.e2e.drains import drain_conf, running_serial
from tests.e2e.strike_cases import Case, Kind, confirmed_steps
from tests.e2e.struck import Strike

__all__ = ["Range"]

RATE = 200
"""Queries a second in each family from each client."""

HOLD = 10
GRACE = 15.0
"""As the runner's."""

DOWN = 3.0
"""Seconds for which a killed sshd stays away."""

SETTLE, PATIENCE = 1.0, 8.0
"""Seconds for which traffic is given to leave a soft drain, and after which somebody is asked about what is left."""

_SETTLING = HOLD + 5.0
"""Seconds after the last blow within which the node is not in between any more: the dead-man looks two seconds after the timer."""

_LOOKING = 8.0
"""Seconds for a last look at a node that doesn't answer, and for writing it down."""

_PATIENCE = 30.0
_STARTS = 3
_TOO_SLOW = "proved too late to be confirmed safely"
"""The runner's words where proving left too little of `HOLD`: safe, but no answer to what a strike asks."""
_EXPORTED = (Exported.ANNOUNCED, Exported.DEPREFERRED, Exported.ABSENT)


class Lane(NamedTuple):
    """What one drain at a time is made on, and which of `CLIENTS` is served there."""

    node: str
    tenant: str
    client: str = ""


LANES = (
    Lane("fra1", "de", "client1"),
    Lane("sin1", "nic", "client3"),
    Lane("fra2", "nic"),
    Lane("ams1", "enum"),
)
"""Whoever is served at fra1 or sin1 leaves when asked softly. ix1, in front of the others, heeds nothing, but has no client here."""

CLIENTS = ("client1", "client3")


class Node(NamedTuple):
    """What the node itself says: serials in the daemon's memory and on disk, whether a change is unconfirmed, or a script still runs."""

    memory: int
    disk: int
    pending: bool
    busy: bool

    @property
    def is_settled(self) -> bool:
        """True if it is not in between."""
        return self.memory == self.disk and not self.pending and not self.busy


_LOOK = (
    "birdc eval DRAIN_SERIAL | tail -n 1; sed -n 's/^define DRAIN_SERIAL = \\([0-9]*\\);/\\1/p' /etc/bird/drain.conf;"
    "birdc configure status | grep -c unconfirmed; pgrep -fc '^sh -c # BIRD, [0-9]'"
)


def look(lab: Lab, host: str) -> Node:
    """Ask the node itself."""
    memory, disk, pending, busy = (int(word) for word in lab.run(host, ["sh", "-c", _LOOK]).stdout.split())
    return Node(memory, disk, bool(pending), bool(busy))


class _Cut:
    """Takes sshd of one host away while consoles stand at their boundaries, and gives it back."""

    def __init__(self, lab: Lab, host: str, consoles: int, *, is_frozen: bool) -> None:
        self._lab = lab
        self._host = host
        self._is_frozen = is_frozen
        self._meeting = threading.Barrier(consoles, self._next, 4 * _PATIENCE)
        self._restart = threading.Timer(DOWN, self._start_again)
        self._was_cut = False

    def cut_once_all_are_there(self) -> None:
        """Each console's thread says that it is there."""
        self._meeting.wait()

    def restore_once_all_have_ended(self) -> None:
        """Each console's thread says that it has ended."""
        self._meeting.wait()

    def _next(self) -> None:
        paths = self._lab.paths
        if not self._was_cut:
            self._was_cut = True
            if self._is_frozen:
                self._lab.break_("sshd", self._host)
            else:
                control.stop(paths, self._host, ["sshd"])
                control.signal_program(paths, self._host, "/usr/sbin/sshd", signal.SIGKILL)
                self._restart.start()
        elif self._is_frozen:
            self._lab.heal(self._host)
        else:
            self._restart.join()

    def _start_again(self) -> None:
        control.start(self._lab.paths, self._host, ["sshd"])


class Range:
    """A lab under load in which drains are struck: its profile with short times, one state folder, and a console that watches."""

    def __init__(self, lab: Lab, state: Path) -> None:
        self.lab = lab
        self.state = state
        self.profile = state / "struck.toml"
        # Lanes count each other as serving nothing while they are cut off or unconfirmed.
        guards = f"[guards]\nhold = {HOLD}\nsettle = {SETTLE}\npatience = {PATIENCE}\nmin_nodes = 1\nmin_share = 0.2\n"
        text = re.sub(r"\[guards\]\n(.+\n)+", guards, lab.profile_path.read_text())
        self.profile.write_text(text.replace("min_sites = 2", "min_sites = 1"))
        self._numbers = itertools.count(1)
        self._before = {lane.node: (look(lab, lane.node).memory, drain_conf(lab, lane.node)) for lane in LANES}
        self._loads = {name: QueryLoad(lab, tenant=name, rate=RATE, clients=CLIENTS) for _, name, _ in LANES}
        self.results: dict[str, QueryResult] = {}
        self.open: set[str] = set()
        """Changes that must be open in the journal."""

    @contextmanager
    def under_fire(self) -> Iterator[Watching]:
        """Queries in every lane, which are told in `results` at its end, and the console that watches."""
        with ExitStack() as stack:
            self.watching = stack.enter_context(Watching(self.profile))
            for load in self._loads.values():
                stack.enter_context(load)
            yield self.watching
        self.results = {tenant: load.result for tenant, load in self._loads.items()}

    # --- strikes

    def strike(self, cases: Sequence[Case]) -> dict[Case, str]:
        """Carry them out, one at a time in each lane; returns what was wrong, "" for nothing."""
        alone = iter([case for case in cases if not case.kind.is_everybodys])
        wrong: dict[Case, str] = {}
        lock = threading.Lock()

        def one_lane(lane: Lane) -> None:
            while True:
                with lock:
                    case = next(alone, None)
                if case is None:
                    return
                wrong[case] = self._one(lane, case)

        with ThreadPoolExecutor(len(LANES)) as pool:
            list(pool.map(one_lane, LANES))
            for kind in (Kind.JUMP_FROZEN, Kind.JUMP_KILLED):
                jumps = [case for case in cases if case.kind is kind]
                for i in range(0, len(jumps), len(LANES)):
                    group = jumps[i : i + len(LANES)]
                    cut = _Cut(self.lab, "jump", len(group), is_frozen=kind is Kind.JUMP_FROZEN)
                    wrong |= zip(group, pool.map(self._one, LANES, group, [cut] * len(group)), strict=True)
                    self.lab.wait_until_well()
        return wrong

    def _one(self, lane: Lane, case: Case, cut: _Cut | None = None) -> str:
        """One strike in one lane; returns what is wrong. One that a slow machine took the time of is carried out once more."""
        wrong = self._once(lane, case, cut)
        return self._once(lane, case, None) if _TOO_SLOW in wrong and not case.kind.is_everybodys else wrong

    def _once(self, lane: Lane, case: Case, cut: _Cut | None) -> str:
        began = time.monotonic()
        reason = f"{case} {next(self._numbers)}"
        if case.kind in (Kind.NODE_FROZEN, Kind.NODE_KILLED):
            cut = _Cut(self.lab, lane.node, 1, is_frozen=case.kind is Kind.NODE_FROZEN)
        try:
            self._wait_until_served(lane)
            console = self._start(lane, case, reason)
            try:
                self._at_boundary(case, console, cut)
            finally:
                status = console.wait()
                if cut is not None:
                    cut.restore_once_all_have_ended()
            wrong = self._judge(lane, case, reason, console, status)
        except (AssertionError, threading.BrokenBarrierError) as error:
            wrong = [str(error) or "another lane never came to its boundary"]
        finally:
            self._put_back(lane)
        print(
            f"{lane.node} {reason}: {'; '.join(wrong) or 'as it must be'} ({time.monotonic() - began:.0f} s)",
            flush=True,
        )
        return f"{lane.node} {reason}: {'; '.join(wrong)}" if wrong else ""

    def _start(self, lane: Lane, case: Case, reason: str) -> StruckConsole:
        if case.kind in (Kind.BOTH, Kind.SCREEN):
            argv = ["screen", str(self.profile), lane.node, lane.tenant, reason]
        else:
            argv = ["headless", "--profile", str(self.profile), "drain", "--node", lane.node, "--tenant", lane.tenant]
            argv += ["--reason", reason, "--yes", "--output", "json", "--override", f"regions={reason}"]
            argv += ["--residual", "wait" if lane.client else "go"]
        for _ in range(_STARTS - 1):
            console = StruckConsole(argv, case.boundary, case.kind.strike)
            if case.kind.strike is not Strike.TELL or console.wait_for_boundary() or self._change(reason) is not None:
                return console
            # The last blow may still be felt by a guard on other nodes: a drain that was refused hasn't been struck.
            console.wait()
        return StruckConsole(argv, case.boundary, case.kind.strike)

    def _at_boundary(self, case: Case, console: StruckConsole, cut: _Cut | None) -> None:
        """Strike where the console stands still; a console that strikes itself needs nobody."""
        if case.kind.strike is not Strike.TELL:
            return
        came = console.wait_for_boundary()
        if cut is not None:
            cut.cut_once_all_are_there()
        assert came, f"never came to its boundary: {console.last_words}"
        if cut is None:
            console.process.send_signal(signal.SIGINT if case.kind is Kind.CTRL_C else signal.SIGHUP)
        console.go_on()

    def _judge(self, lane: Lane, case: Case, reason: str, console: StruckConsole, status: int) -> list[str]:
        match case.kind:
            case Kind.CONSOLE | Kind.BOTH:
                assert status == -signal.SIGKILL, f"never came to its boundary: {console.last_words}"
                level, change = self._settled(lane, reason)
                wanted = confirmed_steps(case.boundary)
                assert level in wanted, f"{level} steps are in effect, not {wanted}"
                if case.boundary == ("after", "closed", 0):
                    return self._told(change, level)
                self.open.add(change.id)
                return [f"the journal calls it {change.outcome}"] * (change.outcome != OPEN) + self._told(change, level)
            case Kind.SCREEN:
                assert status == -signal.SIGKILL, f"never came to its boundary: {console.last_words}"
                self._wait(lambda: self._is_closed(reason), "the engine alone to bring it to its end", 2 * _PATIENCE)
                level, change = self._settled(lane, reason)
                # Where no traffic leaves, an engine that nobody can answer leaves it soft.
                wanted_outcome = Outcome.DONE if level == 2 or lane.client else Outcome.STOPPED
                assert level >= 1, change.words
                assert change.outcome == wanted_outcome, f"{change.outcome} {change.words}"
                return self._told(change, level)
            case _:
                return self._judge_survivor(lane, case, reason, console, status)

    def _judge_survivor(self, lane: Lane, case: Case, reason: str, console: StruckConsole, status: int) -> list[str]:
        """What is wrong about a console that lived on: its outcome must be the node's."""
        level, change = self._settled(lane, reason)
        run = json.loads(console.stdout).get("run") if console.stdout else None
        assert run is not None, f"no result: {console.last_words}"
        done = sum(step["state"] == StepState.DONE for step in run["steps"])
        outcome = Outcome(run["outcome"])
        words = f"{outcome}: {run['words']}"
        wrong = []
        if done != level and not (outcome is Outcome.UNKNOWN and done <= level):
            wrong.append(f"{words}; {done} steps are said to be done, {level} are")
        if (outcome is Outcome.DONE) != (level == 2) and outcome is not Outcome.UNKNOWN:
            wrong.append(f"{words}; {level} steps are in effect")
        if change.outcome != outcome:
            wrong.append(f"{words}; the journal says {change.outcome}")
        if status != outcome.exit_code:
            wrong.append(f"{words}; exit status {status}")
        took = run["ended_at"] - max(step["began_at"] or 0 for step in run["steps"])
        at_gate = (
            SETTLE + PATIENCE if outcome is Outcome.STOPPED else 0.0
        )  # between its steps it waited for a node unseen
        if took > HOLD + GRACE + _LOOKING + at_gate:
            wrong.append(f"{words}; only after {took:.0f} s")
        if case.kind in (Kind.CTRL_C, Kind.HANG_UP) and (status, level) != (1, confirmed_steps(case.boundary)[0]):
            wrong.append(f"{words}; exit status {status}, {level} steps are in effect")
        print(f"{lane.node} {reason}: {words} ({took:.0f} s after the step began; {level} steps in effect)", flush=True)
        return wrong + self._told(change, level)

    # --- what the node, the journal and the next console say

    def _settled(self, lane: Lane, reason: str) -> tuple[int, JournalledChange]:
        """Wait until the node is not in between; returns how many steps are in effect and what the journal has of the change.

        Raises AssertionError if it never is, or is where no console led it.
        """
        self._wait(lambda: look(self.lab, lane.node).is_settled, f"{lane.node} to settle", _SETTLING)
        time.sleep(0.5)  # what was under way to the node when the way was cut arrives now, if ever
        self._wait(lambda: look(self.lab, lane.node).is_settled, f"{lane.node} to settle", _SETTLING)
        serial = look(self.lab, lane.node).memory
        change = self._change(reason)
        assert change is not None, f"serial {serial}, and no journal"
        serials = [self._before[lane.node][0], *(step.serial for step in change.plan.steps)]
        assert serial in serials, f"serial {serial}, which is none of {serials}"
        level = serials.index(serial)
        events = {(r.fields.get("step"), r.fields.get("event")) for r in change.records}
        for step in range(level):
            assert (step, "confirming") in events, f"step {step} is in effect, and the journal doesn't know of it"
        for step in range(level, 2):
            assert (step, "confirmed") not in events, f"step {step} was confirmed, and isn't in effect"
        return level, change

    def _told(self, change: JournalledChange, level: int) -> list[str]:
        """What the watching console says of the change, which must be what is."""
        wanted = ["confirmed" if step < level else "as before" for step in range(2)]
        said = list[str]()

        def tells() -> bool:
            said[:] = [self._link(change.plan.steps[0].host), *self.watching.exports(change)]
            exported = self.watching.exports(change) == {_EXPORTED[level]}
            if change.outcome != OPEN:
                return exported
            try:
                report = self.watching.ask("journal", change=change.id)
            except EngineError as error:
                said.append(str(error))
                return False
            rows = [line.rpartition(": ")[2] for line in report.splitlines() if re.search(r"serial \d+ -> \d+: ", line)]
            said.extend(rows)
            return exported and rows[-2:] == wanted

        try:
            self._wait(tells, "the next console to tell")
        except AssertionError:
            return [f"the next console says {said}, wanted {_EXPORTED[level]}, {wanted}"]
        return []

    def _put_back(self, lane: Lane) -> None:
        """The node is as it was before the strike."""
        serial, text = self._before[lane.node]
        if running_serial(self.lab, lane.node) != serial or drain_conf(self.lab, lane.node) != text:
            script = f"cat >/etc/bird/drain.conf <<'EOT'\n{text}EOT\nrm -f /etc/bird/drain.stage.conf; birdc configure"
            self.lab.run(lane.node, ["sh", "-c", script])
        put_back = Node(serial, serial, pending=False, busy=False)
        self._wait(lambda: look(self.lab, lane.node) == put_back, f"{lane.node} to be put back")

    def _wait_until_served(self, lane: Lane) -> None:
        """Until the queries that a drain would move are there, and counted there, before the drain measures them."""
        load, store = self._loads[lane.tenant], self.watching.client.store
        if lane.client:
            self._wait(
                lambda: all(load.answering()[lane.client, family] == {lane.node} for family in ("ipv4", "ipv6")),
                f"{lane.client} to be served by {lane.node}",
            )

            def is_counted() -> bool:
                self._link(lane.node)
                rates = store.qps(lane.node, lane.tenant, time.time())
                return rates is not None and rates.qps > RATE

            self._wait(is_counted, f"{lane.node} to count queries of {lane.client}")

    def _link(self, host: str) -> str:
        """How the watching console is linked to a node; one that was cut off once too often to try again soon is told to."""
        link = self.watching.client.store.link(host)
        if link is not None and link.state is LinkState.BACKOFF:
            self.watching.ask("poke", node=host)
        return f"{link and link.state}"

    def _change(self, reason: str) -> JournalledChange | None:
        """The change made with this reason, None if it never was begun."""
        return next((c for c in self._journal.changes() if c.reason == reason), None)

    def _is_closed(self, reason: str) -> bool:
        found = self._change(reason)
        return found is not None and found.closed_at is not None

    @property
    def _journal(self) -> Journal:
        return Journal(next(self.state.glob("anyconsole/journal/*"), self.state / "none"))

    def _wait(self, condition: Callable[[], bool], what: str, seconds: float = _PATIENCE) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited {seconds:g} s for {what}"
            time.sleep(0.3)
