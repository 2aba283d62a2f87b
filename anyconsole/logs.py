"""Diagnostics of long-running parts: a bounded log file in the user's state folder, readable by the user alone."""

from __future__ import annotations

import logging
import logging.handlers
import os
from pathlib import Path

__all__ = ["log_to_file", "state_folder"]


def state_folder() -> Path:
    """The user's folder for what the console remembers ($XDG_STATE_HOME/anyconsole), made with mode 0700."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    folder = Path(base) / "anyconsole"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def log_to_file(name: str) -> Path:
    """Send this process's logging to `name`.log in the state folder (1 MiB, one older copy, mode 0600); returns its path."""
    path = state_folder() / f"{name}.log"
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=1 << 20, backupCount=1, encoding="utf-8", delay=False)
    path.chmod(0o600)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    return path
