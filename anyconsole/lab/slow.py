"""A router that is slow to learn: its routing daemon stands still for a while, its forwarding goes on.

A stand-in for what makes real routers slow (MRAI, CPU, path hunting). Shorter than the hold time, so no session goes down.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from anyconsole.errors import LabError
from anyconsole.lab import control, state
from anyconsole.lab.lab import Lab
from anyconsole.lab.readiness import speaker_daemon

__all__ = ["slowed"]

_SCRIPT = 'kill -STOP "$1" && echo stopped && sleep "$2"; kill -CONT "$1"'
_PATIENCE = 10.0


@contextmanager
def slowed(lab: Lab, host: str, seconds: float = 2.0) -> Iterator[None]:
    """The routing daemon of `host` stands still for `seconds` from when the context is entered; leaving it waits for their end.

    It goes on by itself even if the caller doesn't live to see it. Raises LabError.
    """
    name = speaker_daemon(state.node(lab.paths, host))
    pid = next((row.pid for row in control.daemons(lab.paths, host) if row.name == name), 0)
    if not pid:
        raise LabError(f"{host} has no {name} that runs")
    argv = lab.enter_command(host, ["sh", "-c", _SCRIPT, "sh", str(pid), str(seconds)])
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True) as process:
        if cast("IO[bytes]", process.stdout).readline() != b"stopped\n":
            raise LabError(f"{name} of {host} could not be stopped")
        try:
            yield
        finally:
            process.wait(seconds + _PATIENCE)
