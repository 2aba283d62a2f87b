"""The command line as its user meets it: a real process, its output, its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from anyconsole import __version__


def anyconsole(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    home = {"HOME": str(cwd), "XDG_CONFIG_HOME": str(cwd / "config"), "XDG_STATE_HOME": str(cwd / "state")}
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ANYCONSOLE")}
    return subprocess.run(
        [sys.executable, "-m", "anyconsole", *args],
        capture_output=True, text=True, timeout=60, cwd=cwd, env={**clean, **home, **env}, check=False,
    )  # fmt: skip


def test_version_is_the_package_version(tmp_path: Path) -> None:
    done = anyconsole("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"anyconsole {__version__}\n", "")


def test_without_a_profile_one_screen_explains_how_to_get_one(tmp_path: Path) -> None:
    done = anyconsole(cwd=tmp_path)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) <= 24
    assert max(map(len, done.stdout.splitlines())) <= 80
    for word in ("lab up", "profile import", "--profile", "prod.example"):
        assert word in done.stdout


@pytest.mark.parametrize("args", [("show", "fleet"), ("check",)])
def test_a_command_without_a_profile_says_what_is_missing(args: tuple[str, ...], tmp_path: Path) -> None:
    done = anyconsole(*args, cwd=tmp_path)
    assert done.returncode == (3 if args[0] == "check" else 2)
    assert "--profile" in done.stderr
    assert done.stdout == ""


def test_an_unknown_profile_is_one_clear_line_and_exit_code_2(tmp_path: Path) -> None:
    done = anyconsole("--profile", "nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_profile_names_file_and_key(tmp_path: Path) -> None:
    profile = tmp_path / "x.toml"
    profile.write_text('[profile]\nname = "x"\ncolor = "#ffffff"\n', encoding="utf-8")
    done = anyconsole("--profile", str(profile), "show", "fleet", cwd=tmp_path)
    assert done.returncode == 2
    assert "x.toml" in done.stderr
    assert "colour" in done.stderr


def test_the_environment_names_the_default_profile(tmp_path: Path) -> None:
    done = anyconsole("show", "fleet", cwd=tmp_path, ANYCONSOLE_PROFILE="elsewhere")
    assert done.returncode == 2
    assert "elsewhere" in done.stderr


def test_without_a_terminal_the_console_says_what_to_use_instead(tmp_path: Path) -> None:
    done = anyconsole("--profile", "prod.example", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "needs a terminal" in done.stderr
    assert "show" in done.stderr


@pytest.mark.parametrize("wait", ["soon", "0", "nan", "3601"])
def test_a_wait_that_is_no_time_is_refused_in_plain_words(wait: str, tmp_path: Path) -> None:
    done = anyconsole("show", "fleet", "--wait", wait, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{wait!r}: must be a number of seconds" in done.stderr


def test_a_mistyped_check_is_unknown_to_monitoring_not_critical(tmp_path: Path) -> None:
    done = anyconsole("--profile", "prod.example", "check", "--wiat", "3", cwd=tmp_path)
    assert done.returncode == 3
    assert "--wiat" in done.stderr
