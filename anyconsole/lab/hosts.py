"""One host of the lab on disk: the files it will see as its own, and the description its first process starts it from."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from anyconsole.lab import collector, gobgp, metrics, state
from anyconsole.lab.accounts import OPERATOR, account_files, gid, uid
from anyconsole.lab.nameservers import chroot_of, instance
from anyconsole.lab.paths import LabPaths
from anyconsole.lab.processes import PYTHON
from anyconsole.lab.routing import bird_node_files, bird_router_files, frr_node_files
from anyconsole.lab.sshfiles import sshd_config
from anyconsole.lab.topology import (
    CLIENTS,
    HOSTS,
    PROMETHEUS,
    TENANTS,
    Client,
    Node,
    Tenant,
    management,
    router,
)
from anyconsole.lab.zones import query_names

__all__ = ["make_host"]

_TEMPORARY = ["/run", "/tmp", "/var/tmp"]  # noqa: S108 - mounted afresh in every host
_SYSCTLS = {
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/ping_group_range": "0 2147483647",
}


class _Host:
    """The directory of one host while it is being filled, and the description that comes out of it."""

    def __init__(self, paths: LabPaths, name: str) -> None:
        self.base = paths.host(name)
        self.name = name
        self.here = state.node(paths, name)
        self.binds: list[tuple[str, str, str]] = []
        self.directories: list[tuple[str, str, str, str]] = [("/run/sshd", "755", "root", "root")]
        self.daemons: list[dict[str, Any]] = []

    def folder(self, relative: str, owner: str = "root", group: str = "root", mode: int = 0o755) -> Path:
        path = self.base / relative
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
        os.chown(path, uid(owner), gid(group))
        return path

    def write(self, relative: str, text: str, owner: str = "root", group: str = "root", mode: int = 0o644) -> None:
        path = self.base / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        os.chown(path, uid(owner), gid(group))

    def show(self, relative: str, target: str, mode: str = "rw") -> None:
        self.binds.append((str(self.base / relative), target, mode))

    def description(self, sysctls: dict[str, str]) -> str:
        parts = {
            "hostname": self.name,
            "cgroups": self.here is not None,
            "binds": self.binds,
            "tmpfs": _TEMPORARY,
            "directories": self.directories,
            "sysctls": sysctls,
            "daemons": self.daemons,
        }
        return json.dumps(parts, indent=1)


def make_host(paths: LabPaths, name: str, index: int) -> None:
    """Write everything that is `name`'s own below the lab's directory."""
    host = _Host(paths, name)
    here = host.here
    _common(host, index, paths.client_key.with_suffix(".pub").read_text())
    sysctls = dict(_SYSCTLS)
    if here is not None:
        _speaker(host, here)
        if here.speaker == "gobgp":
            sysctls |= gobgp.sysctls(here)
        for tenant in TENANTS:
            _name_server(host, here, tenant, paths)
        _exporters(host, here)
    elif (crossing := router(name)) is not None:
        sysctls |= {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}
        _bird(host, bird_router_files(crossing))
    elif name == PROMETHEUS:
        _prometheus(host, state.nodes(paths))
    else:
        for client in CLIENTS:
            if client.name == name:
                _load(host, client)
    host.write("init.json", host.description(sysctls))


def _common(host: _Host, index: int, client_key: str) -> None:
    for file, text in account_files(host.name, host.here).items():
        host.write(f"etc/{file}", text, mode=0o640 if "shadow" in file else 0o644)
        host.show(f"etc/{file}", f"/etc/{file}")
    host.write("etc/hosts", _hosts_file())
    host.show("etc/hosts", "/etc/hosts")
    if Path("/etc/hostname").exists():
        host.write("etc/hostname", f"{host.name}\n")
        host.show("etc/hostname", "/etc/hostname")
    host.write("ssh/sshd_config", sshd_config(host.name, index))
    host.show("ssh", "/etc/ssh")
    home = host.folder("home/ops", OPERATOR, OPERATOR, 0o700)
    host.folder("home/ops/.ssh", OPERATOR, OPERATOR, 0o700)
    host.write(f"{home.relative_to(host.base)}/.ssh/authorized_keys", client_key, OPERATOR, OPERATOR, 0o600)
    host.write("home/ops/.bashrc", "PATH=$PATH:/usr/sbin:/sbin\n", OPERATOR, OPERATOR)
    host.write("root/.bashrc", f"PS1='{host.name}# '\n")
    host.folder("root", mode=0o700)
    host.folder("log")
    host.folder("srv")
    for relative, target in (("home", "/home"), ("root", "/root"), ("log", "/var/log"), ("srv", "/srv")):
        host.show(relative, target)
    argv = ["/usr/sbin/sshd", "-D", "-f", "/etc/ssh/sshd_config", "-E", "/var/log/auth.log"]
    host.daemons.append({"name": "sshd", "argv": argv})


def _hosts_file() -> str:
    lines = ["127.0.0.1 localhost", "::1 localhost"]
    for name in HOSTS:
        lines += [f"{interface.ip} {name}" for interface in management(name)]
    return "\n".join(lines) + "\n"


def _speaker(host: _Host, here: Node) -> None:
    if here.speaker == "bird":
        _bird(host, bird_node_files(here))
        return
    if here.speaker == "gobgp":
        _gobgp(host, here)
        return
    host.folder("frr", "frr", "frrvty", 0o2775)
    for file, text in frr_node_files(here).items():
        host.write(f"frr/{file}", text, "frr", "frrvty", 0o660)
    host.show("frr", "/etc/frr")
    host.folder("log/frr", "frr", "frrvty", 0o750)
    host.write("log/frr/frr.log", "", "frr", "frrvty", 0o640)
    host.directories.append(("/run/frr", "755", "frr", "frr"))
    host.directories.append(("/var/tmp/frr", "755", "frr", "frr"))  # noqa: S108 - the host's own
    common = ["-u", "frr", "-g", "frr", "-A", "127.0.0.1", "-P", "0"]
    host.daemons.append({"name": "zebra", "argv": ["/usr/lib/frr/zebra", *common]})
    # A bgpd that doesn't find zebra tries again only after 10 s, and by then has refused every IPv6 route with a link-local next hop.
    wait = "for try in $(seq 200); do [ -S /run/frr/zserv.api ] && break; sleep 0.05; done"
    command = f"{wait}; exec /usr/lib/frr/bgpd {' '.join(common)}"
    host.daemons.append({
        "name": "bgpd", "argv": ["sh", "-c", command], "ready": "/run/frr/bgpd.vty", "post": ["vtysh", "-b"],
    })  # fmt: skip


def _gobgp(host: _Host, here: Node) -> None:
    # Debian's package brings no folder of its own, and no unit that would let a login use the API.
    folder = gobgp.FOLDER.removeprefix("/")
    host.folder(folder, "gobgp", "gobgp", 0o2775)
    for file, text in gobgp.node_files(here).items():
        host.write(f"{folder}/{file}", text, "root", "gobgp")
    host.directories.append(("/run/gobgp", "750", "gobgp", "gobgp"))
    host.directories.append(("/run/lock", "1777", "root", "root"))
    host.daemons.append(gobgp.DAEMON)


def _bird(host: _Host, files: dict[str, str]) -> None:
    host.folder("bird", "root", "bird", 0o2775)
    for file, text in files.items():
        host.write(f"bird/{file}", text, "root", "bird", 0o664)
    host.show("bird", "/etc/bird")
    host.write("log/bird.log", "", "bird", "bird", 0o640)
    host.directories.append(("/run/bird", "750", "bird", "bird"))
    argv = ["bird", "-f", "-u", "bird", "-g", "bird", "-c", "/etc/bird/bird.conf", "-s", "/run/bird/bird.ctl"]
    host.daemons.append({"name": "bird", "argv": argv})


def _name_server(host: _Host, here: Node, tenant: Tenant, paths: LabPaths) -> None:
    made = instance(here, tenant)
    root = chroot_of(tenant).removeprefix("/")
    user = tenant.user
    host.folder(root, "root", user, 0o750)
    host.folder(f"{root}/etc", "root", user, 0o750)
    host.folder(f"{root}/zones", "root", user, 0o750)
    for folder in ("run", "run/db", "log"):
        host.folder(f"{root}/{folder}", user, user, 0o750)
    for file, text in made.files.items():
        host.write(f"{root}/{file}", text, "root", user, 0o640)
    zone = (paths.zones / f"{tenant.name}.zone").read_text()
    host.write(f"{root}/zones/{tenant.zone}.zone", zone, "root", user, 0o640)
    # A mount point of its own: the process's /proc/PID/mountinfo then names the chroot it is in.
    host.show(root, chroot_of(tenant))
    if made.needs_usr:
        _system_inside(host, root, tenant)
    host.daemons.append(made.daemon)


def _system_inside(host: _Host, root: str, tenant: Tenant) -> None:
    for name in ("usr", "bin", "sbin", "lib", "lib64"):
        outside, inside = Path("/", name), host.base / root / name
        if outside.is_symlink():
            inside.symlink_to(outside.readlink())
        elif outside.is_dir():
            inside.mkdir()
            host.binds.append((str(outside), f"{chroot_of(tenant)}/{name}", "ro"))
    host.folder(f"{root}/tmp", tenant.user, tenant.user, 0o750)  # noqa: S108 - inside the chroot
    host.write(f"{root}/etc/passwd", f"{tenant.user}:x:{uid(tenant.user)}:{gid(tenant.user)}::/:/usr/sbin/nologin\n")
    host.write(f"{root}/etc/group", f"{tenant.user}:x:{gid(tenant.user)}:\n")


def _exporters(host: _Host, here: Node) -> None:
    host.folder("srv/collector")
    shutil.copyfile(collector.__file__, host.base / "srv/collector/collector.py")
    host.write("srv/collector/collector.json", metrics.collector_config(here))
    host.directories.append((metrics.TEXTFILES, "755", OPERATOR, OPERATOR))
    argv = [PYTHON, "-I", "-S", "/srv/collector/collector.py", "/srv/collector/collector.json"]
    host.daemons.append({"name": "collector", "argv": argv, "user": OPERATOR, "respawn": True})
    host.daemons.append({"name": "node-exporter", "user": "prometheus", "argv": [
        "prometheus-node-exporter", "--collector.disable-defaults", "--collector.loadavg", "--collector.meminfo",
        "--collector.cpu", "--collector.textfile", f"--collector.textfile.directory={metrics.TEXTFILES}",
        f"--web.listen-address=:{metrics.NODE_EXPORTER_PORT}",
    ]})  # fmt: skip
    if here.speaker == "bird":
        host.daemons.append({"name": "bird-exporter", "user": "bird", "argv": [
            "prometheus-bird-exporter", "-bird.v2", "-format.new", "-bird.socket=/run/bird/bird.ctl",
            f"-web.listen-address=:{metrics.BIRD_EXPORTER_PORT}",
        ]})  # fmt: skip


def _prometheus(host: _Host, nodes: tuple[Node, ...]) -> None:
    for file, text in metrics.prometheus_files(nodes).items():
        host.write(f"prometheus/{file}", text)
    host.show("prometheus", "/etc/prometheus")
    host.directories.append(("/run/prometheus", "750", "prometheus", "prometheus"))
    host.daemons.append({"name": "prometheus", "user": "prometheus", "argv": [
        "prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/run/prometheus",
        "--storage.tsdb.retention.time=2h", "--web.listen-address=:9090", "--log.level=warn",
    ]})  # fmt: skip


def _load(host: _Host, client: Client) -> None:
    for tenant in TENANTS:
        host.write(f"srv/queries/{tenant.name}.txt", query_names(tenant))
        for family, address in (("v4", tenant.address4), ("v6", tenant.address6)):
            argv = [
                "dnsperf", "-s", address, "-d", f"/srv/queries/{tenant.name}.txt", "-Q", str(client.rate), "-c", "1", "-T", "1",
                "-q", "20", "-t", "1", "-l", "1000000", "-e",
            ]  # fmt: skip
            host.daemons.append(
                {
                    "name": f"load-{tenant.name}-{family}",
                    "argv": argv,
                    "user": "load",
                    "respawn": True,
                    "output": "/dev/null",
                }
            )
