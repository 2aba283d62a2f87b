"""Configuration of the name servers: NSD, Knot DNS or BIND, one process per tenant, each in its own chroot under its own user."""

from __future__ import annotations

from typing import Any

import msgspec

from anyconsole.lab.topology import Node, Tenant

__all__ = ["Instance", "chroot_of", "daemon_name", "instance", "reload_command"]


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """What one tenant's name server on one node consists of. `files` are relative to the chroot."""

    files: dict[str, str]
    daemon: dict[str, Any]
    profile: dict[str, str]
    needs_usr: bool = False


def chroot_of(tenant: Tenant) -> str:
    """The chroot of a tenant, the same on every node."""
    return f"/srv/anycast/{tenant.name}"


def daemon_name(tenant: Tenant) -> str:
    """Name of a tenant's name server among the host's daemons."""
    return f"ns-{tenant.name}"


def instance(node: Node, tenant: Tenant) -> Instance:
    """The name server of `tenant` on `node`."""
    make = {"nsd": _nsd, "knot": _knot, "bind": _bind}[node.name_server]
    return make(node, tenant)


def reload_command(node: Node, tenant: Tenant) -> list[str] | None:
    """Command that makes the name server read its zone again; None where it is a SIGHUP."""
    root = chroot_of(tenant)
    if node.name_server == "nsd":
        return ["nsd-control", "-c", f"{root}/etc/nsd.conf", "reload"]
    if node.name_server == "knot":
        return ["knotc", "-s", f"{root}/run/knot.sock", "-f", "zone-reload", tenant.zone]
    return None


def _nsd(node: Node, tenant: Tenant) -> Instance:
    root = chroot_of(tenant)
    config = f"""\
server:
  chroot: "{root}"
  username: {tenant.user}
  ip-address: {tenant.address4}
  ip-address: {tenant.address6}
  port: 53
  server-count: 1
  pidfile: "{root}/run/nsd.pid"
  logfile: "{root}/log/nsd.log"
  zonesdir: "{root}/zones"
  zonelistfile: "{root}/run/zone.list"
  xfrdfile: "{root}/run/xfrd.state"
  xfrdir: "{root}/run"
  database: ""
  identity: "{tenant.name}.{node.name}"
  nsid: "ascii_{tenant.name}.{node.name}"
  verbosity: 1
  # Off: its default drops a load test's queries and looks like packet loss.
  rrl-ratelimit: 0
remote-control:
  control-enable: yes
  control-interface: "{root}/run/nsd.ctl"
zone:
  name: "{tenant.zone}"
  zonefile: "{tenant.zone}.zone"
"""
    return Instance(
        files={"etc/nsd.conf": config},
        daemon={"name": daemon_name(tenant), "argv": ["nsd", "-d", "-c", f"{root}/etc/nsd.conf"]},
        profile={
            "control": "{chroot}/run/nsd.ctl",
            "pid_file": "{chroot}/run/nsd.pid",
            "log": "{chroot}/log/nsd.log",
            "config": "{chroot}/etc/nsd.conf",
        },
    )


def _knot(node: Node, tenant: Tenant) -> Instance:
    config = f"""\
server:
  rundir: "/run"
  user: {tenant.user}:{tenant.user}
  pidfile: "/run/knot.pid"
  listen: [ {tenant.address4}@53, "{tenant.address6}@53" ]
  identity: "{tenant.name}.{node.name}"
  nsid: "{tenant.name}.{node.name}"
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
control:
  listen: "/run/knot.sock"
database:
  storage: "/run/db"
  journal-db-max-size: 8M
  kasp-db-max-size: 8M
  timer-db-max-size: 2M
  catalog-db-max-size: 8M
log:
  - target: "/log/knot.log"
    server: info
    zone: info
    control: warning
mod-stats:
  - id: all
    request-protocol: on
    server-operation: on
    edns-presence: on
    flag-presence: on
    response-code: on
    query-type: on
template:
  - id: default
    global-module: mod-stats/all
    storage: "/zones"
    file: "%s.zone"
    journal-content: none
    zonefile-sync: -1
    zonefile-load: whole
    semantic-checks: off
zone:
  - domain: {tenant.zone}
"""
    root = chroot_of(tenant)
    return Instance(
        files={"etc/knot.conf": config},
        daemon={"name": daemon_name(tenant), "argv": ["chroot", root, "/usr/sbin/knotd", "-c", "/etc/knot.conf"]},
        profile={
            "control": "{chroot}/run/knot.sock",
            "pid_file": "{chroot}/run/knot.pid",
            "log": "{chroot}/log/knot.log",
            "config": "{chroot}/etc/knot.conf",
        },
        needs_usr=True,
    )


def _bind(node: Node, tenant: Tenant) -> Instance:
    identity = f"{tenant.name}.{node.name}"
    config = f"""\
options {{
  directory "/run";
  pid-file "/run/named.pid";
  session-keyfile none;
  lock-file none;
  listen-on port 53 {{ {tenant.address4}; }};
  listen-on-v6 port 53 {{ {tenant.address6}; }};
  server-id "{identity}";
  hostname "{identity}";
  recursion no;
  allow-query {{ any; }};
  allow-transfer {{ none; }};
  dnssec-validation no;
  empty-zones-enable no;
  notify no;
  minimal-responses yes;
  zone-statistics full;
  max-cache-size 4M;
  rate-limit {{ responses-per-second 0; }};
}};
controls {{ }};
statistics-channels {{ inet 127.0.0.1 port {8000 + tenant.number} allow {{ 127.0.0.1; }}; }};
logging {{
  channel file {{ file "/log/named.log" versions 1 size 5m; severity info; print-time yes; print-category yes; }};
  category default {{ file; }};
  category lame-servers {{ null; }};
}};
zone "{tenant.zone}" {{ type primary; file "/zones/{tenant.zone}.zone"; }};
"""
    argv = ["named", "-f", "-t", chroot_of(tenant), "-c", "/etc/named.conf", "-u", tenant.user, "-n", "1"]
    return Instance(
        files={"etc/named.conf": config},
        daemon={"name": daemon_name(tenant), "argv": argv},
        profile={
            "control": "127.0.0.1:80{number:02}",
            "pid_file": "{chroot}/run/named.pid",
            "log": "{chroot}/log/named.log",
            "config": "{chroot}/etc/named.conf",
        },
    )
