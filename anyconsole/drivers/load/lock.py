"""Holds a host for one load test: two at once would measure each other. Pushed to it; the lock lasts while its input is heard from.

Standard library only, Python 3.8 or later. The lock is a name in the host's network namespace (an abstract Unix socket), so that it is seen
by whoever uses this host, from whatever console, leaves no file behind, and can't outlive its process.
"""

from __future__ import annotations

import os
import select
import socket

SILENCE = 30.0

NAME = "\0anyconsole-load-test"


def main() -> None:
    """Take it, say so, and hold it until standard input ends."""
    held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        held.bind(NAME)
    except OSError:
        os.write(1, b"taken\n")
        return
    os.write(1, b"locked\n")
    # A cut link closes nothing: whoever holds it has to say so again.
    while select.select([0], [], [], SILENCE)[0] and os.read(0, 4096):
        pass
