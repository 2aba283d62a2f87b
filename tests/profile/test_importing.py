"""Nobody types 200 hosts: inventories and ssh configurations become profiles that `profile check` accepts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anyconsole.errors import ProfileError
from anyconsole.model.inventory import Inventory
from anyconsole.profile.import_ansible import import_ansible
from anyconsole.profile.import_ssh import import_ssh
from anyconsole.profile.importing import FoundHost, profile_of
from anyconsole.profile.load import parse_profile

INI = """\
# hosts of the anycast cloud
lonely ansible_host=192.0.2.9
[fra]
fra[01:03].example.net
[ams:vars]
ansible_user = 'ams-ops'
[ams]
ams[a:b].example.net:2222 motd="two words" # a comment
[sin]
sin1 ansible_host=2001:db8::1 ansible_user=root
[nsd]
fra01.example.net site=paris
[anycast:children]
fra
ams
sin
[all:vars]
ansible_user=everybody
[anycast:vars]
ansible_user=ops
ansible_ssh_common_args='-o ProxyJump=me@jump.example.net:22,inner'
ansible_ssh_private_key_file=~/.ssh/id_ansible
[control]
localhost ansible_connection=local
"""


def _ansible(text: str, site_from: str = "group") -> Inventory:
    return parse_profile(import_ansible(text, "hosts", "fleet", site_from=site_from), Path("fleet.toml"))


def test_an_ini_inventory_becomes_a_profile() -> None:
    fleet = _ansible(INI)
    assert [(n.name, n.site) for n in fleet.nodes] == [
        ("lonely", "unsorted"),
        ("fra01.example.net", "paris"),
        ("fra02.example.net", "fra"),
        ("fra03.example.net", "fra"),
        ("amsa.example.net", "ams"),
        ("amsb.example.net", "ams"),
        ("sin1", "sin"),
    ]
    assert [fleet.node(n).user for n in ("lonely", "fra02.example.net", "amsa.example.net", "sin1")] == [
        "everybody",
        "ops",
        "ams-ops",
        "root",
    ]
    assert fleet.node("sin1").address == "2001:db8::1"
    assert fleet.ssh.jump == ("jump.example.net", "inner")
    assert fleet.ssh.identity_files == (str(Path.home() / ".ssh/id_ansible"),)
    assert [n.name for n in fleet.nodes if n.jump == ()] == ["lonely"]
    assert fleet.read_only


def test_what_an_import_cannot_know_is_a_todo() -> None:
    text = import_ansible(INI, "hosts", "fleet")
    for expected in (
        "# TODO: which site is it in?",
        "# TODO: port 2222: put it into your ssh configuration (Host amsa.example.net, Port 2222)",
        "# TODO: jump host me@jump.example.net:22: put its user and port into your ssh configuration (Host jump.example.net)",
        "# Left out: localhost: is reached by local, not by ssh",
        "# groups: fra, nsd",
        "# [[tenant]]",
    ):
        assert text.count(expected) == 1, expected


def test_the_commented_out_parts_are_valid_when_they_are_uncommented() -> None:
    text = import_ansible("a1\n", "hosts", "fleet")
    uncommented = re.sub(r"^# (?=[ \[]|\w+ = )", "", text, flags=re.MULTILINE)
    fleet = parse_profile(uncommented.replace('name = "a1"', 'name = "a1"\ntemplate = "edge"'), Path("x"))
    assert fleet.nodes[0].instances[0].control == "/srv/anycast/de/run/nsd.ctl"
    assert fleet.nodes[0].speakers[0].sessions[0].number == 11


def test_sites_can_come_from_the_names_of_the_hosts() -> None:
    assert [n.site for n in _ansible("[dns]\nFRA1\nlon-2.example\n42\n", "prefix").nodes] == ["fra", "lon", "unsorted"]


def test_the_json_of_ansible_inventory_means_the_same_as_its_ini() -> None:
    hosts = {f"fra0{i}.example.net": {"ansible_user": "ops", "ansible_port": 22} for i in (1, 2)}
    listing = {
        "_meta": {"hostvars": hosts | {"sin1": {"ansible_host": "192.0.2.7", "site": "sin"}}},
        "all": {"children": ["ungrouped", "anycast"]},
        "anycast": {"children": ["fra"]},
        "fra": {"hosts": list(hosts), "vars": {"ansible_ssh_common_args": "-J jump"}},
    }
    fleet = _ansible(json.dumps(listing))
    assert [(n.name, n.site, n.address) for n in fleet.nodes][-1] == ("sin1", "sin", "192.0.2.7")
    assert fleet.node("fra01.example.net").site == "fra"
    assert fleet.ssh.jump == ("jump",)


@pytest.mark.parametrize("text", ["---\nall:\n  hosts:\n    a:\n", "all:\n  hosts:\n    a:\n"])
def test_a_yaml_inventory_is_answered_with_the_command_that_helps(text: str) -> None:
    with pytest.raises(
        ProfileError, match=r"run `ansible-inventory -i hosts --list > inventory\.json` and import that"
    ):
        _ansible(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "no host found"),
        ("[a]\n", "no host found"),
        ("{}", "no host found"),
        ("localhost ansible_connection=local", "no host found that could be a node; localhost: is reached by local"),
        ("a b", "hosts:1: 'b': expected KEY=VALUE"),
        ('\na "b', "hosts:2: No closing quotation"),
        ("[a:b]", r"hosts:1: \[a:b\]: expected \[GROUP\]"),
        ("[a:vars]\nx", "hosts:2: expected KEY=VALUE"),
        ("[a:children]\nb\n[b:children]\na\n[c]\nx", "group 'a' is in a circle"),
        ("a[9:1]", r"hosts:1: \[9:1\]: expected a range"),
        ("a[001:10]", "expected a range"),
        ("a[1:9:0]", "expected a range"),
        ("a[1:999999999]", "more than 20000 hosts"),
        ("a[1:99999][1:99999]", "more than 20000 hosts"),
        ("[1:1]" * 200, "a host pattern of more than 255 characters"),
        ("{", "not the JSON of"),
        ('{"a": ' * 100_000, "not the JSON of"),
    ],
)
def test_an_inventory_that_cannot_be_used_is_refused_with_the_line(text: str, expected: str) -> None:
    with pytest.raises(ProfileError, match=expected):
        _ansible(text)


def test_ranges_step_and_run_through_letters() -> None:
    assert [n.name for n in _ansible("a[1:5:2]b[x:y]\n").nodes] == ["a1bx", "a1by", "a3bx", "a3by", "a5bx", "a5by"]


def test_hosts_that_ssh_would_take_for_options_are_left_out() -> None:
    text = import_ansible("ok\n'-oProxyCommand=x'\nevil ansible_host=-oProxyCommand=x\n", "hosts", "fleet")
    assert [n.name for n in parse_profile(text, Path("x")).nodes] == ["ok"]
    assert text.count("# Left out: ") == 2


def test_one_host_under_two_names_is_imported_once() -> None:
    text = import_ansible("a ansible_host=192.0.2.1\nb ansible_host=192.0.2.1\n", "hosts", "fleet")
    assert "# Left out: b (192.0.2.1): is the same host as a" in text


def test_a_jump_host_in_the_inventory_is_reached_directly() -> None:
    fleet = _ansible("jump\nn1\nn2\n[all:vars]\nansible_ssh_common_args=-J jump\n")
    assert [n.jump for n in fleet.nodes] == [(), None, None]


def test_comments_cannot_break_out_of_their_line() -> None:
    hosts = [FoundHost(name="a", address="a", notes=("x\n[[node]]\r\x85",))]
    assert len(parse_profile(profile_of(hosts, "src\nx", "n\nx"), Path("x")).nodes) == 1


# ssh_config


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with an empty .ssh."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh" / "more").mkdir(parents=True)
    return tmp_path


SSH = """\
User nobody
Include more/*.conf ~/absent
Host *
  ForwardAgent no
host fra1 fra2 !fra3 ns-? *.example
  HostName 192.0.2.1
  ProxyJump bastion
Host="ams1"
Match host lon1
  HostName 192.0.2.2
Host ams1 jump
"""


def test_aliases_become_nodes_and_ssh_goes_on_deciding_the_rest(home: Path) -> None:
    config = home / ".ssh" / "config"
    config.write_text(SSH)
    (home / ".ssh" / "more" / "a.conf").write_text("Host sin1\nInclude deeper\n")
    (home / ".ssh" / "deeper").write_text("Host sin2\n")
    text = import_ssh(config, "fleet")
    fleet = parse_profile(text, Path("x"))
    assert [(n.name, n.site, n.address, n.jump) for n in fleet.nodes] == [
        (name, site, name, None)
        for name, site in [
            ("sin1", "sin"),
            ("sin2", "sin"),
            ("fra1", "fra"),
            ("fra2", "fra"),
            ("ams1", "ams"),
            ("jump", "jump"),
        ]
    ]
    assert fleet.ssh.config_file == ""
    assert "# fra1 is 192.0.2.1, through bastion" in text


def test_another_configuration_than_the_users_own_is_named_in_the_profile(home: Path) -> None:
    config = home / "other"
    config.write_text("Host a1\n")
    assert parse_profile(import_ssh(config, "fleet"), Path("x")).ssh.config_file == str(config)


def test_only_matching_aliases_are_imported(home: Path) -> None:
    config = home / "config"
    config.write_text(SSH)
    assert [n.name for n in parse_profile(import_ssh(config, "fleet", match="fra*"), Path("x")).nodes] == [
        "fra1",
        "fra2",
    ]
    with pytest.raises(ProfileError, match="no host found"):
        import_ssh(config, "fleet", match="x*")


def test_includes_that_go_in_a_circle_end(home: Path) -> None:
    config = home / ".ssh" / "config"
    config.write_text("Include config\nHost a\n")
    with pytest.raises(ProfileError, match="more than 16 includes deep"):
        import_ssh(config, "fleet")


# Anything at all


_INI_PIECES = [
    "[", "]", ":", "=", "[a]", "[a:children]", "[b:children]", "[a:vars]", "[all:vars]", "a", "b", "web[1:3]", "[a:c]", "'", '"', "#",
    "ansible_host=", "ansible_port=22", "ansible_ssh_common_args=", "-J", "a,b", "'-o ProxyJump=a'", "site=x", "-x", "2001:db8::1", "\n",
    "\n", "\n", " ", " ", "\x00", "é", "{{ x }}", "ansible_connection=local", "ansible_user=", "\u202e",
]  # fmt: skip
_SSH_PIECES = [
    "Host", "Host", "host", "Match", "Include", "HostName", "ProxyJump", "a", "b1", "-x", "*", "!a", "=", '"', "'", "config", "nowhere/*",
    "\n", "\n", " ", " ", "\x00", "é", "~/", "[x", "\u202e",
]  # fmt: skip


def _accepts(text: str) -> None:
    """The importer's own promise: what it returns is a valid profile with a node in it."""
    assert parse_profile(text, Path("x")).nodes


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.text(), st.lists(st.sampled_from(_INI_PIECES), max_size=40).map("".join)),
    st.sampled_from(["group", "prefix"]),
)
def test_any_text_as_an_inventory_is_a_profile_or_a_profile_error(text: str, site_from: str) -> None:
    try:
        imported = import_ansible(text, "hosts", "fleet", site_from=site_from)
    except ProfileError:
        return
    _accepts(imported)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["a", "b", "-J a", "192.0.2.1", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "_meta",
                    "hostvars",
                    "hosts",
                    "children",
                    "vars",
                    "a",
                    "b",
                    "all",
                    "ansible_host",
                    "ansible_ssh_common_args",
                    "site",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["_meta", "a", "b", "all"]), _JSON))
def test_any_json_as_an_inventory_is_a_profile_or_a_profile_error(listing: dict[str, object]) -> None:
    try:
        imported = import_ansible(json.dumps(listing), "hosts", "fleet")
    except ProfileError:
        return
    _accepts(imported)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(), st.lists(st.sampled_from(_SSH_PIECES), max_size=40).map("".join)))
def test_any_text_as_an_ssh_config_is_a_profile_or_a_profile_error(home: Path, text: str) -> None:
    config = home / ".ssh" / "config"
    config.write_text(text, encoding="utf-8")
    try:
        imported = import_ssh(config, "fleet")
    except ProfileError:
        return
    _accepts(imported)


_HOSTS = st.builds(
    FoundHost,
    name=st.text(max_size=8) | st.sampled_from(["a", "b", "c"]),
    address=st.text(max_size=8) | st.sampled_from(["a", "b", "192.0.2.1"]),
    site=st.text(max_size=5),
    user=st.text(max_size=5),
    jump=st.lists(st.sampled_from(["a", "b", "c", "jump", "-x"]), max_size=3).map(tuple),
    notes=st.lists(st.text(max_size=9), max_size=2).map(tuple),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_HOSTS, max_size=6), st.text(max_size=9), st.text(max_size=9))
def test_any_hosts_become_a_valid_profile(hosts: list[FoundHost], source: str, name: str) -> None:
    try:
        imported = profile_of(hosts, source, name)
    except ProfileError as error:
        assert "no host found" in str(error)  # noqa: PT017 - the other outcome is a valid profile
        return
    _accepts(imported)
