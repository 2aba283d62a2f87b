"""What may stand in a profile: its tables and keys, derived from the structs they become, and what a value must look like.

A new field of a struct in `anyconsole.model.inventory` is a new key by itself; here it may get a check.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final, get_type_hints
from urllib.parse import urlsplit

import msgspec

from anyconsole.model.inventory import (
    GuardLimits,
    InstanceSpec,
    Interconnect,
    Inventory,
    LookingGlass,
    NodeSpec,
    Peer,
    PollSpec,
    PrometheusSpec,
    SessionSpec,
    Site,
    SpeakerSpec,
    SshSpec,
    Tenant,
    Vantage,
)  # fmt: skip

__all__ = [
    "ARRAYS", "NAME_SERVER", "NODE", "SECTIONS", "TOP_KEYS", "Check", "Key", "Table", "canonical_address", "host_name", "plain_name",
    "walk_tables",
]  # fmt: skip

Check = Callable[[Any], Any]
"""Takes a value of the right type and returns it, made canonical. Raises ValueError that says what is expected."""


class Key(msgspec.Struct, frozen=True):
    """One key of a table. `kind` is the annotation of the field it sets; `table` is set if it holds an array of tables."""

    name: str
    field: str
    kind: Any
    required: bool
    check: Check | None = None
    table: Table | None = None


class Table(msgspec.Struct, frozen=True):
    """A TOML table and the struct that it becomes."""

    struct: type[msgspec.Struct]
    keys: dict[str, Key]

    def array(self, key: str) -> Table:
        """The table whose array is at `key`. Raises KeyError."""
        table = self.keys[key].table
        if table is None:
            raise KeyError(key)
        return table


# What values must look like


def _matching(pattern: str, expected: str) -> Check:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(expected)
        return value

    return check


def _within(low: float, high: float, expected: str) -> Check:
    def check(value: float) -> float:
        # Written so that NaN fails.
        if not low <= value <= high:
            raise ValueError(expected)
        return value

    return check


def _or_empty(check: Check) -> Check:
    return lambda value: value if value == "" else check(value)


plain_name: Final = _matching(
    r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}",
    "expected a name of letters, digits, _ . and - (not first), at most 63 characters",
)
_title: Final = _matching(
    r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,62}", "expected a name of letters, digits, spaces, _ . and - (not first)"
)
host_name: Final = _matching(
    r"[A-Za-z0-9_:][A-Za-z0-9_.:%+-]{0,254}",
    "expected a host as ssh takes it: an alias, a name or an address, without user and port, not starting with -",
)
_session_name: Final = _matching(
    r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]{0,254}",
    "expected BIRD's protocol name, or the neighbour's address for FRR and GoBGP",
)
_glass_kind: Final = _matching("bird", 'expected "bird", the only kind of looking glass that can be read')
_user: Final = _matching(r"[A-Za-z0-9_][A-Za-z0-9_.@\\$+-]{0,63}", "expected a login name, not starting with -")
_zone: Final = _matching(r"\.|[A-Za-z0-9_*][A-Za-z0-9_./*-]{0,253}", 'expected a zone name like "example.de"')
_colour: Final = _matching(r"#(?:[0-9A-Fa-f]{3}){1,2}", 'expected a colour like "#5fd7ff"')
_number: Final = _within(1, 65535, "expected a whole number from 1 to 65535")
_seconds: Final = _within(0.1, 86400, "expected seconds, from 0.1 to 86400")
# Response rate limiting of name servers makes faster questions look like packet loss.
_dns_seconds: Final = _within(1, 86400, "expected seconds, at least 1: an address is asked at most once a second")
_share: Final = _within(0, 1, "expected a share from 0 to 1")
_hold: Final = _within(10, 3600, "expected whole seconds from 10 to 3600")
_count: Final = _within(0, 65535, "expected a whole number from 0 to 65535")


def _as_number(value: int) -> int:
    if not 1 <= value <= 4294967294 or value in {23456, 65535}:
        raise ValueError("expected an AS number from 1 to 4294967294, but not the reserved 23456 and 65535")
    return value


def _community(value: str) -> str:
    parts = value.split(":") if re.fullmatch(r"[0-9]{1,10}(:[0-9]{1,10}){1,2}", value) else []
    largest = 65535 if len(parts) == 2 else 4294967295
    if not parts or any(int(part) > largest for part in parts):
        raise ValueError('expected a community like "64500:100" or a large one like "64500:1:100"')
    return value


def _prefix(value: str) -> str:
    if "/" not in value:
        raise ValueError('expected a prefix with its length, like "192.0.2.0/24" or "2001:db8::/48"')
    try:
        network = ip_network(value, strict=False)
    except ValueError as error:
        raise ValueError(f'expected a prefix like "192.0.2.0/24" or "2001:db8::/48" ({error})') from None
    if ip_address(value.partition("/")[0]) != network.network_address:
        raise ValueError(f'has host bits set, did you mean "{network}"?')
    return str(network)


def canonical_address(value: str) -> str:
    """An IP address in its shortest form, without a scope. Raises ValueError."""
    if "%" in value:
        raise ValueError("expected an address without a scope")
    try:
        return str(ip_address(value))
    except ValueError:
        raise ValueError('expected an IP address like "192.0.2.53" or "2001:db8::53"') from None


def _node_path(value: str) -> str:
    if not value.startswith("/") or ".." in value.split("/"):
        raise ValueError('expected an absolute path on the node, without ".."')
    return value


def _end_point(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if (
        colon
        and port.isascii()
        and port.isdigit()
        and len(port) <= 5
        and 0 < int(port) < 65536
        and re.fullmatch(r"[\w.:\[\]-]+", host)
    ):
        return value
    try:
        return str(_node_path(value))
    except ValueError:
        raise ValueError("expected an absolute socket path on the node, or host:port") from None


def _local_path(value: str) -> str:
    if value.startswith("~/"):
        return str(Path.home() / value[2:])
    if not value.startswith("/"):
        raise ValueError("expected an absolute path on this machine, or one that starts with ~/")
    return value


def _url(value: str) -> str:
    expected = 'expected an address like "http://prometheus:9090"'
    try:
        parts = urlsplit(value)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or re.search(r"\s", value):
        raise ValueError(expected)
    return value


def _non_empty(value: str) -> str:
    if not value.strip():
        raise ValueError("expected text, got nothing")
    return value


# The tables


def _table(
    struct: type[msgspec.Struct],
    checks: Mapping[str, Check] | None = None,
    *,
    only: Collection[str] = (),
    without: Collection[str] = (),
    optional: Collection[str] = (),
    arrays: Mapping[str, tuple[str, Table]] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Table:
    """The table whose keys are the fields of `struct`.

    Args:
        struct: What the table becomes.
        checks: Checks of values by field; of each item where the field is a tuple or a dictionary.
        only: The fields that are keys, if not all.
        without: Fields that are no keys because the reader fills them in.
        optional: Fields with no default that the reader fills in if the key is missing.
        arrays: Key and table of the fields that are arrays of tables.
        extra: Kinds of the keys that are no fields.
    """
    checks = checks or {}
    arrays = arrays or {}
    hints = get_type_hints(struct)
    keys: dict[str, Key] = {}
    for field in msgspec.structs.fields(struct):
        if field.name in without or (only and field.name not in only):
            continue
        name, table = arrays.get(field.name, (field.name, None))
        required = field.required and field.name not in optional
        keys[name] = Key(name, field.name, hints[field.name], required, checks.get(field.name), table)
    for name, kind in (extra or {}).items():
        keys[name] = Key(name, name, kind, required=False, check=checks.get(name))
    return Table(struct, keys)


_PEER: Final = _table(
    Peer,
    {"name": plain_name, "asn": _as_number, "numbers": _number, "community": _or_empty(_community)},
    without=["interconnect"],
)
_SESSION: Final = _table(SessionSpec, {"name": _session_name, "number": _number}, optional=["number"])
_SPEAKER: Final = _table(
    SpeakerSpec,
    {
        "name": plain_name,
        "kind": plain_name,
        "socket": _end_point,
        "drain_file": _or_empty(_node_path),
        "log": _or_empty(_node_path),
    },
    optional=["name"],
    arrays={"sessions": ("session", _SESSION)},
)
NAME_SERVER: Final = _table(
    InstanceSpec,
    {"kind": plain_name, "control": _end_point, "user": _or_empty(_user)}
    | dict.fromkeys(["chroot", "pid_file", "log", "config"], _or_empty(_node_path)),
    without=["tenant"],
    extra={"tenants": tuple[str, ...]},
)
NODE: Final = _table(
    NodeSpec,
    {"name": plain_name, "address": host_name, "user": _or_empty(_user), "jump": host_name},
    optional=["address"],
    arrays={"speakers": ("speaker", _SPEAKER), "instances": ("name_server", NAME_SERVER)},
    extra={"template": str},
)
SECTIONS: Final = {
    "profile": _table(
        Inventory, {"name": _title, "colour": _or_empty(_colour)}, only=["name", "colour", "read_only", "syslog"]
    ),
    "ssh": _table(
        SshSpec,
        {
            "user": _or_empty(_user),
            "jump": host_name,
            "config_file": _or_empty(_local_path),
            "connect_timeout": _seconds,
        }
        | dict.fromkeys(["known_hosts", "identity_files"], _local_path),
    ),
    "poll": _table(PollSpec, dict.fromkeys(["probe", "prometheus", "stale", "drop"], _seconds) | {"dns": _dns_seconds}),
    "guards": _table(
        GuardLimits,
        {
            "min_nodes": _count,
            "min_share": _share,
            "max_load": _share,
            "evidence_max_age": _seconds,
            "hold": _hold,
            "settle": _seconds,
            "residual": _share,
            "patience": _seconds,
        },
    ),
    "prometheus": _table(
        PrometheusSpec,
        {
            "url": _url,
            "qps": _non_empty,
            "node_label": plain_name,
            "tenant_label": plain_name,
            "via": _or_empty(host_name),
        },
    ),
}
"""The tables that occur once."""

ARRAYS: Final = {
    "site": _table(Site, {"name": plain_name}),
    "interconnect": _table(Interconnect, {"name": plain_name}, arrays={"peers": ("peer", _PEER)}),
    "tenant": _table(
        Tenant,
        {
            "name": plain_name,
            "number": _number,
            "prefixes": _prefix,
            "addresses": canonical_address,
            "zones": _zone,
            "min_sites": _count,
        },
    ),
    "node": NODE,
    "vantage": _table(
        Vantage,
        {"name": plain_name, "address": host_name, "user": _or_empty(_user), "jump": host_name},
        optional=["address"],
    ),
    "looking_glass": _table(
        LookingGlass,
        {
            "name": plain_name,
            "address": host_name,
            "socket": _node_path,
            "kind": _glass_kind,
            "user": _or_empty(_user),
            "jump": host_name,
        },
        optional=["address"],
    ),
}
"""The tables that occur once for each site, node, ..."""

TOP_KEYS: Final = ("include", "template", *SECTIONS, *ARRAYS)
"""Everything that may stand at the top of a profile."""


def walk_tables() -> Iterator[tuple[str, Table]]:
    """Every table with its dotted name ("node.speaker.session"): for documentation and its test."""
    waiting = [*SECTIONS.items(), *ARRAYS.items()]
    while waiting:
        name, table = waiting.pop(0)
        yield name, table
        waiting += [(f"{name}.{key.name}", key.table) for key in table.keys.values() if key.table]
