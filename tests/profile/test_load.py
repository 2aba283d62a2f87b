"""A profile becomes an inventory, or its author is told everything that is wrong with it at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anyconsole.errors import ProfileError
from anyconsole.model import inventory
from anyconsole.model.inventory import Inventory
from anyconsole.profile import load as profile
from anyconsole.profile.load import chosen_profile, explain_profiles, find_profile, load_profile, parse_profile
from anyconsole.profile.schema import walk_tables

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "profiles" / "prod.example.toml"

SMALL = """\
[profile]
name = "small"
[[site]]
name = "fra"
[[interconnect]]
name = "ix1"
kind = "ixp"
  [[interconnect.peer]]
  name = "rs1"
  asn = 64611
  numbers = { ipv4 = 11, ipv6 = 12 }
  [[interconnect.peer]]
  name = "rs2"
  asn = 64612
  numbers = { ipv4 = 21 }
[[tenant]]
name = "de"
number = 1
prefixes = ["192.0.2.0/24", "2001:db8:de::/48"]
addresses = ["192.0.2.53", "2001:db8:de::53"]
zones = ["example.de"]
[[tenant]]
name = "nic"
number = 2
prefixes = ["198.51.100.0/24"]
addresses = ["198.51.100.53"]
zones = ["nic.example"]
[[node]]
name = "fra1"
site = "fra"
  [[node.speaker]]
  kind = "bird"
  socket = "/run/bird/bird.ctl"
    [[node.speaker.session]]
    name = "rs1_v4"
    peer = "rs1"
    family = "ipv4"
    [[node.speaker.session]]
    name = "rs2_v4"
    peer = "rs2"
    family = "ipv4"
  [[node.name_server]]
  kind = "nsd"
  chroot = "/srv/{tenant}"
  control = "{chroot}/nsd.ctl"
  pid_file = "{chroot}/nsd.pid"
[[node]]
name = "fra2"
site = "fra"
[[vantage]]
name = "probe1"
[[looking_glass]]
name = "lg1"
peer = "rs1"
socket = "/run/bird/bird.ctl"
[[generator]]
name = "gen1"
address = "probe1"
sources = ["198.18.0.1"]
[load]
loss = 0.02
  [[load.target]]
  name = "t1"
  node = "fra1"
  tenant = "de"
  addresses = ["198.18.1.1", "2001:0db8:ffff::1"]
  class = "canary"
  max_qps = 2000
  max_seconds = 60
"""
HERE = Path("small.toml")


def _small(*changes: tuple[str, str]) -> str:
    text = SMALL
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def _problems(text: str) -> list[str]:
    with pytest.raises(ProfileError) as caught:
        parse_profile(text, HERE)
    return str(caught.value).split("\n")


def test_a_profile_becomes_the_inventory_it_describes() -> None:
    fleet = parse_profile(SMALL, HERE)
    assert (fleet.name, fleet.path, fleet.read_only) == ("small", "small.toml", True)
    assert fleet.peer("rs2").interconnect == "ix1"
    fra1 = fleet.node("fra1")
    assert [(s.name, s.number) for s in fra1.speakers[0].sessions] == [("rs1_v4", 11), ("rs2_v4", 21)]
    assert fra1.speakers[0].name == "bird"
    assert [(i.tenant, i.control) for i in fra1.instances] == [("de", "/srv/de/nsd.ctl"), ("nic", "/srv/nic/nsd.ctl")]
    assert (fra1.address, fra1.jump, fleet.vantages[0].address) == ("fra1", None, "probe1")
    glass = fleet.looking_glasses[0]
    assert (glass.peer, glass.address, glass.kind, glass.jump) == ("rs1", "lg1", "bird", None)
    assert [host.name for host in fleet.hosts] == ["fra1", "fra2", "probe1", "lg1", "gen1"]
    assert (fleet.generators[0].address, fleet.generators[0].engine, fleet.generators[0].sources) == (
        "probe1",
        "agent",
        ("198.18.0.1",),
    )
    (target,) = fleet.load.targets
    assert (target.class_, target.port, target.zone, target.users) == ("canary", 53, "example.de", ())
    assert target.addresses == ("198.18.1.1", "2001:db8:ffff::1")
    assert (fleet.load.loss, fleet.load.timeout, sum(fleet.load.mix.values())) == (0.02, 0.5, 1.0)


def test_what_is_not_listed_is_no_target() -> None:
    assert parse_profile(SMALL.partition("[load]")[0], HERE).load.targets == ()


def test_only_the_lab_may_be_tested_at_an_announced_address() -> None:
    anycast = ('["198.18.1.1", "2001:0db8:ffff::1"]', '["2001:db8:de::53"]')
    for class_ in ("canary", "prod"):
        (problem,) = _problems(_small(anycast, ('"canary"', f'"{class_}"')))
        assert problem.startswith(
            'small.toml: load.target[0] "t1".addresses[0] = "2001:db8:de::53": is in the announced prefix 2001:db8:de::/48'
        )
    assert parse_profile(_small(anycast, ('"canary"', '"lab"')), HERE).load.targets[0].addresses == ("2001:db8:de::53",)


ONE_MISTAKE = {
    "misspelt key": (
        "socket =", "sokcet =",
        'node[0] "fra1".speaker[0].sokcet = "/run/bird/bird.ctl": unknown key, did you mean "socket"?',
    ),
    "misspelt section": ("[profile]", "[gards]\n[profile]", 'gards = {...}: unknown key, did you mean "guards"?'),
    "missing key": ('kind = "ixp"\n', "", 'interconnect[0] "ix1".kind: is missing'),
    "string for a number": ("number = 1", 'number = "1"', 'tenant[0] "de".number = "1": expected a whole number'),
    "boolean for a number": ("asn = 64611", "asn = true", ".asn = true: expected a whole number"),
    "date for a string": ('name = "fra"', "name = 2026-01-01", 'site[0].name = "2026-01-01": expected a string in quotes'),
    "text for a list": ('zones = ["example.de"]', 'zones = "example.de"', '.zones = "example.de": expected a list, like [...]'),
    "table for tables": ("[[vantage]]", "[vantage]", "vantage = {...}: expected an array of tables, [[vantage]]"),
    "wrong word": ('kind = "ixp"', 'kind = "ipx"', 'kind = "ipx": expected one of ixp, transit, pni, did you mean "ixp"?'),
    "wrong family": ('family = "ipv4"', 'family = "ipv5"', '.family = "ipv5": expected one of ipv4, ipv6'),
    "number too large": ("number = 1", "number = 65536", ".number = 65536: expected a whole number from 1 to 65535"),
    "number zero": ("number = 1", "number = 0", ".number = 0: expected a whole number from 1 to 65535"),
    "number beyond printing": ("number = 1", f"number = 0x{'f' * 5000}", "ffff...: expected a whole number from 1 to 65535"),
    "AS number zero": ("asn = 64611", "asn = 0", ".asn = 0: expected an AS number"),
    "AS_TRANS": ("asn = 64611", "asn = 23456", ".asn = 23456: expected an AS number"),
    "AS number too large": ("asn = 64611", "asn = 4294967295", "expected an AS number"),
    "host bits": ("192.0.2.0/24", "192.0.2.1/24", '.prefixes[0] = "192.0.2.1/24": has host bits set, did you mean "192.0.2.0/24"?'),
    "no prefix length": ('"192.0.2.0/24"', '"192.0.2.0"', "expected a prefix with its length"),
    "no address": ('"192.0.2.53"', '"192.0.2.256"', '.addresses[0] = "192.0.2.256": expected an IP address'),
    "foreign address": ('"192.0.2.53"', '"198.51.100.54"', '.addresses[0] = "198.51.100.54": is in none of the tenant\'s prefixes'),
    "listed twice": ('"2001:db8:de::53"]', '"2001:db8:DE:0::53", "2001:db8:de::53"]', "addresses[1] has the same value"),
    "overlap": ("198.51.100.0/24", "192.0.0.0/16", 'overlaps 192.0.0.0/16 of tenant "nic"'),
    "prefix twice": ('"198.51.100.0/24"]', '"198.51.100.0/24", "198.51.100.0/24"]', "is listed twice"),
    "more sites than there are": ("number = 1", "number = 1\nmin_sites = 2", ".min_sites = 2: the profile has only 1 sites"),
    "two nodes of a name": ('name = "fra2"', 'name = "fra1"\naddress = "x"', '.name = "fra1": node[0] "fra1" has the same name'),
    "two nodes at an address": ('name = "fra2"', 'name = "fra2"\naddress = "fra1"', 'node[1] "fra2".address = "fra1": node[0] "fra1" has'),
    "vantage named like a node": ('"probe1"', '"fra1"\naddress = "x"', 'vantage[0] "fra1".name = "fra1": node[0] "fra1" has the same name'),
    "looking glass named like a vantage": ('"lg1"', '"probe1"', 'looking_glass[0] "probe1".name = "probe1": vantage[0] "probe1" has'),
    "looking glass of nobody": ('peer = "rs1"\nsocket', 'peer = "ix"\nsocket', '.peer = "ix": there is no such peer, '),
    "looking glass of another kind": ('"lg1"', '"lg1"\nkind = "frr"', '.kind = "frr": expected "bird", the only kind'),
    "looking glass without a path": ('"rs1"\nsocket = "/run/', '"rs1"\nsocket = "', '.socket = "bird/bird.ctl": expected an absolute path'),
    "one table read twice": (
        '[[looking_glass]]\nname = "lg1"',
        '[[looking_glass]]\nname = "lg0"\npeer = "rs1"\naddress = "lg1"\nsocket = "/run/bird/bird.ctl"\n[[looking_glass]]\nname = "lg1"',
        'looking_glass[1] "lg1".socket = "lg1:/run/bird/bird.ctl": looking_glass[0] "lg0" has the same socket',
    ),
    "two tenants of a number": ("number = 2", "number = 1", 'tenant[1] "nic".number = 1: tenant[0] "de" has the same number'),
    "two peers of a number": ("ipv4 = 21", "ipv4 = 12", '.peer[1] "rs2".numbers.ipv4 = 12: is already the number of peer "rs1" for ipv6'),
    "two peers of a name": (
        'name = "rs2"', 'name = "rs1"',
        '.peer[1] "rs1".name = "rs1": interconnect[0] "ix1".peer[0] "rs1" has the same name',
    ),
    "unknown site": ('site = "fra"', 'site = "fr"', 'node[0] "fra1".site = "fr": there is no such site, did you mean "fra"?'),
    "unknown peer": ('peer = "rs1"', 'peer = "rs9"', '.session[0] "rs1_v4".peer = "rs9": there is no such peer, did you mean'),
    "unknown template": ('site = "fra"', 'site = "fra"\ntemplate = "x"', '.template = "x": there is no such template, there are none'),
    "unknown tenant": (
        'kind = "nsd"', 'kind = "nsd"\ntenants = ["dee"]',
        '.tenants[0] = "dee": there is no such tenant, did you mean "de"?',
    ),
    "unknown speaker": ('kind = "bird"', 'kind = "brid"', '.kind = "brid": there is no driver for it, did you mean "bird"?'),
    "unknown name server": ('kind = "nsd"', 'kind = "unbound"', '.kind = "unbound": there is no driver for it'),
    "no number for the family": (
        'peer = "rs2"\n    family = "ipv4"', 'peer = "rs2"\n    family = "ipv6"',
        'peer "rs2" has no number for ipv6',
    ),
    "session numbers clash": (
        'peer = "rs2"', 'peer = "rs2"\n    number = 11',
        '.number = 11: is already the number of peer "rs1" for ipv4',
    ),
    "second session of a peer": (
        'name = "rs2_v4"\n    peer = "rs2"', 'name = "b"\n    peer = "rs1"',
        'session "rs1_v4" of this speaker has the same number',
    ),
    "unknown placeholder": (
        "/srv/{tenant}", "/srv/{tennant}",
        '.chroot = "/srv/{tennant}": unknown placeholder "{tennant}", did you mean "tenant"?',
    ),
    "single brace": ("/srv/{tenant}", "/srv/{tenant", ".chroot = \"/srv/{tenant\": has a single brace"),
    "shared control socket": ('control = "{chroot}/nsd.ctl"', 'control = "/run/nsd.ctl"', 'name servers of "de" and "nic" share it'),
    "relative path": ('"{chroot}/nsd.ctl"', '"nsd.ctl"', "expected an absolute socket path on the node, or host:port"),
    "path that climbs": ('"/srv/{tenant}"', '"/srv/../{tenant}"', 'expected an absolute path on the node, without ".."'),
    "colour": ('name = "small"', 'name = "small"\ncolour = "reddish"', 'profile.colour = "reddish": expected a colour like "#5fd7ff"'),
    "negative interval": ("[profile]", "[poll]\nprobe = -1\n[profile]", "poll.probe = -1: expected seconds"),
    "no interval": ("[profile]", "[poll]\nprobe = nan\n[profile]", "poll.probe = nan: expected a number"),
    "too many questions": ("[profile]", "[poll]\ndns = 0.5\n[profile]", "poll.dns = 0.5: expected seconds, at least 1"),
    "always stale": ("[profile]", "[poll]\nprobe = 5\n[profile]", "poll.stale = 3.0: must be longer than poll.probe, 5.0 s"),
    "share above one": ("[profile]", "[guards]\nmin_share = 50\n[profile]", "guards.min_share = 50: expected a share from 0 to 1"),
    "title": ('name = "small"', 'name = "-small"', 'profile.name = "-small": expected a name of letters'),
    "no URL": (
        "[profile]", '[prometheus]\nurl = "prom:9090"\nqps = "x"\n[profile]',
        'prometheus.url = "prom:9090": expected an address like',
    ),
    "no community": ("asn = 64611", 'asn = 64611\nsoft = ["community"]', "community: is missing"),
    "bad community": ("asn = 64611", 'asn = 64611\ncommunity = "70000:1"', "expected a community like"),
    "jump through itself": ('name = "fra2"', 'name = "fra2"\njump = ["fra2"]', "jumps in a circle (fra2 -> fra2)"),
    "jump in a circle": ("[profile]", '[ssh]\njump = ["fra2"]\n[profile]', "jumps in a circle (fra2 -> fra2)"),
    "generator named like a vantage": ('"gen1"', '"probe1"', 'generator[0] "probe1".name = "probe1": vantage[0] "probe1" has'),
    "two generators on a host": (
        "[load]", '[[generator]]\nname = "gen2"\naddress = "probe1"\n[load]',
        'generator[1] "gen2".address = "probe1": generator[0] "gen1" has the same address',
    ),
    "generator that would pose as a service": (
        '["198.18.0.1"]', '["198.51.100.7"]',
        'generator[0] "gen1".sources[0] = "198.51.100.7": is in prefix 198.51.100.0/24 of tenant "nic"',
    ),
    "dedicated without an interface": ('"gen1"', '"gen1"\ndedicated = true', 'generator[0] "gen1".interface: is missing'),
    "engine nobody has": ('"gen1"', '"gen1"\nengine = "queryperf"', '.engine = "queryperf": expected one of agent, dnsperf, kxdpgun'),
    "kxdpgun on a host that has something else to do": (
        '"gen1"', '"gen1"\nengine = "kxdpgun"\ninterface = "eth1"',
        'generator[0] "gen1".engine = "kxdpgun": takes a network interface away from the host: set dedicated = true',
    ),
    "interface that is an option": ('"gen1"', '"gen1"\ninterface = "-x"', '.interface = "-x": expected a network interface'),
    "target without a cap": ("max_qps = 2000", "", 'load.target[0] "t1".max_qps: is missing'),
    "target capped at nothing": ("max_qps = 2000", "max_qps = 0", '"t1".max_qps = 0: expected queries per second'),
    "target for ever": ("max_seconds = 60", "max_seconds = -1", '"t1".max_seconds = -1: expected whole seconds'),
    "target without a class": ('class = "canary"', "", 'load.target[0] "t1".class: is missing'),
    "target that may move": ('"198.18.1.1"', '"fra1.example.net"', '.addresses[0] = "fra1.example.net": expected an IP address'),
    "target that is many": ('"198.18.1.1"', '"224.0.0.1"', '.addresses[0] = "224.0.0.1": expected the address of one host'),
    "target of an unknown node": ('node = "fra1"', 'node = "fra9"', 'load.target[0] "t1".node = "fra9": there is no such node, did you'),
    "target of an unknown tenant": ('tenant = "de"', 'tenant = "dee"', 'load.target[0] "t1".tenant = "dee": there is no such tenant'),
    "target that isn't served": ('node = "fra1"', 'node = "fra2"', '"t1".tenant = "de": node "fra2" has no name server for it'),
    "target asked for foreign names": ('tenant = "de"', 'tenant = "de"\nzone = "nic.example"', '.zone = "nic.example": is none of'),
    "queries from somewhere": ('class = "canary"', 'class = "canary"\nqueries = "names"', '.queries = "names": expected an absolute path'),
    "two targets of a name": (
        "  [[load.target]]\n", SMALL[SMALL.index("  [[load.target]]") :] + "  [[load.target]]\n",
        'load.target[1] "t1".name = "t1": load.target[0] "t1" has the same name',
    ),
    "mix that is no whole": ("loss = 0.02", "mix = { A = 0.5 }", "load.mix = {...}: its shares must add up to 1"),
    "mix of other types": ("loss = 0.02", "mix = { MX = 1.0 }", "load.mix.MX = 1.0: unknown key"),
    "no loss at all": ("loss = 0.02", "loss = 0", "load.loss = 0: expected a share from 0.0001 to 0.5"),
    "nodes left out": (SMALL[SMALL.index("[[node]]") : SMALL.index("[[vantage]]")], "", "node: is missing: a profile needs at least one"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), ONE_MISTAKE.values(), ids=ONE_MISTAKE.keys())
def test_a_mistake_is_named_with_file_key_value_and_what_is_expected(old: str, new: str, expected: str) -> None:
    problems = _problems(_small((old, new)))
    assert any(expected in problem for problem in problems), problems
    assert all(problem.startswith("small.toml: ") for problem in problems)


INJECTIONS = ["-oProxyCommand=reboot", "a b", "a\\nb", "a\\u001b[2J", "a;reboot", "$(reboot)", "a\\u0000"]
INJECTED = {
    "name": ('name = "fra2"', 'name = "{}"'),
    "address": ('name = "fra2"', 'name = "fra2"\naddress = "{}"'),
    "user": ('name = "fra2"', 'name = "fra2"\nuser = "{}"'),
    "jump": ('name = "fra2"', 'name = "fra2"\njump = ["{}"]'),
    "template": ('name = "fra2"', 'name = "fra2"\ntemplate = "{}"'),
    "site": ('name = "fra2"\nsite = "fra"', 'name = "fra2"\nsite = "{}"'),
}


@pytest.mark.parametrize("text", INJECTIONS)
@pytest.mark.parametrize("key", INJECTED)
def test_nothing_of_a_node_can_become_an_option_or_a_command(key: str, text: str) -> None:
    old, new = INJECTED[key]
    assert any(f".{key}" in problem for problem in _problems(_small((old, new.format(text)))))


@pytest.mark.parametrize("key", ["name", "address", "jump", "template", "site"])
def test_an_empty_value_is_not_taken_for_a_name(key: str) -> None:
    old, new = INJECTED[key]
    assert any(f".{key}" in problem for problem in _problems(_small((old, new.format("")))))


def test_session_names_cannot_smuggle_commands_into_a_daemon() -> None:
    assert 'session[0] "rs1_v4\\nreboot"' in _problems(_small(('"rs1_v4"', '"rs1_v4\\nreboot"')))[0]


def test_all_mistakes_are_told_at_once_one_a_line() -> None:
    problems = _problems(
        _small(
            ("socket =", "sokcet ="),
            ("number = 2", "number = 70000"),
            ('site = "fra"', 'site = "fr"'),
            ('"198.51.100.53"', '"192.0.2.54"'),
            ('name = "fra2"', 'name = "fra1"'),
        )
    )
    for expected in (
        "sokcet",
        "socket: is missing",
        "70000",
        "no such site",
        "in none of the tenant's",
        "has the same name",
    ):
        assert sum(expected in problem for problem in problems) == 1, (expected, problems)


def test_one_mistake_in_a_template_is_told_once_and_not_for_every_node() -> None:
    template = '[template.t]\n[[template.t.name_server]]\nkind = "nsd"\ncontrol = "{chrot}/x"\n'
    nodes = "".join(f'[[node]]\nname = "t{i}"\nsite = "fra"\ntemplate = "t"\n' for i in range(20))
    assert _problems(SMALL + nodes + template) == [
        'small.toml: template.t.name_server[0].control = "{chrot}/x": unknown placeholder "{chrot}", did you mean "chroot"?'
    ]


def test_a_syntax_error_says_line_and_column() -> None:
    assert _problems("[profile]\nname = \n")[0].startswith("small.toml:2:8: not valid TOML: Invalid value")
    assert _problems('[profile]\nname = "x')[0].startswith("small.toml:2:10: not valid TOML: ")


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "1" * 5000, "a.b = 1\n[a]\nb = 2"])
def test_toml_that_breaks_the_parser_is_an_error_like_any_other(text: str) -> None:
    assert "not valid TOML" in _problems(text)[0]


def test_names_in_messages_cannot_write_to_the_terminal() -> None:
    problems = _problems(_small(('name = "fra2"', '"\\u001b[31m" = 1\nname = "\\u001b[2J\\u202e"')))
    assert all(problem.isprintable() for problem in problems)


def test_addresses_and_prefixes_are_kept_in_their_shortest_form() -> None:
    fleet = parse_profile(
        _small(('"2001:db8:de::/48"', '"2001:0DB8:de:0::/48"'), ('"2001:db8:de::53"', '"2001:db8:de:0:0::53"')), HERE
    )
    assert fleet.tenant("de").prefixes[1] == "2001:db8:de::/48"
    assert fleet.tenant("de").addresses[1] == "2001:db8:de::53"


def test_a_second_session_with_a_peer_gets_its_own_number() -> None:
    second = 'name = "rs1b_v4"\n    peer = "rs1"\n    number = 13'
    fleet = parse_profile(_small(('name = "rs2_v4"\n    peer = "rs2"', second)), HERE)
    assert [s.number for s in fleet.node("fra1").speakers[0].sessions] == [11, 13]


def test_a_jump_host_may_be_a_node_that_is_reached_directly() -> None:
    text = _small(("[profile]", '[ssh]\njump = ["fra2"]\n[profile]'), ('name = "fra2"', 'name = "fra2"\njump = []'))
    assert parse_profile(text, HERE).node("fra2").jump == ()


# Includes


def test_an_included_file_is_overlaid_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(SMALL + '[ssh]\nuser = "ops"\njump = ["jump"]\n')
    top = tmp_path / "top.toml"
    top.write_text('include = "base.toml"\n[profile]\nname = "top"\n[ssh]\njump = []\n[[vantage]]\nname = "probe9"\n')
    fleet = load_profile(str(top))
    assert (fleet.name, fleet.path, fleet.ssh.user, fleet.ssh.jump) == ("top", str(top), "ops", ())
    assert [v.name for v in fleet.vantages] == ["probe9"]
    assert len(fleet.nodes) == 2


def test_a_mistake_in_an_included_file_names_that_file(tmp_path: Path) -> None:
    base, top = tmp_path / "base.toml", tmp_path / "top.toml"
    base.write_text(_small(("socket =", "sokcet =")) + "[poll]\nprobe = 0\n")
    top.write_text('include = "base.toml"\n[poll]\ndns = 0\n[profile]\nname = "top"\n')
    with pytest.raises(ProfileError) as caught:
        load_profile(str(top))
    lines = str(caught.value).split("\n")
    assert {line.split(": ")[0] for line in lines if "dns" in line} == {str(top)}
    assert {line.split(": ")[0] for line in lines if "probe =" in line or "sok" in line} == {str(base)}


def test_includes_that_go_in_a_circle_are_refused(tmp_path: Path) -> None:
    for one, other in ("ab", "ba"):
        (tmp_path / f"{one}.toml").write_text(f'include = "{other}.toml"\n')
    with pytest.raises(ProfileError, match="includes itself"):
        load_profile(str(tmp_path / "a.toml"))


def test_the_lab_profile_says_how_to_start_the_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "LAB_FOLDER", tmp_path)
    text = (ROOT / "profiles" / "lab.toml").read_text().replace("/run/anyconsole/lab", str(tmp_path))
    with pytest.raises(ProfileError, match="the lab is not up: run `anyconsole lab up`"):
        parse_profile(text, HERE)
    (tmp_path / "default").mkdir()
    (tmp_path / "default" / "lab.toml").write_text(SMALL)
    assert parse_profile(text, HERE).name == "lab"


# Finding


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A current, a user's and the packaged folder; the first two are empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    own, users = tmp_path / "profiles", tmp_path / "config" / "anyconsole" / "profiles"
    own.mkdir()
    users.mkdir(parents=True)
    return [own, users, ROOT / "profiles"]


def test_the_nearest_profile_of_a_name_wins(folders: list[Path]) -> None:
    assert find_profile("lab") == folders[2] / "lab.toml"
    (folders[1] / "lab.toml").write_text(SMALL)
    assert find_profile("lab") == folders[1] / "lab.toml"
    (folders[0] / "lab.toml").write_text(SMALL)
    assert find_profile("lab").absolute() == folders[0] / "lab.toml"
    assert find_profile("prod.example") == folders[2] / "prod.example.toml"


def test_a_path_is_a_path(folders: list[Path]) -> None:
    (folders[0] / "x.toml").write_text(SMALL)
    assert find_profile("./lab") == Path("lab")
    assert find_profile("lab.toml") == Path("lab.toml")
    assert load_profile("profiles/x.toml").name == "small"
    with pytest.raises(ProfileError, match=r"lab\.toml: can't be read: No such file"):
        load_profile("lab.toml")
    with pytest.raises(ProfileError, match="can't be read: Is a directory"):
        load_profile("./profiles")


def test_an_unknown_name_is_answered_with_the_nearest_one(folders: list[Path]) -> None:
    with pytest.raises(ProfileError, match=r'profile "labb": not found in profiles, .*; did you mean "lab"\?'):
        load_profile("labb")
    assert len(folders) == 3


@pytest.mark.parametrize("name", ["", "-x", "--profile", "a\0b", "a\nb.toml", "/x/\0.toml"])
def test_a_name_that_is_an_option_or_cannot_be_printed_is_refused(name: str) -> None:
    with pytest.raises(ProfileError, match="expected a name or a path"):
        load_profile(name)


def test_a_name_too_long_for_any_file_is_not_found() -> None:
    for name in ("x" * 5000, "./" + "x" * 5000):
        with pytest.raises(ProfileError, match=r"not found in|File name too long"):
            load_profile(name)


def test_an_include_that_may_be_missing_too_long_or_a_loop_of_links_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "loop.toml").symlink_to(tmp_path / "loop.toml")
    for target in ("loop.toml", "absent.toml", "x" * 5000, "/run/anyconsole/lab/" + "x" * 5000, "."):
        with pytest.raises(ProfileError, match="can't be read"):
            parse_profile(f'include = "{target}"\n', tmp_path / "top.toml")


def test_the_environment_names_the_profile_when_the_command_line_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYCONSOLE_PROFILE", "prod")
    assert (chosen_profile("lab"), chosen_profile(None)) == ("lab", "prod")
    monkeypatch.setenv("ANYCONSOLE_PROFILE", "")
    assert chosen_profile(None) is None


def test_whoever_starts_without_a_profile_sees_on_one_screen_what_there_is(folders: list[Path]) -> None:
    for number in range(30):
        (folders[0] / f"p{number:02}.toml").write_text("")
    text = explain_profiles()
    assert len(text.split("\n")) <= 24
    assert max(map(len, text.split("\n"))) <= 80
    for expected in (
        "p00",
        "and 24 more",
        "lab up",
        "profile import ssh",
        "profile check",
        "prod.example",
        "ANYCONSOLE_PROFILE",
    ):
        assert expected in text


def test_files_that_are_no_text_are_refused_with_the_place(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b'[profile]\nname = "\xff"\n')
    with pytest.raises(ProfileError, match=r"x\.toml:2:9: isn't UTF-8 text"):
        load_profile(str(path))


# The example, and the schema behind it


def _keys_in(table: object, path: str, found: set[str]) -> None:
    if isinstance(table, list):
        for item in table:
            _keys_in(item, path, found)
    elif isinstance(table, dict):
        for key, value in table.items():
            found.add(f"{path}.{key}")
            _keys_in(value, f"{path}.{key}", found)


def test_the_example_has_every_option_there_is() -> None:
    import tomllib

    raw = tomllib.loads(EXAMPLE.read_text())
    for template in raw.pop("template").values():
        raw["node"].append(template)
    found: set[str] = set()
    for name, table in raw.items():
        _keys_in(table, name, found)
    options = {f"{name}.{key}" for name, table in walk_tables() for key in table.keys}
    assert options <= found
    assert "# include = " in EXAMPLE.read_text()


def test_the_example_explains_every_option() -> None:
    explained = {line.partition("=")[0].strip() for line in EXAMPLE.read_text().split("\n") if " # " in line}
    options = {key for _, table in walk_tables() for key, what in table.keys.items() if what.table is None}
    assert options <= explained


def test_every_field_of_the_inventory_can_be_set_by_a_profile() -> None:
    filled_in = {
        ("Peer", "interconnect"),
        ("InstanceSpec", "tenant"),
        ("Inventory", "path"),
        ("Inventory", "is_locked"),
    }
    parts = {
        "ssh",
        "poll",
        "guards",
        "sites",
        "interconnects",
        "tenants",
        "clusters",
        "nodes",
        "vantages",
        "looking_glasses",
        "generators",
        "bootstraps",
        "stack",
        "load",
        "prometheus",
    }
    settable = {(table.struct.__name__, key.field) for _, table in walk_tables() for key in table.keys.values()}
    structs = [s for s in vars(inventory).values() if isinstance(s, type) and issubclass(s, msgspec.Struct)]
    fields = {(s.__name__, field) for s in structs for field in s.__struct_fields__ if s is not msgspec.Struct}
    assert fields - filled_in - {("Inventory", part) for part in parts} <= settable


def test_the_example_is_a_valid_profile_of_three_sites() -> None:
    fleet = load_profile(str(EXAMPLE))
    assert isinstance(fleet, Inventory)
    assert [site.name for site in fleet.sites] == ["fra", "ams", "sin"]
    assert fleet.node("ams1").address == "ams1.ams.example.net"
    assert fleet.node("sin1").instances[0].control == "127.0.0.1:8001"
    assert all(len(node.instances) == 3 for node in fleet.nodes)


# Anything at all


_JUNK = [
    "{}", "[[]]", "[{}]", '""', "nan", "-1", "1e400", '"{"', '"{tenant:9}"', '"{:}"', "2026-01-01", '["a", 1]', "{ a = 1 }", '"-x"',
    f"0x{'f' * 4000}",
]  # fmt: skip
_LINES = SMALL.split("\n")
_EXAMPLE_TEXT = EXAMPLE.read_text()


@st.composite
def _mutated(draw: st.DrawFn) -> str:
    """A profile with a few lines or pieces exchanged, doubled, lost or scribbled over."""
    lines = list(_LINES)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(lines) - 1))
        other = lines[draw(st.integers(0, len(lines) - 1))]
        key = lines[at].partition("=")[0]
        junk = draw(st.sampled_from(_JUNK))
        scribble = draw(st.text(max_size=20))
        lines[at] = draw(st.sampled_from([other, "", f"{lines[at]}\n{other}", f"{key}= {junk}", scribble]))
    return "\n".join(lines)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_mutated())
def test_any_mutation_is_a_profile_or_a_profile_error(text: str) -> None:
    try:
        fleet = parse_profile(text, HERE)
    except ProfileError as error:
        assert str(error).startswith("small.toml")  # noqa: PT017 - the other outcome is a valid profile
    else:
        assert fleet.nodes


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(_EXAMPLE_TEXT)), st.integers(0, 40), st.text(max_size=10))
def test_the_example_scribbled_over_is_a_profile_or_a_profile_error(at: int, length: int, text: str) -> None:
    try:
        parse_profile(_EXAMPLE_TEXT[:at] + text + _EXAMPLE_TEXT[at + length :], HERE)
    except ProfileError:
        return


def test_reading_profiles_imports_neither_screen_nor_transports() -> None:
    code = (
        "import sys, anyconsole.profile, anyconsole.profile.command\n"
        "heavy = {'textual', 'rich', 'asyncssh', 'dns', 'prometheus_api_client', 'requests', 'asyncio', 'difflib', 'importlib.metadata'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout.strip() == "[]"
