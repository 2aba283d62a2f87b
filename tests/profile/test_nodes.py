"""Templates and placeholders: 200 nodes are described once, and what was filled in can be seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from anyconsole.errors import ProfileError
from anyconsole.model.inventory import NodeSpec
from anyconsole.profile.load import parse_profile

HEAD = """\
[profile]
name = "p"
[[site]]
name = "fra"
[[tenant]]
name = "de"
number = 7
prefixes = ["192.0.2.0/24"]
addresses = ["192.0.2.53"]
zones = ["example.de"]
[[tenant]]
name = "nic"
number = 12
prefixes = ["198.51.100.0/24"]
addresses = ["198.51.100.53"]
zones = ["nic.example"]
"""
NODE = '[[node]]\nname = "n1"\nsite = "fra"\n'


def _node(text: str) -> NodeSpec:
    return parse_profile(HEAD + text, Path("p.toml")).nodes[0]


def _name_server(**keys: str) -> str:
    lines = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return f'{NODE}[[node.name_server]]\nkind = "nsd"\n{lines}'


def test_a_node_takes_what_it_lacks_from_its_template() -> None:
    template = '[template.t]\nstack = "virtual"\nuser = "ops"\njump = ["a", "b"]\naddress = "{node}.{site}.example"\n'
    node = _node(NODE + 'template = "t"\nuser = "me"\njump = []\n' + template)
    assert (node.stack, node.user, node.jump, node.address) == ("virtual", "me", (), "n1.fra.example")


def test_a_list_of_the_node_replaces_that_of_its_template() -> None:
    template = '[[template.t.speaker]]\nkind = "bird"\nsocket = "/a"\n'
    template += '[[template.t.name_server]]\nkind = "nsd"\ncontrol = "/{tenant}"\n'
    node = _node(NODE + 'template = "t"\n[[node.speaker]]\nkind = "frr"\nsocket = "/b"\n' + template)
    assert [s.kind for s in node.speakers] == ["frr"]
    assert [i.control for i in node.instances] == ["/de", "/nic"]


def test_templates_that_nobody_uses_are_checked_too() -> None:
    with pytest.raises(ProfileError) as caught:
        _node(
            NODE + '[template.t]\nstack = "bear"\nnmae = "x"\n[[template.t.name_server]]\nkind = "nsd"\ncontrol = "x"\n'
        )
    for expected in (
        'template.t.stack = "bear"',
        'template.t.nmae = "x": unknown key',
        'template.t.name_server[0].control = "x"',
    ):
        assert expected in str(caught.value)


def test_every_placeholder_is_filled_in() -> None:
    text = _name_server(chroot='"/srv/{site}/{node}/{tenant}"', control='"{chroot}/{number:03}"', user='"ns{number}"')
    instance = _node(text).instances[0]
    assert (instance.chroot, instance.control, instance.user) == ("/srv/fra/n1/de", "/srv/fra/n1/de/007", "ns7")


def test_bind_gets_a_statistics_port_of_its_own_for_each_tenant() -> None:
    instances = _node(_name_server(control='"127.0.0.1:80{number:02}"')).instances
    assert [i.control for i in instances] == ["127.0.0.1:8007", "127.0.0.1:8012"]


def test_doubled_braces_are_plain_ones() -> None:
    assert _node(_name_server(control='"/{{tenant}}{tenant}"')).instances[0].control == "/{tenant}de"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/{chroots}", 'unknown placeholder "{chroots}", did you mean "chroot"?'),
        ("/{tenant:02}", "only numbers have one"),
        ("/{number:099999999}", "only numbers have one"),
        ("/{}", 'unknown placeholder "{}"'),
        ("/}", "single brace"),
        ("/{{{tenant}", None),
        ("/{tenant.name}", "unknown placeholder"),
    ],
)
def test_a_wrong_placeholder_is_named(path: str, expected: str | None) -> None:
    text = _name_server(control=f'"{path}"')
    if expected is None:
        assert _node(text).instances[0].control == "/{de"
        return
    with pytest.raises(ProfileError) as caught:
        _node(text)
    assert f'p.toml: node[0] "n1".name_server[0].control = "{path}": ' in str(caught.value)
    assert expected in str(caught.value)


def test_a_tenant_is_served_once_on_a_node() -> None:
    text = (
        _name_server(control='"/{tenant}"')
        + '[[node.name_server]]\nkind = "knot"\ntenants = ["de"]\ncontrol = "/knot"\n'
    )
    with pytest.raises(
        ProfileError, match=r'name_server\[1\]\.tenants = "de": two name servers of a node serve this tenant'
    ):
        _node(text)


def test_tenants_may_be_split_over_name_servers() -> None:
    text = (
        _name_server(control='"/n"', tenants='["nic"]')
        + '[[node.name_server]]\nkind = "knot"\ntenants = ["de"]\ncontrol = "/k"\n'
    )
    assert [(i.tenant, i.kind) for i in _node(text).instances] == [("nic", "nsd"), ("de", "knot")]


def test_a_name_server_of_nobody_is_still_checked() -> None:
    with pytest.raises(ProfileError, match=r'\.control = "x": expected an absolute socket path'):
        _node(_name_server(tenants="[]", control='"x"'))
    assert _node(_name_server(tenants="[]", control='"/x"')).instances == ()


@pytest.mark.parametrize("chroot", ["1", f"0x{'f' * 4000}", "{}", "[1]"])
def test_a_chroot_that_is_no_path_is_the_only_mistake_reported(chroot: str) -> None:
    with pytest.raises(ProfileError) as caught:
        _node(_name_server(chroot=chroot, control='"{chroot}/nsd.ctl"'))
    assert str(caught.value).count("\n") == 0
    assert ".chroot = " in str(caught.value)


def test_the_neighbours_address_of_an_frr_session_is_kept_in_its_shortest_form() -> None:
    peer = '[[interconnect]]\nname = "i"\nkind = "pni"\n[[interconnect.peer]]\nname = "p"\nasn = 64500\nnumbers = { ipv6 = 1 }\n'
    session = '[[node.speaker.session]]\nname = "2001:DB8:0::1"\npeer = "p"\nfamily = "ipv6"\n'
    node = _node(NODE + '[[node.speaker]]\nkind = "frr"\nsocket = "/run/frr/bgpd.vty"\n' + session + peer)
    assert node.speakers[0].sessions[0].name == "2001:db8::1"
