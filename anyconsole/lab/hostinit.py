"""First process of a lab host: builds the host's own view of the file system, then starts, stops and watches its daemons.

It runs alone, as PID 1 of its own PID namespace, with nothing but the standard library: `python3 -IS hostinit.py init.json control.sock`.
When it is killed the kernel kills the whole host with it. Its orders come as JSON lines over the control socket.
"""

from __future__ import annotations

import ctypes
import grp
import json
import os
import pwd
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE, MNT_DETACH = 1, 32, 4096, 16384, 1 << 19, 2
VIRTUAL = {"proc", "sysfs", "devtmpfs", "devpts", "tmpfs", "cgroup", "cgroup2", "mqueue", "securityfs", "bpf"}
NETNS_RUN_DIR = "/run/netns"
STOP_PATIENCE = 5.0
RESPAWN_DELAY = 1.0
READY_PATIENCE = 20.0

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, fstype: str = "", flags: int = 0, options: str = "") -> None:
    """The mount system call. Raises OSError that names the target."""
    if _libc.mount(source.encode(), target.encode(), fstype.encode(), flags, options.encode() or None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {source} on {target}: {os.strerror(number)}")


def bind(source: str, target: str, *, read_only: bool = False) -> None:
    """Show `source` at `target`, free of the flags (read-only, noexec, nodev) of the file system it comes from."""
    mount(source, target, flags=MS_BIND)
    mount("none", target, flags=MS_REMOUNT | MS_BIND | (MS_RDONLY if read_only else 0))


def build_view(spec: dict[str, Any]) -> None:
    """Keep our mounts to ourselves and the machine's own files read-only, then lay the host's files over them."""
    # Slave, not private: what the machine unmounts goes here too, so that no lab ever keeps a disk of it busy.
    mount("none", "/", flags=MS_REC | MS_SLAVE)
    for target, fstype in [_mount_fields(line) for line in Path("/proc/self/mountinfo").read_text().splitlines()]:
        if fstype == "nsfs" or target == NETNS_RUN_DIR:
            # Copies of everybody's named namespaces, now and later: they would keep them alive after their removal.
            _libc.umount2(target.encode(), MNT_DETACH)
        elif fstype not in VIRTUAL:
            try:
                mount("none", target, flags=MS_REMOUNT | MS_BIND | MS_RDONLY)
            except OSError as error:  # a mount that is hidden below another one: no lab process can reach it either
                print(f"left as it is: {error}", file=sys.stderr)
    mount("proc", "/proc", "proc")
    groups = os.open("/sys/fs/cgroup", os.O_PATH) if spec["cgroups"] and Path("/sys/fs/cgroup").is_dir() else -1
    mount("sysfs", "/sys", "sysfs")
    if groups >= 0:
        show_cgroups(groups)
    for source, target, mode in spec["binds"]:
        bind(source, target, read_only=mode == "ro")
    for target in spec["tmpfs"]:
        mount("tmpfs", target, "tmpfs", options="mode=1777" if target.endswith("tmp") else "mode=755")
    for path, mode, owner, group in spec["directories"]:
        Path(path).mkdir(parents=True, exist_ok=True)
        Path(path).chmod(int(mode, 8))
        os.chown(path, pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid)


def show_cgroups(descriptor: int) -> None:
    """Show the machine's control groups, open at `descriptor`, read-only: whoever looks sees which process is throttled."""
    mount(f"/proc/self/fd/{descriptor}", "/sys/fs/cgroup", flags=MS_BIND | MS_REC)
    os.close(descriptor)
    for target, _ in [_mount_fields(line) for line in Path("/proc/self/mountinfo").read_text().splitlines()]:
        if target.startswith("/sys/fs/cgroup"):
            mount("none", target, flags=MS_REMOUNT | MS_BIND | MS_RDONLY)


def _mount_fields(line: str) -> tuple[str, str]:
    fields = line.split()
    return fields[4].encode().decode("unicode_escape"), fields[fields.index("-") + 1]


def set_sysctls(sysctls: dict[str, str]) -> None:
    """Write kernel settings of this network namespace."""
    for key, value in sysctls.items():
        Path("/proc/sys", key).write_text(value)


class Daemon:
    """One daemon of the host: how it is started, and its process if it runs."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.name: str = spec["name"]
        self.argv: list[str] = spec["argv"]
        self.user: str = spec.get("user", "")
        self.respawn: bool = spec.get("respawn", False)
        self.ready: str = spec.get("ready", "")
        self.post: list[str] = spec.get("post", [])
        self.output: str = spec.get("output", f"/var/log/{self.name}.out")
        self.wanted: bool = spec.get("enabled", True)
        self.pid = 0
        self.status: int | None = None
        self.ended_at = 0.0

    def start(self) -> None:
        """Start it, and its follow-up command once its ready file is there."""
        self.wanted = True
        if self.pid:
            return
        if self.ready:
            Path(self.ready).unlink(missing_ok=True)
        self.pid = spawn(self.argv, self.user, self.output)
        if self.post:
            spawn(["/bin/sh", "-c", _after_ready(self.ready, self.post)], "", self.output)

    def row(self) -> dict[str, Any]:
        """What `status` tells about it."""
        return {
            "name": self.name,
            "running": bool(self.pid),
            "wanted": self.wanted,
            "pid": self.pid,
            "exit": self.status,
        }


def _after_ready(path: str, argv: list[str]) -> str:
    tries = int(READY_PATIENCE / 0.1)
    return f"i=0; until [ -e {path} ] || [ $i -ge {tries} ]; do sleep 0.1; i=$((i+1)); done; exec {' '.join(argv)}"


def spawn(argv: list[str], user: str, output: str) -> int:
    """Start a program in a session of its own and return its PID. It is not confined by the machine's AppArmor profiles."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, 256)
        _leave_apparmor()
        if user:
            entry = pwd.getpwnam(user)
            os.setgroups(os.getgrouplist(user, entry.pw_gid))
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "GOMAXPROCS": "1"}
        os.execvpe(argv[0], argv, environment)  # noqa: S606 - no shell on purpose
    except OSError as error:
        os.write(2, f"{argv[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def _leave_apparmor() -> None:
    """The machine's profile of named allows only the machine's own paths; ours are in a chroot."""
    enabled = Path("/sys/module/apparmor/parameters/enabled")
    if enabled.exists() and enabled.read_text().strip() == "Y":
        Path("/proc/self/attr/exec").write_bytes(b"exec unconfined")


class Host:
    """The host's daemons and the control socket."""

    def __init__(self, daemons: list[Daemon], listener: socket.socket) -> None:
        self.daemons = {d.name: d for d in daemons}
        self.listener = listener

    def reap(self) -> None:
        """Collect every dead child and note whose it was."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for daemon in self.daemons.values():
                if daemon.pid == pid:
                    daemon.pid, daemon.status, daemon.ended_at = 0, os.waitstatus_to_exitcode(status), time.monotonic()

    def respawn(self) -> None:
        """Start again what should run for ever."""
        for daemon in self.daemons.values():
            late = time.monotonic() - daemon.ended_at >= RESPAWN_DELAY
            if daemon.respawn and daemon.wanted and not daemon.pid and late:
                daemon.start()

    def stop(self, daemon: Daemon) -> None:
        """SIGTERM, and SIGKILL to its whole session if that is not enough. Returns when it is gone."""
        daemon.wanted = False
        deadline = time.monotonic() + STOP_PATIENCE
        if daemon.pid:
            os.kill(daemon.pid, signal.SIGTERM)
        while daemon.pid:
            self.reap()
            if time.monotonic() > deadline and daemon.pid:
                os.killpg(daemon.pid, signal.SIGKILL)
            time.sleep(0.01)

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order and say how it went."""
        verb = order.get("do")
        if verb == "status":
            return {"ok": True, "daemons": [d.row() for d in self.daemons.values()]}
        if verb in {"start", "stop"}:
            for name in order["names"]:
                daemon = self.daemons.get(name)
                if daemon is None:
                    return {"ok": False, "error": f"no daemon {name!r}; there are {', '.join(self.daemons)}"}
                if verb == "start":
                    daemon.start()
                else:
                    self.stop(daemon)
            return {"ok": True}
        if verb == "signal":
            return {"ok": True, "signalled": signal_program(order["program"], order["signal"])}
        return {"ok": False, "error": f"unknown order {verb!r}"}

    def serve(self, wakeup: socket.socket) -> None:
        """Until killed: reap, respawn, answer."""
        for daemon in self.daemons.values():
            if daemon.wanted:
                daemon.start()
        while True:
            ready, _, _ = select.select([self.listener, wakeup], [], [], RESPAWN_DELAY)
            if wakeup in ready:
                wakeup.recv(4096)
            self.reap()
            self.respawn()
            if self.listener in ready:
                self.answer()

    def answer(self) -> None:
        """One client, one order, one reply. A client that went away or talks nonsense must not end the host."""
        connection, _ = self.listener.accept()
        with connection:
            connection.settimeout(2)
            try:
                line = connection.makefile("rb").readline(65536)
                if not line:  # somebody only wanted to know whether the host is there
                    return
                reply = self.obey(json.loads(line))
                connection.sendall(json.dumps(reply).encode() + b"\n")
            except (OSError, ValueError, KeyError) as error:
                print(f"control: {error!r}", file=sys.stderr, flush=True)


def signal_program(program: str, number: int) -> int:
    """Signal every process of this host that runs `program`. Returns how many there were."""
    count = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or entry.name == "1":
            continue
        try:
            if str((entry / "exe").readlink()) == program:
                os.kill(int(entry.name), number)
                count += 1
        except (FileNotFoundError, ProcessLookupError):
            continue
    return count


def main() -> None:
    """Become the host that `init.json` describes."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    control = Path(sys.argv[2])
    control.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(control))
    listener.listen(16)
    os.umask(0o022)
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    socket.sethostname(spec["hostname"])
    build_view(spec)
    set_sysctls(spec["sysctls"])
    os.chdir("/")
    wake_read, wake_write = socket.socketpair()
    wake_write.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write.fileno())
    Host([Daemon(d) for d in spec["daemons"]], listener).serve(wake_read)


if __name__ == "__main__":
    main()
