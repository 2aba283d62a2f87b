"""Configuration of the name servers: NSD, Knot DNS or BIND, one process per tenant, each in its own chroot under its own user."""

from __future__ import annotations

from typing import Any

import msgspec

from anyconsole.lab.topology import Node, Tenant, unicast

__all__ = ["Instance", "Tuning", "chroot_of", "daemon_name", "instance", "reload_command"]


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """What one tenant's name server on one node consists of. `files` are relative to the chroot."""

    files: dict[str, str]
    daemon: dict[str, Any]
    profile: dict[str, str]
    needs_usr: bool = False


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """What limits a name server. `rrl` is response rate limiting in answers/s, 0 is off; `receive_buffer` is bytes, 0 is its default.

    Of the answers over the rate limit each `slip`-th is sent truncated; 0 is none.
    """

    rrl: int = 0
    slip: int = 2
    receive_buffer: int = 0
    workers: int = 1


def chroot_of(tenant: Tenant) -> str:
    """The chroot of a tenant, the same on every node."""
    return f"/srv/anycast/{tenant.name}"


def daemon_name(tenant: Tenant) -> str:
    """Name of a tenant's name server among the host's daemons."""
    return f"ns-{tenant.name}"


def instance(node: Node, tenant: Tenant, tuning: Tuning = Tuning()) -> Instance:  # noqa: B008 - frozen
    """The name server of `tenant` on `node`. Knot has no setting for the receive buffer, BIND none for workers."""
    make = {"nsd": _nsd, "knot": _knot, "bind": _bind}[node.name_server]
    return make(node, tenant, tuning)


def reload_command(node: Node, tenant: Tenant) -> list[str] | None:
    """Command that makes the name server read its zone again; None where it is a SIGHUP."""
    root = chroot_of(tenant)
    if node.name_server == "nsd":
        return ["nsd-control", "-c", f"{root}/etc/nsd.conf", "reload"]
    if node.name_server == "knot":
        return ["knotc", "-s", f"{root}/run/knot.sock", "-f", "zone-reload", tenant.zone]
    return None


def _nsd(node: Node, tenant: Tenant, tuning: Tuning) -> Instance:
    root = chroot_of(tenant)
    own4, own6 = unicast(node, tenant)
    config = f"""\
server:
  chroot: "{root}"
  username: {tenant.user}
  ip-address: {tenant.address4}
  ip-address: {tenant.address6}
  ip-address: {own4}
  ip-address: {own6}
  port: 53
  server-count: {tuning.workers}
  reuseport: {"yes" if tuning.workers > 1 else "no"}
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
  # Off unless asked for: its default drops a load test's queries and looks like packet loss.
  rrl-ratelimit: {tuning.rrl}
  rrl-whitelist-ratelimit: {tuning.rrl}
  rrl-slip: {tuning.slip}
  rrl-size: 10000
{f"  receive-buffer-size: {tuning.receive_buffer}" if tuning.receive_buffer else ""}
remote-control:
  control-enable: yes
  control-interface: "{root}/run/nsd.ctl"
zone:
  name: "{tenant.zone}"
  zonefile: "{tenant.zone}.zone"
  provide-xfr: {own4} NOKEY
  provide-xfr: {own6} NOKEY
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


def _knot(node: Node, tenant: Tenant, tuning: Tuning) -> Instance:
    own4, own6 = unicast(node, tenant)
    limiter, modules = "", "mod-stats/all"
    if tuning.rrl:
        limiter = f"mod-rrl:\n  - id: all\n    rate-limit: {tuning.rrl}\n    slip: {tuning.slip}\n"
        modules = "[ mod-stats/all, mod-rrl/all ]"
    config = f"""\
server:
  rundir: "/run"
  user: {tenant.user}:{tenant.user}
  pidfile: "/run/knot.pid"
  listen: [ {tenant.address4}@53, "{tenant.address6}@53", {own4}@53, "{own6}@53" ]
  identity: "{tenant.name}.{node.name}"
  nsid: "{tenant.name}.{node.name}"
  udp-workers: {tuning.workers}
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
{limiter}template:
  - id: default
    global-module: {modules}
    storage: "/zones"
    file: "%s.zone"
    journal-content: none
    zonefile-sync: -1
    zonefile-load: whole
    semantic-checks: off
acl:
  - id: itself
    address: [ {own4}, "{own6}" ]
    action: transfer
zone:
  - domain: {tenant.zone}
    acl: itself
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


def _bind(node: Node, tenant: Tenant, tuning: Tuning) -> Instance:
    identity = f"{tenant.name}.{node.name}"
    own4, own6 = unicast(node, tenant)
    config = f"""\
options {{
  directory "/run";
  pid-file "/run/named.pid";
  session-keyfile none;
  lock-file none;
  listen-on port 53 {{ {tenant.address4}; {own4}; }};
  listen-on-v6 port 53 {{ {tenant.address6}; {own6}; }};
  server-id "{identity}";
  hostname "{identity}";
  recursion no;
  allow-query {{ any; }};
  allow-transfer {{ {own4}; {own6}; }};
  dnssec-validation no;
  empty-zones-enable no;
  notify no;
  minimal-responses yes;
  zone-statistics full;
  max-cache-size 4M;
  rate-limit {{ responses-per-second {tuning.rrl}; slip {tuning.slip}; }};
{f"  udp-receive-buffer {tuning.receive_buffer};" if tuning.receive_buffer else ""}
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
