"""A bare host becomes a cluster over a real sshd. k3s itself is a double, see `bare_host`: it can't be had here."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anyconsole import cli
from tests.drivers.sshd import Servers
from tests.e2e.bare_host import SECRET, BareHost, profile_text, write_bundle

pytestmark = pytest.mark.lab

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    made = Servers(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def host(servers: Servers) -> BareHost:
    return BareHost(servers)


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    return tmp_path / "kube" / "fra.yaml"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def run(
    servers: Servers,
    host: BareHost,
    kubeconfig: Path,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """`anyconsole bootstrap` with more arguments: exit code, standard output, standard error."""
    assert host.server.process is not None
    profile = tmp_path / "bare.toml"
    profile.write_text(profile_text(servers.ssh_config, kubeconfig, bundle))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def bootstrap(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        # The machine of the tests may show no kernel modules.
        kernel = () if "--plan" in words else ("--override", "kernel=a test's host shows none")
        code = cli.main(
            ["--profile", str(profile), "bootstrap", "--within", "30", "--reason", "new site", *kernel, *words]
        )
        return code, *capsys.readouterr()

    return bootstrap


def _outcomes(text: str) -> dict[str, str]:
    return {name: outcome for outcome, name in re.findall(r"^  (OK|REFUSE) +([a-z]+):", text, re.MULTILINE)}


def test_a_bare_host_becomes_a_cluster_and_a_second_run_changes_nothing(
    run: Run, host: BareHost, kubeconfig: Path, tmp_path: Path
) -> None:
    code, plan, told = run("--plan")
    refused = {name for name, outcome in _outcomes(plan).items() if outcome == "REFUSE"}
    assert (code, refused) in ((0, set()), (3, {"kernel"})), plan + told
    titles = re.findall(r"^\d\. hv1-host: (\w+)", plan, re.MULTILINE)
    assert titles == ["send", "install", "apply", "fetch"]
    assert not host.path("/etc/rancher").exists(), "a plan changes nothing"

    code, said, progress = run("--yes")
    assert code == 0, said + progress
    assert "DONE: 4 of 4 steps done and proved" in said

    assert host.read("/run/k3s-double-env").split() == [
        "INSTALL_K3S_EXEC=server", "INSTALL_K3S_FORCE_RESTART=true", "INSTALL_K3S_SKIP_DOWNLOAD=true",
        "INSTALL_K3S_VERSION=v1.34.2+k3s1",
    ]  # fmt: skip
    config = host.read("/etc/rancher/k3s/config.yaml")
    for line in (
        'node-name: "hv1"', 'node-ip: "127.0.0.1,::1"', 'cluster-cidr: "10.42.0.0/16,fd00:42::/56"',
        'service-cidr: "10.43.0.0/16,fd00:43::/112"', 'flannel-backend: "none"', "disable-network-policy: true",
        'disable: ["traefik", "servicelb"]',
    ):  # fmt: skip
        assert line in config
    images = host.path("/var/lib/rancher/k3s/agent/images")
    assert sorted(path.name for path in images.iterdir()) == ["calico-images.tar", "k3s-airgap-images-amd64.tar.zst"]
    calls = host.read("/run/k3s-double-calls")
    assert calls.index("operator-crds.yaml") < calls.index("tigera-operator.yaml") < calls.index("kubectl wait")
    assert "cidr: fd00:42::/56" in host.read("/run/k3s-double-installation")

    assert kubeconfig.stat().st_mode & 0o777 == 0o600
    assert "server: https://127.0.0.1:6443" in kubeconfig.read_text()
    assert SECRET in kubeconfig.read_text()
    journal = [path.read_text() for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert any("calico-applied" in text for text in journal), "the journal has the scripts"
    assert SECRET not in "".join((*journal, plan, said, progress))

    before = host.read("/run/k3s-double-env")
    code, again, _ = run("--yes")
    assert code == 0, again
    assert "Nothing to change: hv1-host is the cluster k3s-fra" in again
    assert host.read("/run/k3s-double-env") == before

    code, again, _ = run("--yes", "--setup")
    assert "PLAN  set up de on k3s-fra" in again, "its tenants come next"
    assert code == 4, "the double answers to its own kubectl alone"


def test_after_an_installer_that_failed_the_next_run_goes_on_there(run: Run, host: BareHost, kubeconfig: Path) -> None:
    host.path("/run/k3s-double-fails").touch()
    code, said, _ = run("--yes")
    assert code == 1
    assert "the double was told to fail" in said
    assert "1 of 4 steps are done and stay" in said
    assert "k3s-uninstall.sh" in said
    assert not kubeconfig.exists()

    host.path("/run/k3s-double-fails").unlink()
    code, said, progress = run("--yes")
    assert code == 0, said + progress
    assert "send" not in re.findall(r"^\d\. hv1-host: (\w+)", said, re.MULTILINE), "what was sent is there"
    assert kubeconfig.exists()


def test_a_console_that_dies_leaves_the_installer_to_its_end_and_the_next_one_does_the_rest(
    run: Run, host: BareHost, kubeconfig: Path, tmp_path: Path
) -> None:
    hangs = host.path("/run/k3s-double-hangs")
    hangs.touch()
    words = [
        "--profile",
        str(tmp_path / "bare.toml"),
        "bootstrap",
        "--reason",
        "new site",
        "--yes",
        "--override",
        "kernel=none seen",
    ]
    dying = subprocess.Popen(
        [sys.executable, "-m", "anyconsole", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _wait_for(host.path("/run/k3s-double-env"))
    dying.kill()
    dying.wait(10)

    code, said, told = run("--yes")
    assert re.search(
        r"open change from .*\n +hv1-host send 6 files, 3.1 MiB: done hv1-host install .*: not done", told
    ), told
    assert code == 1
    assert "another bootstrap is at it on this host" in said

    hangs.unlink()
    _wait_for(host.path("/run/k3s-double-up"))
    code, said, told = run("--yes")
    assert code == 0, said + told
    assert re.findall(r"^\d\. hv1-host: (\w+)", said, re.MULTILINE) == ["apply", "fetch"]
    assert kubeconfig.exists()


def _wait_for(path: Path) -> None:
    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.02)


def test_what_a_bundle_lacks_is_named_with_where_it_comes_from(run: Run, host: BareHost, bundle: Path) -> None:
    (bundle / "k3s-airgap-images-amd64.tar.zst").unlink()
    (bundle / "calico-images.tar").unlink()
    with (bundle / "k3s").open("a") as file:
        file.write("# another one\n")
    code, said, _ = run("--yes")
    assert code == 3
    assert "k3s-airgap-images-amd64.tar.zst, .tar.gz or .tar" in said
    assert "the images that Calico's manifests name" in said
    assert f"{bundle}/k3s: isn't what sha256sum-amd64.txt lists" in said
    assert not host.path("/var/lib/rancher").exists()


def test_what_is_somebody_elses_is_left_alone(run: Run, host: BareHost, kubeconfig: Path) -> None:
    host.path("/etc/rancher/k3s").mkdir(parents=True)
    kubeconfig.parent.mkdir()
    kubeconfig.write_text("somebody's")
    code, said, _ = run("--yes")
    assert code == 3
    assert _outcomes(said)["foreign"] == "REFUSE"
    assert "a k3s is there, not made by this console" in said
    assert f"{kubeconfig} is there already, and isn't this cluster's" in said
    assert kubeconfig.read_text() == "somebody's"
    assert not host.path("/var/lib/rancher").exists()
