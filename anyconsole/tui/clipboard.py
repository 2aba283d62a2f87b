"""Text from the console to where the user can paste it: tmux's buffer, else the terminal's clipboard (OSC 52), else a file."""

from __future__ import annotations

import base64
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Copied", "copy_text"]

_OSC52_LIMIT = 75_000
"""Bytes of a sequence that terminals still take whole (xterm, kitty and tmux differ; 100,000 in base64 is the least)."""

_TMUX_DEADLINE = 2.0


@dataclass(frozen=True, slots=True)
class Copied:
    """Where the text went: `where` in words for the user, `path` if it is a file."""

    where: str
    path: Path | None = None


def copy_text(text: str, write: Callable[[str], None], env: Mapping[str, str] = os.environ) -> Copied:
    """Copy `text`, and say where it is.

    Args:
        text: What is copied.
        write: Writes a control sequence to the terminal (the driver's `write`).
        env: The environment; inside tmux, tmux is asked, which also passes the text on to the terminal outside.

    Raises:
        OSError: Not even a file could be written.
    """
    data = text.encode()
    if env.get("TMUX") and _load_tmux_buffer(data):
        return Copied("tmux buffer")
    if len(data) <= _OSC52_LIMIT:
        write(f"\x1b]52;c;{base64.b64encode(data).decode()}\x07")
        return Copied("clipboard")
    with tempfile.NamedTemporaryFile(prefix="anyconsole-", suffix=".txt", delete=False) as file:
        file.write(data)
    return Copied(f"file {file.name}", Path(file.name))


def _load_tmux_buffer(data: bytes) -> bool:
    """Whether tmux took it; before version 3.2 it doesn't know `-w`."""
    for options in (("-w",), ()):
        try:
            done = subprocess.run(
                ["tmux", "load-buffer", *options, "-"],
                input=data,
                capture_output=True,
                timeout=_TMUX_DEADLINE,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        if done.returncode == 0:
            return True
    return False
