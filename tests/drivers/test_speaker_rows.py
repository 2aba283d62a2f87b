"""Export verdicts and drain lists: the rules all speakers share."""

from __future__ import annotations

import pytest

from anyconsole.drivers.drain_lists import drain_pairs, drain_serial, list_entry
from anyconsole.drivers.export_verdict import judge
from anyconsole.drivers.parse_error import ParseError
from anyconsole.model.facts import Exported


@pytest.mark.parametrize(
    ("communities", "path", "med", "expected", "why"),
    [
        ([], [], None, "announced", ""),
        (["64500:1"], [], 100, "announced", ""),
        (["65535:0"], [], None, "depreferred", "graceful shutdown community"),
        (["64611:70"], [], None, "depreferred", "community 64611:70"),
        ([], [64500], None, "depreferred", "prepended x1"),
        ([], [], 4294967294, "depreferred", "MED 4294967294"),
        ([], [], 4294967295, "depreferred", "MED 4294967295"),
        ([], [65001], None, "announced", ""),
    ],
)
def test_what_makes_an_announcement_depreferred(
    communities: list[str], path: list[int], med: int | None, expected: str, why: str
) -> None:
    assert judge(communities, path, med, own_as=64500, base=0, soft_community="64611:70") == (Exported(expected), why)


def test_own_as_that_the_speaker_shows_anyway_is_no_prepend() -> None:
    assert judge([], [64500], None, own_as=64500, base=1)[0] == "announced"
    assert judge([], [64500, 64500], None, own_as=None, base=1) == ("depreferred", "prepended x1")


SPEC = {
    "sessions": [
        {"name": "a", "peer": "ix1", "family": "ipv4", "number": 11},
        {"name": "b", "peer": "ix1", "family": "ipv6", "number": 12},
        {"name": "c", "peer": "ix2", "family": "ipv4", "number": 21},
    ],
    "tenants": [
        {"name": "de", "number": 1, "prefixes": ["192.0.2.0/24", "2001:db8:de::/48"]},
        {"name": "nic", "number": 2, "prefixes": ["198.51.100.0/24"]},
    ],
}


def test_prefix_lists_become_pairs_of_the_right_family_and_peer() -> None:
    lists = {
        "AC-HARD-IX1": [list_entry("192.0.2.0/24", permit=True), list_entry("2001:db8:de::/48", permit=True)],
        "AC-HARD-IX2": [list_entry("0.0.0.0/0", permit=True, high=32)],
        "AC-SOFT-IX1": [
            list_entry("198.51.100.0/24", permit=False),
            list_entry("0.0.0.0/0", permit=True, low=24, high=24),
        ],
        "AC-ALL4": [list_entry("0.0.0.0/0", permit=True, high=32)],
    }
    assert drain_pairs(SPEC, lists, "HARD") == [(1, 11), (1, 12), (1, 21), (2, 21)]
    assert drain_pairs(SPEC, lists, "SOFT") == [(1, 11)]


def test_entry_without_bounds_matches_its_own_prefix_only() -> None:
    assert drain_pairs(SPEC, {"AC-HARD-IX1": [list_entry("0.0.0.0/0", permit=True)]}, "HARD") == []


@pytest.mark.parametrize(("prefix", "low"), [("x", None), (None, None), ("192.0.2.0/24", 40), ("192.0.2.0/24", "24")])
def test_nonsense_is_no_entry(prefix: object, low: object) -> None:
    with pytest.raises(ParseError):
        list_entry(prefix, permit=True, low=low)


def test_serial_tells_drain_states_apart_and_is_zero_without_any() -> None:
    assert drain_serial([], []) == 0
    assert len({drain_serial([(1, 1)], []), drain_serial([], [(1, 1)]), drain_serial([(1, 2)], []), 0}) == 4
