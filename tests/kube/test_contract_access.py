"""The contract, part three: who may do what, and the streams into pods."""

from __future__ import annotations

import json
import struct

import aiohttp
import pytest

from tests.kube.client import Answer, Kube, Object, until

_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_REVIEWS = "/apis/authorization.k8s.io/v1"


def kind(api_version: str, name: str, **content: object) -> Object:
    return {"apiVersion": api_version, "metadata": {"name": name}, **content}


async def may(kube: Kube, user: str, verb: str, resource: str, namespace: str, subresource: str = "") -> bool:
    """What the API says that a user may do."""
    attributes = {"verb": verb, "resource": resource, "subresource": subresource, "namespace": namespace}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": attributes},
    }
    return bool((await kube.create(f"{_REVIEWS}/subjectaccessreviews", review)).body["status"]["allowed"])


@pytest.fixture
async def reader(kube: Kube, namespace: str) -> dict[str, str]:
    """A service account that may only read pods. Its token as a header."""
    home = f"{_RBAC}/namespaces/{namespace}"
    rules = [{"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list", "watch"]}]
    await kube.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", kind("v1", "reader", kind="ServiceAccount"))
    await kube.create(f"{home}/roles", kind("rbac.authorization.k8s.io/v1", "reader", kind="Role", rules=rules))
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
    subjects = [{"kind": "ServiceAccount", "name": "reader", "namespace": namespace}]
    binding = kind("rbac.authorization.k8s.io/v1", "reader", kind="RoleBinding", roleRef=reference, subjects=subjects)
    await kube.create(f"{home}/rolebindings", binding)
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    made = await kube.create(f"/api/v1/namespaces/{namespace}/serviceaccounts/reader/token", request)
    user = f"system:serviceaccount:{namespace}:reader"

    async def is_known() -> bool:
        return await may(kube, user, "list", "pods", namespace)

    await until(is_known)
    return {"Authorization": f"Bearer {made.body['status']['token']}"}


@pytest.fixture
def stranger(kube: Kube) -> Kube:
    """Requests that bring their own token are made without the administrator's certificate."""
    return kube.anonymous()


async def test_a_reader_reads(stranger: Kube, reader: dict[str, str], namespace: str) -> None:
    async with stranger as kube:
        assert (await kube.get(f"/api/v1/namespaces/{namespace}/pods", **reader)).code == 200


async def test_whoever_is_signed_in_may_ask_whether_the_server_is_ready(stranger: Kube, reader: dict[str, str]) -> None:
    async with stranger as kube:
        ready = await kube.get("/readyz?exclude=shutdown", **reader)
    assert (ready.code, ready.body) == (200, {"text": "ok"})


async def test_who_may_not_is_told_what_is_missing(stranger: Kube, reader: dict[str, str], namespace: str) -> None:
    async with stranger as kube:
        refused = await kube.ask("DELETE", f"/api/v1/namespaces/{namespace}/pods/x", **reader)
    assert (refused.code, refused.reason) == (403, "Forbidden")
    words = f'User "system:serviceaccount:{namespace}:reader" cannot delete resource "pods" in API group "" in the namespace "{namespace}"'
    assert words in refused.body["message"]


async def test_a_role_in_one_namespace_is_none_in_another(stranger: Kube, reader: dict[str, str]) -> None:
    async with stranger as kube:
        assert (await kube.get("/api/v1/namespaces/default/pods", **reader)).code == 403
        assert (await kube.get("/api/v1/pods", **reader)).code == 403


async def test_a_wrong_token_is_nobody(stranger: Kube) -> None:
    async with stranger as kube:
        refused = await kube.get("/api/v1/namespaces", Authorization="Bearer wrong")
    assert (refused.code, refused.reason) == (401, "Unauthorized")


async def test_one_can_ask_before_one_tries(stranger: Kube, reader: dict[str, str], namespace: str) -> None:
    async def ask(verb: str) -> Answer:
        attributes = {"verb": verb, "resource": "pods", "namespace": namespace}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        return await kube.ask("POST", f"{_REVIEWS}/selfsubjectaccessreviews", review, **reader)

    async with stranger as kube:
        assert (await ask("list")).body["status"]["allowed"] is True
        assert not (await ask("delete")).body["status"]["allowed"]


async def test_one_can_ask_for_all_that_one_may(stranger: Kube, reader: dict[str, str], namespace: str) -> None:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    async with stranger as kube:
        status = (await kube.ask("POST", f"{_REVIEWS}/selfsubjectrulesreviews", review, **reader)).body["status"]
    granted = [rule for rule in status["resourceRules"] if "pods" in rule["resources"]]
    assert [sorted(rule["verbs"]) for rule in granted] == [["get", "list", "watch"]]


async def test_the_administrator_may_do_everything(kube: Kube) -> None:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}},
    }
    assert (await kube.create(f"{_REVIEWS}/selfsubjectaccessreviews", review)).body["status"]["allowed"] is True


async def test_nobody_gives_away_what_he_does_not_hold(
    kube: Kube, stranger: Kube, reader: dict[str, str], namespace: str
) -> None:
    home = f"{_RBAC}/namespaces/{namespace}"
    rules = [
        {
            "apiGroups": ["rbac.authorization.k8s.io"],
            "resources": ["roles", "rolebindings"],
            "verbs": ["create", "patch"],
        }
    ]
    await kube.create(f"{home}/roles", kind("rbac.authorization.k8s.io/v1", "granter", kind="Role", rules=rules))
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "granter"}
    subjects = [{"kind": "ServiceAccount", "name": "reader", "namespace": namespace}]
    await kube.create(
        f"{home}/rolebindings",
        kind("rbac.authorization.k8s.io/v1", "granter", kind="RoleBinding", roleRef=reference, subjects=subjects),
    )
    everything = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    pods = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]

    async def grant(name: str, given: list[Object]) -> int:
        role = kind("rbac.authorization.k8s.io/v1", name, kind="Role", rules=given)
        return (await other.ask("POST", f"{home}/roles", role, **reader)).code

    async with stranger as other:

        async def may_grant() -> bool:
            return await grant("little", pods) in {201, 409}

        await until(may_grant)
        assert await grant("much", everything) == 403


async def frames(socket: aiohttp.ClientWebSocketResponse) -> dict[int, bytes]:
    """Everything that an exec says, by channel."""
    said: dict[int, bytes] = {}
    async for message in socket:
        if message.type is aiohttp.WSMsgType.BINARY and len(message.data) > 1:
            said[message.data[0]] = said.get(message.data[0], b"") + message.data[1:]
    return said


def exec_path(namespace: str, pod: str, *argv: str, stdin: bool = False) -> str:
    query = "&".join(f"command={word}" for word in argv)
    return f"/api/v1/namespaces/{namespace}/pods/{pod}/exec?{query}&stdout=true&stderr=true&stdin={str(stdin).lower()}"


async def test_exec_tells_its_streams_and_its_exit_code_apart(kube: Kube, namespace: str, speaking_pod: str) -> None:
    path = exec_path(namespace, speaking_pod, "sh", "-c", "echo%20out%3B%20echo%20err%20%3E%262%3B%20exit%203")
    async with kube.websocket(path, "v5.channel.k8s.io", "v4.channel.k8s.io") as socket:
        assert socket.protocol == "v5.channel.k8s.io"
        said = await frames(socket)
    assert (said[1], said[2]) == (b"out\n", b"err\n")
    outcome = json.loads(said[3])
    assert (outcome["status"], outcome["reason"]) == ("Failure", "NonZeroExitCode")
    assert outcome["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]


async def test_exec_takes_input_and_its_end(kube: Kube, namespace: str, speaking_pod: str) -> None:
    async with kube.websocket(exec_path(namespace, speaking_pod, "cat", stdin=True), "v5.channel.k8s.io") as socket:
        await socket.send_bytes(b"\x00" + "größer".encode())
        await socket.send_bytes(b"\xff\x00")
        said = await frames(socket)
    assert said[1].decode() == "größer"
    assert json.loads(said[3])["status"] == "Success"


@pytest.mark.parametrize("what", ["exec?command=id&stdout=1", "portforward?ports=53"])
async def test_a_stream_into_a_pod_that_is_not_there_fails_at_once(kube: Kube, namespace: str, what: str) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with kube.websocket(f"/api/v1/namespaces/{namespace}/pods/none/{what}", "v4.channel.k8s.io"):
            pass
    assert refused.value.status in {400, 404}


async def test_reading_pods_is_not_enough_to_exec_in_them(
    stranger: Kube, reader: dict[str, str], namespace: str, speaking_pod: str
) -> None:
    async with stranger as kube:
        refused = await kube.get(exec_path(namespace, speaking_pod, "id"), **reader)
    assert refused.code == 403
    assert 'resource "pods/exec"' in refused.body["message"]


async def test_a_log_is_read_by_its_end(kube: Kube, namespace: str, speaking_pod: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods/{speaking_pod}/log"

    async def has_spoken() -> bool:
        return "three" in (await kube.get(path)).body.get("text", "")

    await until(has_spoken)
    assert (await kube.get(path)).body["text"] == "one\ntwo\nthree\n"
    assert (await kube.get(f"{path}?tailLines=1")).body["text"] == "three\n"
    stamped = (await kube.get(f"{path}?tailLines=1&timestamps=true")).body["text"]
    assert stamped.startswith("20")
    assert stamped.endswith("Z three\n")


async def test_a_container_that_never_restarted_has_no_previous_log(
    kube: Kube, namespace: str, speaking_pod: str
) -> None:
    refused = await kube.get(f"/api/v1/namespaces/{namespace}/pods/{speaking_pod}/log?previous=true")
    assert refused.code == 400
    assert "previous terminated container" in refused.body["message"]


async def test_a_log_is_followed(kube: Kube, namespace: str, speaking_pod: str) -> None:
    async with kube.stream(f"/api/v1/namespaces/{namespace}/pods/{speaking_pod}/log?follow=true&tailLines=2") as log:
        assert [await log.readline(), await log.readline()] == [b"two\n", b"three\n"]


async def test_a_service_without_endpoints_is_unavailable_through_the_proxy(kube: Kube, namespace: str) -> None:
    services = f"/api/v1/namespaces/{namespace}/services"
    ports = [{"name": "web", "port": 9090}]
    await kube.create(services, kind("v1", "empty", kind="Service", spec={"selector": {"app": "none"}, "ports": ports}))

    async def is_unavailable() -> bool:
        """Not found, until a controller saw that there is nothing behind it."""
        answer = await kube.get(f"{services}/http:empty:web/proxy/api/v1/query?query=up")
        assert (answer.code, answer.reason) in ((404, "NotFound"), (503, "ServiceUnavailable"))
        return answer.code == 503

    await until(is_unavailable)


async def test_a_websocket_that_asks_for_json_is_refused(kube: Kube, namespace: str, speaking_pod: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods/{speaking_pod}/exec?command=true&stdout=true"
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with kube.websocket(path, "v5.channel.k8s.io", accept="application/json"):
            pass
    assert caught.value.status == 406


async def test_port_forward_says_which_port_each_channel_is(kube: Kube, namespace: str, speaking_pod: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods/{speaking_pod}/portforward?ports=5300"
    async with kube.websocket(path, "v4.channel.k8s.io") as socket:
        first = [await socket.receive_bytes() for _ in range(2)]
    assert first == [bytes((channel,)) + struct.pack("<H", 5300) for channel in (0, 1)]
