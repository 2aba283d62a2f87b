"""What a key press means: rows become names, and a session's row never means more than that session."""

from __future__ import annotations

import json

import msgspec
import pytest

from anyconsole.model.facts import Key
from anyconsole.model.inventory import Family, SessionSpec
from anyconsole.model.store import FleetStore
from anyconsole.tui.targets import Targets, Wish, drift_targets_of, request_text, targets_of
from tests.fleet import inventory

STORE = FleetStore(inventory())


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        (("node", "fra1"), {"nodes": ("fra1",)}),
        (("tenant", "de"), {"tenants": ("de",)}),
        (("instance", "fra1", "de"), {"nodes": ("fra1",), "tenants": ("de",)}),
        (
            ("session", "fra1", "bird", "ix1_v6"),
            {"nodes": ("fra1",), "peers": ("ix1",), "families": (Family.IPV6,)},
        ),
        (
            ("announcement", "fra1", "bird", "ix1_v4", "192.0.2.0/24"),
            {"cells": (("fra1", "ix1_v4", "192.0.2.0/24"),)},
        ),
    ],
)
def test_a_row_means_what_it_names(key: Key, wanted: dict[str, object]) -> None:
    found = targets_of(STORE, [key])
    assert found is not None
    assert found.words
    assert msgspec.structs.replace(found, words="") == Targets(**wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "keys", [[], [("event", "1")], [("node", "fra1"), ("catchment", "client1", "192.0.2.53", "de.example")]]
)
def test_rows_that_name_no_announcement_mean_nothing(keys: list[Key]) -> None:
    assert targets_of(STORE, keys) is None


def test_marked_rows_of_several_kinds_mean_their_announcements_each_once() -> None:
    keys: list[Key] = [
        ("announcement", "fra1", "bird", "ix1_v4", "192.0.2.0/24"),
        ("session", "fra1", "bird", "ix1_v4"),
        ("session", "ams1", "bird", "transit_v6"),
    ]
    found = targets_of(STORE, keys)
    assert found is not None
    assert len(found.cells) == 6
    assert {cell[:2] for cell in found.cells} == {("fra1", "ix1_v4"), ("ams1", "transit_v6")}
    assert not any((found.nodes, found.tenants, found.peers, found.families))


def test_marked_nodes_and_marked_tenants_are_named_in_full() -> None:
    nodes = targets_of(STORE, [("node", "fra1"), ("node", "sin1")])
    assert nodes is not None
    assert nodes.nodes == ("fra1", "sin1")
    tenants = targets_of(STORE, [("tenant", "nic"), ("tenant", "de")])
    assert tenants is not None
    assert tenants.tenants == ("de", "nic")
    assert "de, nic" in tenants.words


def test_a_second_session_with_the_same_peer_is_not_meant() -> None:
    fleet = inventory(["fra1"])
    (node,) = fleet.nodes
    (speaker,) = node.speakers
    twin = SessionSpec(name="ix1_v4b", peer="ix1", family=Family.IPV4, number=13)
    speaker = msgspec.structs.replace(speaker, sessions=(*speaker.sessions, twin))
    fleet = msgspec.structs.replace(fleet, nodes=(msgspec.structs.replace(node, speakers=(speaker,)),))
    found = targets_of(FleetStore(fleet), [("session", "fra1", "bird", "ix1_v4")])
    assert found is not None
    assert {cell[1] for cell in found.cells} == {"ix1_v4"}
    assert not found.peers


def test_marked_rows_without_any_announcement_never_become_the_whole_fleet() -> None:
    fleet = inventory(["fra1"])
    fleet = msgspec.structs.replace(fleet, nodes=(msgspec.structs.replace(fleet.nodes[0], instances=()),))
    assert targets_of(FleetStore(fleet), [("session", "fra1", "bird", s) for s in ("ix1_v4", "ix1_v6")]) is None


def test_a_request_says_only_what_narrows() -> None:
    targets = Targets(nodes=("fra1",), words="node fra1")
    text = request_text(Wish.DRAIN, targets, level="soft", reason="why", ticket="T-1", expires_at=12.0)
    assert json.loads(text) == {
        "nodes": ["fra1"],
        "level": "soft",
        "reason": "why",
        "ticket": "T-1",
        "expires_at": 12.0,
    }


def test_drift_is_settled_on_the_nodes_that_the_rows_are_on() -> None:
    store = FleetStore(inventory(["fra1", "fra2"]))
    keys = [("session", "fra2", "bird", "ix1_v4"), ("node", "fra1"), ("instance", "fra2", "de")]
    targets = drift_targets_of(store, keys)
    assert targets is not None
    assert json.loads(request_text(Wish.ADOPT, targets, reason="known")) == {
        "way": "adopt",
        "nodes": ["fra1", "fra2"],
        "reason": "known",
        "ticket": "",
    }
    assert drift_targets_of(store, [("tenant", "de")]) is None
