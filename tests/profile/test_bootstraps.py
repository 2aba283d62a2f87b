"""[[bootstrap]] in profiles: what can't become a cluster is named with file and key, before any host is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from anyconsole.errors import ProfileError
from anyconsole.profile.load import parse_profile
from anyconsole.profile.printing import print_profile
from tests.e2e.bare_host import profile_text

TEXT = profile_text(Path("/etc/ssh/ssh_config"), Path("/root/fra.yaml"), Path("/srv/bundle"))
ELSEWHERE = 'calico = ["https://example.net/operator-crds.yaml", "https://example.net/tigera-operator.yaml"]'
CALICO = 'calico = ["operator-crds.yaml", "tigera-operator.yaml"]'


def test_a_host_that_becomes_a_cluster_is_reached_over_ssh_like_any_other_and_is_printed_as_it_was_read() -> None:
    fleet = parse_profile(TEXT, Path("bare.toml"))
    (boot,) = fleet.bootstraps
    assert boot in fleet.hosts
    assert (boot.address, boot.installer_url) == ("hv1-host", "")
    assert parse_profile(print_profile(fleet), Path("bare.toml")).bootstraps == fleet.bootstraps
    fetched = TEXT.replace('bundle = "/srv/bundle"\n', "").replace(CALICO, ELSEWHERE)
    assert parse_profile(fetched, Path("bare.toml")).bootstraps[0].installer_url == "https://get.k3s.io"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('cluster = "k3s-fra"\nnode = "hv1"', 'cluster = "k3s"\nnode = "hv1"', '.cluster = "k3s": there is no such cluster'),
        ('node = "hv1"\n', 'node = "hv2"\n', '.node = "hv2": there is no such node in cluster k3s-fra'),
        ('kubeconfig = "/root/fra.yaml"\n', "", "has no `kubeconfig` of its own"),
        ('"v1.34.2+k3s1"', '"1.34"', "expected a release of k3s"),
        ('calico = "calico-system"\n', "", '`calico` of the cluster'),
        (CALICO, "calico = []", "expected at least one of Calico's manifests"),
        (CALICO, 'calico = ["../x.yaml"]', "expected a file in the bundle"),
        (CALICO, 'calico = ["http://example.net/x.yaml"]', "expected a file in the bundle"),
        (CALICO, ELSEWHERE, "expected the name of a file in the bundle"),
        ('bundle = "/srv/bundle"\n', "", "expected an address that the host can fetch"),
        ('bundle = "/srv/bundle"\n', 'bundle = "/srv/bundle"\ninstaller = "https://get.k3s.io"\n', "with a bundle nothing is fetched"),
        ('bundle = "/srv/bundle"\n', 'bundle = "/srv/bundle"\ninstaller = "https://x/$(id)"\n', "expected a file of this machine"),
        ('["127.0.0.1", "::1"]', '["127.0.0.1"]', ": expected two, one of IPv4 and one of IPv6"),
        ('["127.0.0.1", "::1"]', '["::1", "127.0.0.1"]', "must begin with the same family"),
        ('["127.0.0.1", "::1"]', '["192.0.2.1", "::1"]', 'is in the announced prefix 192.0.2.0/24 of tenant "de"'),
        ('"fd00:42::/56"', '"fd00:42::/40"', "expected a network from /48 to /64"),
        ('"fd00:43::/112"', '"fd00:43::/64"', "expected a network from /108 to /124"),
        ('"10.43.0.0/16"', '"10.42.128.0/17"', "overlaps 10.42.0.0/16"),
        ('"10.43.0.0/16"', '"192.0.2.0/25"', 'overlaps the announced prefix 192.0.2.0/24 of tenant "de"'),
        ('"10.42.0.0/16"', '"127.0.0.0/16"', "holds 127.0.0.1, an address of the node"),
    ],
)  # fmt: skip
def test_what_cant_be_is_named(old: str, new: str, said: str) -> None:
    assert old in TEXT
    with pytest.raises(ProfileError) as caught:
        parse_profile(TEXT.replace(old, new), Path("bare.toml"))
    lines = str(caught.value).split("\n")
    assert any(said in line and line.startswith('bare.toml: bootstrap[0] "hv1-host"') for line in lines), lines


def test_a_bare_node_that_serves_cant_be_the_host() -> None:
    node = '[[node]]\nname = "fra1"\nsite = "fra"\naddress = "hv1-host"\n'
    with pytest.raises(ProfileError, match="has the same address"):
        parse_profile(TEXT.replace("[[bootstrap]]", f"{node}[[bootstrap]]"), Path("bare.toml"))
