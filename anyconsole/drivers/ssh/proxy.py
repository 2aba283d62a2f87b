"""The user's ProxyCommand as a socket.

asyncssh can start one itself, but takes what the command says on standard error for the peer's words.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import suppress

__all__ = ["ProxyCommand"]


class ProxyCommand:
    """A running command whose standard input and output are one end of a socket pair."""

    def __init__(self, process: asyncio.subprocess.Process, sock: socket.socket) -> None:
        self.sock = sock
        self._process = process

    @classmethod
    async def start(cls, command: str) -> ProxyCommand:
        """Start the command as OpenSSH does, through a shell: it is the user's own, with its tokens filled in. Raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            process = await asyncio.create_subprocess_exec(
                "/bin/sh",
                "-c",
                f"exec {command}",
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(process, ours)

    def stop(self) -> None:
        """End the command and whatever it started. Harmless when it ended already."""
        self.sock.close()
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
