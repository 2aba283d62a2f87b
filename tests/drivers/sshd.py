"""Real OpenSSH servers on loopback for tests: a jump host and nodes, each with its own host key, killed by pid."""

from __future__ import annotations

import contextlib
import getpass
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

SSHD = "/usr/sbin/sshd"


def keygen(path: Path, *options: str) -> Path:
    """A new ed25519 key without passphrase (or what `options` say)."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", *options, "-f", str(path)], check=True, timeout=20)
    return path


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def children_of(pid: int) -> list[int]:
    """All descendants of a process, children before grandchildren."""
    found: list[int] = []
    todo = [pid]
    while todo:
        for task in Path(f"/proc/{todo.pop()}/task").glob("*/children"):
            try:
                children = [int(c) for c in task.read_text().split()]
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended meanwhile
            found += children
            todo += children
    return found


class Sshd:
    """One sshd on 127.0.0.1."""

    def __init__(self, name: str, folder: Path, authorized: Path, *extra: str, port: int | None = None) -> None:
        self.name = name
        self.port = port or free_port()
        self.folder = folder / name
        self.folder.mkdir()
        self.log = self.folder / "log"
        self.key = keygen(self.folder / "host_key")
        self.config = self.folder / "sshd_config"
        lines = [
            f"Port {self.port}", "ListenAddress 127.0.0.1", f"HostKey {self.key}", "PidFile none", "UsePAM no", "LogLevel VERBOSE",
            f"AuthorizedKeysFile {authorized}", "PasswordAuthentication no", "KbdInteractiveAuthentication no", "StrictModes no",
            "PermitRootLogin prohibit-password", "PermitUserRC no", "AllowTcpForwarding yes",
            "SetEnv SHLVL=1",  # Debian's bash reads ~/.bashrc in the first shell of a session: whatever is in there is not under test
            *extra,
        ]  # fmt: skip
        self.config.write_text("\n".join(lines) + "\n")
        self.process: subprocess.Popen[bytes] | None = None
        self.wrapper: tuple[str, ...] = ()
        """A program that becomes sshd, after it has changed what surrounds it."""

    @property
    def public(self) -> str:
        """Type and key, without comment."""
        return " ".join((self.key.with_suffix(".pub")).read_text().split()[:2])

    @property
    def known(self) -> str:
        """Its line in known_hosts."""
        return f"[127.0.0.1]:{self.port} {self.public}\n"

    def start(self) -> None:
        """Start it and wait until it listens, without connecting: the log then counts the logins of the test alone."""
        before = self.logged("Server listening")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.wrapper, SSHD, "-D", "-e", "-f", str(self.config)], stderr=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if self.logged("Server listening") > before:
                return
            time.sleep(0.02)
        raise AssertionError(f"{self.name}: sshd did not start: {self.log.read_text()}")

    def new_host_key(self) -> None:
        """The host was set up anew."""
        self.key.unlink()
        self.key.with_suffix(".pub").unlink()
        keygen(self.key)

    def sessions(self) -> list[int]:
        return children_of(self.process.pid) if self.process else []

    def runs(self, program: str) -> bool:
        """True while a session runs this program."""
        for pid in self.sessions():
            with contextlib.suppress(OSError):
                if program.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return True
        return False

    def freeze(self) -> None:
        """Stop listener and all sessions, as a hanging host would."""
        assert self.process is not None
        for pid in (self.process.pid, *self.sessions()):
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        for pid in (self.process.pid, *self.sessions()):
            os.kill(pid, signal.SIGCONT)

    def kill_sessions(self) -> None:
        for pid in self.sessions():
            _kill(pid)

    def stop(self) -> None:
        """Kill listener and sessions."""
        if self.process is None:
            return
        pids = self.sessions()
        self.process.kill()
        self.process.wait(10)
        for pid in pids:
            _kill(pid)
        self.process = None

    def logged(self, text: str) -> int:
        return 0 if not self.log.exists() else self.log.read_text().count(text)


class Servers:
    """A jump host, nodes behind it, a client's key and known_hosts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.user = getpass.getuser()
        Path("/run/sshd").mkdir(exist_ok=True)
        self.client_key = keygen(folder / "id")
        self.authorized = folder / "authorized_keys"
        self.authorized.write_text(self.client_key.with_suffix(".pub").read_text())
        self.known_hosts = folder / "known_hosts"
        self.ssh_config = folder / "ssh_config"
        self.all: dict[str, Sshd] = {}
        self.ssh_config.write_text("")

    def add(self, name: str, *extra: str, known: bool = True, start: bool = True) -> Sshd:
        server = Sshd(name, self.folder, self.authorized, *extra)
        self.all[name] = server
        if known:
            with self.known_hosts.open("a") as file:
                file.write(server.known)
        self.configure()
        if start:
            server.start()
        return server

    def configure(self, *extra: str) -> None:
        blocks = [f"Host {s.name}\n  HostName 127.0.0.1\n  Port {s.port}\n" for s in self.all.values()]
        common = f"Host *\n  User {self.user}\n  IdentityFile {self.client_key}\n  IdentitiesOnly yes\n"
        common += f"  UserKnownHostsFile {self.known_hosts}\n  GlobalKnownHostsFile /dev/null\n  IdentityAgent none\n"
        self.ssh_config.write_text("\n".join(extra) + "\n" + "".join(blocks) + common)

    @staticmethod
    def any_process(text: str) -> bool:
        """True if any process has `text` in its command line."""
        return subprocess.run(["pgrep", "-f", "--", text], check=False, timeout=5).returncode == 0

    def stop(self) -> None:
        for server in self.all.values():
            server.stop()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
