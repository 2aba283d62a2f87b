"""What may stand in a profile: its tables and keys, derived from the structs they become. What a value must look like is in `values`.

A new field of a struct in `anyconsole.model.inventory` is a new key by itself; here it may get a check.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, get_type_hints

import msgspec

from anyconsole.model.inventory import (
    Bootstrap,
    ClusterSpec,
    Generator,
    GuardLimits,
    InstanceSpec,
    Interconnect,
    Inventory,
    LoadSpec,
    LoadTarget,
    LookingGlass,
    NodeSpec,
    Peer,
    PollSpec,
    PrometheusSpec,
    SessionSpec,
    Site,
    SpeakerSpec,
    SshSpec,
    StackSpec,
    StackTenant,
    Tenant,
    Vantage,
)  # fmt: skip
from anyconsole.profile import values
from anyconsole.profile.values import Check

__all__ = ["ARRAYS", "NAME_SERVER", "NODE", "SECTIONS", "TOP_KEYS", "Key", "Table", "walk_tables"]


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
        name, table = arrays.get(field.name, (field.encode_name, None))
        required = field.required and field.name not in optional
        keys[name] = Key(name, field.name, hints[field.name], required, checks.get(field.name), table)
    for name, kind in (extra or {}).items():
        keys[name] = Key(name, name, kind, required=False, check=checks.get(name))
    return Table(struct, keys)


_PEER: Final = _table(
    Peer,
    {
        "name": values.plain_name,
        "asn": values.as_number,
        "numbers": values.number,
        "community": values.or_empty(values.community),
    },
    without=["interconnect"],
)
_SESSION: Final = _table(SessionSpec, {"name": values.session_name, "number": values.number}, optional=["number"])
_SPEAKER: Final = _table(
    SpeakerSpec,
    {
        "name": values.plain_name,
        "kind": values.plain_name,
        "socket": values.end_point,
        "drain_file": values.or_empty(values.node_path),
        "log": values.or_empty(values.node_path),
    },
    optional=["name"],
    arrays={"sessions": ("session", _SESSION)},
)
_TARGET: Final = _table(
    LoadTarget,
    {
        "name": values.plain_name,
        "addresses": values.unicast_address,
        "max_qps": values.rate,
        "max_seconds": values.duration,
        "port": values.number,
        "users": values.login,
        "zone": values.or_empty(values.zone_name),
        "queries": values.or_empty(values.local_path),
        "identity": values.identity,
    },
)
_STACK_TENANT: Final = _table(
    StackTenant,
    {
        "tenant": values.plain_name,
        "primaries": values.unicast_address,
        "tsig_secret": values.or_empty(values.kube_object),
        "tsig_command": values.or_empty(values.command),
        "tsig_env": values.or_empty(values.variable),
    },
)
NAME_SERVER: Final = _table(
    InstanceSpec,
    {"kind": values.plain_name, "control": values.end_point, "user": values.or_empty(values.login)}
    | dict.fromkeys(["chroot", "pid_file", "log", "config"], values.or_empty(values.node_path)),
    without=["tenant"],
    extra={"tenants": tuple[str, ...]},
)
NODE: Final = _table(
    NodeSpec,
    {
        "name": values.plain_name,
        "address": values.host_name,
        "user": values.or_empty(values.login),
        "jump": values.host_name,
        "cluster": values.or_empty(values.plain_name),
    },
    optional=["address"],
    arrays={"speakers": ("speaker", _SPEAKER), "instances": ("name_server", NAME_SERVER)},
    extra={"template": str},
)
SECTIONS: Final = {
    "profile": _table(
        Inventory,
        {"name": values.title, "colour": values.or_empty(values.colour)},
        only=["name", "colour", "read_only", "syslog"],
    ),
    "ssh": _table(
        SshSpec,
        {
            "user": values.or_empty(values.login),
            "jump": values.host_name,
            "config_file": values.or_empty(values.local_path),
            "connect_timeout": values.seconds,
        }
        | dict.fromkeys(["known_hosts", "identity_files"], values.local_path),
    ),
    "poll": _table(
        PollSpec, dict.fromkeys(["probe", "prometheus", "stale", "drop"], values.seconds) | {"dns": values.dns_seconds}
    ),
    "guards": _table(
        GuardLimits,
        {
            "min_nodes": values.count,
            "min_share": values.share,
            "min_per_region": values.count,
            "max_load": values.share,
            "evidence_max_age": values.seconds,
            "hold": values.hold,
            "settle": values.seconds,
            "residual": values.share,
            "patience": values.seconds,
        },
    ),
    "load": _table(
        LoadSpec,
        {
            "timeout": values.answer_timeout,
            "loss": values.loss_ratio,
            "width": values.width,
            "p99_guard_ms": values.milliseconds,
            "mix": values.share,
        },
        arrays={"targets": ("target", _TARGET)},
    ),
    "stack": _table(
        StackSpec,
        dict.fromkeys(["images", "exporters", "python", "monitoring"], values.image)
        | {"cpu": values.cpu, "memory": values.memory, "soa_lag": values.lag},
        arrays={"tenants": ("tenant", _STACK_TENANT)},
    ),
    "prometheus": _table(
        PrometheusSpec,
        {
            "url": values.url,
            "qps": values.non_empty,
            "node_label": values.plain_name,
            "tenant_label": values.plain_name,
            "via": values.or_empty(values.host_name),
        },
    ),
}
"""The tables that occur once."""

ARRAYS: Final = {
    "site": _table(Site, {"name": values.plain_name}),
    "interconnect": _table(Interconnect, {"name": values.plain_name}, arrays={"peers": ("peer", _PEER)}),
    "tenant": _table(
        Tenant,
        {
            "name": values.plain_name,
            "number": values.number,
            "prefixes": values.prefix,
            "addresses": values.canonical_address,
            "zones": values.zone_name,
            "min_sites": values.count,
        },
    ),
    "cluster": _table(
        ClusterSpec,
        {
            "name": values.plain_name,
            "kubeconfig": values.or_empty(values.local_path),
            "context": values.or_empty(values.context),
            "jump": values.host_name,
            "namespaces": values.namespace,
            "monitoring": values.namespace,
            "calico": values.namespace,
            "prometheus": values.or_empty(values.cluster_service),
            "namespace_label": values.plain_name,
            "pod_label": values.plain_name,
        },
        extra={"namespace": str},
    ),
    "node": NODE,
    "vantage": _table(
        Vantage,
        {
            "name": values.plain_name,
            "address": values.host_name,
            "user": values.or_empty(values.login),
            "jump": values.host_name,
        },
        optional=["address"],
    ),
    "looking_glass": _table(
        LookingGlass,
        {
            "name": values.plain_name,
            "address": values.host_name,
            "socket": values.node_path,
            "kind": values.glass_kind,
            "user": values.or_empty(values.login),
            "jump": values.host_name,
        },
        optional=["address"],
    ),
    "generator": _table(
        Generator,
        {
            "name": values.plain_name,
            "address": values.host_name,
            "user": values.or_empty(values.login),
            "jump": values.host_name,
            "max_qps": values.rate,
            "processes": values.processes,
            "sources": values.unicast_address,
            "interface": values.or_empty(values.interface),
            "cluster": values.or_empty(values.plain_name),
            "namespace": values.namespace,
            "image": values.or_empty(values.image),
            "replicas": values.replicas,
            "node_selector": values.label_value,
        },
        optional=["address"],
    ),
    "bootstrap": _table(
        Bootstrap,
        {
            "name": values.plain_name,
            "cluster": values.plain_name,
            "node": values.plain_name,
            "address": values.host_name,
            "user": values.or_empty(values.login),
            "jump": values.host_name,
            "version": values.k3s_version,
            "bundle": values.or_empty(values.local_path),
            "installer": values.or_empty(values.local_path_or_url),
            "calico": values.manifest,
            "node_ips": values.unicast_address,
            "cluster_cidr": values.prefix,
            "service_cidr": values.prefix,
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
