"""Holds a node for one load test: two at once would measure each other. Pushed to the node; the lock lasts as long as its input is open.

Standard library only, Python 3.8 or later. The lock is a name in the node's network namespace (an abstract Unix socket), so that it is seen
by whoever tests this node, from whatever console, leaves no file behind, and can't outlive its process.
"""

from __future__ import annotations

import os
import socket

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
    while os.read(0, 4096):
        pass
