"""Describe, raw and logs: texts over the panes that stay true while they are read."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from anyconsole.engine.client import EngineError, EngineState
from anyconsole.model.store import FleetStore
from anyconsole.tui.sources import logs_of, sections_of
from tests.fleet import inventory
from tests.tui.conftest import console
from tests.tui.fake_client import FakeClient


async def test_describe_tells_every_fact_of_a_node_with_its_age() -> None:
    async with console((120, 200)) as c:
        await c.press("d")
        for words in (
            "link fra1",
            "host fra1",
            "speaker fra1 bird",
            "session fra1 bird ix1_v4",
            "instance fra1 de",
            "rates fra1 enum probe",
        ):
            assert f"{words}  (0s ago" in c.text
        assert "export fra1 bird transit_v6 2001:db8:11c::/48" in c.text
        assert "answer fra1 192.0.2.53 de.example" in c.text
        assert "fra2" not in c.text


async def test_describe_is_live() -> None:
    async with console((120, 60)) as c:
        await c.press("4", "d")
        assert "pid" in c.text
        c.fleet.change(("instance", "fra1", "de"), pid=31337)
        c.fleet.pass_time(1)
        await c.pilot.pause(1.2)
        assert "31337" in c.text


async def test_describe_says_what_is_stale() -> None:
    async with console((120, 60)) as c:
        c.fleet.pass_time(30, silent=("fra1",))
        await c.press("4", "d")
        assert "30s ago, by nsd:de, STALE" in c.text


async def test_search_in_a_text_finds_the_next_match() -> None:
    async with console((120, 30)) as c:
        await c.press("d", "slash")
        await c.type("export fra1")
        await c.press("enter")
        assert "match 1 of 12" in c.message
        await c.press("n")
        assert "match 2 of 12" in c.message
        await c.press("escape")
        assert "describe" not in c.message
        await c.press("escape")
        assert "Fleet[5]" in c.text


async def test_raw_shows_what_the_daemon_said_and_goes_through_the_sections() -> None:
    fleet = FakeClient()
    fleet.answers["raw", "fra1", "bird"] = "BIRD 2.0.12 ready.\nix1_v4 BGP --- up [red]\x1b[2J"
    fleet.answers["raw", "fra1", "nsd:de"] = "num.queries=12"
    async with console(fleet=fleet) as c:
        await c.press("3", "y")
        await c.pilot.pause(0.1)
        assert "raw fra1 bird" in c.text
        assert "BIRD 2.0.12 ready." in c.text
        assert "up [red] [2J" in c.text or "up [red][2J" in c.text
        await c.press("right_square_bracket")
        await c.pilot.pause(0.1)
        assert "raw fra1 nsd:de" in c.text
        assert "num.queries=12" in c.text


async def test_raw_says_why_there_is_none() -> None:
    async with console() as c:
        await c.press("y")
        await c.pilot.pause(0.1)
        assert "no such thing" in c.lines[2]


async def test_a_log_is_followed_paused_and_searched() -> None:
    fleet = FakeClient()
    async with console((100, 20), fleet=fleet) as c:
        await c.press("3", "l")
        fleet.log.put_nowait("first li")
        fleet.log.put_nowait("ne\nsecond line\n")
        await c.pilot.pause(0.1)
        assert fleet.asked == [("log", {"node": "fra1", "path": "/var/log/bird.log"})]
        assert "first line" in c.text
        await c.press("Z")
        fleet.log.put_nowait("third line\n")
        await c.pilot.pause(0.1)
        assert "PAUSED" in c.text
        assert "third line" not in c.text
        await c.press("Z")
        assert "third line" in c.text
        fleet.log.put_nowait("".join(f"line {i}\n" for i in range(200)))
        await c.pilot.pause(0.1)
        assert "line 199" in c.text
        await c.press("g")
        fleet.log.put_nowait("late\n")
        await c.pilot.pause(0.1)
        assert "first line" in c.text
        assert "late" not in c.text
        await c.press("G")
        assert "late" in c.text
        fleet.log.put_nowait(None)
        await c.pilot.pause(0.1)
        assert "closed at the other end" in c.text


async def test_a_log_that_sends_nothing_is_explained() -> None:
    fleet = FakeClient()
    async with console((140, 20), fleet=fleet) as c:
        await c.press("3", "l")
        fleet.now += 4
        c.app._each_second()
        await c.pilot.pause()
        assert "missing, or not readable" in c.lines[2]
        fleet.log.put_nowait("at last\n")
        await c.pilot.pause(0.1)
        assert "at last" in c.text
        assert "missing" not in c.text


async def test_a_log_is_followed_again_when_the_engine_is_back() -> None:
    fleet = FakeClient()
    async with console(fleet=fleet) as c:
        await c.press("3", "l")
        fleet.log.put_nowait(None)
        fleet.become(EngineState.LOST, "the engine is gone")
        await c.pilot.pause(0.1)
        fleet.become(EngineState.STARTING)
        fleet.become(EngineState.LIVE)
        await c.pilot.pause(0.1)
        fleet.log.put_nowait("after\n")
        await c.pilot.pause(0.1)
        assert "after" in c.text
        assert len(fleet.asked) == 2


async def test_an_endless_log_is_bounded() -> None:
    fleet = FakeClient()
    async with console((100, 20), fleet=fleet) as c:
        await c.press("3", "l")
        fleet.log.put_nowait("x\n" * 30_000)
        fleet.log.put_nowait("y" * 50_000)
        await c.pilot.pause(0.3)
        screen = c.app.screen
        assert len(screen.text.lines) <= 20_000  # type: ignore[attr-defined]
        assert "yyyy" in c.text


async def test_no_log_in_the_profile_is_said() -> None:
    async with console() as c:
        await c.press("2", "l")
        assert "names no log" in c.message


async def test_the_shell_gets_the_terminal_and_its_end_is_told() -> None:
    fleet = FakeClient()
    fleet.answers["shell", "fra1"] = json.dumps([sys.executable, "-c", "raise SystemExit(7)"])
    lent: list[list[str]] = []

    def lend(argv: Sequence[str]) -> int:
        lent.append(list(argv))
        return 7

    async with console(fleet=fleet) as c:
        c.app.objects.lend_terminal = lend
        await c.press("s")
        await c.pilot.pause(0.1)
        assert lent == [[sys.executable, "-c", "raise SystemExit(7)"]]
        assert "the shell on fra1 ended with 7" in c.message


async def test_a_refused_shell_is_said() -> None:
    async with console() as c:
        await c.press("s")
        await c.pilot.pause(0.1)
        assert "shell fra1: no such thing" in c.message
    assert issubclass(EngineError, Exception)


def test_an_objects_own_section_and_log_come_first() -> None:
    fleet = FleetStore(inventory())
    assert sections_of(fleet, ("instance", "ams1", "nic"))[0].what == "nsd:nic"
    assert sections_of(fleet, ("session", "ams1", "bird", "ix1_v4"))[0].what == "bird"
    assert {s.node for s in sections_of(fleet, ("tenant", "de"))} == {"fra1", "fra2", "ams1", "lon1", "sin1"}
    assert [s.what for s in logs_of(fleet, ("node", "ams1"))] == ["/var/log/bird.log"]


async def test_a_digit_leaves_the_text_for_a_pane() -> None:
    async with console() as c:
        await c.press("d", "3")
        assert "BGP[20]" in c.text


async def test_an_error_of_ours_in_an_action_is_said_and_survived() -> None:
    fleet = FakeClient()
    fleet.answers["shell", "fra1"] = "this is not JSON"
    async with console(fleet=fleet) as c:
        await c.press("s")
        await c.pilot.pause(0.1)
        assert "JSONDecodeError" in c.message
        assert c.app.is_running
