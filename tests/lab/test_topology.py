"""The network the lab is built from: documentation addresses only, no number twice, nothing out of reach."""

from __future__ import annotations

import json
import tomllib
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

import msgspec
import pytest

from anyconsole.errors import LabError
from anyconsole.lab import Lab, gobgp
from anyconsole.lab.nameservers import instance
from anyconsole.lab.paths import LabPaths, profile_path
from anyconsole.lab.routing import bird_node_files, bird_router_files, frr_node_files
from anyconsole.lab.topology import (
    CLIENTS,
    HOSTS,
    LINKS,
    MY_AS,
    NODES,
    PEERS,
    ROUTERS,
    TENANTS,
    ends_of,
    management,
    sessions_of,
    sources,
    static_routes,
    unicast,
    unicast_networks,
    uplink,
)

DOCUMENTATION = [
    ip_network(n) for n in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15", "2001:db8::/32")
]


def every_network() -> list[IPv4Network | IPv6Network]:
    found: list[IPv4Network | IPv6Network] = [ip_network(p) for t in TENANTS for p in (t.prefix4, t.prefix6)]
    for link in LINKS:
        found += [link.interface4(link.a).network, link.interface6(link.a).network]
    found += [network for node in NODES for network in unicast_networks(node)]
    return [*found, *(i.network for i in management("jump")), *(uplink(n)[0].network for n in (1, 254))]


def test_only_documentation_and_benchmarking_prefixes_are_used() -> None:
    for network in every_network():
        assert any(network.version == d.version and network.subnet_of(d) for d in DOCUMENTATION), network  # type: ignore[arg-type]


def test_no_address_range_is_used_twice() -> None:
    networks = every_network()
    for position, network in enumerate(networks):
        assert not any(network.overlaps(other) for other in networks[position + 1 :]), network


def test_as_numbers_are_private_and_session_numbers_unique() -> None:
    assert all(64512 <= asn <= 65534 for asn in [*(p.asn for p in PEERS)])
    assert 64496 <= MY_AS <= 64511  # documentation, RFC 5398
    numbers = [n for p in PEERS for n in (p.number4, p.number6)]
    assert len(numbers) == len(set(numbers))


def test_every_node_has_two_neighbours_in_both_families_and_no_neighbour_has_all_nodes() -> None:
    for node in NODES:
        sessions = sessions_of(node)
        assert len({s.router for s in sessions}) == 2
        assert {s.family for s in sessions} == {"ipv4", "ipv6"}
        assert len(sessions) == 4
    for router in ROUTERS:
        assert len([n for n in NODES if any(s.router == router.name for s in sessions_of(n))]) < len(NODES)


def test_service_addresses_are_inside_their_prefixes() -> None:
    for tenant in TENANTS:
        assert ip_address(tenant.address4) in ip_network(tenant.prefix4)
        assert ip_address(tenant.address6) in ip_network(tenant.prefix6)


def test_each_name_server_has_unicast_addresses_of_its_own_outside_every_announced_prefix() -> None:
    found = [address for node in NODES for tenant in TENANTS for address in unicast(node, tenant)]
    assert len(set(found)) == 2 * len(NODES) * len(TENANTS)
    announced = [ip_network(p) for t in TENANTS for p in (t.prefix4, t.prefix6)]
    assert not [a for a in found if any(ip_address(a) in network for network in announced)]


def test_every_router_knows_a_way_to_every_node_that_goes_in_no_circle() -> None:
    for router in ROUTERS:
        for node in NODES:
            host, steps = router.name, 0
            while host != node.name:
                (host,) = [far for far, reached in static_routes(host).items() if node in reached]
                steps += 1
                assert steps <= 3


def test_a_client_sends_load_from_several_addresses_of_its_own_link() -> None:
    for client in CLIENTS:
        (link,) = ends_of(client.name)
        router = {link.interface4(client.router), link.interface6(client.router)}
        for family, network in ((4, link.interface4(client.name).network), (6, link.interface6(client.name).network)):
            own = [s for s in sources(client) if s.version == family]
            assert len(set(own)) == 4
            assert all(s.ip in network and s not in router for s in own)


def test_all_five_daemons_are_there() -> None:
    assert {n.speaker for n in NODES} == {"bird", "frr"}
    assert {n.name_server for n in NODES} == {"nsd", "knot", "bind"}


def test_bird_exports_nothing_but_what_the_drain_sets_allow() -> None:
    for node in (n for n in NODES if n.speaker == "bird"):
        files = bird_node_files(node)
        assert files["bird.conf"] == 'include "drain.conf";\ninclude "main.conf";\n'
        for session in sessions_of(node):
            assert f"export where ac_export({session.number});" in files["main.conf"]
        assert "export all" not in files["main.conf"]
        assert files["drain.conf"].count("[ (0,0) ]") == 2


def test_frr_knows_a_hard_and_a_soft_list_for_each_of_its_peers() -> None:
    node = next(n for n in NODES if n.speaker == "frr")
    text = frr_node_files(node)["frr.conf"]
    for session in sessions_of(node):
        name = session.peer.name.upper()
        assert f"match ip address prefix-list AC-HARD-{name}" in text
        assert f"match ipv6 address prefix-list AC-SOFT-{name}" in text
        assert f"neighbor {session.neighbor} route-map {name}-OUT out" in text


def test_gobgp_has_for_each_of_its_peers_the_sets_and_the_policy_that_the_documentation_asks_for() -> None:
    page = (Path(__file__).parents[2] / "docs" / "profiles.md").read_text().partition("# gobgpd.toml, for each peer")[2]
    documented = tomllib.loads(page.partition("# once")[0])
    node = msgspec.structs.replace(next(n for n in NODES if n.name == "sin1"), speaker="gobgp")
    config = tomllib.loads(gobgp.node_files(node)["gobgpd.toml"])
    policies = {p["name"]: p["statements"] for p in config["policy-definitions"]}
    names = {s["prefix-set-name"] for s in config["defined-sets"]["prefix-sets"]}
    applied = config["global"]["apply-policy"]["config"]
    assert applied["export-policy-list"] == ["ac-ix2", "ac-transit", "ac-tidy"]
    assert applied["import-policy-list"] == ["in-ix2", "in-transit"]
    for peer in ("ix2", "transit"):
        for wanted in documented["defined-sets"]["prefix-sets"]:
            assert wanted["prefix-set-name"].replace("IX1", peer.upper()) in names
        asked_for = [s for policy in documented["policy-definitions"] for s in policy["statements"]]
        for mine, wanted in zip(policies[f"ac-{peer}"] + policies[f"in-{peer}"], asked_for, strict=True):
            assert mine["name"] == wanted["name"].replace("ix1", peer)
            asked = json.dumps(wanted["conditions"]).replace("IX1", peer.upper()).replace("ix1", peer)
            assert mine["conditions"] == json.loads(asked)
            assert mine["actions"].get("route-disposition") == wanted["actions"].get("route-disposition")


@pytest.mark.parametrize(
    ("host", "kind", "said"), [("ix1", "gobgp", "no node"), ("sin1", "quagga", "bird, frr, gobgp")]
)
def test_a_routing_daemon_that_cannot_be_is_refused(host: str, kind: str, said: str) -> None:
    with pytest.raises(LabError, match=said):
        Lab("x", speakers={host: kind})


def test_only_transit_honours_graceful_shutdown() -> None:
    honouring = [r.name for r in ROUTERS if "(65535, 0)" in bird_router_files(r)["bird.conf"]]
    assert honouring == ["transit", "transit2"]


def test_every_client_hangs_on_a_router_and_every_host_is_named_once() -> None:
    assert len(HOSTS) == len(set(HOSTS))
    for client in CLIENTS:
        assert [link.other(client.name) for link in ends_of(client.name)] == [client.router]
        assert 5 <= client.rate <= 20


def test_identity_of_a_name_server_names_tenant_and_node() -> None:
    for node in NODES:
        for tenant in TENANTS:
            assert f"{tenant.name}.{node.name}" in "".join(instance(node, tenant).files.values())


@pytest.mark.parametrize("name", ["", "a-b", "UP", "../x", "x" * 17, "a b", "ä"])
def test_a_name_that_could_hurt_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="can't be a lab's name"):
        LabPaths(name)


def test_the_profile_of_a_lab_is_found_by_its_name() -> None:
    assert str(profile_path("dev1")) == "/run/anyconsole/lab/dev1/lab.toml"
