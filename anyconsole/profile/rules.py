"""What must hold between the parts of a profile: unique names and numbers, prefixes of their own, jump chains that end, sane limits."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final, TypeVar

import msgspec

from anyconsole.model.inventory import (
    Bootstrap,
    ClusterSpec,
    Family,
    Generator,
    Host,
    Interconnect,
    Inventory,
    LoadEngine,
    LookingGlass,
    NodeSpec,
    SoftRecipe,
    Tenant,
    Vantage,
)
from anyconsole.profile import values
from anyconsole.profile.report import Report, element, inside, nearest

__all__ = ["Placed", "SessionNumbers", "check_rules", "jump_loop", "owner_of", "unique"]

_T = TypeVar("_T")
Placed = tuple[str, _T]
"""A part of the profile behind its key path."""


class SessionNumbers:
    """Who has which session number. It must mean the same neighbour and family on every node, or a drain takes out the wrong session."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._owners: dict[int, tuple[str, Family]] = {}

    def claim(self, where: str, number: int, peer: str, family: Family) -> None:
        """Note that sessions of `family` with `peer` have this number; report it if another peer's or family's have."""
        owner = self._owners.setdefault(number, (peer, family))
        if owner != (peer, family):
            self._report.add(where, f'is already the number of peer "{owner[0]}" for {owner[1]}', number)


def check_rules(
    inventory: Inventory,
    sites: list[str],
    interconnects: list[Placed[Interconnect]],
    tenants: list[Placed[Tenant]],
    clusters: list[Placed[ClusterSpec]],
    nodes: list[Placed[NodeSpec]],
    others: list[Placed[Vantage | LookingGlass | Generator | Bootstrap]],
    report: Report,
) -> None:
    """Report what can't be right although each part is.

    Args:
        inventory: All parts.
        sites: Key paths of the inventory's sites.
        interconnects: Interconnects with their key paths.
        tenants: Tenants with their key paths.
        clusters: Clusters with their key paths.
        nodes: Nodes with their key paths.
        others: Hosts that are no nodes, with their key paths.
        report: Takes what is wrong.
    """
    unique(zip(sites, inventory.sites, strict=True), "name", lambda site: site.name, report)
    unique(interconnects, "name", lambda interconnect: interconnect.name, report)
    unique(tenants, "name", lambda tenant: tenant.name, report)
    unique(tenants, "number", lambda tenant: tenant.number, report)
    # One name means one host everywhere: in the journal, on the command line, in the SSH pool.
    vantages: list[Placed[Host]] = [(where, host) for where, host in others if isinstance(host, Vantage)]
    glasses = [(where, host) for where, host in others if isinstance(host, LookingGlass)]
    generators = [(where, host) for where, host in others if isinstance(host, Generator)]
    on_ssh = [(where, node) for where, node in nodes if not node.cluster]
    # Generators in clusters are no hosts.
    on_hosts = [(where, generator) for where, generator in generators if not generator.cluster]
    bootstraps: list[Placed[Host]] = [(where, host) for where, host in others if isinstance(host, Bootstrap)]
    hosts: list[Placed[Host]] = [*on_ssh, *vantages, *glasses, *on_hosts, *bootstraps]
    pods = [(where, pod) for where, generator in generators if generator.cluster for pod in generator.members]
    unique([*nodes, *others, *clusters, *pods], "name", lambda one: one.name, report)
    unique([*on_ssh, *vantages], "address", lambda host: host.address, report)
    # What becomes a node of a cluster is no node of its own any more.
    unique([*on_ssh, *bootstraps], "address", lambda host: host.address, report)
    for _, cluster in clusters:
        # Clusters may have nodes of the same names.
        own = [(where, node) for where, node in nodes if cluster.name and node.cluster == cluster.name]
        unique(own, "address", lambda node: node.address, report)
    # A generator may share its host with a vantage point, but two generators would only take each other's cores.
    unique(on_hosts, "address", lambda generator: generator.address, report)
    _check_looking_glasses(inventory, glasses, report)
    _check_generators(inventory, generators, report)
    _check_peers(interconnects, report)
    for where, tenant in tenants:
        _check_addresses(where, tenant, len(inventory.sites), report)
    _check_overlaps(tenants, report)
    _check_jumps(inventory, hosts, clusters, report)
    _check_limits(inventory, report)
    if not nodes:
        report.add("node", "is missing: a profile needs at least one [[node]]")


def jump_loop(start: str, chains: Mapping[str, Iterable[str]]) -> list[str]:
    """The way from a host through its jump hosts back to itself, or nothing.

    Args:
        start: The host.
        chains: The jump hosts of each host that has some.
    """
    came_from: dict[str, str] = {}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        for jump in chains.get(name, ()):
            if jump == start:
                way = [name]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return [*reversed(way), start]
            if jump not in came_from:
                came_from[jump] = name
                waiting.append(jump)
    return []


def unique(items: Iterable[Placed[_T]], key: str, value_of: Callable[[_T], Hashable], report: Report) -> None:
    """Report items whose `key`, as `value_of` tells it, an earlier one has as well."""
    seen: dict[Hashable, str] = {}
    for where, item in items:
        value = value_of(item)
        # What was broken is empty and has been reported.
        if value in {"", 0}:
            continue
        if value in seen:
            report.add(inside(where, key), f"{seen[value]} has the same {key}", value)
        else:
            seen[value] = where


def _check_peers(interconnects: list[Placed[Interconnect]], report: Report) -> None:
    peers = [
        (element(inside(where, "peer"), index, peer.name), peer)
        for where, interconnect in interconnects
        for index, peer in enumerate(interconnect.peers)
    ]
    unique(peers, "name", lambda peer: peer.name, report)
    for where, peer in peers:
        if SoftRecipe.COMMUNITY in peer.soft and not peer.community:
            report.add(inside(where, "community"), 'is missing: soft has "community", which one is it?')


def _check_looking_glasses(inventory: Inventory, glasses: list[Placed[LookingGlass]], report: Report) -> None:
    """A looking glass may be on a host that is a node too, but one table read twice would count as two witnesses."""
    unique(glasses, "socket", lambda glass: glass.socket and f"{glass.address}:{glass.socket}", report)
    peers = [peer.name for interconnect in inventory.interconnects for peer in interconnect.peers]
    for where, glass in glasses:
        if glass.peer and glass.peer not in peers:
            report.add(inside(where, "peer"), f"there is no such peer, {nearest(glass.peer, peers)}", glass.peer)


def _check_generators(inventory: Inventory, generators: list[Placed[Generator]], report: Report) -> None:
    """Queries never come from an address that is somebody's service."""
    for where, generator in generators:
        if generator.cluster:
            _check_pods(inventory, where, generator, report)
            continue
        for key in _OF_PODS:
            if getattr(generator, key) != _DEFAULTS[key]:
                problem = "is of a generator in a cluster: name its `cluster`"
                report.add(inside(where, key), problem, getattr(generator, key))
        if generator.engine is LoadEngine.KXDPGUN and not generator.dedicated:
            problem = "takes a network interface away from the host: set dedicated = true and interface if it has nothing else to do"
            report.add(inside(where, "engine"), problem, generator.engine)
        if generator.dedicated and not generator.interface:
            report.add(inside(where, "interface"), "is missing: dedicated = true gives kxdpgun a network interface")
        sources = [(element(inside(where, "sources"), i), source) for i, source in enumerate(generator.sources)]
        unique(sources, "value", str, report)
        for at, source in sources:
            if owner := owner_of(inventory, source):
                report.add(
                    at, f'is in prefix {owner[1]} of tenant "{owner[0].name}": its answers would go to a node', source
                )


_OF_PODS: Final = ("namespace", "image", "replicas", "node_selector")
_OF_HOSTS: Final = ("user", "jump", "sources", "dedicated", "interface")
_DEFAULTS: Final = {field.name: field.default for field in msgspec.structs.fields(Generator)} | {"node_selector": {}}


def _check_pods(inventory: Inventory, where: str, generator: Generator, report: Report) -> None:
    """A generator in a cluster is pods of a Job: they have no login, no address beforehand, and no interface to give away."""
    clusters = [cluster.name for cluster in inventory.clusters]
    if generator.cluster not in clusters:
        known = nearest(generator.cluster, clusters)
        report.add(inside(where, "cluster"), f"there is no such cluster, {known}", generator.cluster)
    if generator.address != generator.name:
        report.add(inside(where, "address"), "a generator in a cluster has none: it is pods", generator.address)
    for key in _OF_HOSTS:
        if getattr(generator, key) != _DEFAULTS[key]:
            problem = "a generator in a cluster is pods, which have no login, interface or addresses of their own"
            report.add(inside(where, key), problem, getattr(generator, key))
    if generator.engine is LoadEngine.KXDPGUN:
        problem = "takes a network interface away from its host, which no pod may"
        report.add(inside(where, "engine"), problem, generator.engine)
    try:
        values.job_name(generator.name)
    except ValueError as error:
        report.add(inside(where, "name"), str(error), generator.name)


def owner_of(inventory: Inventory, address: str) -> tuple[Tenant, str] | None:
    """The tenant in whose announced prefix `address` is, and that prefix; None if it is in none."""
    return next(
        ((tenant, prefix) for tenant in inventory.tenants for prefix in tenant.prefixes if ip_address(address) in ip_network(prefix)),
        None,
    )  # fmt: skip


def _check_addresses(where: str, tenant: Tenant, sites: int, report: Report) -> None:
    networks = [ip_network(prefix) for prefix in tenant.prefixes]
    for index, text in enumerate(tenant.addresses):
        address = ip_address(text)
        if not any(address.version == network.version and address in network for network in networks):
            problem = f"is in none of the tenant's prefixes ({', '.join(tenant.prefixes) or 'there are none'})"
            report.add(element(inside(where, "addresses"), index), problem, text)
    for key, items in (("addresses", tenant.addresses), ("zones", tenant.zones)):
        unique([(element(inside(where, key), i), item) for i, item in enumerate(items)], "value", str.lower, report)
    if tenant.min_sites > sites:
        report.add(inside(where, "min_sites"), f"the profile has only {sites} sites", tenant.min_sites)


def _check_overlaps(tenants: list[Placed[Tenant]], report: Report) -> None:
    """Prefixes of different tenants must be apart; those of one tenant may be nested, but not listed twice."""
    placed = [
        (ip_network(prefix), tenant.name, element(inside(where, "prefixes"), index))
        for where, tenant in tenants
        for index, prefix in enumerate(tenant.prefixes)
    ]
    placed.sort(key=lambda item: (item[0].version, int(item[0].network_address), item[0].prefixlen))
    around: list[tuple[IPv4Network | IPv6Network, str, str]] = []
    for network, owner, where in placed:
        # Sorted like this, whatever doesn't reach up to this network reaches none that follows.
        while around and (
            around[-1][0].version != network.version
            or int(around[-1][0].broadcast_address) < int(network.network_address)
        ):
            around.pop()
        for other, other_owner, _ in around:
            if other_owner != owner:
                report.add(where, f'overlaps {other} of tenant "{other_owner}"', str(network))
            elif other == network:
                report.add(where, "is listed twice", str(network))
        around.append((network, owner, where))


def _check_jumps(
    inventory: Inventory, hosts: list[Placed[Host]], clusters: list[Placed[ClusterSpec]], report: Report
) -> None:
    default = inventory.ssh.jump
    for index, name in enumerate(default):
        if name in default[:index]:
            report.add(element(inside("ssh", "jump"), index), "is twice in the chain", name)
    chains = {host.name: default if host.jump is None else host.jump for _, host in hosts}
    for where, end in [*hosts, *clusters]:
        if end.jump and len(set(end.jump)) < len(end.jump):
            report.add(inside(where, "jump"), "has a host twice in the chain", end.jump)
    for where, host in hosts:
        if loop := jump_loop(host.name, chains):
            problem = (
                f"jumps in a circle ({' -> '.join(loop)}): `jump = []` on the jump host makes it be reached directly"
            )
            report.add(inside(where, "jump"), problem, chains[host.name])


def _check_limits(inventory: Inventory, report: Report) -> None:
    poll = inventory.poll
    if poll.stale <= poll.probe:
        report.add(
            "poll.stale", f"must be longer than poll.probe, {poll.probe} s, or everything is always stale", poll.stale
        )
    if poll.drop <= poll.stale:
        report.add("poll.drop", f"must be longer than poll.stale, {poll.stale} s", poll.drop)
