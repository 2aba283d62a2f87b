"""Load tests that end before their time: whatever ends them, their generators fall silent, proven at the server."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from anyconsole.lab import Lab, control
from tests.e2e.loads import (
    IN_SERVICE,
    Heard,
    LoadConsole,
    LoadScreen,
    records_of,
)
from tests.e2e.observe import run_headless

pytestmark = [pytest.mark.lab, pytest.mark.measures, pytest.mark.timeout(240)]

GENTLE = ("--purpose", "fixed", "--rate", "300", "--seconds", "60", "--flows", "16")
"""Enough to be heard, too little to be felt."""


class Strike(NamedTuple):
    """Something that ends a load test: its target, its generator, what happens, and the seconds until silence at most."""

    target: str
    generator: str
    strike: Callable[[Lab, LoadConsole], None]
    within: float


def _shut_port(lab: Lab, host: str) -> None:
    done = lab.run("jump", ["ip", "link", "set", host, "down"])
    assert done.returncode == 0, done.stderr


def _kill_sshd(lab: Lab, host: str) -> None:
    assert control.signal_program(lab.paths, host, "/usr/sbin/sshd", signal.SIGKILL) >= 2


STRIKES = {
    "ctrl-c": Strike("de.fra1", "gen1", lambda _, console: console.strike(signal.SIGINT), 0.1),
    "a kill": Strike("de.fra2", "gen2", lambda _, console: console.strike(signal.SIGKILL), 3.5),
    "a closed terminal": Strike("de.lon1", "gen3", lambda _, console: console.hang_up(), 3.5),
    "the link of the generator": Strike("de.ams1", "gen2", lambda lab, _: _shut_port(lab, "client2"), 3.5),
    "sshd of the generator": Strike("de.sin1", "gen3", lambda lab, _: _kill_sshd(lab, "client3"), 3.5),
}


@pytest.fixture
def struck(lab: Lab) -> Iterator[Lab]:
    """The lab, and what a strike left of its generators is mended."""
    yield lab
    lab.run("jump", ["ip", "link", "set", "client2", "up"])
    control.start(lab.paths, "client3", ["sshd"])


def test_whatever_ends_a_load_test_its_generators_are_silent(struck: Lab, tmp_path: Path) -> None:
    """As many run at once as there are generators, and are struck one after the other."""
    lab = struck
    silent: dict[str, float] = {}
    codes: dict[str, int] = {}
    said: dict[str, str] = {}
    waiting = dict(STRIKES)
    while waiting:
        volley = {strike.generator: name for name, strike in reversed(waiting.items())}.values()
        with ExitStack() as stack:
            heard = {name: stack.enter_context(Heard(lab, *_place(STRIKES[name].target))) for name in volley}
            consoles = {}
            for name in volley:
                more = (*GENTLE, "--generator", STRIKES[name].generator, *IN_SERVICE)
                consoles[name] = stack.enter_context(LoadConsole(lab, tmp_path / name, STRIKES[name].target, *more))
            for name, console in consoles.items():
                console.wait_for_load(heard[name])
            for name in volley:
                began = time.time()
                STRIKES[name].strike(lab, consoles[name])
                silent[name] = heard[name].silent_after(began, STRIKES[name].within)
            codes |= {name: console.wait() for name, console in consoles.items()}
            said |= {name: console.said for name, console in consoles.items()}
        waiting = {name: strike for name, strike in waiting.items() if name not in silent}
    assert {name: seconds for name, seconds in silent.items() if seconds > STRIKES[name].within} == {}, silent
    print({name: f"{seconds:.3f} s" for name, seconds in silent.items()})
    assert codes == {name: -signal.SIGKILL if name == "a kill" else 1 for name in STRIKES}, said
    for name in ("the link of the generator", "sshd of the generator"):
        (record,) = records_of(tmp_path / name)
        assert record.result.verdict in ("aborted", "void"), record.result


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


def test_the_stop_key_and_the_death_of_a_screen_silence_it(lab: Lab, tmp_path: Path) -> None:
    with LoadScreen(lab, tmp_path, "enum.fra1", 300) as screen, Heard(lab, "fra1", "enum") as heard:
        screen.start(heard)
        began = time.time()
        assert screen.say("cancel") == "stopped"
        stopped = heard.silent_after(began, 0.1)
        screen.start(heard)
        began = time.time()
        screen.process.kill()
        died = heard.silent_after(began, 3.5)
    print(f"the stop key {stopped:.3f} s, the death of the screen {died:.3f} s")
    assert stopped <= 0.1
    assert died <= 3.5
    # The engine outlived its screen, and wrote it down.
    assert run_headless(lab, tmp_path, "journal", "show").stdout.count(" stopped ") == 2


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
