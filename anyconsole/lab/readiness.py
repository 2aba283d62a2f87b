"""Looking into a running host from outside: which BGP sessions are up, which service addresses answer, what is still missing."""

from __future__ import annotations

import json
import re
import secrets
import socket
import struct
import subprocess

import msgspec

from anyconsole.errors import LabError
from anyconsole.lab import control, gobgp, state
from anyconsole.lab.network import in_namespace
from anyconsole.lab.paths import LabPaths
from anyconsole.lab.topology import CLIENTS, TENANTS, Node, Tenant, router, sessions_of, sources

__all__ = ["Fault", "ask_soa", "last_words", "missing", "session_states", "speaker_daemon"]

_TIMEOUT = 2.0


class Fault(msgspec.Struct, frozen=True):
    """Something of a host that is not as it should be. `daemon` is whose log may tell why."""

    daemon: str
    text: str


def missing(paths: LabPaths, host: str) -> list[Fault]:
    """What of `host` is not as it should be; empty if all is well."""
    try:
        rows = control.daemons(paths, host)
    except LabError as error:
        return [Fault("init", str(error))]
    faults = [Fault(row.name, f"{row.name} doesn't run (exit {row.exit})") for row in rows if not row.running]
    here = state.node(paths, host)
    speaker = speaker_daemon(here)
    try:
        states = session_states(paths, host)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        faults.append(Fault(speaker, f"routing daemon doesn't answer ({error})"))
    else:
        faults += [
            Fault(speaker, f"session {name} is {state}") for name, state in states.items() if state != "Established"
        ]
    if here is not None:
        # A session can be up, and announce, before the daemon has any way for the answers.
        faults += [Fault(speaker, f"no route to {name}") for name in in_namespace(paths.namespace(host), _unreachable)]
        for tenant in TENANTS:
            for address in (tenant.address4, tenant.address6):
                if fault := ask_soa(paths, host, tenant, address)[1]:
                    faults.append(Fault(f"ns-{tenant.name}", f"{tenant.name} at {address}: {fault}"))
    return faults


def _unreachable() -> list[str]:
    """The addresses of clients that the kernel knows no way to, in the namespace this runs in."""
    missing_ways = []
    for address in (str(source.ip) for client in CLIENTS for source in sources(client)[:2]):
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                sock.connect((address, 53))  # sends nothing
            except OSError:
                missing_ways.append(address)
    return missing_ways


def speaker_daemon(here: Node | None) -> str:
    """Name of the daemon that does BGP on a node, or on a router if it is none."""
    return {"frr": "bgpd", "gobgp": "gobgpd"}.get(here.speaker, "bird") if here is not None else "bird"


def session_states(paths: LabPaths, host: str) -> dict[str, str]:
    """BGP sessions of a host and their states, from its daemon; empty where none runs.

    Raises:
        HostDownError: The host doesn't run.
        OSError, ValueError, subprocess.SubprocessError: The daemon doesn't answer.
    """
    pid = control.first_process(paths, host)
    here = state.node(paths, host)
    if here is not None and here.speaker != "bird":
        found = _frr_sessions(pid) if here.speaker == "frr" else _gobgp_sessions(pid)
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


def _gobgp_sessions(pid: int) -> dict[str, str]:
    argv = ["gobgp", "--target", f"unix:///proc/{pid}/root{gobgp.SOCKET}", "-j", "neighbor"]
    said = subprocess.run(argv, capture_output=True, timeout=_TIMEOUT, check=True, stdin=subprocess.DEVNULL).stdout
    states = {}
    for neighbor in json.loads(said):
        number = neighbor["state"].get("session_state", 0)
        states[neighbor["conf"]["neighbor_address"]] = "Established" if number == 6 else f"not Established ({number})"
    return states


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
    elif daemon == "gobgpd":
        logs = [base / "log/gobgpd.log"]
    elif daemon.startswith("ns-"):
        logs += sorted((base / "srv/anycast" / daemon.removeprefix("ns-") / "log").glob("*.log"))
    return [
        f"{log}: {line}"
        for log in logs
        if log.is_file()
        for line in log.read_text(errors="replace").splitlines()[-count:]
    ]
