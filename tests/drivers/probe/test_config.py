"""What a node's probe is told."""

from __future__ import annotations

import json

import msgspec
import pytest

from anyconsole.drivers.plugins import PluginError
from anyconsole.drivers.probe.collect import sections
from anyconsole.drivers.probe.config import (
    glass_config,
    host_config,
    probe_config,
    row_count,
    section_names,
    vantage_config,
)
from anyconsole.model.inventory import Generator, PollSpec, SpeakerSpec
from tests.drivers.fleet_of_one import INVENTORY, NODE


def test_node_is_told_its_sessions_instances_addresses_and_questions() -> None:
    config = probe_config(INVENTORY, NODE)
    assert json.loads(json.dumps(config)) == config
    bird = config["speakers"][0]
    assert bird["sessions"][0] == {
        "name": "ix1_v4", "peer": "ix1", "asn": 64611, "family": "ipv4", "number": 11, "community": "64611:70",
    }  # fmt: skip
    assert [t["name"] for t in bird["tenants"]] == ["de", "nic", "enum"]
    assert [i["section"] for i in config["instances"]] == ["nsd:de", "knot:nic", "bind:enum"]
    assert config["instances"][1]["zones"] == ["example.de"]
    assert config["host"]["addresses"] == ["192.0.2.53", "2001:db8:de::53", "198.51.100.53", "203.0.113.53"]
    assert len(config["dns"]["questions"]) == 4
    found = sections(config)
    assert [s.name for s in found] == [
        "host",
        "bird",
        "frr",
        "gobgp",
        "nsd:de",
        "knot:nic",
        "bind:enum",
        "dns",
    ]
    assert [s.name for s in found if s.slow] == ["gobgp", "dns"]


def test_vantage_point_asks_about_every_tenant_and_looks_at_no_daemon() -> None:
    config = vantage_config(INVENTORY, INVENTORY.vantages[0])
    assert {q["tenant"] for q in config["dns"]["questions"]} == {"de", "nic", "enum", "elsewhere"}
    assert [s.name for s in sections(config)] == ["host", "dns"]


def test_looking_glass_is_asked_for_every_service_prefix_and_nothing_else() -> None:
    glass = INVENTORY.looking_glasses[0]
    config = host_config(INVENTORY, glass)
    assert config == glass_config(INVENTORY, glass) == json.loads(json.dumps(config))
    assert config["routes"]["prefixes"] == [p for t in INVENTORY.tenants for p in t.prefixes]
    assert (config["routes"]["socket"], config["routes"]["community"]) == ("/run/bird/bird.ctl", "64611:70")
    assert [s.name for s in sections(config)] == ["routes"]
    assert section_names(config) == {"routes"}
    assert row_count(config) == len(config["routes"]["prefixes"])


def test_generator_tells_how_its_host_is_and_asks_nobody() -> None:
    config = host_config(INVENTORY, Generator(name="gen1", address="client1"))
    assert [s.name for s in sections(config)] == ["host"]
    assert config["dns"]["questions"] == []
    assert config["host"]["addresses"] == []


def test_address_is_never_asked_more_than_once_a_second() -> None:
    eager = msgspec.structs.replace(INVENTORY, poll=PollSpec(dns=0.1))
    assert vantage_config(eager, eager.vantages[0])["dns"]["period"] == 1.0
    assert probe_config(eager, NODE)["dns"]["period"] == 1.5


def test_probes_of_a_fleet_do_not_tick_in_step() -> None:
    phases = {probe_config(INVENTORY, msgspec.structs.replace(NODE, name=f"n{i}"))["phase"] for i in range(50)}
    assert len(phases) > 40


def test_kind_without_a_driver_is_named_with_the_known_ones() -> None:
    node = msgspec.structs.replace(NODE, speakers=(SpeakerSpec(name="x", kind="quagga", socket="/x"),))
    with pytest.raises(PluginError, match=r"quagga.*bird, frr, gobgp"):
        probe_config(INVENTORY, node)


def test_what_a_host_is_asked_for_is_what_its_collectors_report() -> None:
    for config in (probe_config(INVENTORY, NODE), vantage_config(INVENTORY, INVENTORY.vantages[0])):
        names = {section.name for section in sections(config)}
        assert names <= section_names(config) <= names | {"dns"}


def test_a_hosts_rows_are_counted_from_what_it_is_asked_for() -> None:
    config = probe_config(INVENTORY, NODE)
    exports = {"bird": 4, "frr": 4, "gobgp": 4}  # the prefixes of three tenants, each on the session of its family
    speakers = sum(1 + 2 + count for count in exports.values())
    assert row_count(config) == 1 + speakers + 2 * 3 + len(config["dns"]["questions"])
