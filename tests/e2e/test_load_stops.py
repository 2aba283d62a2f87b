"""Load tests that end before their time: whatever ends them, their generators fall silent, proven at the server."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import pytest

from anyconsole.lab import Lab, control
from tests.e2e.drains import apply_on_screen, go_to_first, settle
from tests.e2e.loads import (
    IN_SERVICE,
    Heard,
    LoadConsole,
    LoadScreen,
    records_of,
)
from tests.e2e.observe import run_headless
from tests.terminal import ENTER, Terminal

pytestmark = [pytest.mark.lab, pytest.mark.measures, pytest.mark.timeout(240)]

GENTLE = ("--purpose", "fixed", "--rate", "300", "--seconds", "60", "--flows", "48")
"""Enough to be heard, too little to be felt."""
ALL = 3
"""Generators of the lab."""


class Strike(NamedTuple):
    """Something that ends a load test: what happens, the seconds until all are silent at most, and the exit status of the console."""

    strike: Callable[[Lab, LoadConsole], None]
    within: float = 3.5
    code: int = 1


def _shut_port(lab: Lab, host: str) -> None:
    done = lab.run("jump", ["ip", "link", "set", host, "down"])
    assert done.returncode == 0, done.stderr


def _kill_sshd(lab: Lab, host: str) -> None:
    assert control.signal_program(lab.paths, host, "/usr/sbin/sshd", signal.SIGKILL) >= 2


STRIKES = {
    "ctrl-c": Strike(lambda _, console: console.strike(signal.SIGINT), 0.1),
    "a kill": Strike(lambda _, console: console.strike(signal.SIGKILL), code=-signal.SIGKILL),
    "a closed terminal": Strike(lambda _, console: console.hang_up()),
    "sshd of a generator": Strike(lambda lab, _: _kill_sshd(lab, "client3")),
    "the link of a generator": Strike(lambda lab, _: _shut_port(lab, "client2")),
}


@pytest.fixture
def struck(lab: Lab) -> Iterator[Lab]:
    """The lab, and what a strike left of its generators is mended."""
    yield lab
    _mend(lab)


def _mend(lab: Lab) -> None:
    lab.run("jump", ["ip", "link", "set", "client2", "up"])
    control.start(lab.paths, "client3", ["sshd"])
    end = time.monotonic() + 40.0
    for client in ("client2", "client3"):  # what was cut off lets go of its host when it hears of that
        while "anyconsole-load-test" in lab.run(client, ["cat", "/proc/net/unix"]).stdout:
            assert time.monotonic() < end, f"{client} is held still"
            time.sleep(0.2)


def test_whatever_ends_a_load_test_all_its_generators_are_silent(struck: Lab, tmp_path: Path) -> None:
    """Also those that weren't struck: they hear of it from the console, or its end."""
    lab = struck
    silent: dict[str, dict[str, float]] = {}
    for name, strike in STRIKES.items():
        state = tmp_path / name
        with (
            Heard(lab, "fra1", "de", generators=ALL) as heard,
            LoadConsole(lab, state, "de.fra1", *GENTLE, *IN_SERVICE) as console,
        ):
            console.wait_for_load(heard)
            began = time.time()
            strike.strike(lab, console)
            silent[name] = heard.each_silent_after(began, strike.within)
            assert console.wait() == strike.code, console.said
        _mend(lab)
    print({name: {g: f"{seconds:.3f} s" for g, seconds in sorted(each.items())} for name, each in silent.items()})
    assert all(len(each) == ALL for each in silent.values()), silent
    late = {name: each for name, each in silent.items() if max(each.values()) > STRIKES[name].within}
    assert not late
    for name, said in (("the link of a generator", "gen2"), ("sshd of a generator", "gen3")):
        (record,) = records_of(tmp_path / name)
        assert record.result.verdict == "aborted", record.result
        assert record.result.why.startswith(f"load generator {said}: "), "which one it was"
        assert record.summary is not None
        assert record.summary.queries > 0, "what was measured is on record"


def test_a_generator_serves_one_test_at_a_time(lab: Lab, tmp_path: Path) -> None:
    """Its limit is for all it sends: a second test on another node would take it twice."""
    more = (*GENTLE, "--generator", "gen1", *IN_SERVICE)
    with Heard(lab, "fra1", "de") as heard, LoadConsole(lab, tmp_path / "first", "de.fra1", *more) as first:
        first.wait_for_load(heard)
        with LoadConsole(lab, tmp_path / "second", "de.fra2", *more) as second:
            assert second.wait() == 1
        assert "gen1: somebody else runs a load test there" in second.said
        first.strike(signal.SIGINT)


def _place(target: str) -> tuple[str, str]:
    tenant, _, host = target.partition(".")
    return host, tenant


def test_the_death_of_a_screen_or_of_its_engine_silences_all(lab: Lab, tmp_path: Path) -> None:
    silent = {}
    for who in ("screen", "engine"):
        with (
            LoadScreen(lab, tmp_path / who, "enum.fra1", 300) as screen,
            Heard(lab, "fra1", "enum", generators=ALL) as heard,
        ):
            screen.start(heard)
            pid = screen.process.pid if who == "screen" else screen.engine
            began = time.time()
            os.kill(pid, signal.SIGKILL)
            silent[who] = heard.each_silent_after(began, 3.5)
    print(silent)
    assert all(len(each) == ALL and max(each.values()) <= 3.5 for each in silent.values()), silent
    # The engine outlived its screen, and wrote it down; of a dead engine the next console says that its test is open.
    assert " stopped " in run_headless(lab, tmp_path / "screen", "journal", "show").stdout
    assert " open " in run_headless(lab, tmp_path / "engine", "journal", "show").stdout


class Stalls:
    """For how long this machine kept a process from going on: what a measurement of others is wrong by."""

    def __init__(self) -> None:
        self._stalls: list[tuple[float, float]] = []
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._measure, name="stalls")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._ends.set()
        self._thread.join()

    def _measure(self) -> None:
        before = time.monotonic()
        while not self._ends.wait(0.001):
            now = time.monotonic()
            self._stalls.append((before, now - before - 0.001))
            before = now

    def longest(self, seconds: float) -> float:
        """The longest that began in the first so many seconds."""
        began = self._stalls[0][0]
        return max(stall for at, stall in self._stalls if at <= began + max(0.0, seconds))


def test_the_stop_key_silences_all_generators_in_a_tenth_of_a_second(
    lab: Lab, tmp_path: Path, console: Callable[..., Terminal]
) -> None:
    """From the key that is typed into a terminal to the last query at the server, by the kernel's clock.

    The screen and the engine want a processor each meanwhile: what this machine withholds from its processes is no fault of theirs.
    """
    terminal = console()
    with Heard(lab, "fra1", "de", generators=ALL) as heard:
        _start_by_keys(terminal)
        heard.wait_for_load(terminal.text)
        with Stalls() as stalls:
            began = time.time()
            terminal.send("x")
            silent = heard.each_silent_after(began, 0.1)
        terminal.wait_for("stopped", 10)
    stalled = stalls.longest(max(silent.values()))
    print({name: f"{seconds:.3f} s" for name, seconds in silent.items()}, f"stalls of {stalled:.3f} s")
    assert len(silent) == ALL
    assert max(silent.values()) <= 0.1 + stalled, (silent, stalled)
    (record,) = records_of(tmp_path)
    assert record.result.why == "stopped by the operator"
    assert record.summary is not None
    assert record.summary.queries == record.trials[0].sent > 0


def _start_by_keys(terminal: Terminal) -> None:
    """A fixed run of the first row of Health, which is de on fra1, from all generators."""
    terminal.wait_for("● live", 20)
    terminal.send(f":arm 15m{ENTER}")
    terminal.wait_for("ARMED", 15)
    settle(terminal)
    go_to_first(terminal, "4", "fra1 +de")
    terminal.send("L")
    terminal.wait_for("Load test: de.fra1", 10)
    terminal.wait_for("production ", 10)  # the last of the guards
    # Purpose, rate, time, from, reason, ticket; then what the guards want: why it may be in service, and a tick for its neighbours.
    for keys in ("\t\x1b[C", "\t300", "\t60", "\t\tstop key", "\t\ta lab", "\t", " "):
        terminal.send(keys)
        settle(terminal)
    apply_on_screen(terminal)


# --- guards


def test_a_test_stops_when_a_session_falls_or_a_neighbour_goes_dumb(breakable_lab: Lab, tmp_path: Path) -> None:
    lab = breakable_lab
    with ExitStack() as stack:
        runs = {}
        for host, generator in (("fra1", "gen1"), ("lon1", "gen2")):
            heard = stack.enter_context(Heard(lab, host, "de"))
            console = LoadConsole(lab, tmp_path / host, f"de.{host}", *GENTLE, "--generator", generator, *IN_SERVICE)
            runs[host] = (heard, stack.enter_context(console))
        for heard, console in runs.values():
            console.wait_for_load(heard)
        lab.break_("session", "fra1", "ix1_v4")
        lab.break_("nameserver", "lon1", "nic")
        codes = {host: console.wait() for host, (_heard, console) in runs.items()}
        said = {host: console.said for host, (_heard, console) in runs.items()}
    assert codes == {"fra1": 1, "lon1": 1}, said
    for host, why in (("fra1", "ix1_v4 of fra1 is"), ("lon1", "nic on lon1 doesn't answer any more")):
        assert why in said[host]
        (record,) = records_of(tmp_path / host)
        assert record.result.verdict == "aborted"
        assert why in record.result.why
        journal = json.loads(run_headless(lab, tmp_path / host, "journal", "export", "--output", "json").stdout)
        assert journal["change"]["outcome"] == "failed"
        assert why in json.dumps(journal)
