"""Copied text arrives somewhere, and the user is told where."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from anyconsole.tui.clipboard import copy_text


def test_short_text_goes_to_the_terminals_clipboard() -> None:
    written: list[str] = []
    copied = copy_text("fra1 広告", written.append, env={})
    assert copied.where == "clipboard"
    assert written == [f"\x1b]52;c;{base64.b64encode('fra1 広告'.encode()).decode()}\x07"]


def test_text_too_long_for_a_terminal_goes_to_a_private_file_that_is_named() -> None:
    written: list[str] = []
    copied = copy_text("x" * 80_000, written.append, env={})
    assert written == []
    assert copied.path is not None
    assert copied.path.read_text() == "x" * 80_000
    assert copied.path.stat().st_mode & 0o077 == 0
    assert str(copied.path) in copied.where
    copied.path.unlink()


def test_inside_tmux_the_text_lands_in_its_buffer(tmp_path: Path) -> None:
    socket = tmp_path / "tmux"
    tmux = ["tmux", "-S", str(socket), "-f", "/dev/null"]
    subprocess.run([*tmux, "new-session", "-d", "sleep 60"], check=True, timeout=10)
    try:
        env = {"TMUX": f"{socket},1,0"}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TMUX", env["TMUX"])
            assert (
                copy_text("fra1\namsterdam", lambda _: pytest.fail("wrote to the terminal"), env=env).where
                == "tmux buffer"
            )
        shown = subprocess.run([*tmux, "show-buffer"], capture_output=True, check=True, timeout=10).stdout
        assert shown == b"fra1\namsterdam"
    finally:
        subprocess.run([*tmux, "kill-server"], check=False, timeout=10)


def test_tmux_that_is_gone_falls_back_to_the_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    written: list[str] = []
    monkeypatch.setenv("TMUX", f"{tmp_path}/nothing,1,0")
    assert copy_text("x", written.append).where == "clipboard"
    assert written
