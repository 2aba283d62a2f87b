"""Looking into a running host from outside: which BGP sessions are up, which service addresses answer, what is still missing."""

from __future__ import annotations

import json
import re
import secrets
import socket
import struct

import msgspec

from anyconsole.errors import LabError
from anyconsole.lab import control
from anyconsole.lab.network import in_namespace
from anyconsole.lab.paths import LabPaths
from anyconsole.lab.topology import TENANTS, Tenant, node, router, sessions_of

__all__ = ["Fault", "ask_soa", "last_words", "missing", "session_states"]

_TIMEOUT = 2.0


class Fault(msgspec.Struct, frozen=True):
    """Something of a host that is not as it should be. `daemon` is whose log may tell why."""

    daemon: str
    text: str


def missing(paths: LabPaths, host: str) -> list[Fault]:
    """What of `host` is not as it should be; empty if all is well."""
    try:
        rows = control.daemons(paths, host)
        pid = control.first_process(paths, host)
    except LabError as error:
        return [Fault("init", str(error))]
    faults = [Fault(row.name, f"{row.name} doesn't run (exit {row.exit})") for row in rows if not row.running]
    here = node(host)
    speaker = "bgpd" if here is not None and here.speaker == "frr" else "bird"
    try:
        states = session_states(host, pid)
    except (OSError, ValueError) as error:
        faults.append(Fault(speaker, f"routing daemon doesn't answer ({error})"))
    else:
        faults += [
            Fault(speaker, f"session {name} is {state}") for name, state in states.items() if state != "Established"
        ]
    if here is not None:
        for tenant in TENANTS:
            for address in (tenant.address4, tenant.address6):
                if fault := ask_soa(paths, host, tenant, address)[1]:
                    faults.append(Fault(f"ns-{tenant.name}", f"{tenant.name} at {address}: {fault}"))
    return faults


def session_states(host: str, pid: int) -> dict[str, str]:
    """BGP sessions of a host and their states, from its daemon; empty where none runs. Raises OSError, ValueError."""
    here = node(host)
    if here is not None and here.speaker == "frr":
        found = _frr_sessions(pid)
        return {s.name: found.get(s.name, "absent") for s in sessions_of(here)}
    if here is None and router(host) is None:
        return {}
    return _bird_sessions(pid)


def _bird_sessions(pid: int) -> dict[str, str]:
    states = {}
    with _local(f"/proc/{pid}/root/run/bird/bird.ctl") as connection:
        stream = connection.makefile("rb")
        stream.readline()
        connection.sendall(b"show protocols\n")
        for line in stream:
            text = line.decode(errors="replace").rstrip()
            fields = re.sub(r"^\d{4}[ -]|^ ", "", text).split()
            if len(fields) >= 4 and fields[1] == "BGP":
                states[fields[0]] = "Established" if "Established" in fields else " ".join(fields[3:])
            if re.match(rb"\d{4} ", line):
                break
    return states


def _frr_sessions(pid: int) -> dict[str, str]:
    with _local(f"/proc/{pid}/root/run/frr/bgpd.vty") as connection:
        reply = b""
        for command in (b"enable", b"show bgp summary json"):
            connection.sendall(command + b"\0")
            reply = b""
            while reply[-4:-1] != b"\0\0\0":
                chunk = connection.recv(65536)
                if not chunk:
                    raise ValueError("bgpd hung up")
                reply += chunk
    families = json.loads(reply[:-4])
    return {ip: peer["state"] for family in families.values() for ip, peer in family.get("peers", {}).items()}


def _local(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_TIMEOUT)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def ask_soa(paths: LabPaths, host: str, tenant: Tenant, address: str) -> tuple[int, str]:
    """Ask `address` from `host` for the tenant's SOA. Returns serial and "", or 0 and what is wrong."""
    query_id = secrets.randbelow(1 << 16)
    name = b"".join(bytes([len(label)]) + label.encode() for label in tenant.zone.split(".")) + b"\0"
    query = struct.pack(">6H", query_id, 0, 1, 0, 0, 0) + name + struct.pack(">2H", 6, 1)

    def exchange() -> bytes:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(_TIMEOUT)
            sock.connect((address, 53))
            sock.send(query)
            return sock.recv(4096)

    try:
        reply = in_namespace(paths.namespace(host), exchange)
    except OSError as error:
        return 0, f"no answer ({error})"
    flags, answers = struct.unpack_from(">2xH2xH", reply)
    if reply[:2] != query[:2] or flags & 0x000F or not answers:
        return 0, f"rcode {flags & 0x000F}, {answers} answers"
    # The SOA is the first answer: its last five 32 bit fields end where its RDATA ends.
    start = len(query)
    (length,) = struct.unpack_from(">H", reply, start + 10)
    (serial,) = struct.unpack_from(">I", reply, start + 12 + length - 20)
    return serial, ""


def last_words(paths: LabPaths, host: str, daemon: str, count: int = 4) -> list[str]:
    """The end of a daemon's logs, each line with its file, for error messages."""
    base = paths.host(host)
    logs = [base / "init.log"] if daemon == "init" else [base / f"log/{daemon}.out"]
    if daemon == "bird":
        logs.append(base / "log/bird.log")
    elif daemon == "bgpd":
        logs.append(base / "log/frr/frr.log")
    elif daemon.startswith("ns-"):
        logs += sorted((base / "srv/anycast" / daemon.removeprefix("ns-") / "log").glob("*.log"))
    return [
        f"{log}: {line}"
        for log in logs
        if log.is_file()
        for line in log.read_text(errors="replace").splitlines()[-count:]
    ]
