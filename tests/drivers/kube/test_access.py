"""How the console gets into a cluster, what it is told when it can't, and that it never tells a secret."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import json
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from anyconsole.drivers.kube.access import KubeApi
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.ssh.fault import Fault
from anyconsole.model.inventory import ClusterSpec
from anyconsole.model.pods import Permission
from tests.drivers.kube.networks import OK, Tunnel, carry, liar, no_tunnel
from tests.kube.apiserver import FakeCluster
from tests.kube.apiserver import Fault as Failure
from tests.kube.apiserver.reviews import service_account
from tests.kube.client import Object
from tests.test_import_hygiene import loaded_by

SECRET = "s3cr3t-t0ken-that-nobody-may-see-0123456789"  # noqa: S105 - nobody's
Altered = Callable[..., Path]


def spec(kubeconfig: Path | str, **settings: object) -> ClusterSpec:
    return ClusterSpec(name="k3s", kubeconfig=str(kubeconfig), **settings)  # type: ignore[arg-type]


def opened(kubeconfig: Path | str, **settings: object) -> contextlib.AbstractAsyncContextManager[KubeApi]:
    return KubeApi.open(spec(kubeconfig, **settings), no_tunnel)


def content(path: Path | str) -> str:
    return Path(path).read_text(encoding="utf-8")


def user_of(kubeconfig: Path) -> Object:
    user: Object = yaml.safe_load(content(kubeconfig))["users"][0]["user"]
    return user


async def failure(kubeconfig: Path | str, **settings: object) -> KubeError:
    with pytest.raises(KubeError) as caught:
        async with opened(kubeconfig, **settings) as api:
            await api.get("/version")
    return caught.value


def plugin(folder: Path, status: str, *, fails: str = "") -> Object:
    """An exec plugin that grants what the file `status` holds, and counts how often it ran."""
    script = folder / "plugin"
    end = f"echo '{fails}' >&2; exit 3" if fails else f"cat {folder}/status"
    script.write_text(f"#!/bin/sh\necho run >> {folder}/runs\n{end}\n")
    script.chmod(0o700)
    (folder / "status").write_text(
        f'{{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{status}}}'
    )
    return {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin", "interactiveMode": "Never"}
    }


async def test_a_kubeconfig_is_all_it_takes(api: KubeApi) -> None:
    assert "gitVersion" in await api.get("/version")
    assert await api.whoami()
    assert await api.may(Permission(verb="delete", resource="pods/exec"))


async def test_no_key_is_left_on_disk(
    kubeconfig: Path, altered: Altered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = user_of(kubeconfig)
    for key in {"client-certificate", "client-key"} & set(user):
        user[f"{key}-data"] = base64.b64encode(content(user.pop(key)).encode()).decode()
    path = altered(user=user)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for _ in range(2):
        async with opened(path) as api:
            assert await api.whoami()
            assert not list(temporary.iterdir())


async def test_several_files_are_one_and_the_first_context_wins(
    kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = yaml.safe_load(content(kubeconfig))
    contexts = {"current-context": whole.pop("current-context"), "contexts": whole.pop("contexts")}
    (tmp_path / "contexts").write_text(yaml.safe_dump(contexts))
    (tmp_path / "rest").write_text(yaml.safe_dump({**whole, "current-context": "another"}))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/contexts:{tmp_path}/none:{tmp_path}/rest")
    async with opened("") as api:
        assert await api.whoami()


async def test_a_token_file_that_changes_is_read_again(
    misbehaving: FakeCluster, altered: Altered, tmp_path: Path
) -> None:
    first, second = (misbehaving.tokens.issue(service_account("default", name)) for name in ("first", "second"))
    (tmp_path / "token").write_text(first + "\n")
    async with opened(altered(user={"tokenFile": "token"})) as api:
        assert (await api.whoami()).endswith(":first")
        (tmp_path / "token").write_text(second + "\n")
        misbehaving.tokens.revoke(first)
        assert (await api.whoami()).endswith(":second")


async def test_a_plugin_is_run_when_what_it_granted_ends(
    misbehaving: FakeCluster, altered: Altered, tmp_path: Path
) -> None:
    first, second = (misbehaving.tokens.issue(service_account("default", name)) for name in ("first", "second"))
    user = plugin(tmp_path, f'{{"token":"{first}","expirationTimestamp":"2099-01-01T00:00:00Z"}}')
    async with opened(altered(user=user)) as api:
        assert (await api.whoami()).endswith(":first")
        plugin(tmp_path, f'{{"token":"{second}"}}')
        assert (await api.whoami()).endswith(":first")
        misbehaving.tokens.revoke(first)
        # All who are refused at the same time wait for one plugin.
        names = await asyncio.gather(*(api.whoami() for _ in range(5)))
        assert {name.rpartition(":")[2] for name in names} == {"second"}
    assert (tmp_path / "runs").read_text().count("run") == 2


async def test_a_plugin_may_grant_certificates_that_soon_end(
    misbehaving: FakeCluster, altered: Altered, tmp_path: Path
) -> None:
    def granted(name: str) -> str:
        files = user_of(misbehaving.kubeconfig_for(name))
        pem = {
            "clientCertificateData": content(files["client-certificate"]),
            "clientKeyData": content(files["client-key"]),
        }
        return json.dumps(pem | {"expirationTimestamp": dt.datetime.now(dt.UTC).isoformat()})

    async with opened(altered(user=plugin(tmp_path, granted("first")))) as api:
        plugin(tmp_path, granted("second"))
        assert await api.whoami() == "second"


async def test_a_plugin_whose_credentials_are_refused_is_not_run_for_every_request(
    altered: Altered, tmp_path: Path
) -> None:
    async with opened(altered(user=plugin(tmp_path, f'{{"token":"{SECRET}"}}'))) as api:
        for _ in range(5):
            with pytest.raises(KubeError, match="sign in again"):
                await api.get("/version")
    assert (tmp_path / "runs").read_text().count("run") == 2


async def test_impersonation_is_not_forgotten(altered: Altered, kubeconfig: Path) -> None:
    async with opened(
        altered(user=user_of(kubeconfig) | {"as": "somebody", "as-groups": ["system:authenticated", "some"]})
    ) as api:
        assert await api.whoami() == "somebody"
        assert not await api.may(Permission(verb="list", resource="pods"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        ("users: [\n  token: " + SECRET + "\n  }", "isn't YAML, see line 3"),
        ("- " + SECRET, "understood"),
        (SECRET, "understood"),
        ("{current-context: c, contexts: [{name: c}], users: [], clusters: []}", "lacks context"),
        ("{contexts: [{name: a}, {name: b}]}", "no current context"),
        ("{current-context: c, contexts: [{name: a}, {name: b}]}", "no context c; name one of these in the profile: a, b"),
    ],
)  # fmt: skip
async def test_a_bad_kubeconfig_is_explained_and_never_quoted(
    content: str | None, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    said = str(await failure(path))
    assert words in said
    assert said.startswith("k3s: ")
    assert str(path) in said
    assert SECRET not in said + caplog.text


BAD_USERS: dict[str, tuple[Object, str]] = {
    "broken plugin": ({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/nowhere/x"}}, "can't be run"),
    "incomplete plugin": ({"exec": {"command": SECRET}}, "lacks command or apiVersion"),
    "no such key": ({"client-certificate": "none.crt", "client-key-data": SECRET}, "isn't there"),
    "not base64": ({"client-certificate-data": SECRET, "client-key-data": SECRET + "x"}, "understood"),
    "not PEM": ({"client-certificate-data": "AAAA", "client-key-data": "AAAA"}, "can't be used"),
    "old provider": ({"auth-provider": {"name": "gcp", "config": {"access-token": SECRET}}}, "gke-gcloud-auth-plugin"),
    "expired OpenID": (
        {"auth-provider": {"name": "oidc", "config": {"id-token": "e30.eyJleHAiOjF9.e30", "refresh-token": SECRET}}},
        "OpenID token has expired",
    ),
    "odd token": ({"token": SECRET + "\n\n" + SECRET}, "control characters"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_USERS)
async def test_bad_credentials_are_explained_and_never_told(
    case: str, altered: Altered, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    user, words = BAD_USERS[case]
    path = altered(user=user)
    said = str(await failure(path))
    assert words in said
    assert f"kubeconfig {path}, context " in said
    assert SECRET not in said + caplog.text


async def test_a_plugin_that_fails_is_quoted_without_what_may_be_a_token(
    altered: Altered, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    error = await failure(altered(user=plugin(tmp_path, "{}", fails=f"session {SECRET} expired, log in again")))
    assert "failed with 3: session *** expired, log in again; try it by hand" in str(error)
    assert error.fault is Fault.AUTH
    assert SECRET not in str(error) + caplog.text


async def test_a_refused_token_says_where_it_came_from(altered: Altered, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    path = altered(user={"token": SECRET})
    error = await failure(path)
    assert (error.status, error.fault) == (401, Fault.AUTH)
    assert f"sign in again (kubeconfig {path}" in str(error)
    assert SECRET not in str(error) + caplog.text


async def test_whoever_may_not_is_told_what_is_missing(misbehaving: FakeCluster) -> None:
    async with opened(misbehaving.kubeconfig_for("nobody")) as api:
        with pytest.raises(KubeError, match='User "nobody" cannot list resource "pods"') as caught:
            await api.get("/api/v1/namespaces/default/pods")
        assert (caught.value.status, caught.value.reason) == (403, "Forbidden")
        assert not await api.may(Permission(verb="list", resource="pods", namespace="default"))


@pytest.mark.parametrize(
    ("code", "reason"),
    [(404, "NotFound"), (409, "Conflict"), (410, "Expired"), (422, "Invalid"), (429, "TooManyRequests"), (503, "ServiceUnavailable")],
)  # fmt: skip
async def test_refusals_are_told_apart(misbehaving: FakeCluster, api: KubeApi, code: int, reason: str) -> None:
    misbehaving.fail(Failure(code, reason, "no\x1b[31m\nmore", times=1, plural="configmaps", retry_after=7))
    with pytest.raises(KubeError) as caught:
        await api.send("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "x"}})
    error = caught.value
    assert (error.status, error.reason, error.retry_after, error.is_expired) == (code, reason, 7.0, code == 410)
    assert str(error) == f"k3s: no [31m more ({code})"
    assert not error.maybe_done


async def test_objects_are_made_changed_and_removed(api: KubeApi, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await api.send(
        "POST", path, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ours"}, "data": {"a": "b"}}
    )
    patch = {"data": {"key": "value"}}
    merge = "application/merge-patch+json"
    tried = await api.send("PATCH", f"{path}/ours", patch, content_type=merge, dryRun="All")
    assert tried["data"] == {"a": "b", "key": "value"}
    assert (await api.get(f"{path}/ours"))["data"] == {"a": "b"}
    changed = await api.send("PATCH", f"{path}/ours", patch, content_type=merge, fieldManager="anyconsole")
    assert changed["data"] == {"a": "b", "key": "value"}
    managed = {entry["manager"]: entry for entry in changed["metadata"]["managedFields"]}
    assert "f:key" in managed["anyconsole"]["fieldsV1"]["f:data"]
    await api.send("DELETE", f"{path}/ours")
    with pytest.raises(KubeError) as caught:
        await api.get(f"{path}/ours")
    assert caught.value.status == 404


@pytest.mark.parametrize("path", ["/api/v1/../secrets", "/api//v1", "api", "/api/v1/namespaces/./pods"])
async def test_a_name_cannot_lead_elsewhere(api: KubeApi, path: str) -> None:
    with pytest.raises(KubeError, match="no path of the API"):
        await api.get(path)
    with pytest.raises(KubeError) as caught:
        await api.get("/api/v1/namespaces/default/pods/x?watch=true#y")
    assert caught.value.status == 404


async def test_behind_a_jump_host_the_real_server_is_verified(misbehaving: FakeCluster, altered: Altered) -> None:
    tunnel = Tunnel(misbehaving)
    right = spec(altered(server="https://kubernetes.default.svc:6443"), jump=("outer", "inner"))
    async with KubeApi.open(right, tunnel) as api:
        assert await api.whoami() == "kubernetes-admin"
        assert await api.get("/version")
        with pytest.raises(KubeError) as caught:
            async with api.socket("/api/v1/namespaces/default/pods/none/exec", {"command": "x"}, ["v4.channel.k8s.io"]):
                pass
        assert caught.value.status == 404
    assert tunnel.asked == [("outer,inner", "kubernetes.default.svc", 6443)]
    wrong = spec(altered(server="https://elsewhere.example:6443"), jump=("outer",))
    async with KubeApi.open(wrong, tunnel) as api:
        with pytest.raises(
            KubeError, match=r"elsewhere.example:6443 through outer: its certificate isn't trusted"
        ) as caught:
            await api.get("/version")
    assert caught.value.fault is Fault.NEGOTIATION
    named = spec(altered(server="https://elsewhere.example:6443", tls_server_name="kubernetes"), jump=("outer",))
    async with KubeApi.open(named, tunnel) as api:
        assert await api.get("/version")


async def test_a_tunnel_that_is_gone_is_opened_again(misbehaving: FakeCluster, altered: Altered) -> None:
    tunnel = Tunnel(misbehaving)
    async with KubeApi.open(spec(altered(server="https://kubernetes:6443"), jump=("outer",)), tunnel) as api:
        assert await api.get("/version")
        tunnel.cut()
        with pytest.raises(KubeError) as caught:
            await api.get("/version")
        assert caught.value.fault is Fault.REFUSED
        assert await api.get("/version")
    assert len(tunnel.asked) == 2
    async with KubeApi.open(spec(altered(), jump=("broken",)), tunnel) as api:
        with pytest.raises(KubeError, match="k3s: jump host broken: Permission denied") as caught:
            await api.get("/version")
        assert caught.value.fault is Fault.AUTH


@pytest.mark.parametrize("where", ["file", "environment"])
async def test_a_proxy_is_used(
    where: str, misbehaving: FakeCluster, altered: Altered, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = []

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await carry(reader, writer, *await asyncio.open_connection("127.0.0.1", urlsplit(misbehaving.url).port))

    proxy = await asyncio.start_server(connect, "127.0.0.1", 0)
    url = f"http://me:{SECRET}@127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    monkeypatch.setenv("HTTPS_PROXY", url if where == "environment" else "http://127.0.0.1:9")
    server = "https://kubernetes:6443"
    path = altered(server=server, proxy_url=url) if where == "file" else altered(server=server)
    async with proxy, opened(path) as api:
        assert await api.get("/version")
        assert heads[0].startswith("CONNECT kubernetes:6443 ")
        assert "Proxy-Authorization: Basic" in heads[0]
    async with opened(path) as api:
        with pytest.raises(KubeError, match=r"through proxy http://127\.0\.0\.1") as caught:
            await api.get("/version")
    assert SECRET not in str(caught.value)


async def test_a_proxy_that_we_cannot_use_is_named(altered: Altered) -> None:
    assert "kind socks5 can't be used; name the jump hosts" in str(
        await failure(altered(proxy_url="socks5://[::1]:1080"))
    )


@pytest.mark.parametrize(
    ("answer", "repeat", "words"),
    [
        (OK, b"[" * 65536, "longer than 16 MiB"),
        (OK + b"[" * 100_000, b"", "no JSON object"),
        (OK + b'{"a":\xff}', b"", "no JSON object"),
        (OK + b"[]", b"", "no JSON object"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", b"", "connection was lost"),
        (b"nonsense\r\n\r\n", b"", "k3s: "),
        (b"", b"", "connection was lost"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n", b"", r"Found \(302\)"),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 6\r\n\r\n<html>", b"", r"Bad: <html> \(502\)"),
        (b"HTTP/1.1 500 X\r\n\r\n" + b'{"kind":"Status","code":[],"details":3,"message":{"a":"' + SECRET.encode() + b'"}}',
         b"", r"\*\*\*"),
    ],
)  # fmt: skip
async def test_a_server_that_lies_is_an_error_and_no_more(
    answer: bytes, repeat: bytes, words: str, altered: Altered
) -> None:
    async with liar(answer, repeat) as port:
        path = altered(server=f"http://127.0.0.1:{port}", user={"token": SECRET})
        async with opened(path) as api:
            with pytest.raises(KubeError, match=words) as caught:
                await api.get("/version")
            assert SECRET not in str(caught.value)


async def test_a_line_without_an_end_ends_the_watch(altered: Altered) -> None:
    async with liar(OK, b"x" * 65536) as port, opened(altered(server=f"http://127.0.0.1:{port}")) as api:
        with pytest.raises(KubeError, match="longer than 4 MiB"):
            async for _ in api.lines("/api/v1/pods", watch=True):
                pass


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_change_is_sent_once(method: str, altered: Altered) -> None:
    sent: list[bytes] = []

    async def lose(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent.append(await reader.readuntil(b" "))
        writer.transport.abort()

    async with await asyncio.start_server(lose, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with opened(altered(server=f"http://127.0.0.1:{port}")) as api:
            with pytest.raises(KubeError, match="the connection was lost") as caught:
                await api.send(method, "/api/v1/namespaces/default/pods/x", {})
    assert sent == [f"{method} ".encode()]
    assert caught.value.maybe_done


async def test_a_change_without_an_answer_may_have_been_made(altered: Altered, misbehaving: FakeCluster) -> None:
    async with liar(b"") as port, opened(altered(server=f"http://127.0.0.1:{port}")) as api:
        with pytest.raises(KubeError) as caught:
            await api.send("DELETE", "/api/v1/namespaces/default/pods/x")
        assert caught.value.maybe_done
    async with opened(altered(server=f"http://127.0.0.1:{port}")) as api:
        with pytest.raises(KubeError) as caught:
            await api.send("DELETE", "/api/v1/namespaces/default/pods/x")
        assert (caught.value.fault, caught.value.maybe_done) == (Fault.REFUSED, False)
    misbehaving.freeze()
    try:
        async with KubeApi.open(spec(misbehaving.kubeconfig), no_tunnel, 0.2) as api:
            with pytest.raises(KubeError) as caught:
                await api.send("DELETE", "/api/v1/namespaces/default/pods/x")
            assert (caught.value.fault, caught.value.maybe_done) == (Fault.TIMEOUT, True)
    finally:
        misbehaving.thaw()


async def test_an_encrypted_key_does_not_ask_for_its_passphrase(altered: Altered, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMII=\n-----END ENCRYPTED PRIVATE KEY-----\n")
    said = str(await failure(altered(user={"client-certificate": "key", "client-key": "key"})))
    assert "client key is encrypted" in said


def test_a_profile_without_clusters_does_not_load_this() -> None:
    assert not loaded_by("import anyconsole.engine.server") & {"kubernetes", "aiohttp"}
