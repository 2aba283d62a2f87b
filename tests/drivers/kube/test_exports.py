"""What a node in a cluster really announces, by its own BIRDs: read through one command that can't change or burden them."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings

from anyconsole.drivers.kube.exports import Answers, question, read_answers
from anyconsole.model.facts import Exported
from tests.drivers.kube.calico_fleet import inventory
from tests.drivers.samples import mutated, sample

FLEET = inventory()
HV1 = FLEET.nodes[0]
AT = 1_795_460_000.0
NAMES = {
    "10.0.11.2": "Node_10_0_11_2",
    "fd00:11::2": "Node_fd00_11__2",
    "10.0.12.2": "Global_10_0_12_2",
    "fd00:12::2": "Node_fd00_12__2_port_1790",
}
WHOLE = sample("birdcl-1.6.8", "exports.txt")


def read(output: bytes, names: dict[str, str] = NAMES) -> Answers:
    return read_answers(output, FLEET, HV1, names, AT)


def table(output: bytes, names: dict[str, str] = NAMES) -> dict[tuple[str, str], tuple[str, str]]:
    return {(f.session, f.prefix): (str(f.exported), f.detail) for f in read(output, names).facts}


def test_each_prefix_is_told_on_each_session_as_bird_sends_it() -> None:
    assert table(WHOLE) == {
        ("10.0.11.2", "192.0.2.0/24"): ("depreferred", "graceful shutdown community"),
        ("10.0.11.2", "198.51.100.0/24"): ("absent", ""),
        ("fd00:11::2", "2001:db8:de::/48"): ("depreferred", "prepended x3"),
        ("fd00:11::2", "2001:db8:11c::/48"): ("announced", ""),
        ("10.0.12.2", "192.0.2.0/24"): ("absent", "session is not established"),
        ("10.0.12.2", "198.51.100.0/24"): ("absent", "session is not established"),
        ("fd00:12::2", "2001:db8:de::/48"): ("announced", ""),
        ("fd00:12::2", "2001:db8:11c::/48"): ("announced", ""),
    }
    first = read(WHOLE).facts[0]
    assert (first.node, first.section, first.speaker, first.at) == ("hv1", "calico", "calico", AT)
    assert (first.communities, first.as_path) == (("65535:0",), (64500,))


def test_a_prefix_that_is_announced_itself_needs_no_address_and_one_of_which_a_part_is_missing_is_not_known() -> None:
    """With externalTrafficPolicy Cluster Calico announces the prefix; and a tenant may have several addresses in one."""
    prefix, address, between = b"2001:db8:de::/48", b"2001:db8:de::53/128", b"between"
    swapped = WHOLE.replace(address, between).replace(prefix, address).replace(between, prefix)
    assert table(swapped) == table(WHOLE)
    fleet = inventory(second="192.0.2.54")
    part = read_answers(
        WHOLE + b"\n@@ ask 4 show route 192.0.2.54/32 export Node_10_0_11_2 all\n0001 BIRD 1.6.8 ready.\n"
        b"0016 Access restricted\n8001 Network not in table\n\n@@ end 1\n", fleet, fleet.nodes[0], NAMES, AT
    ).facts[0]  # fmt: skip
    assert (part.exported, part.detail) == (Exported.UNKNOWN, "192.0.2.53/32 exported, 192.0.2.54/32 not")


def test_a_peers_own_community_depreferres_too() -> None:
    tagged = WHOLE.replace(b"(65535,0)", b"(64611,80)")
    assert table(tagged)["10.0.11.2", "192.0.2.0/24"] == ("depreferred", "community 64611:80")


def test_the_first_answer_is_of_names_and_claims_nothing() -> None:
    assert question(FLEET, HV1, {})[4:] == ["4 show protocols", "6 show protocols"]
    answers = read(sample("birdcl-1.6.8", "protocols.txt"), {})
    assert answers.names == NAMES
    assert {f.exported for f in answers.facts if f.session != "10.0.12.2"} == {Exported.UNKNOWN}


def test_only_single_prefixes_are_asked_for_and_never_without_restriction() -> None:
    _, _, script, _, *asks = question(FLEET, HV1, NAMES | {"10.0.12.2": "x all; configure"})
    assert script.count("-v -r -s /var/run/calico/bird") == script.count("birdcl -v") + script.count("birdcl6 -v") == 2
    assert asks[:3] == [
        "4 show protocols",
        "6 show protocols",
        "4 show route 192.0.2.0/24 export Node_10_0_11_2 all",
    ]
    assert all(ask[2:] == "show protocols" or "/" in ask.split()[3] for ask in asks)
    assert not [ask for ask in asks if "configure" in ask], "a name that is none of BIRD's is not asked for"


def test_a_bird_that_does_not_run_announces_nothing_and_a_pod_without_birdcl_tells_nothing() -> None:
    without = table(sample("birdcl-1.6.8", "no_bird6.txt"))
    assert without["fd00:11::2", "2001:db8:de::/48"] == ("absent", "bird6 is not running")
    assert without["10.0.11.2", "192.0.2.0/24"][0] == "depreferred"
    lost = b"\n@@ ask 4 show protocols\nsh: birdcl: not found\n\n@@ end 127\n"
    assert {state for state, _ in table(lost).values()} == {"unknown"}
    assert {state for state, _ in table(b"").values()} == {"unknown"}
    killed = WHOLE.replace(b"0016 Access restricted\n\n@@ end 0", b"0016 Access restricted\n\n@@ end 137")
    assert table(killed)["10.0.11.2", "198.51.100.0/24"][0] == "unknown", "no route is shown, but BIRD wasn't asked"


def test_an_answer_cut_off_anywhere_never_tells_another_story() -> None:
    whole = table(WHOLE)
    for end in range(0, len(WHOLE), 7):
        for cell, (state, detail) in table(WHOLE[:end]).items():
            assert state == "unknown" or (state, detail) == whole[cell]


def test_a_session_that_bird_calls_otherwise_by_now_is_asked_for_again() -> None:
    renamed = WHOLE.replace(b"Node_10_0_11_2 BGP", b"Global_10_0_11_2 BGP")
    assert read(renamed).names["10.0.11.2"] == "Global_10_0_11_2"
    assert table(renamed)["10.0.11.2", "192.0.2.0/24"] == ("unknown", "not asked yet")


@settings(max_examples=200, deadline=None)
@given(mutated([WHOLE, sample("birdcl-1.6.8", "no_bird6.txt")]))
def test_whatever_a_pod_says_is_read(output: bytes) -> None:
    answers = read(output)
    assert len(answers.facts) == 8
    assert all(fact.detail.isprintable() and len(fact.detail) < 400 for fact in answers.facts)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_script_asks_each_bird_what_is_for_it(shell: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """In any POSIX shell; birdcl is one that says how it was called."""
    folder = tmp_path_factory.mktemp("bin")
    for name in ("birdcl", "birdcl6"):
        (folder / name).write_text(f'#!/bin/sh\nprintf "{name}:"; printf " [%s]" "$@"; echo; exit 1\n')
        (folder / name).chmod(0o755)
    _, *rest = question(FLEET, HV1, NAMES)
    said = subprocess.run([shell, *rest], env={"PATH": f"{folder}:/usr/bin:/bin"}, capture_output=True, check=True)
    assert said.stderr == b""
    lines = said.stdout.decode().split("\n")
    assert lines.count("@@ end 1") == 18
    assert (
        "birdcl: [-v] [-r] [-s] [/var/run/calico/bird.ctl] [show route 192.0.2.53/32 export Node_10_0_11_2 all]"
        in lines
    )
    assert "birdcl6: [-v] [-r] [-s] [/var/run/calico/bird6.ctl] [show protocols]" in lines
