"""Hosts of an Ansible inventory: INI files as they are, anything else as the JSON that `ansible-inventory --list` prints.

Groups, children, group and host variables and ranges (`web[01:20].example`) mean what they mean to Ansible. Nothing is executed:
dynamic inventories and Jinja expressions are left to `ansible-inventory`.
"""

from __future__ import annotations

import json
import re
import shlex
import string
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from anyconsole.errors import ProfileError
from anyconsole.profile.importing import MOST_HOSTS, FoundHost, profile_of, site_by_prefix

__all__ = ["import_ansible"]

_SECTION = re.compile(r"\[([^\[\]:\s]+)(?::([a-z]+))?\]\s*(?:[#;].*)?")
_RANGE = re.compile(r"\[([0-9]{1,9}|[a-zA-Z]):([0-9]{1,9}|[a-zA-Z])(?::([0-9]{1,9}))?\]")
_LETTERS = string.ascii_lowercase + string.ascii_uppercase
_LONGEST_PATTERN = 255
_EVERYTHING = frozenset({"all", "ungrouped"})
_SSH_CONNECTIONS = frozenset({"", "ssh", "smart", "paramiko", "paramiko_ssh"})

Vars = dict[str, str]


class _Inventory:
    """Groups and hosts as they are read."""

    def __init__(self) -> None:
        self.members: dict[str, dict[str, None]] = {}
        self.children: dict[str, dict[str, None]] = {}
        self.group_vars: dict[str, Vars] = {}
        self.host_vars: dict[str, Vars] = {}

    def add_host(self, group: str, host: str, variables: Vars) -> None:
        self.host_vars.setdefault(host, {}).update(variables)
        self.members.setdefault(group, {})[host] = None
        if len(self.host_vars) > MOST_HOSTS:
            raise ProfileError(f"the inventory has more than {MOST_HOSTS} hosts: import it in parts")


def import_ansible(text: str, source: str, name: str, *, site_from: str = "group") -> str:
    """A profile, as TOML, of the hosts in an Ansible inventory.

    Args:
        text: The inventory: INI, or the JSON of `ansible-inventory --list`.
        source: Where it stands, for error messages.
        name: What the profile should be called.
        site_from: Where a host's site comes from if it has no variable `site`: "group" is the first group that lists it, "prefix" the
            letters that its name begins with.

    Raises:
        ProfileError: It isn't one of these, or has no hosts.
    """
    if text.lstrip().startswith("{"):
        inventory = _read_json(text, source)
    elif re.search(r"^(---|[\w.-]+:\s*$)", text, re.MULTILINE) and not re.search(r"^\[", text, re.MULTILINE):
        command = f"ansible-inventory -i {Path(source).name} --list > inventory.json"
        raise ProfileError(f"{source}: YAML inventories aren't read here: run `{command}` and import that")
    else:
        inventory = _read_ini(text, source)
    variables = _effective_vars(inventory, source)
    found = [_found_host(host, variables[host], inventory, site_from) for host in inventory.host_vars]
    keys = {path: None for host in variables.values() if (path := host.get("ansible_ssh_private_key_file", ""))}
    return profile_of(found, source, name, identity_files=[path for path in keys if "{" not in path])


# INI


def _read_ini(text: str, source: str) -> _Inventory:
    inventory = _Inventory()
    group, kind = "ungrouped", "hosts"
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        where = f"{source}:{number}"
        if line.startswith("[") and (section := _SECTION.fullmatch(line)):
            group, kind = section[1], section[2] or "hosts"
            if kind not in {"hosts", "vars", "children"}:
                raise ProfileError(f"{where}: [{group}:{kind}]: expected [GROUP], [GROUP:vars] or [GROUP:children]")
            inventory.members.setdefault(group, {})
        elif kind == "vars":
            key, equals, value = line.partition("=")
            if not equals:
                raise ProfileError(f"{where}: expected KEY=VALUE in [{group}:vars]")
            inventory.group_vars.setdefault(group, {})[key.strip()] = _unquoted(value.strip())
        elif kind == "children":
            child = line.partition("#")[0].strip()
            inventory.children.setdefault(group, {})[child] = None
            inventory.members.setdefault(child, {})
        else:
            _read_host_line(line, group, where, inventory)
    return inventory


def _read_host_line(line: str, group: str, where: str, inventory: _Inventory) -> None:
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise ProfileError(f"{where}: {error}") from error
    if not words:
        return
    variables: Vars = {}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if not equals:
            raise ProfileError(f"{where}: {word[:60]!r}: expected KEY=VALUE after the host")
        variables[key] = value
    if len(words[0]) > _LONGEST_PATTERN:
        raise ProfileError(f"{where}: {words[0][:60]!r}...: a host pattern of more than {_LONGEST_PATTERN} characters")
    pattern, port = _split_port(words[0])
    if port:
        variables.setdefault("ansible_port", port)
    names = list(islice(_expanded(pattern, where), MOST_HOSTS + 1))
    for name in names:
        inventory.add_host(group, name, variables)


def _split_port(pattern: str) -> tuple[str, str]:
    bracketed = re.fullmatch(r"\[([0-9A-Fa-f:.]*::?[0-9A-Fa-f:.]*)\](?::(\d{1,5}))?", pattern)
    if bracketed and not _RANGE.fullmatch(pattern.rpartition("]")[0] + "]"):
        return bracketed[1], bracketed[2] or ""
    with_port = re.fullmatch(r"((?:[^:\[\]]|\[[^\[\]]*\])+):(\d{1,5})", pattern)
    return (with_port[1], with_port[2]) if with_port else (pattern, "")


def _expanded(pattern: str, where: str) -> Iterator[str]:
    found = _RANGE.search(pattern)
    if not found:
        yield pattern
        return
    head, tail = pattern[: found.start()], pattern[found.end() :]
    first, last, step = found[1], found[2], int(found[3] or 1)
    expected = f"{where}: {found[0]}: expected a range like [01:20], [1:9:2] or [a:f]"
    if first.isdigit() != last.isdigit() or step == 0:
        raise ProfileError(expected)
    numeric = first.isdigit()
    start, stop = (int(first), int(last)) if numeric else (_LETTERS.index(first), _LETTERS.index(last))
    width = len(first) if numeric and first[0] == "0" else 0
    if start > stop or (width > 1 and len(last) != width):
        raise ProfileError(expected)
    for position in range(start, stop + 1, step):
        item = f"{position:0{width}}" if numeric else _LETTERS[position]
        for rest in _expanded(tail, where):
            yield head + item + rest


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


# JSON


def _read_json(text: str, source: str) -> _Inventory:
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{source}: not the JSON of `ansible-inventory --list`: {error}") from error
    inventory = _Inventory()
    for group, content in _items(raw):
        if group == "_meta":
            for host, variables in _items(_get(content, "hostvars")):
                inventory.host_vars.setdefault(host, {}).update(_scalars(variables))
            continue
        inventory.members.setdefault(group, {})
        hosts = content if isinstance(content, list) else _get(content, "hosts")
        for host in hosts if isinstance(hosts, list) else []:
            if isinstance(host, str):
                inventory.add_host(group, host, {})
        children = _get(content, "children")
        names = [child for child in children if isinstance(child, str)] if isinstance(children, list) else []
        inventory.children[group] = dict.fromkeys(names)
        inventory.group_vars[group] = _scalars(_get(content, "vars"))
    return inventory


def _get(raw: Any, key: str) -> Any:  # noqa: ANN401 - JSON of somebody else
    return raw.get(key) if isinstance(raw, dict) else None


def _items(raw: Any) -> list[tuple[str, Any]]:  # noqa: ANN401
    return list(raw.items()) if isinstance(raw, dict) else []


def _scalars(raw: Any) -> Vars:  # noqa: ANN401
    return {key: str(value) for key, value in _items(raw) if isinstance(value, str) or type(value) is int}


# Variables


def _effective_vars(inventory: _Inventory, source: str) -> Mapping[str, Vars]:
    """The variables of every host: those of everything, of its groups from the top down, and its own, the last one wins."""
    groups = _top_down(inventory, source)
    of_host: dict[str, Vars] = {host: dict(inventory.group_vars.get("all", {})) for host in inventory.host_vars}
    below: dict[str, dict[str, None]] = {}
    for group in reversed(groups):
        below[group] = dict(inventory.members.get(group, {}))
        for child in inventory.children.get(group, ()):
            below[group].update(below.get(child, {}))
    for group in groups:
        if group != "all" and (variables := inventory.group_vars.get(group)):
            for host in below[group]:
                of_host[host].update(variables)
    for host, variables in inventory.host_vars.items():
        of_host[host].update(variables)
    return of_host


def _top_down(inventory: _Inventory, source: str) -> list[str]:
    """All groups, parents before their children."""
    names = dict.fromkeys([*inventory.members, *inventory.children, *inventory.group_vars])
    parents = dict.fromkeys(names, 0)
    for children in inventory.children.values():
        for child in children:
            parents[child] = parents.get(child, 0) + 1
    ready = [group for group, count in parents.items() if count == 0]
    for group in ready:
        for child in inventory.children.get(group, ()):
            parents[child] -= 1
            if parents[child] == 0:
                ready.append(child)
    if len(ready) < len(parents):
        circle = next(group for group, count in parents.items() if count)
        raise ProfileError(f"{source}: group {circle[:60]!r} is in a circle of groups that are each other's children")
    return ready


# Hosts


def _found_host(host: str, variables: Vars, inventory: _Inventory, site_from: str) -> FoundHost:
    groups = [group for group, members in inventory.members.items() if host in members and group not in _EVERYTHING]
    site = variables.get("site", "")
    if not site:
        site = site_by_prefix(host) if site_from == "prefix" else next(iter(groups), "")
    notes = [f"groups: {', '.join(groups)}"] if groups else []
    address = _first(variables, "ansible_host", "ansible_ssh_host") or host
    if "{" in address:
        notes.append(f"TODO: its address is {address}")
        address = host
    port = _first(variables, "ansible_port", "ansible_ssh_port")
    if port not in {"", "22"}:
        notes.append(f"TODO: port {port}: put it into your ssh configuration (Host {address}, Port {port})")
    jump, jump_notes = _jump_chain(variables)
    connection = variables.get("ansible_connection", "")
    return FoundHost(
        name=host,
        address=address,
        site=site,
        user=_first(variables, "ansible_user", "ansible_ssh_user"),
        jump=jump,
        notes=tuple(notes),
        ssh_notes=tuple(jump_notes),
        left_out="" if connection in _SSH_CONNECTIONS else f"is reached by {connection}, not by ssh",
    )


def _first(variables: Vars, *names: str) -> str:
    return next((variables[name] for name in names if variables.get(name)), "")


def _jump_chain(variables: Vars) -> tuple[tuple[str, ...], list[str]]:
    """The jump hosts in the ssh arguments of a host, outermost first, and what couldn't be taken over."""
    arguments = " ".join(
        variables.get(key, "") for key in ("ansible_ssh_common_args", "ansible_ssh_extra_args")
    ).strip()
    try:
        words = shlex.split(arguments)
    except ValueError:
        words = arguments.split()
    chain, notes = "", []
    for option, value in _options(words):
        if option == "J":
            chain = chain or value
        elif option == "o" and re.match(r"proxyjump\s*=?", value, re.IGNORECASE):
            chain = chain or re.sub(r"(?i)^proxyjump\s*=?\s*", "", value)
        elif option == "o" and value.lower().startswith("proxycommand"):
            notes.append(f"TODO: {value}: which jump hosts are these?")
    hops = []
    for hop in chain.split(",") if chain and chain != "none" else []:
        host = hop.removeprefix("ssh://").rpartition("@")[2]
        plain = re.sub(r"^\[(.*)\](:\d+)?$|^([^:]*):\d+$", r"\1\3", host)
        if plain != hop:
            notes.append(f"TODO: jump host {hop}: put its user and port into your ssh configuration (Host {plain})")
        hops.append(plain)
    return tuple(hops), notes


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    """The -J and -o options with their values, in one word or in two."""
    rest = iter(words)
    for word in rest:
        if word[:2] in {"-J", "-o"}:
            yield word[1], word[2:] or next(rest, "")
