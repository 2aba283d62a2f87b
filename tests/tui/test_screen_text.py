"""`:dump FILE` writes what is shown, for a bug report; and what is typed in one piece lands where it belongs."""

from __future__ import annotations

from pathlib import Path

from tests.tui.conftest import console


async def test_dump_is_the_screen_as_text(tmp_path: Path) -> None:
    file = tmp_path / "screen.txt"
    async with console() as user:
        await user.app.run_command(f"dump {file}")
        await user.pilot.pause()
        assert file.read_text().splitlines() == user.lines
        assert str(file) in user.message


async def test_dump_keeps_colours_if_the_name_says_so(tmp_path: Path) -> None:
    file = tmp_path / "screen.ans"
    async with console() as user:
        await user.app.run_command(f"dump {file}")
        await user.pilot.pause()
        assert "\x1b[" in file.read_text()


async def test_dump_overwrites_nothing(tmp_path: Path) -> None:
    file = tmp_path / "precious"
    file.write_text("mine")
    async with console() as user:
        await user.app.run_command(f"dump {file}")
        await user.pilot.pause()
        assert file.read_text() == "mine"
        assert "File exists" in user.message


async def test_dump_without_a_name_says_what_it_wants() -> None:
    async with console() as user:
        await user.app.run_command("dump")
        await user.pilot.pause()
        assert ":dump wants the name of a file" in user.message


async def test_filter_pasted_in_one_piece_is_a_filter_and_no_keys() -> None:
    async with console() as user:
        for key in ("slash", "k", "n", "o", "t"):
            user.app.simulate_key(key)
        await user.pilot.pause()
        await user.settle()
        assert user.app.screen is user.app.main, "the o must not open the list of columns"
        assert user.pane.state.filter == "knot"
