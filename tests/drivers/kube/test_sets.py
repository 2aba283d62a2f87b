"""What set-up applies and teardown takes away, by what is there: never what isn't ours, and nothing that is as it should be already."""

from __future__ import annotations

from typing import Any

import pytest

from anyconsole.drivers.kube.addresses import ANNOTATION, announce, entries_of, withdraw
from anyconsole.drivers.kube.calico import MANAGED_BY, OWNER, CalicoApi
from anyconsole.drivers.kube.execute import Preview
from anyconsole.drivers.kube.lacking import lacking
from anyconsole.drivers.kube.objects import SET_LABEL, collections_in, path_of
from anyconsole.drivers.kube.render import Object
from anyconsole.drivers.kube.rollout import rollout_of
from anyconsole.drivers.kube.script import Call, Verb, unmet
from anyconsole.drivers.kube.sets import MADE, addition, apply, counted, removal, strangers, with_origin
from anyconsole.model.pods import Permission

API = CalicoApi("crd.projectcalico.org/v1")
V4, V6 = "192.0.2.53/32", "2001:db8:de::53/128"
OURS = {MANAGED_BY: OWNER, SET_LABEL: "tenant-de"}


def obj(kind: str, name: str = "x", version: str = "v1", **more: Any) -> Object:  # noqa: ANN401
    metadata = {"name": name, "namespace": "de", "labels": OURS} | more.pop("metadata", {})
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


def space(**metadata: Any) -> Object:  # noqa: ANN401
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "de", "uid": "u1"} | metadata}


def previewed(rendered: Object, live: Object | None, **more: Any) -> Preview:  # noqa: ANN401
    (call,) = apply([rendered])
    return Preview(call=call, live=live, **({"after": rendered} | more))


# Addresses


def test_addresses_are_added_beside_others_and_only_our_own_are_taken_out_again() -> None:
    live: Object = {
        "metadata": {"name": "default"},
        "spec": {"serviceExternalIPs": [{"cidr": "203.0.113.0/24"}, {"cidr": V4}]},
    }
    added = announce(API, live, [V4, V6])
    expect, merge = added.calls
    assert (expect.verb, merge.verb) == (Verb.EXPECT, Verb.MERGE)
    assert not unmet(expect.body, live)
    assert entries_of(added.after) == (["203.0.113.0/24", V4, V6], [V6])
    assert announce(API, added.after, [V4, V6]).calls == ()
    gone = withdraw(API, added.after, [V4, V6])
    assert entries_of(gone.after) == (["203.0.113.0/24", V4], [])
    assert gone.calls[1].body == {
        "metadata": {"annotations": {ANNOTATION: None}},
        "spec": {"serviceExternalIPs": [{"cidr": "203.0.113.0/24"}, {"cidr": V4}]},
    }
    assert withdraw(API, gone.after, [V4, V6]).calls == ()


def test_a_list_that_somebody_changed_meanwhile_is_not_written_over() -> None:
    live: Object = {"metadata": {"name": "default"}, "spec": {}}
    expect = announce(API, live, [V4]).calls[0]
    assert not unmet(expect.body, live)
    assert "serviceExternalIPs" in unmet(expect.body, {**live, "spec": {"serviceExternalIPs": [{"cidr": V6}]}})


def test_a_cluster_without_a_configuration_gets_one() -> None:
    (call,) = announce(API, None, [V4]).calls
    assert (call.verb, call.path) == (Verb.CREATE, "/apis/crd.projectcalico.org/v1/bgpconfigurations")
    assert withdraw(API, None, [V4]).calls == ()


# Set-up


def test_what_is_as_rendered_makes_no_call_and_what_differs_is_ours_when_it_is_changed() -> None:
    same, other = obj("ConfigMap", "same", data={"a": "1"}), obj("ConfigMap", "other", data={"a": "2"})
    told = addition([previewed(same, same), previewed(other, {**other, "data": {"a": "1"}})])
    assert [call.verb for call in told.calls] == [Verb.EXPECT, Verb.APPLY]
    assert told.calls[0].body == {"metadata": {"labels": {MANAGED_BY: OWNER}}}
    assert (told.created, told.unchanged) == (0, 1)
    assert told.diff == "configmaps/other in de\n  - data.a: 1\n  + data.a: 2"


@pytest.mark.parametrize("labels", [{}, {MANAGED_BY: "Helm"}, {MANAGED_BY: OWNER, SET_LABEL: "tenant-nic"}])
def test_what_has_another_owner_or_is_of_another_set_is_foreign(labels: dict[str, str]) -> None:
    rendered = obj("ConfigMap", "programs", data={"a": "1"})
    told = addition([previewed(rendered, {**rendered, "metadata": {**rendered["metadata"], "labels": labels}})])
    assert told.calls == ()
    (name,) = told.foreign
    assert name.startswith("configmaps/programs in de")


def test_a_namespace_of_others_is_used_only_as_the_one_that_was_seen_and_never_called_ours() -> None:
    live = space()
    rendered = with_origin(space(labels=OURS), live)
    assert MADE not in rendered["metadata"].get("annotations", {})
    told = addition([previewed(rendered, live)])
    assert told.used == ("namespaces/de",)
    assert told.calls[0].body == {"metadata": {"uid": "u1"}}


def test_a_namespace_that_we_make_says_so_and_goes_on_saying_so() -> None:
    made = with_origin(space(labels=OURS), None)
    assert made["metadata"]["annotations"] == {MADE: "true"}
    assert with_origin(space(labels=OURS), made) == made


def test_what_cant_be_tried_before_its_namespace_is_made_is_no_refusal_but_anything_else_is() -> None:
    rendered = obj("ConfigMap", data={"a": "1"})
    early = previewed(rendered, None, after=None, problem='namespaces "de" not found', status=404)
    told = addition([previewed(space(labels=OURS), None), early])
    assert (told.created, told.rejected) == (2, ())
    assert addition([early]).rejected == ('configmaps/x in de: namespaces "de" not found',)
    wrong = previewed(rendered, None, after=None, problem="data: Invalid value", status=422)
    assert addition([wrong]).rejected == ("configmaps/x in de: data: Invalid value",)
    denied = previewed(rendered, None, after=None, problem="forbidden", status=403)
    assert addition([denied]).rejected
    assert not addition([denied], [Permission(verb="patch", resource="configmaps", namespace="de")]).rejected


def test_new_pods_are_told_and_a_change_that_makes_none_is_not() -> None:
    def deployment(image: str, replicas: int) -> Object:
        spec = {"replicas": replicas, "template": {"spec": {"containers": [{"name": "nsd", "image": image}]}}}
        return obj("Deployment", "ns-nsd", "apps/v1", spec=spec)

    assert addition([previewed(deployment("b", 2), deployment("a", 2))]).restarted == ("deployments.apps/ns-nsd in de",)
    assert addition([previewed(deployment("a", 3), deployment("a", 2))]).restarted == ()


# Teardown


def test_objects_go_in_order_and_each_only_while_it_is_ours() -> None:
    theirs = obj("ConfigMap", "theirs", metadata={"labels": {}})
    told = removal([obj("Service", "ac"), theirs, obj("ConfigMap", "ours")], "tenant-de")
    assert [(call.verb, call.path.rpartition("/")[2]) for call in told.calls] == [
        (Verb.EXPECT, "ac"), (Verb.DELETE, "ac"), (Verb.EXPECT, "ours"), (Verb.DELETE, "ours"),
    ]  # fmt: skip
    assert all(call.body == {"metadata": {"labels": OURS}} for call in told.calls if call.verb is Verb.EXPECT)
    order = [path.rpartition("/")[2] for path in collections_in("de")]
    assert order[:3] == ["services", "deployments", "daemonsets"]


def test_a_namespace_goes_only_if_we_made_it_and_nothing_of_others_is_in_it() -> None:
    made = space(labels=OURS, annotations={MADE: "true"})
    quota = obj("ResourceQuota", "tenant")
    assert removal([quota], "tenant-de", made).gone == ("resourcequotas/tenant in de", "namespaces/de")
    kept = removal([quota], "tenant-de", made, ["1 secrets"])
    assert kept.calls == ()
    assert kept.stays[0] == "namespaces/de, with 1 secrets"
    used = removal([quota], "tenant-de", space(labels=OURS))
    assert used.calls[-1].verb is Verb.APPLY
    assert used.calls[-1].body == {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "de"}}
    assert removal([], "tenant-de", space()) == removal([], "tenant-de")


def test_what_is_in_a_namespace_besides_is_named_and_what_may_not_be_listed_counts_as_there() -> None:
    theirs = obj("Service", "web", metadata={"labels": {}})
    automatic = obj("ConfigMap", "kube-root-ca.crt", metadata={"labels": {}})
    assert strangers([obj("Service", "ac"), theirs, automatic], "tenant-de") == ["Service web"]
    assert counted(obj("ResourceQuota", status={"used": {"secrets": "0", "persistentvolumeclaims": "0"}})) == []
    assert counted(obj("ResourceQuota", status={"used": {"secrets": "2", "persistentvolumeclaims": "0"}})) == [
        "2 secrets"
    ]
    assert len(counted(None)) == len(counted(obj("ResourceQuota"))) == 2


# Permissions


def test_a_permission_denied_everywhere_is_denied_in_each_namespace_and_one_elsewhere_is_none() -> None:
    call = Call(verb=Verb.DELETE, path="/api/v1/namespaces/de/services/ac")
    mine = Permission(verb="delete", resource="services", namespace="de")
    assert lacking([call], [mine]) == (mine,)
    assert lacking([call], [Permission(verb="delete", resource="services")]) == (mine,)
    assert lacking([call], [Permission(verb="delete", resource="services", namespace="nic")]) == ()
    assert lacking([call], [Permission(verb="patch", resource="services", namespace="de")]) == ()


# Workloads


def deployment(**status: int) -> Object:
    full = {"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2} | status
    return obj("Deployment", "ns", "apps/v1", metadata={"generation": 3}, spec={"replicas": 2}, status=full)


def test_a_workload_is_rolled_out_when_all_its_pods_are_new_and_ready() -> None:
    assert rollout_of(deployment()).is_complete
    for short in ({"observedGeneration": 2}, {"updatedReplicas": 1}, {"readyReplicas": 1}, {"replicas": 3}):
        assert not rollout_of(deployment(**short)).is_complete, short
    assert not rollout_of(obj("Deployment", "ns", "apps/v1", spec={"replicas": 0})).is_complete, (
        "nobody has looked at it yet"
    )
    daemons = {"desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberReady": 2, "currentNumberScheduled": 2}
    daemon = obj("DaemonSet", "ne", "apps/v1", metadata={"generation": 1}, status={"observedGeneration": 1} | daemons)
    assert rollout_of(daemon).is_complete
    assert path_of(daemon).endswith("/daemonsets/ne")


def test_what_a_controller_complains_of_is_quoted() -> None:
    failed = deployment(readyReplicas=0)
    failed["status"]["conditions"] = [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: tenant"}]
    assert rollout_of(failed).words == "ns 0 of 2 ready (exceeded quota: tenant)"
