"""Makes a first profile out of hosts that are listed elsewhere. What it can't know, it leaves as a TODO comment for the operator.

The lists themselves are read in `import_ansible` and `import_ssh`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec

from anyconsole.errors import ProfileError
from anyconsole.profile.load import parse_profile
from anyconsole.profile.rules import jump_loop
from anyconsole.profile.schema import NODE
from anyconsole.profile.toml_text import toml_string, toml_value

__all__ = ["MOST_HOSTS", "FoundHost", "profile_of", "site_by_prefix"]

MOST_HOSTS = 20_000
_WIDEST_COMMENT = 160
_UNSORTED = "unsorted"

_TODO = """
# TODO: who is served. The profile prod.example explains all options; `anyconsole` without a profile says where it is.
# [[tenant]]
# name = "de"
# number = 1
# prefixes = ["192.0.2.0/24", "2001:db8:de::/48"]
# addresses = ["192.0.2.53", "2001:db8:de::53"]
# zones = ["example.de"]

# TODO: who it is announced to.
# [[interconnect]]
# name = "ix1"
# kind = "ixp"
#   [[interconnect.peer]]
#   name = "ix1-rs"
#   asn = 64611
#   numbers = { ipv4 = 11, ipv6 = 12 }

# TODO: what runs on the nodes; every node with `template = "edge"` has it.
# [template.edge]
#   [[template.edge.speaker]]
#   kind = "bird"
#   socket = "/run/bird/bird.ctl"
#   drain_file = "/etc/bird/drain.conf"
#     [[template.edge.speaker.session]]
#     name = "ix1_v4"
#     peer = "ix1-rs"
#     family = "ipv4"
#   [[template.edge.name_server]]
#   kind = "nsd"
#   chroot = "/srv/anycast/{tenant}"
#   control = "{chroot}/run/nsd.ctl"
"""


class FoundHost(msgspec.Struct, frozen=True, kw_only=True):
    """A host that somebody else's file lists.

    `notes` become comments, `ssh_notes` comments that hosts may share. `left_out` says why it can't be a node, if it can't.
    """

    name: str
    address: str
    site: str = ""
    user: str = ""
    jump: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    ssh_notes: tuple[str, ...] = ()
    left_out: str = ""


def site_by_prefix(name: str) -> str:
    """The site that a host's name begins with: "fra" for "fra1" and "fra-2.example.net"."""
    found = re.match(r"[A-Za-z]+", name)
    return found.group().lower() if found else ""


def profile_of(
    hosts: Iterable[FoundHost], source: str, name: str, *, config_file: str = "", identity_files: Iterable[str] = ()
) -> str:
    """The TOML of a valid profile.

    Args:
        hosts: What was found, in the order in which it is to be written.
        source: Where it was found.
        name: What the profile should be called.
        config_file: The ssh configuration to use, if not the user's own.
        identity_files: Paths of keys.

    Raises:
        ProfileError: No host can be a node.
    """
    nodes, left_out = _sort_out(hosts)
    if not nodes:
        raise ProfileError(f"{source}: no host found that could be a node" + (f"; {left_out[0]}" if left_out else ""))
    # A node can't say that it has no user of its own, but it can say that it has no jump host.
    users = {node.user for node in nodes}
    user = users.pop() if len(users) == 1 else ""
    jump = Counter(node.jump for node in nodes).most_common(1)[0][0]
    ssh = {
        "user": user,
        "jump": jump,
        "config_file": config_file,
        "identity_files": tuple(path for path in identity_files if path.startswith(("/", "~/")) and path.isprintable()),
    }
    lines = [
        _comment(f"Imported from {source}. Look through the TODOs, then run `anyconsole profile check` on this file."),
        "[profile]",
        f"name = {toml_string(_name(name) or 'imported')}",
        "read_only = true",
        "",
        "[ssh]",
        *map(_comment, dict.fromkeys(note for node in nodes for note in node.ssh_notes)),
        *(f"{key} = {toml_value(value)}" for key, value in ssh.items() if value),
        "",
        "# TODO: do these sites fit? Region and description are free text.",
    ]
    for site in dict.fromkeys(node.site for node in nodes):
        lines += ["[[site]]", f"name = {toml_string(site)}", ""]
    for node in nodes:
        lines += _node_lines(node, user, jump)
    lines += [_comment(f"Left out: {reason}") for reason in left_out]
    text = "\n".join(lines) + "\n" + _TODO
    parse_profile(text, Path(source))
    return text


def _node_lines(node: FoundHost, user: str, jump: tuple[str, ...]) -> list[str]:
    lines = [_comment(note) for note in node.notes]
    lines += ["[[node]]", f"name = {toml_string(node.name)}", f"site = {toml_string(node.site)}"]
    if node.address != node.name:
        lines.append(f"address = {toml_string(node.address)}")
    if node.user != user:
        lines.append(f"user = {toml_string(node.user)}")
    if node.jump != jump:
        lines.append(f"jump = {toml_value(node.jump)}")
    return [*lines, ""]


def _sort_out(hosts: Iterable[FoundHost]) -> tuple[list[FoundHost], list[str]]:
    """The hosts that can be nodes, with names, users and jump chains that a profile takes, and what was left out."""
    nodes: dict[str, FoundHost] = {}
    addresses: dict[str, str] = {}
    left_out: list[str] = []
    for host in hosts:
        if len(nodes) + len(left_out) >= MOST_HOSTS:
            raise ProfileError(f"more than {MOST_HOSTS} hosts: import them in parts")
        name = _name(host.name)
        if host.left_out:
            left_out.append(f"{host.name}: {host.left_out}")
        elif not name or not _fits("address", host.address):
            left_out.append(f"{host.name} ({host.address}): ssh wouldn't take its name or address")
        elif name in nodes or host.address in addresses:
            left_out.append(f"{host.name} ({host.address}): is the same host as {addresses.get(host.address, name)}")
        else:
            nodes[name] = _cleaned(host, name)
            addresses[host.address] = name
    chains = {node.name: node.jump for node in nodes.values()}
    hops = {hop for chain in chains.values() for hop in chain}
    for node in list(nodes.values()):
        if jump_loop(node.name, chains):
            chains[node.name] = ()
            direct = msgspec.structs.replace(node, jump=())
            nodes[node.name] = _noted(
                direct, "TODO: jumped through itself, now it is reached directly; is it a node at all?"
            )
        elif node.name in hops:
            nodes[node.name] = _noted(node, "TODO: is the jump host of others; is it a node at all?")
    return list(nodes.values()), left_out


def _cleaned(host: FoundHost, name: str) -> FoundHost:
    notes = list(host.notes)
    if name != host.name:
        notes.append(f"called {host.name}")
    user = host.user
    if user and not _fits("user", user):
        notes.append(f"TODO: user {user} can't be used here")
        user = ""
    jump = tuple(dict.fromkeys(host.jump))
    if not all(_fits("jump", hop) for hop in jump):
        notes.append(f"TODO: jump chain {' '.join(jump)} can't be used here")
        jump = ()
    site = _name(host.site) or _UNSORTED
    if site == _UNSORTED:
        notes.append("TODO: which site is it in?")
    return msgspec.structs.replace(host, name=name, site=site, user=user, jump=jump, notes=tuple(notes))


def _noted(host: FoundHost, note: str) -> FoundHost:
    return msgspec.structs.replace(host, notes=(*host.notes, note))


def _fits(key: str, value: str) -> bool:
    check = NODE.keys[key].check
    try:
        return check is None or bool(check(value))
    except ValueError:
        return False


def _name(text: str) -> str:
    """`text` as a name that a profile takes, or nothing."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")[:63]


def _comment(text: str) -> str:
    clean = "".join(c if c.isprintable() else " " for c in text)
    return "# " + (clean if len(clean) <= _WIDEST_COMMENT else clean[: _WIDEST_COMMENT - 3] + "...")
