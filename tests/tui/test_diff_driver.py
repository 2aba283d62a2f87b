"""The terminal shows exactly what Textual meant, at a fraction of the bytes, and a closed terminal ends the app at once."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anyconsole.tui.screen_diff import ScreenDiff
from tests.terminal import Emulator, ScreenCell, Terminal, process_tree

WIDTH, HEIGHT = 12, 5
APP = Path(__file__).with_name("live_app.py")

# Any stream of tokens, through the filter or not, ends in the same picture.

PLACES = st.builds("\x1b[{};{}H".format, st.integers(1, HEIGHT), st.integers(1, WIDTH))
STYLES = st.sampled_from(
    [
        "\x1b[0m",
        "\x1b[m",
        "\x1b[1m",
        "\x1b[7m",
        "\x1b[31m",
        "\x1b[0;32m",
        "\x1b[22m",
        "\x1b[38;2;1;2;3;48;5;7m",
        "\x1b[27;39m",
        "\x1b[4;3m",
    ]
)
TEXTS = st.one_of(
    st.text("ab ", min_size=1, max_size=14),
    st.text("a広é\u0301●", min_size=1, max_size=7),
    st.text("ab", min_size=1, max_size=2),
    st.sampled_from(["\u0301", "x\u200dy", "\u2764\ufe0f", "広" * 6, "a" * 30]),
)
CONTROLS = st.sampled_from(["\n", "\r", "\x07", "\x08", "\t"])
SEQUENCES = st.sampled_from(
    [
        "\x1b[?25l", "\x1b[?2026h", "\x1b[?2026l", "\x1b]0;title\x07", "\x1b]8;id=1;http://x\x1b\\", "\x1b]8;;\x1b\\",
        "\x1b[A", "\x1b[2C", "\x1b[3G", "\x1b[H", "\x1b[;3H", "\x1b[99;99H",
        "\x1b[K", "\x1b[1J", "\x1b[2J", "\x1b[L", "\x1b[M", "\x1b[2P", "\x1b[2@", "\x1b[3X", "\x1b[2S",
        "\x1bM", "\x1bD", "\x1b7", "\x1b8", "\x1bc\x1b[?7l",
    ]
)  # fmt: skip
LINES = st.builds(lambda place, style, text: f"{place}{style}{text}\x1b[0m", PLACES, STYLES, TEXTS)
WRITES = st.lists(
    st.lists(st.one_of(LINES, LINES, LINES, PLACES, STYLES, TEXTS, CONTROLS, SEQUENCES), max_size=12).map("".join),
    max_size=8,
)


def shown(writes: list[str]) -> Emulator:
    """What a terminal shows that never wraps lines, behind a tty that turns newlines into carriage return and newline."""
    emulator = Emulator(WIDTH, HEIGHT)
    for write in ["\x1b[?7l", *writes]:
        emulator.feed(write.replace("\n", "\r\n"))
    return emulator


def filtered(writes: list[str]) -> list[str]:
    diff = ScreenDiff(WIDTH, HEIGHT)
    return [diff.feed(write) for write in writes]


@settings(max_examples=600, deadline=None)
@given(WRITES)
@example(["\x1b[1;1H広", "\x1b[1;2Ha", "\x1b[1;1H広"])
@example(["\x1b[1;11Hab", "\x1b[1;11Hab\u0301"])
def test_filtered_stream_shows_the_same_cell_by_cell(writes: list[str]) -> None:
    plain, reduced = shown(writes), shown(filtered(writes))
    assert reduced.cells() == plain.cells()
    assert (reduced.screen.cursor.y, min(reduced.screen.cursor.x, WIDTH - 1)) == (
        plain.screen.cursor.y,
        min(plain.screen.cursor.x, WIDTH - 1),
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(LINES, max_size=30), st.integers(0, 30))
def test_forgetting_at_any_time_changes_nothing_on_screen(writes: list[str], moment: int) -> None:
    diff = ScreenDiff(WIDTH, HEIGHT)
    sent = []
    for number, write in enumerate(writes):
        if number == moment:
            diff.forget()
        sent.append(diff.feed(write))
    assert shown(sent).cells() == shown(writes).cells()


def test_what_is_shown_already_is_not_sent_again() -> None:
    diff = ScreenDiff(WIDTH, HEIGHT)
    frame = "\x1b[1;1H\x1b[1;31mhello\x1b[0m\n\x1b[2;1H広告\x1b[1;1H"
    assert diff.feed(frame)
    assert diff.feed(frame) == ""
    assert diff.feed(frame.replace("hello", "hallo")) == "\x1b[2G\x1b[0;1;31ma\x1b[1G\x1b[m"
    diff.forget()
    assert "hello" in diff.feed(frame)


def test_modes_and_queries_pass_and_cost_no_knowledge() -> None:
    diff = ScreenDiff(WIDTH, HEIGHT)
    frame = "\x1b[1;1Hhello"
    diff.feed(frame)
    passed = "\x1b[?2026h\x1b[?25l\x1b[?1003h\x1b[>25u\x1b[?2048$p\x1b[2 q\x1b]52;c;QQ==\x07"
    assert diff.feed(passed) == passed
    assert diff.feed(frame) == ""


@pytest.mark.parametrize("sequence", ["\x1b[?1049h", "\x1b[2J", "\x1bc", "\x1b[S", "\x1bP1$r\x1b\\", "\x1b[3"])
def test_what_may_have_cleared_or_moved_the_picture_makes_it_be_sent_again(sequence: str) -> None:
    diff = ScreenDiff(WIDTH, HEIGHT)
    frame = "\x1b[1;1Hhello"
    diff.feed(frame)
    assert sequence in diff.feed(sequence)
    assert "hello" in diff.feed(frame)


def test_small_gaps_are_written_over_and_large_ones_jumped() -> None:
    diff = ScreenDiff(60, 2)
    diff.feed("\x1b[1;1H" + "a" * 60)
    assert diff.feed("\x1b[1;1Hb" + "a" * 3 + "b" + "a" * 40 + "b") == "\x1b[1Gbaaab\x1b[46Gb"


# The real driver in a real terminal.


@contextmanager
def live_app(tmp_path: Path, *, columns: int = 100, rows: int = 30, **env: str) -> Iterator[Terminal]:
    argv = ["sh", "-c", f"trap '' HUP; exec {sys.executable} {APP}"]
    variables = {
        "LIVE_APP_DUMP": str(tmp_path / "dump"),
        "PYTHONPATH": str(APP.parents[2]),
        "TEXTUAL_ANIMATIONS": "none",
    } | env
    with Terminal(argv, columns=columns, rows=rows, env=variables) as terminal:
        terminal.wait_for("node3")
        terminal.wait_quiet()
        yield terminal


def meant(terminal: Terminal, tmp_path: Path) -> list[list[ScreenCell]]:
    """The cells of the screen that Textual's compositor has."""
    dump = tmp_path / "dump"
    dump.unlink(missing_ok=True)
    terminal.wait_quiet()
    terminal.send("\x1b[24~")
    terminal.wait_until(dump.exists, 10, "the dump")
    emulator = Emulator(terminal.emulator.screen.columns, terminal.emulator.screen.lines)
    emulator.feed("\x1b[?7l" + dump.read_text(encoding="utf-8"))
    return emulator.cells()


def assert_shown_as_meant(terminal: Terminal, tmp_path: Path) -> None:
    """It is, once it has come to rest: on a busy machine a key or a tick may still be under way."""
    for is_last in (False, False, True):
        wanted, seen = meant(terminal, tmp_path), terminal.cells()
        differ = [
            (x, y, a, b)
            for y, lines in enumerate(zip(wanted, seen, strict=True))
            for x, (a, b) in enumerate(zip(*lines, strict=True))
            if a != b
        ]
        if not differ:
            return
        assert not is_last, differ
        terminal.wait_quiet(0.6)


@pytest.mark.parametrize(("theme", "diff"), [("night", "1"), ("ansi", "1"), ("day", "0")])
def test_screen_is_what_textual_meant_after_keys_ticks_pages_and_resizes(tmp_path: Path, theme: str, diff: str) -> None:
    chance = random.Random(3)
    with live_app(tmp_path, LIVE_APP_THEME=theme, ANYCONSOLE_DIFF=diff) as terminal:
        for size in ((100, 30), (61, 20), (120, 41)):
            terminal.resize(*size)
            terminal.wait_quiet(0.6)
            for key in chance.choices("ttttjkjjgG \x04\x15<>Iv\t\t", k=40):
                terminal.send(key)
                time.sleep(0.01)
            assert_shown_as_meant(terminal, tmp_path)


def test_quick_resize_there_and_back_leaves_no_debris(tmp_path: Path) -> None:
    with live_app(tmp_path) as terminal:
        for size, pause in (((60, 20), 0.0), ((100, 30), 0.05), ((40, 10), 0.0), ((100, 30), 0.0)):
            terminal.resize(*size)
            time.sleep(pause)
        terminal.wait_quiet(0.6)
        assert_shown_as_meant(terminal, tmp_path)


def test_screen_is_whole_after_another_program_had_the_terminal(tmp_path: Path) -> None:
    with live_app(tmp_path) as terminal:
        terminal.send("o")
        terminal.wait_quiet()
        assert "somebody else was here" not in terminal.text()
        assert_shown_as_meant(terminal, tmp_path)


def test_repaint_sends_everything_again(tmp_path: Path) -> None:
    with live_app(tmp_path) as terminal:
        with terminal._lock:
            terminal.emulator.feed("\x1b[2J")  # a wall message, a modem's noise
        terminal.send("L")
        terminal.wait_for("node3")
        assert_shown_as_meant(terminal, tmp_path)


def test_screen_comes_back_after_stop_and_continue(tmp_path: Path) -> None:
    environment = {"LIVE_APP_DUMP": str(tmp_path / "dump"), "PYTHONPATH": str(APP.parents[2]), "PS1": "$ "}
    with Terminal(["bash", "--norc", "-i"], columns=100, rows=30, env=environment) as terminal:
        terminal.send(f"{sys.executable} {APP}\r")
        terminal.wait_for("node3")
        terminal.wait_quiet()
        terminal.send("z")
        terminal.wait_for("Stopped")
        terminal.send("fg\r")
        terminal.wait_gone("Stopped")
        assert_shown_as_meant(terminal, tmp_path)


def ticks_cost(terminal: Terminal) -> int:
    before = terminal.bytes_received
    for _ in range(10):
        terminal.send("t")
        time.sleep(0.1)
    terminal.wait_quiet()
    return terminal.bytes_received - before


def test_diffing_saves_most_of_the_bytes_and_can_be_switched_off(tmp_path: Path) -> None:
    with live_app(tmp_path) as terminal:
        with_diff = ticks_cost(terminal)
    with live_app(tmp_path, ANYCONSOLE_DIFF="0") as terminal:
        without = ticks_cost(terminal)
    assert with_diff * 3 < without


@pytest.mark.parametrize("busy", [False, True])
def test_closed_terminal_ends_the_app_at_once_even_if_sighup_is_ignored(tmp_path: Path, busy: bool) -> None:
    with live_app(tmp_path) as terminal:
        if busy:
            terminal.send("t" * 20)
        terminal.hang_up()
        assert terminal.exit_status(5) == 0
        assert process_tree(terminal.pid) == []


def test_keys_pastes_and_mouse_still_arrive(tmp_path: Path) -> None:
    with live_app(tmp_path) as terminal:
        terminal.send("\x1b[<0;5;4M\x1b[<0;5;4m")  # click on the third row
        terminal.wait_for("^▌ node2 ")
        terminal.send("\x1b[B")
        terminal.wait_for("^▌ node3 ")
        terminal.send("\t")
        terminal.wait_quiet()
        terminal.send("\x1b[200~pasted\x1b[201~")
        terminal.wait_for("pasted")
        terminal.send(b"\xff\xfe!")  # line noise that isn't UTF-8
        terminal.wait_for("!")


def test_no_color_leaves_nothing_but_the_terminals_own_colours(tmp_path: Path) -> None:
    with live_app(tmp_path, LIVE_APP_THEME="ansi", NO_COLOR="1") as terminal:
        cells = [cell for line in terminal.cells() for cell in line]
        assert {colour for cell in cells for colour in (cell.colour, cell.ground)} == {"default"}
        assert any(cell.reverse for cell in cells)
