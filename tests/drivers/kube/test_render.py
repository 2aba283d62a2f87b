"""What is rendered is what Kubernetes' published types allow, the profile asks for and daemons take; applied twice it changes nothing."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes.client.models as published
import pytest

from anyconsole.drivers.kube import configure, script
from anyconsole.drivers.kube.access import KubeApi
from anyconsole.drivers.kube.addresses import announce
from anyconsole.drivers.kube.calico import CalicoApi
from anyconsole.drivers.kube.diff import difference
from anyconsole.drivers.kube.execute import carry_out
from anyconsole.drivers.kube.hands import ClusterHands
from anyconsole.drivers.kube.objects import (
    SET_LABEL,
    calico_objects,
    calls,
    cluster_objects,
    key_secret,
    monitoring_objects,
    named,
    path_of,
    tenant_objects,
    tenants_of,
)
from anyconsole.drivers.kube.render import Object, RenderError, fill, load, render, template_names
from anyconsole.drivers.tsig import parse_key
from anyconsole.model.inventory import ClusterSpec, Inventory
from tests.drivers.kube.networks import no_tunnel
from tests.drivers.kube.stack import fleet
from tests.kube.apiserver import FakeCluster
from tests.kube.apiserver.calico import misfits
from tests.kube.client import until

FLEET = fleet()
K3S = FLEET.clusters[0]
V3 = CalicoApi("projectcalico.org/v3")
CRD = CalicoApi("crd.projectcalico.org/v1")
MIXED = ('address = "node-2"', 'address = "node-2"\n  [[node.name_server]]\n  kind = "knot"\n  tenants = ["de"]')


def of(inventory: Inventory, name: str) -> tuple[Object, ...]:
    return tenant_objects(inventory, inventory.clusters[0], inventory.tenant(name))


def everything() -> list[Object]:
    tenants = [obj for tenant in FLEET.tenants for obj in of(FLEET, tenant.name)]
    return [*cluster_objects(FLEET, K3S), *monitoring_objects(FLEET, K3S), *tenants]


def one(objects: tuple[Object, ...], kind: str, name: str = "") -> Object:
    (found,) = [obj for obj in objects if obj["kind"] == kind and name in {"", obj["metadata"]["name"]}]
    return found


# Against what Kubernetes publishes


@pytest.mark.parametrize("obj", everything(), ids=lambda obj: "/".join(filter(None, named(obj))))
def test_every_object_is_of_the_published_type_and_has_no_field_that_it_doesnt_know(obj: Object) -> None:
    model = getattr(published, f"V1{obj['kind']}")
    model.model_validate(obj)
    with pytest.raises(ValueError, match="spek"):
        model.model_validate({**obj, "spek": {}})


def test_the_published_types_know_fields_deep_inside_too() -> None:
    deployment = one(of(FLEET, "de"), "Deployment")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    for wrong in ({"comand": ["nsd"]}, {"ports": [{"containerPort": "http"}]}, {"env": {"A": "b"}}):
        broken = json.loads(json.dumps(deployment))
        broken["spec"]["template"]["spec"]["containers"][0] = {**container, **wrong}
        with pytest.raises(ValueError, match=next(iter(wrong))):
            published.V1Deployment.model_validate(broken)


def test_what_is_rendered_survives_being_printed_and_parsed_as_a_script() -> None:
    asked = calls(everything())
    assert [call.body for call in script.parse(script.render(asked))] == [call.body for call in asked]
    assert len({call.path for call in asked}) == len(asked)


# What the profile asks for


def test_a_tenant_has_its_namespace_first_and_its_pods_last_and_all_of_it_is_marked_as_ours() -> None:
    objects = of(FLEET, "de")
    assert objects[0]["kind"] == "Namespace"
    assert objects[-1]["kind"] == "Deployment"
    for obj in objects:
        labels = obj["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "anyconsole"
        assert (labels[SET_LABEL], labels["anyconsole.io/tenant"]) == ("tenant-de", "de")
        assert re.fullmatch("[0-9a-f]{16}", obj["metadata"]["annotations"]["anyconsole.io/rendered"])


def test_there_is_one_pod_on_each_node_that_the_profile_gives_the_tenant() -> None:
    spec = one(of(FLEET, "nic"), "Deployment")["spec"]
    assert spec["replicas"] == 2
    pod = spec["template"]["spec"]
    terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [term["matchFields"][0]["values"] for term in terms] == [["node-1"], ["node-2"]]
    assert pod["topologySpreadConstraints"][0]["whenUnsatisfiable"] == "DoNotSchedule"
    assert [container["name"] for container in pod["containers"]] == ["knot", "observer", "exporter"]
    assert "nodes" in one(of(FLEET, "nic"), "ConfigMap", "ns-knot")["data"]


def test_nodes_with_different_name_servers_have_a_workload_for_each_kind_and_one_service() -> None:
    objects = of(fleet(MIXED), "de")
    replicas = {o["metadata"]["name"]: o["spec"]["replicas"] for o in objects if o["kind"] == "Deployment"}
    assert replicas == {"ns-knot": 1, "ns-nsd": 1}
    assert "app.kubernetes.io/name" not in one(objects, "Service")["spec"]["selector"]


@pytest.mark.parametrize(
    ("tenant", "policy", "families"),
    [("de", "RequireDualStack", ["IPv4", "IPv6"]), ("nic", "SingleStack", ["IPv4"]), ("enum", "SingleStack", ["IPv6"])],
)
def test_the_service_carries_the_service_addresses_of_each_family(
    tenant: str, policy: str, families: list[str]
) -> None:
    spec = one(of(FLEET, tenant), "Service")["spec"]
    assert spec["externalIPs"] == list(FLEET.tenant(tenant).addresses)
    assert (spec["ipFamilyPolicy"], spec["ipFamilies"], spec["externalTrafficPolicy"]) == (policy, families, "Local")
    assert {(p["port"], p["protocol"]) for p in spec["ports"]} == {(53, "UDP"), (53, "TCP")}


def test_a_tenant_hears_dns_from_everybody_and_speaks_to_its_primaries_only() -> None:
    policies = {o["metadata"]["name"]: o["spec"] for o in of(FLEET, "de") if o["kind"] == "NetworkPolicy"}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert "from" not in policies["dns-in"]["ingress"][0]
    (out,) = [rule for policy in policies.values() for rule in policy.get("egress", [])]
    assert [to["ipBlock"]["cidr"] for to in out["to"]] == ["198.18.8.1/32", "2001:db8:ffff:8::1/128"]
    (scraped,) = policies["metrics-in"]["ingress"][0]["from"]
    assert scraped["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}


def test_a_changed_configuration_makes_new_pods_and_a_node_more_doesnt() -> None:
    def stamp(inventory: Inventory) -> str:
        spec = one(of(inventory, "nic"), "Deployment")["spec"]["template"]
        return str(spec["metadata"]["annotations"]["anyconsole.io/configuration"])

    assert stamp(fleet(('zones = ["nic.example"]', 'zones = ["nic.example", "new.example"]'))) != stamp(FLEET)
    more = ('address = "node-2"', 'address = "node-2"\n[[node]]\nname = "hv3"\nsite = "fra"\ntemplate = "pods"')
    assert stamp(fleet(more)) == stamp(FLEET)


def test_no_object_holds_a_key_only_the_name_of_its_secret() -> None:
    volumes = one(of(FLEET, "de"), "Deployment")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "tsig", "secret": {"secretName": "tsig"}} in volumes
    assert all(obj["kind"] != "Secret" for obj in everything())
    secret = key_secret(FLEET, K3S, FLEET.tenant("de"))
    assert secret is not None
    assert secret.path == "/api/v1/namespaces/de/secrets/tsig"
    assert "kubectl -n de create secret generic tsig" in secret.advice
    assert key_secret(FLEET, K3S, FLEET.tenant("nic")) is None


SOURCE = ('tsig_secret = "tsig"', 'tsig_command = "pass show dns/de"')


def test_a_key_with_a_source_is_a_secret_without_what_it_holds_and_another_one_makes_new_pods() -> None:
    inventory = fleet(SOURCE)
    cluster, tenant = inventory.clusters[0], inventory.tenant("de")
    first, second = (tenant_objects(inventory, cluster, tenant, fingerprint) for fingerprint in ("aa", "bb"))
    secret = one(first, "Secret", "tsig")
    published.V1Secret.model_validate(secret)
    assert secret["metadata"]["annotations"]["anyconsole.io/key"] == "aa"
    assert secret["metadata"]["labels"][SET_LABEL] == "tenant-de"
    assert set(secret) == {"apiVersion", "kind", "metadata", "type"}
    pods = [one(objects, "Deployment")["spec"]["template"]["metadata"]["annotations"] for objects in (first, second)]
    assert pods[0] != pods[1]
    assert not [obj for obj in of(inventory, "de") if obj["kind"] == "Secret"], "render knows no fingerprint"
    wanted = key_secret(inventory, cluster, tenant)
    assert wanted is not None
    assert wanted.source == "`pass show dns/de`"


def test_the_role_for_keys_names_their_secrets_and_is_there_only_if_one_has_a_source() -> None:
    inventory = fleet(SOURCE)
    role = one(cluster_objects(inventory, inventory.clusters[0]), "ClusterRole", "anyconsole-keys")
    published.V1ClusterRole.model_validate(role)
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["tsig"], "verbs": ["get", "create", "patch", "delete"]}
    ]  # fmt: skip
    assert not [obj for obj in cluster_objects(FLEET, K3S) if "keys" in obj["metadata"]["name"]]


async def test_a_secret_is_never_applied_without_its_key_nor_read(cluster: FakeCluster) -> None:
    inventory = fleet(SOURCE)
    secret = one(tenant_objects(inventory, inventory.clusters[0], inventory.tenant("de"), "aa"), "Secret")
    secret = {**secret, "metadata": {**secret["metadata"], "namespace": "default"}}
    key = parse_key("transfer:" + base64.b64encode(b"sixteen bytes of it").decode(), "")
    async with KubeApi.open(access(cluster), no_tunnel) as api:
        hands = ClusterHands(api, None)
        refused = await hands.carry_out(calls([secret]), 10)
        assert refused.exit_status != 0
        assert b"without its key it would be emptied" in refused.stdout
        done = await hands.apply_key(calls([secret]), key, 10)
        assert done.stdout == b"secrets/tsig in default created\n"
        assert (await api.get(path_of(secret))).keys() == {"apiVersion", "kind", "metadata"}
        listed = await api.get("/api/v1/namespaces/default/secrets")
        assert all("data" not in item for item in listed["items"])
    stored = cluster.get("secrets", "default", "tsig")
    assert stored is not None
    assert stored["data"] == key.data()


def test_only_the_name_server_sees_the_configuration_with_the_key() -> None:
    pod = one(of(FLEET, "de"), "Deployment")["spec"]["template"]["spec"]
    seen = {c["name"] for c in pod["containers"] for m in c["volumeMounts"] if m["name"] in {"configuration", "tsig"}}
    assert seen == {"nsd"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('  tenant = "de"\n  primaries', '  tenant = "x"\n  primaries'), "there is no such tenant"),
        (('primaries = ["198.18.8.1"]', "primaries = []"), "expected at least one address"),
        (('primaries = ["198.18.8.1"]', 'primaries = ["192.0.2.1"]'), "is in the announced prefix 192.0.2.0/24"),
        (('tsig_secret = "tsig"', 'tsig_secret = "TSIG"'), "the name of a Kubernetes object"),
        (
            ('tsig_secret = "tsig"', 'tsig_command = "pass \\"show"'),
            'expected a command with its arguments, like "pass show dns/de"',
        ),
        (('tsig_secret = "tsig"', 'tsig_env = "$DE"'), "expected the name of an environment variable"),
        (('tsig_secret = "tsig"', 'tsig_env = "A"\n  tsig_command = "b"'), "a TSIG key has one source"),
        (("nsd:4.12.0", "nsd 4.12.0"), "the reference of an image"),
        (("images = { nsd", "images = { ndd"), 'did you mean "nsd"?'),
        (("bgp_peers = true", 'memory = "512"'), 'expected memory like "512Mi"'),
    ],
)
def test_mistakes_in_the_profile_are_named(change: tuple[str, str], words: str) -> None:
    with pytest.raises(Exception, match=re.escape(words)):
        fleet(change)


def test_what_the_profile_doesnt_say_is_named_before_anything_is_rendered() -> None:
    with pytest.raises(RenderError, match=r"no image for name servers of kind nsd: stack\.images"):
        of(fleet(('images = { nsd = "registry.example.net/nsd:4.12.0" }', "")), "de")
    unknown = ('  [[stack.tenant]]\n  tenant = "nic"\n  primaries = ["198.18.8.1"]\n', "")
    with pytest.raises(RenderError, match=r"tenant nic has no primaries: the profile needs a \[\[stack.tenant\]\]"):
        of(fleet(unknown), "nic")
    nowhere = fleet(('  [[template.pods.name_server]]\n  kind = "bind"\n  tenants = ["enum"]\n', ""))
    assert [tenant.name for tenant in tenants_of(nowhere, nowhere.clusters[0])] == ["de", "nic"]
    with pytest.raises(RenderError, match="tenant enum has no name server on a node of cluster k3s"):
        of(nowhere, "enum")


# Templates


def test_every_template_is_used_and_an_unknown_placeholder_is_an_error() -> None:
    used = {"calico", "bgp-peer", "monitoring", *FLEET.stack.monitoring, "nsd", "knot", "bind"}
    used |= {"namespace", "network-policies", "programs", "name-server", "service", "cluster", "roles"}
    used |= {"generator", "node-lock", "installation", "key", "key-role"}
    assert set(template_names()) == used
    for name in template_names():
        if "$" in str(load(name)):
            with pytest.raises(RenderError, match=rf"template {name}.yaml: unknown placeholder \$"):
                render(name, {})


def test_a_value_cant_change_the_structure_of_a_template() -> None:
    nasty = 'x"\n  injected: {a: $name}'
    assert fill({"a": "$name", "b": "<$name>"}, {"name": nasty}) == {"a": nasty, "b": f"<{nasty}>"}
    assert fill(["$names"], {"names": ["a", 1]}) == [["a", 1]]
    assert fill("$$HOME and $(POD)", {}) == "$HOME and $(POD)"
    for wrong in ("$", "costs 5$", "$Upper"):
        with pytest.raises(RenderError):
            fill(wrong, {})
    with pytest.raises(RenderError, match="is no text"):
        fill("a $names", {"names": []})


# Against the daemons


CHECKS = {
    "nsd": ["/usr/sbin/nsd-checkconf", "FILE"],
    "knot": ["/usr/sbin/knotc", "-c", "FILE", "conf-check"],
    "bind": ["/usr/bin/named-checkconf", "FILE"],
}


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401
    """Writes a rendered configuration as the pod on node-1 does."""
    key = tmp_path / "tsig"
    key.mkdir()
    secret = base64.b64encode(b"0123456789abcdef").decode()
    for name, value in (("name", "transfer."), ("algorithm", "hmac-sha256"), ("secret", f"{secret}\n")):
        (key / name).write_text(value)
    monkeypatch.setenv("NODE", "node-1")

    def write(objects: tuple[Object, ...], kind: str) -> Path:
        folder, target = tmp_path / "config", tmp_path / "target"
        folder.mkdir(exist_ok=True)
        target.mkdir(exist_ok=True)
        for name, text in one(objects, "ConfigMap", f"ns-{kind}")["data"].items():
            (folder / name).write_text(text)
        (file,) = [name.name for name in folder.iterdir() if name.name != "nodes"]
        assert configure.main([str(folder), file, str(target)], key) == 0
        return target / file

    return write


@pytest.mark.parametrize("kind", CHECKS)
@pytest.mark.parametrize("tsig", [True, False], ids=["signed", "unsigned"])
def test_the_daemons_take_their_configurations(configured: Any, kind: str, tsig: bool) -> None:  # noqa: ANN401
    changes = [('  kind = "nsd"\n', f'  kind = "{kind}"\n')]
    changes += [] if tsig else [('  tsig_secret = "tsig"\n', "")]
    written = configured(of(fleet(*changes), "de"), kind)
    text = written.read_text()
    assert written.stat().st_mode & 0o777 == 0o600
    assert "de.hv1" in text
    assert "@" not in text.replace("0.0.0.0@53", "").replace("::@53", "")
    assert ("hmac-sha256" in text) is tsig
    # The folders are those of the pod.
    written.write_text(re.sub("/var/lib/name-server|/run/name-server", str(written.parent), text))
    done = subprocess.run(
        [word.replace("FILE", str(written)) for word in CHECKS[kind]],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_secret_that_lacks_something_is_named_without_what_is_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values: dict[str, str] = {}
    (tmp_path / "name").write_text("transfer.")
    (tmp_path / "algorithm").write_text("hmac-sha256")
    assert (
        configure.add_key(values, tmp_path)
        == "the Secret with the TSIG key has no `secret`; it needs name, algorithm, secret"
    )
    (tmp_path / "secret").write_text('geheim"; }')
    said = configure.add_key(values, tmp_path)
    assert "`secret`" in said
    assert "geheim" not in said + str(values)
    assert configure.node_name("node-9", "node-1 hv1\n\nnode-2 hv2\n") == "node-9"
    assert capsys.readouterr() == ("", "")


# In a cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    """One of its own: what is set up there is the cluster's, not a namespace's."""
    with FakeCluster(nodes=2) as fake:
        yield fake


def access(cluster: FakeCluster) -> ClusterSpec:
    return ClusterSpec(name="k3s", kubeconfig=str(cluster.kubeconfig))


async def apply(cluster: FakeCluster, asked: list[script.Call]) -> list[str]:
    async with KubeApi.open(access(cluster), no_tunnel) as api:
        done = await carry_out(api, script.render(asked), 60)
    assert done.exit_status == 0, done.stdout.decode()
    return done.stdout.decode().splitlines()


async def test_everything_applied_twice_changes_nothing_the_second_time_and_the_pods_get_ready(
    cluster: FakeCluster,
) -> None:
    shared, *peers = calico_objects(FLEET, K3S, CRD)
    asked = [*calls(everything()), *calls(peers)]
    cidrs = [entry["cidr"] for entry in shared["spec"]["serviceExternalIPs"]]
    first = await apply(cluster, [*asked, *announce(CRD, None, cidrs).calls])
    assert all(line.endswith(" created") for line in first), first
    cluster.create(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tsig", "namespace": "de"}}, with_status=False
    )

    async def ready() -> bool:
        pods = [pod for tenant in FLEET.tenants for pod in cluster.objects("pods", tenant.name)]
        conditions = [c for pod in pods for c in pod["status"].get("conditions", ()) if c["type"] == "Ready"]
        return len(conditions) == 6 and all(c["status"] == "True" for c in conditions)

    await until(ready)
    second = await apply(cluster, asked)
    assert all(line.endswith(" unchanged") for line in second), [s for s in second if not s.endswith("unchanged")]
    assert announce(CRD, cluster.get("bgpconfigurations", "", "default"), cidrs).calls == ()


async def test_what_is_stored_differs_from_what_is_rendered_in_nothing(cluster: FakeCluster) -> None:
    async with KubeApi.open(access(cluster), no_tunnel) as api:
        await carry_out(api, script.render(calls(everything())), 60)
        for obj in everything():
            live = await api.get(path_of(obj))
            query = {"dryRun": "All", "fieldManager": "anyconsole"}
            dry = await api.send("PATCH", path_of(obj), obj, content_type="application/apply-patch+yaml", **query)
            assert difference(obj, live, dry) == []


def test_sessions_of_the_profile_are_made_for_each_node_if_the_profile_says_so() -> None:
    peers = calico_objects(FLEET, K3S, V3)[1:]
    assert [(p["spec"]["node"], p["spec"]["peerIP"], p["spec"]["asNumber"]) for p in peers] == [
        (node, peer, 64611) for node in ("node-1", "node-2") for peer in ("198.18.20.1", "2001:db8:20::1")
    ]
    assert {p["apiVersion"] for p in peers} == {"projectcalico.org/v3"}
    assert len(calico_objects(fleet(("bgp_peers = true", "")), K3S, V3)) == 1


@pytest.mark.parametrize("api", [CRD, V3], ids=lambda api: api.group_version)
def test_calico_objects_are_of_calicos_own_schemas(api: CalicoApi) -> None:
    made = calico_objects(FLEET, K3S, api)
    assert {obj["kind"] for obj in made} == {"BGPConfiguration", "BGPPeer"}
    for obj in made:
        assert misfits(obj) == []
    assert misfits({**made[1], "spec": {**made[1]["spec"], "nodeSelector": "all()", "asn": 1, "peerIP": 7}}) == [
        "spec.asn: unknown field",
        'spec.peerIP: Invalid value: "integer": spec.peerIP in body must be of type string: "integer"',
        "spec: Invalid value: node and nodeSelector cannot both be set",
    ]
    assert misfits({**made[1], "spec": {**made[1]["spec"], "node": ""}}) == []


# Roles


async def test_with_the_readers_role_everything_is_seen_and_nothing_is_changed(cluster: FakeCluster) -> None:
    await apply(cluster, calls(everything()))
    for role in ("anyconsole-reader", "anyconsole-operator"):
        bind(cluster, role, f"{role}-user")
    bind(cluster, "anyconsole-reader", "anyconsole-operator-user", "both")
    objects = [obj for tenant in FLEET.tenants for obj in of(FLEET, tenant.name)]
    for user, may in (("anyconsole-reader-user", False), ("anyconsole-operator-user", True)):
        spec = ClusterSpec(name="k3s", kubeconfig=str(cluster.kubeconfig_for(user)))
        async with KubeApi.open(spec, no_tunnel) as api:
            for obj in objects:
                assert (await api.get(path_of(obj)))["kind"] == obj["kind"]
            done = await carry_out(api, script.render(calls(objects)), 60, dry_run=True)
            assert (done.exit_status == 0) is may, done.stdout.decode()[-300:]


def bind(cluster: FakeCluster, role: str, user: str, name: str = "") -> None:
    group = "rbac.authorization.k8s.io"
    cluster.create(
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name or user},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
        },
        with_status=False,
    )
