"""OpenSSH inside the lab: host keys and sshd_config of every host, and the client's key, ssh_config and known_hosts."""

from __future__ import annotations

import subprocess
from pathlib import Path

from anyconsole.errors import LabError
from anyconsole.lab.accounts import OPERATOR
from anyconsole.lab.paths import LabPaths
from anyconsole.lab.topology import HOSTS, management, uplink

__all__ = ["make_keys", "sshd_config", "write_client_files"]

HOST_KEY = "ssh_host_ed25519_key"


def make_keys(paths: LabPaths) -> None:
    """Make the client's key and one host key per host. Raises LabError."""
    _keygen(paths.client_key, f"anyconsole lab {paths.name}")
    for host in HOSTS:
        folder = paths.host(host) / "ssh"
        folder.mkdir(parents=True)
        _keygen(folder / HOST_KEY, host)


def _keygen(target: Path, comment: str) -> None:
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(target)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)} failed: {done.stderr.strip()[-300:]}")


def sshd_config(host: str, index: int) -> str:
    """sshd_config of a host: keys only, reachable on the management network (and jump from the machine), never on a service address."""
    listen = [str(interface.ip) for interface in management(host)]
    if host == "jump":
        listen.append(str(uplink(index)[1].ip))
    lines = [
        *(f"ListenAddress {address}" for address in listen),
        f"HostKey /etc/ssh/{HOST_KEY}",
        "PidFile /run/sshd.pid",
        "UsePAM no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "AuthenticationMethods publickey",
        "PermitRootLogin no",
        f"AllowUsers {OPERATOR}",
        "AllowTcpForwarding yes",
        "AllowStreamLocalForwarding yes",
        "MaxStartups 200:30:400",
        "MaxSessions 100",
        "UseDNS no",
        "PrintMotd no",
        "PrintLastLog no",
        "ClientAliveInterval 10",
        "ClientAliveCountMax 3",
        "Subsystem sftp internal-sftp",
    ]
    return "\n".join(lines) + "\n"


def write_client_files(paths: LabPaths, index: int) -> None:
    """Write ssh_config and known_hosts for whoever uses the lab; the user's own files are neither read nor written."""
    jump_address = uplink(index)[1].ip
    others = " ".join(host for host in HOSTS if host != "jump")
    paths.ssh_config.write_text(f"""\
Host jump
  HostName {jump_address}
Host {others}
  ProxyJump jump
Host *
  User {OPERATOR}
  IdentityFile {paths.client_key}
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {paths.known_hosts}
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  LogLevel ERROR
""")
    lines = []
    for host in HOSTS:
        key = (paths.host(host) / "ssh" / f"{HOST_KEY}.pub").read_text().split()[:2]
        names = [host, *(str(interface.ip) for interface in management(host))]
        if host == "jump":
            names.append(str(jump_address))
        lines.append(f"{','.join(names)} {' '.join(key)}")
    paths.known_hosts.write_text("\n".join(lines) + "\n")
