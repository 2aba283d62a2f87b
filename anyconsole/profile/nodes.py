"""Nodes of a profile: templates give missing keys, placeholders are filled in, sessions and name servers get their numbers.

In a node `{node}` and `{site}` are filled in, in its name servers also `{tenant}`, `{number}` (the tenant's) and `{chroot}`. What is
different for a node in a cluster is in `clusters`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from anyconsole.model.inventory import Family, InstanceSpec, NodeSpec, Peer, SessionSpec, SpeakerSpec, Tenant
from anyconsole.profile.clusters import CALICO, check_calico, check_calico_session, check_pod, place_in_cluster
from anyconsole.profile.placeholders import fill
from anyconsole.profile.read import Row, build, check_keys, read_table, table_items
from anyconsole.profile.report import Report, element, inside, nearest
from anyconsole.profile.rules import SessionNumbers
from anyconsole.profile.schema import NAME_SERVER, NODE, Table
from anyconsole.profile.values import canonical_address

__all__ = ["NAME_SERVER_KINDS", "SPEAKER_KINDS", "Known", "read_nodes"]

SPEAKER_KINDS = ("bird", "frr", "gobgp", CALICO)
NAME_SERVER_KINDS = ("nsd", "knot", "bind")

_NOT_FILLED = frozenset({"name", "site", "stack", "template", "name_server"})
_NOT_INHERITED = frozenset({"name", "site", "template"})
_OF_ONE_NAME_SERVER = ("control", "pid_file")

Raw = Mapping[str, object]


class Known(msgspec.Struct, frozen=True):
    """What nodes refer to."""

    sites: tuple[str, ...]
    tenants: Mapping[str, Tenant]
    clusters: tuple[str, ...]
    peers: Mapping[str, Peer]
    numbers: SessionNumbers


def read_nodes(raw: object, templates: object, known: Known, report: Report) -> list[tuple[str, NodeSpec]]:
    """The nodes with their key paths.

    Args:
        raw: The array of node tables.
        templates: The table of templates by name.
        known: What nodes refer to.
        report: Takes what is wrong.
    """
    by_name = _read_templates(templates, report)
    used: set[str] = set()
    nodes = []
    for where, item in table_items(raw, "node", report):
        name = item.get("template")
        template: tuple[Raw, str] = ({}, "")
        if isinstance(name, str) and name in by_name:
            template = (by_name[name], inside("template", name))
            used.add(name)
        elif isinstance(name, str):
            report.add(inside(where, "template"), f"there is no such template, {nearest(name, by_name)}", name)
        nodes.append((where, _read_node(where, item, template, known, report)))
    for name in by_name.keys() - used:
        # Nobody has asked for it yet, but its mistakes are mistakes.
        where = inside("template", name)
        sample = {**by_name[name], "name": "node1", "site": next(iter(known.sites), "")}
        _read_node(where, sample, ({}, ""), known, report)
    return nodes


def _read_templates(raw: object, report: Report) -> dict[str, Raw]:
    if not isinstance(raw, dict):
        report.add("template", "expected tables, [template.NAME]", raw)
        return {}
    valid = [key for key in NODE.keys if key not in _NOT_INHERITED]
    templates: dict[str, Raw] = {}
    for name, template in raw.items():
        where = inside("template", name)
        if isinstance(template, dict):
            check_keys(template, valid, where, report)
            templates[name] = {key: value for key, value in template.items() if key in valid}
        else:
            report.add(where, "expected a table", template)
    return templates


def _read_node(where: str, raw: Raw, template: tuple[Raw, str], known: Known, report: Report) -> NodeSpec:
    names = {key: text if isinstance(text := raw.get(key), str) else "" for key in ("name", "site")}
    values = {"node": names["name"], "site": names["site"]}
    filled = _fill_table(raw, values, where, report)
    inherited = _fill_table({k: v for k, v in template[0].items() if k not in raw}, values, template[1], report)
    row = read_table(filled, NODE, where, report, inherited=(inherited, template[1]), skip=["name_server"])
    site = row.values.get("site", "")
    if "site" in row.values and site not in known.sites:
        report.add(inside(where, "site"), f"there is no such site, {nearest(site, known.sites)}", site)
    in_cluster = filled.get("cluster", inherited.get("cluster", "")) != ""
    if in_cluster:
        place_in_cluster(
            row,
            names["name"],
            lambda key: inside(where if key in raw else template[1] or where, key),
            known.clusters,
            report,
        )
    source, at = (raw, where) if "name_server" in raw else template
    instances = _read_name_servers(
        source.get("name_server", []), inside(at, "name_server"), values, known, report, in_cluster=in_cluster
    )
    speakers = _read_speakers(row.values.pop("speaker", []), known, report, in_cluster=in_cluster)
    address = row.values.pop("address", names["name"])
    row.values.pop("template", None)
    return build(row, NODE, NodeSpec, address=address, speakers=speakers, instances=instances)


def _fill_table(raw: Raw, values: Raw, where: str, report: Report) -> dict[str, object]:
    return {k: v if k in _NOT_FILLED else fill(v, values, inside(where, k), report) for k, v in raw.items()}


# Speakers


def _read_speakers(rows: list[Row], known: Known, report: Report, *, in_cluster: bool) -> tuple[SpeakerSpec, ...]:
    table = NODE.array("speaker")
    speakers: list[SpeakerSpec] = []
    seen: set[str] = set()
    for row in rows:
        kind = row.values.get("kind", "")
        if in_cluster:
            check_calico(row, report)
        else:
            _check_daemon(kind, row, report)
        name = row.values.pop("name", kind)
        if in_cluster and speakers:
            report.add(row.where, "a node in a cluster has one speaker")
        elif name in seen:
            report.add(inside(row.where, "name"), "two speakers of a node have this name", name)
        seen.add(name)
        sessions = _read_sessions(row.values.pop("session", []), known, report, is_calico=kind == CALICO)
        speakers.append(build(row, table, SpeakerSpec, name=name, sessions=sessions))
    return tuple(speakers)


def _check_daemon(kind: str, row: Row, report: Report) -> None:
    if kind == CALICO:
        report.add(inside(row.where, "kind"), "is only on nodes that are in a `cluster`", kind)
        return
    _check_kind(kind, SPEAKER_KINDS, "anyconsole.speakers", row.where, report)
    if "socket" not in row.values:
        report.add(inside(row.where, "socket"), "is missing")


def _read_sessions(rows: list[Row], known: Known, report: Report, *, is_calico: bool) -> tuple[SessionSpec, ...]:
    table = NODE.array("speaker").array("session")
    sessions: list[SessionSpec] = []
    for row in rows:
        session = build(row, table, SessionSpec, number=0)
        if session.peer and session.peer not in known.peers:
            report.add(
                inside(row.where, "peer"), f"there is no such peer, {nearest(session.peer, known.peers)}", session.peer
            )
        if session.peer not in known.peers or not {"name", "family"} <= row.values.keys():
            continue
        name, family = _canonical(session.name), session.family
        if is_calico:
            check_calico_session(row.where, name, family, known.peers[session.peer], report)
        number = _session_number(row, known.peers[session.peer], family, known, report)
        for other in sessions:
            if other.name == name and other.family is family:
                report.add(inside(row.where, "name"), f"two {family} sessions of a speaker have this name", name)
            elif number and other.number == number:
                report.add(
                    inside(row.where, "number"),
                    f'session "{other.name}" of this speaker has the same number: give one of them its own `number`',
                    number,
                )
        sessions.append(SessionSpec(name=name, peer=session.peer, family=family, number=number))
    return tuple(sessions)


def _session_number(row: Row, peer: Peer, family: Family, known: Known, report: Report) -> int:
    if "number" in row.values:
        number = int(row.values["number"])
        known.numbers.claim(inside(row.where, "number"), number, peer.name, family)
        return number
    if family not in peer.numbers:
        report.add(
            inside(row.where, "family"),
            f'peer "{peer.name}" has no number for {family}: add numbers = {{ {family} = ... }} to the peer or `number` to this session',
            family,
        )
    return peer.numbers.get(family, 0)


def _canonical(name: str) -> str:
    try:
        return canonical_address(name)
    except ValueError:
        return name


# Name servers


def _read_name_servers(
    raw: object, where: str, values: Raw, known: Known, report: Report, *, in_cluster: bool
) -> tuple[InstanceSpec, ...]:
    instances: list[InstanceSpec] = []
    for at, item in table_items(raw, where, report):
        tenants = _tenants_of(item, at, known, report)
        # A mistake in a name server is one even if nobody uses it yet.
        for tenant in tenants or [Tenant(name="tenant1", number=1, prefixes=(), addresses=(), zones=())]:
            placeholders = {**values, "tenant": tenant.name, "number": tenant.number}
            filled = _fill_name_server(item, placeholders, at, report)
            row = read_table(filled, NAME_SERVER, at, report, skip=["tenants"])
            if in_cluster:
                check_pod(row, report)
            elif "control" not in row.values:
                report.add(inside(at, "control"), "is missing")
            instance = build(row, NAME_SERVER, InstanceSpec, tenant=tenant.name)
            if not tenants:
                _check_kind(instance.kind, NAME_SERVER_KINDS, "anyconsole.nameservers", at, report)
                continue
            _check_instance(instance, instances, at, report)
            instances.append(instance)
    return tuple(instances)


def _tenants_of(raw: Raw, where: str, known: Known, report: Report) -> list[Tenant]:
    if "tenants" not in raw:
        return list(known.tenants.values())
    names = read_table(
        {"tenants": raw["tenants"]}, Table(InstanceSpec, {"tenants": NAME_SERVER.keys["tenants"]}), where, report
    )
    tenants = []
    for index, name in enumerate(names.values.get("tenants", ())):
        if name in known.tenants:
            tenants.append(known.tenants[name])
        else:
            at = element(inside(where, "tenants"), index)
            report.add(at, f"there is no such tenant, {nearest(name, known.tenants)}", name)
    return tenants


def _fill_name_server(raw: Raw, placeholders: Raw, where: str, report: Report) -> Raw:
    chroot = fill(raw.get("chroot", ""), placeholders, inside(where, "chroot"), report)
    # A chroot that is no text is reported by the schema; a stand-in lets the paths in it be checked.
    within = {**placeholders, "chroot": chroot if isinstance(chroot, str) else f"/{placeholders['tenant']}"}
    others = {key: value for key, value in raw.items() if key not in {"chroot", "tenants"}}
    filled = {key: fill(value, within, inside(where, key), report) for key, value in others.items()}
    return {**filled, "chroot": chroot} if "chroot" in raw else filled


def _check_instance(instance: InstanceSpec, others: list[InstanceSpec], where: str, report: Report) -> None:
    _check_kind(instance.kind, NAME_SERVER_KINDS, "anyconsole.nameservers", where, report)
    for other in others:
        if other.tenant == instance.tenant:
            report.add(inside(where, "tenants"), "two name servers of a node serve this tenant", instance.tenant)
            return
        for field in _OF_ONE_NAME_SERVER:
            value = getattr(instance, field)
            if value and value == getattr(other, field):
                problem = f'the name servers of "{other.tenant}" and "{instance.tenant}" share it: use {{tenant}}, {{number}} or {{chroot}}'
                report.add(inside(where, field), problem, value)


def _check_kind(kind: str, built_in: tuple[str, ...], group: str, where: str, report: Report) -> None:
    if not kind or kind in built_in:
        return
    # Looking for plug-ins reads the metadata of all installed packages; hardly any profile needs it.
    from importlib.metadata import entry_points  # noqa: PLC0415

    kinds = sorted({*built_in, *entry_points(group=group).names})
    if kind not in kinds:
        report.add(inside(where, "kind"), f"there is no driver for it, {nearest(kind, kinds)}", kind)
