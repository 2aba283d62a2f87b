"""Names of SSH hosts as profiles and ssh_config write them (`host`, `user@host:port`), and the `ssh` command lines made of them.

Pure and without asyncssh, so that the screen's shell key can use it. Nothing here runs anything.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Final, Self

import msgspec

from anyconsole.errors import AnyconsoleError
from anyconsole.model.inventory import Host, Inventory, SshSpec

__all__ = ["Hop", "HopError", "base_options", "find_host", "jump_chain", "resolve_argv", "shell_argv"]

# OpenSSH's own rule (ssh.c valid_hostname, valid_ruser): nothing a shell could read, and never an option.
_FORBIDDEN: Final = re.compile(r"[\s'\"`$\\;&<>|(){}\x00-\x20\x7f]")


class HopError(AnyconsoleError):
    """A host, user or port that must not reach an ssh command line."""


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """A host to log in to. `user` "" and `port` 0 leave both to the user's ssh configuration."""

    host: str
    user: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str, default_user: str = "") -> Self:
        """Read `host`, `user@host`, `host:port`, `user@[2001:db8::1]:port` or `ssh://...`. Raises HopError."""
        rest = text.removeprefix("ssh://").rstrip("/") if text.startswith("ssh://") else text
        user, _, address = rest.rpartition("@")
        port = ""
        if address.startswith("["):
            host, bracket, tail = address[1:].partition("]")
            if not bracket or (tail and not tail.startswith(":")):
                raise HopError(f"ssh host {text!r}: expected [address]:port")
            port = tail[1:]
        elif address.count(":") == 1:
            host, _, port = address.partition(":")
        else:
            host = address
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise HopError(f"ssh host {text!r}: {port!r} is no port number")
        return cls(host=_checked(host, "host", text), user=_user(user or default_user, text), port=int(port or 0))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (f"{self.user}@" if self.user else "") + host + (f":{self.port}" if self.port else "")


def find_host(inventory: Inventory, name: str) -> Host:
    """The node, vantage point or looking glass called `name`. Raises HopError, naming what there is."""
    for host in inventory.hosts:
        if host.name == name:
            return host
    for node in inventory.nodes:
        if node.name == name:
            raise HopError(
                f"node {name!r} is in cluster {node.cluster!r}: there is no SSH to it, only the cluster's API; choose one of its pods"
            )
    if name in (cluster.name for cluster in inventory.clusters):
        raise HopError(f"{name!r} is a cluster: there is no SSH to it, only its API")
    raise HopError(f"no node, vantage point or looking glass is called {name!r} in profile {inventory.name!r}")


def jump_chain(ssh: SshSpec, host: Host) -> tuple[Hop, ...] | None:
    """The profile's jump chain to `host`, outermost first. () forbids any jump, None leaves it to the user's ssh configuration."""
    if host.jump is not None:
        return tuple(Hop.parse(jump, ssh.user) for jump in host.jump)
    return tuple(Hop.parse(jump, ssh.user) for jump in ssh.jump) or None


def base_options(ssh: SshSpec) -> list[str]:
    """The options that make `ssh` read what the profile says: its config file, known hosts and identities."""
    argv: list[str] = []
    if ssh.config_file:
        argv += ["-F", ssh.config_file]
    if ssh.known_hosts:
        argv += ["-o", "UserKnownHostsFile=" + " ".join(_config_path(path) for path in ssh.known_hosts)]
    for path in ssh.identity_files:
        # Not -i: it looks for the file before it expands %% in its name.
        argv += ["-o", "IdentityFile=" + _config_path(path)]
    return argv


def resolve_argv(ssh: SshSpec, hop: Hop, *, no_jump: bool = False) -> list[str]:
    """`ssh -G` for a hop: what the user's own OpenSSH would do to reach it."""
    return ["ssh", "-G", *base_options(ssh), *(["-o", "ProxyJump=none"] if no_jump else []), *_target(hop)]


def shell_argv(inventory: Inventory, node: str) -> list[str]:
    """The user's own `ssh` to a node or vantage point, over the same jump chain and with the same files as ours.

    Raises:
        HopError: The name is unknown, or a host, user or port is not fit for a command line.
    """
    host = find_host(inventory, node)
    ssh = inventory.ssh
    chain = jump_chain(ssh, host)
    argv = ["ssh", *base_options(ssh), "-o", "ForwardAgent=no"]
    if chain == ():
        argv += ["-o", "ProxyJump=none"]
    elif chain and (ssh.known_hosts or ssh.identity_files):
        # -J hands the config file on to the jump's ssh, but no -o: spell that ssh out.
        argv += ["-o", "ProxyCommand=" + _forwarder(ssh, chain)]
    elif chain:
        argv += ["-J", ",".join(str(hop) for hop in chain)]
    return [*argv, *_target(Hop.parse(host.address, host.user or ssh.user))]


def _forwarder(ssh: SshSpec, chain: Sequence[Hop]) -> str:
    """The ssh that carries stdin and stdout to %h:%p from the last hop of the chain, itself reached over the others."""
    *outer, last = chain
    argv = ["ssh", *(_percent(option) for option in base_options(ssh)), "-o", "ForwardAgent=no"]
    if outer:
        argv += ["-o", _percent("ProxyCommand=" + _forwarder(ssh, outer))]
    return shlex.join([*argv, "-W", "[%h]:%p", *(_percent(word) for word in _target(last))])


def _target(hop: Hop) -> list[str]:
    user = ["-l", hop.user] if hop.user else []
    port = ["-p", str(hop.port)] if hop.port else []
    return [*user, *port, "--", hop.host]


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _config_path(path: str) -> str:
    if '"' in path or "\n" in path:
        raise HopError(f"file {path!r}: its name can't be written in an ssh option")
    quoted = f'"{path}"' if " " in path or "\t" in path else path
    return _percent(quoted)


def _checked(name: str, what: str, text: str) -> str:
    if not name or name.startswith("-") or _FORBIDDEN.search(name):
        raise HopError(f"ssh host {text!r}: {name!r} is not allowed as a {what} name")
    return name


def _user(user: str, text: str) -> str:
    return _checked(user, "user", text) if user else ""
