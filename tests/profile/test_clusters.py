"""Nodes on SSH and nodes in clusters are one fleet in one profile, and what can't be in a cluster is refused with the reason."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from anyconsole.errors import ProfileError
from anyconsole.model.inventory import Inventory, Stack
from anyconsole.profile.load import load_profile, parse_profile
from anyconsole.profile.printing import print_profile
from anyconsole.profile.toml_text import toml_string

EXAMPLE = Path(__file__).parent.parent.parent / "profiles" / "prod.example.toml"

HYBRID = """\
[profile]
name = "hybrid"
[ssh]
jump = ["jump"]
[[site]]
name = "fra"
[[interconnect]]
name = "ix1"
kind = "ixp"
  [[interconnect.peer]]
  name = "rs1"
  asn = 64611
  numbers = { ipv4 = 11, ipv6 = 12 }
[[tenant]]
name = "de"
number = 1
prefixes = ["192.0.2.0/24"]
addresses = ["192.0.2.53"]
zones = ["example.de"]
[[tenant]]
name = "nic"
number = 2
prefixes = ["198.51.100.0/24"]
addresses = ["198.51.100.53"]
zones = ["nic.example"]
[[cluster]]
name = "k3s"
[[node]]
name = "fra1"
site = "fra"
  [[node.speaker]]
  kind = "bird"
  socket = "/run/bird/bird.ctl"
  [[node.name_server]]
  kind = "nsd"
  control = "/srv/{tenant}/nsd.ctl"
[[node]]
name = "hv1"
site = "fra"
cluster = "k3s"
  [[node.speaker]]
  kind = "calico"
    [[node.speaker.session]]
    name = "2001:DB8:20:0::1"
    peer = "rs1"
    family = "ipv6"
  [[node.name_server]]
  kind = "knot"
  tenants = ["de"]
[[node]]
name = "hv2"
site = "fra"
template = "pods"
address = "worker-2.example.net"
[template.pods]
cluster = "k3s"
[[template.pods.speaker]]
kind = "calico"
name = "bgp"
"""


TARGET = """\
name = "t1"
node = "hv1"
tenant = "de"
addresses = ["198.18.1.1"]
class = "canary"
max_qps = 1
max_seconds = 1
"""


def _hybrid(*changes: tuple[str, str]) -> str:
    text = HYBRID
    for old, new in changes:
        assert text.count(old) >= 1
        text = text.replace(old, new, 1)
    return text


def _fleet(*changes: tuple[str, str]) -> Inventory:
    return parse_profile(_hybrid(*changes), Path("hybrid.toml"))


def _problems(text: str) -> list[str]:
    with pytest.raises(ProfileError) as caught:
        parse_profile(text, Path("hybrid.toml"))
    return [line.removeprefix("hybrid.toml: ") for line in str(caught.value).split("\n")]


def test_nodes_on_ssh_and_in_a_cluster_are_one_fleet() -> None:
    fleet = _fleet()
    assert [(n.name, n.stack, n.cluster, n.address) for n in fleet.nodes] == [
        ("fra1", Stack.BARE, "", "fra1"),
        ("hv1", Stack.VIRTUAL, "k3s", "hv1"),
        ("hv2", Stack.VIRTUAL, "k3s", "worker-2.example.net"),
    ]
    (speaker,) = fleet.node("hv1").speakers
    assert (speaker.name, speaker.kind, speaker.socket) == ("calico", "calico", "")
    assert [(s.name, s.number) for s in speaker.sessions] == [("2001:db8:20::1", 12)]
    assert [(i.tenant, i.kind, i.control) for i in fleet.node("hv1").instances] == [("de", "knot", "")]
    assert fleet.node("hv2").speakers[0].name == "bgp"
    # What has an SSH link is what it was without the cluster; ssh.jump is no jump of the cluster.
    assert [host.name for host in fleet.hosts] == ["fra1"]
    assert fleet.cluster("k3s").jump == ()


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("", {"de": "de", "nic": "nic"}),
        ('namespace = "dns-{tenant}"', {"de": "dns-de", "nic": "dns-nic"}),
        ('namespace = "t{number:02}"', {"de": "t01", "nic": "t02"}),
        ('namespaces = { nic = "registry" }', {"de": "de", "nic": "registry"}),
        ('namespace = "dns-{tenant}"\n[cluster.namespaces]\nde = "x"', {"de": "x", "nic": "dns-nic"}),
        # The other one would break the rule.
        ('namespace = "dns"\n[cluster.namespaces]\nde = "x"', {"de": "x", "nic": "dns"}),
    ],
)
def test_every_tenant_has_a_namespace(keys: str, expected: dict[str, str]) -> None:
    assert _fleet(('name = "k3s"', f'name = "k3s"\n{keys}')).cluster("k3s").namespaces == expected


def test_a_kubeconfig_is_looked_for_in_the_home_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ops")
    assert (
        _fleet(('name = "k3s"', 'name = "k3s"\nkubeconfig = "~/k.yaml"')).clusters[0].kubeconfig == "/home/ops/k.yaml"
    )
    assert _fleet().clusters[0].kubeconfig == ""


@pytest.mark.parametrize(
    "context", ["default", "admin@k3s", "arn:aws:eks:eu-1:1:cluster/dns", "default/api-example:6443/kube:admin"]
)
def test_contexts_are_named_as_kubeconfigs_do(context: str) -> None:
    assert _fleet(('name = "k3s"', f'name = "k3s"\ncontext = "{context}"')).clusters[0].context == context


@pytest.mark.parametrize("service", ["mon/prom:9090", "mon/prom:web", "a/b:1", "monitoring/kube-prom-stack:http-web"])
def test_prometheus_in_a_cluster_is_named_by_its_service(service: str) -> None:
    cluster = _fleet(('name = "k3s"', f'name = "k3s"\nprometheus = "{service}"\nqps = "x"')).clusters[0]
    assert cluster.prometheus == service


def test_a_node_can_take_back_what_its_template_says() -> None:
    speaker = '[[node.speaker]]\nkind = "frr"\nsocket = "/run/frr/bgpd.vty"\n[template.pods]'
    on_ssh = _fleet(('template = "pods"', 'template = "pods"\ncluster = ""'), ("[template.pods]", speaker))
    assert [host.name for host in on_ssh.hosts] == ["fra1", "hv2"]
    assert on_ssh.node("hv2").stack is Stack.BARE
    template = ("[template.pods]", '[template.pods]\nuser = "ops"\njump = ["bastion"]')
    node = _fleet(template, ('template = "pods"', 'template = "pods"\nuser = ""\njump = []')).node("hv2")
    assert (node.user, node.jump) == ("", None)


def test_a_cluster_can_be_chosen_by_site() -> None:
    text = _hybrid(
        ('cluster = "k3s"\n[[template', 'cluster = "{site}-k3s"\n[[template'), ('name = "k3s"', 'name = "fra-k3s"')
    )
    fleet = parse_profile(text.replace('cluster = "k3s"\n', 'cluster = "fra-k3s"\n'), Path("x"))
    assert [n.cluster for n in fleet.nodes] == ["", "fra-k3s", "fra-k3s"]


def test_two_clusters_may_have_nodes_of_one_name() -> None:
    second = '[[cluster]]\nname = "k8s"\n[[node]]\nname = "hv3"\nsite = "fra"\ncluster = "k8s"\naddress = "hv1"\n'
    assert parse_profile(HYBRID + second, Path("x")).node("hv3").address == "hv1"


def test_no_jump_chain_goes_through_nodes_without_ssh() -> None:
    assert _fleet(('jump = ["jump"]', 'jump = ["hv1"]')).ssh.jump == ("hv1",)


IN_A_NODE = {
    "unknown cluster": (
        'cluster = "k3s"\n  ', 'cluster = "k3"\n  ',
        'node[1] "hv1".cluster = "k3": there is no such cluster, did you mean "k3s"?',
    ),
    "unknown cluster of a template": (
        'cluster = "k3s"\n[[', 'cluster = "k3"\n[[',
        'template.pods.cluster = "k3": there is no such cluster, did you mean "k3s"?',
    ),
    "cluster of another type": ('cluster = "k3s"\n  ', "cluster = 1\n  ", 'node[1] "hv1".cluster = 1: expected a string in quotes'),
    "bare stack": (
        'cluster = "k3s"\n  ', 'cluster = "k3s"\nstack = "bare"\n  ',
        'node[1] "hv1".stack = "bare": a node in a cluster is "virtual", and that by itself: leave it out',
    ),
    "login": (
        'cluster = "k3s"\n  ', 'cluster = "k3s"\nuser = "ops"\n  ',
        'node[1] "hv1".user = "ops": there is no SSH to a node in a cluster; a [[cluster]] may have a jump chain',
    ),
    "jump of a template": (
        "[template.pods]", '[template.pods]\njump = ["bastion"]',
        'template.pods.jump = ["bastion"]: there is no SSH to a node in a cluster; a [[cluster]] may have a jump chain',
    ),
    "address of a host": (
        "worker-2.example.net", "2001:db8::1",
        'node[2] "hv2".address = "2001:db8::1": expected the name of a Kubernetes node: lower-case letters, digits, - and . ',
    ),
    "name that Kubernetes doesn't have": (
        '"hv1"', '"HV_1"',
        'node[1] "HV_1".name = "HV_1": without an `address` it is what Kubernetes calls the node: expected the name of a Kubernetes node: ',
    ),
    "two nodes that are one": ('"worker-2.example.net"', '"hv1"', 'node[2] "hv2".address = "hv1": node[1] "hv1" has the same address'),
    "another speaker in a cluster": (
        'kind = "calico"', 'kind = "bird"\nsocket = "/run/bird.ctl"',
        'node[1] "hv1".speaker[0].kind = "bird": expected "calico", the only speaker of a node in a cluster',
    ),
    "Calico without a cluster": (
        'kind = "bird"\n  socket = "/run/bird/bird.ctl"', 'kind = "calico"',
        'node[0] "fra1".speaker[0].kind = "calico": is only on nodes that are in a `cluster`',
    ),
    "BIRD without a socket": ('  socket = "/run/bird/bird.ctl"\n', "", 'node[0] "fra1".speaker[0].socket: is missing'),
    "two speakers in a cluster": (
        'name = "bgp"\n', 'name = "bgp"\n[[template.pods.speaker]]\nkind = "calico"\n',
        "template.pods.speaker[1]: a node in a cluster has one speaker",
    ),
    "drain file of Calico": (
        'kind = "calico"', 'kind = "calico"\ndrain_file = "/etc/drain"',
        'node[1] "hv1".speaker[0].drain_file = "/etc/drain": Calico has none: it is read and changed through the cluster\'s API',
    ),
    "session by a name": (
        "2001:DB8:20:0::1", "Global_x",
        'node[1] "hv1".speaker[0].session[0] "Global_x".name = "Global_x": expected the peer\'s address: Calico\'s sessions have no names',
    ),
    "session of another family": (
        "2001:DB8:20:0::1", "192.0.2.1",
        '.session[0] "192.0.2.1".family = "ipv6": Calico announces a family only to peers with an address of that family',
    ),
    "peer that only knows MED": (
        "asn = 64611", 'asn = 64611\nsoft = ["med"]',
        '.peer = "rs1": its only way to de-prefer is "med", which Calico can\'t set: add gshut, community or prepend',
    ),
    "name server with a path": (
        'kind = "knot"', 'kind = "knot"\nchroot = "/srv"',
        'node[1] "hv1".name_server[0].chroot = "/srv": a name server in a cluster is a pod: it has no login and no paths',
    ),
    "name server without a control socket": (
        '  control = "/srv/{tenant}/nsd.ctl"\n', "",
        'node[0] "fra1".name_server[0].control: is missing',
    ),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), IN_A_NODE.values(), ids=IN_A_NODE.keys())
def test_what_a_node_in_a_cluster_cannot_have_is_refused_once_with_the_reason(
    old: str, new: str, expected: str
) -> None:
    (problem,) = _problems(_hybrid((old, new)))
    assert expected in problem


def test_a_name_server_in_a_cluster_can_be_a_target_of_load_tests_unless_its_address_is_announced() -> None:
    assert [t.node for t in _fleet(("[profile]", f"[[load.target]]\n{TARGET}[profile]")).load.targets] == ["hv1"]
    announced = TARGET.replace("198.18.1.1", "192.0.2.53")
    (problem,) = _problems(_hybrid(("[profile]", f"[[load.target]]\n{announced}[profile]")))
    assert "is in the announced prefix 192.0.2.0/24" in problem


IN_A_CLUSTER = {
    'namespaces = { de = "DE" }': 'cluster[0] "k3s".namespaces.de = "DE": expected a Kubernetes namespace: lower-case letters',
    'namespace = "{tenant}_"': '.namespace = "{tenant}_": is "de_" for tenant "de": expected a Kubernetes namespace: ',
    'namespace = "dns"': '.namespace = "dns": is "dns" for tenant "nic": is that of tenant "de" too: each tenant has one of its own',
    'monitoring = "nic"': 'cluster[0] "k3s".namespace = "{tenant}": is "nic" for tenant "nic": is that of monitoring too: ',
    'namespaces = { de = "kube-public" }': '.namespaces.de = "kube-public": is one of those that Kubernetes keeps for itself',
    'namespaces = { dee = "x" }': '.namespaces.dee = "x": there is no such tenant, did you mean "de"?',
    'namespaces = ["de"]': '.namespaces = ["de"]: expected a table, { NAME = ... }',
    'namespace = "{tennant}"': '.namespace = "{tennant}": unknown placeholder "{tennant}", did you mean "tenant"?',
    'kubconfig = "/x"': '.kubconfig = "/x": unknown key, did you mean "kubeconfig"?',
    'kubeconfig = "k.yaml"': '.kubeconfig = "k.yaml": expected an absolute path on this machine',
    'prometheus = "http://prom:9090"\nqps = "x"': '.prometheus = "http://prom:9090": expected NAMESPACE/SERVICE:PORT',
    'prometheus = "a/b:0"\nqps = "x"': '.prometheus = "a/b:0": expected NAMESPACE/SERVICE:PORT',
    'prometheus = "a/b:80"': 'cluster[0] "k3s".qps: is missing: what is prometheus asked?',
    'qps = "x"': 'cluster[0] "k3s".prometheus: is missing: where is qps asked?',
    'jump = ["a", "a"]': 'cluster[0] "k3s".jump = ["a", "a"]: has a host twice in the chain',
    'jump = ["-oProxyCommand=x"]': '.jump[0] = "-oProxyCommand=x": expected a host',
    '[[vantage]]\nname = "k3s"': 'cluster[0] "k3s".name = "k3s": vantage[0] "k3s" has the same name',
}  # fmt: skip


@pytest.mark.parametrize(("keys", "expected"), IN_A_CLUSTER.items())
def test_what_a_cluster_cannot_be_is_refused_once_with_the_reason(keys: str, expected: str) -> None:
    (problem,) = _problems(_hybrid(('name = "k3s"', f'name = "k3s"\n{keys}')))
    assert expected in problem


@pytest.mark.parametrize("namespace", ["", "-a", "a-", "a.b", "a_b", "A", "a" * 64, "ä", "a b", "a\n", "../x", "a/b"])
def test_nothing_else_than_a_namespace_reaches_a_path_of_the_api(namespace: str) -> None:
    for key in ("namespace", "monitoring", "calico"):
        assert any(
            f".{key} = " in problem
            for problem in _problems(_hybrid(('name = "k3s"', f'name = "k3s"\n{key} = {toml_string(namespace)}')))
        )


@pytest.mark.parametrize("address", ["", "-a", "a-", "a..b", "A", "a_b", "a/b", "a" * 254, "::1", "a\n"])
def test_nothing_else_than_a_node_of_kubernetes_is_one(address: str) -> None:
    problems = _problems(_hybrid(('address = "worker-2.example.net"', f"address = {toml_string(address)}")))
    assert all('node[2] "hv2".address' in problem for problem in problems)


def test_a_profile_with_a_cluster_is_printed_as_it_was_understood() -> None:
    for fleet in (load_profile(str(EXAMPLE)), _fleet()):
        assert fleet.clusters
        assert parse_profile(print_profile(fleet), Path(fleet.path)) == fleet


def test_the_engine_gets_clusters_as_they_are() -> None:
    fleet = load_profile(str(EXAMPLE))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(fleet), type=Inventory) == fleet
    assert msgspec.json.decode(msgspec.json.encode(fleet), type=Inventory) == fleet


PODS = """\
[[generator]]
name = "pods"
cluster = "k3s"
replicas = 3
max_qps = 1000
node_selector = { "example.net/load" = "yes" }
"""


def test_a_generator_in_a_cluster_is_as_many_generators_as_it_has_pods_and_no_host() -> None:
    fleet = parse_profile(HYBRID + PODS, Path("hybrid.toml"))
    (pods,) = fleet.generators
    assert [(g.name, g.link, g.max_qps, g.processes) for g in pods.members] == [
        (f"pods-{i}", "k3s", 1000, 1) for i in range(3)
    ]
    assert (pods.namespace, pods.node_selector) == ("anyconsole", {"example.net/load": "yes"})
    assert "pods" not in [host.name for host in fleet.hosts], "nobody connects to it over SSH"
    assert parse_profile(print_profile(fleet), Path("hybrid.toml")).generators == fleet.generators


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (('cluster = "k3s"', 'cluster = "k3"'), '.cluster = "k3": there is no such cluster, did you mean "k3s"?'),
        (('name = "pods"', 'name = "Pods"'), '.name = "Pods": expected the name of a Job'),
        (("replicas = 3", "replicas = 0"), ".replicas = 0: expected a whole number of pods from 1 to 100"),
        (("replicas = 3", 'user = "root"'), '.user = "root": a generator in a cluster is pods'),
        (("replicas = 3", 'sources = ["198.18.0.1"]'), ".sources = [\"198.18.0.1\"]: a generator in a cluster is pods"),
        (("replicas = 3", 'address = "host"'), '.address = "host": a generator in a cluster has none: it is pods'),
        (("replicas = 3", 'engine = "kxdpgun"'), '.engine = "kxdpgun": takes a network interface away from its host'),
        (('cluster = "k3s"', ""), '.replicas = 3: is of a generator in a cluster: name its `cluster`'),
        (("[[generator]]", '[[vantage]]\nname = "pods-1"\n[[generator]]'), '.name = "pods-1": vantage[0] "pods-1" has the same name'),
    ],
)  # fmt: skip
def test_what_a_generator_in_a_cluster_cant_be_is_refused(change: tuple[str, str], problem: str) -> None:
    with pytest.raises(ProfileError) as caught:
        parse_profile(HYBRID + PODS.replace(*change), Path("hybrid.toml"))
    assert problem in str(caught.value)
