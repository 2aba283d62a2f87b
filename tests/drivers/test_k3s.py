"""k3s on a host: what the look at it says, what it takes, and the scripts, as far as they can be run without k3s."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyconsole.drivers.k3s.bundle import BundleFile, sources, supply_of
from anyconsole.drivers.k3s.kubeconfig import authority_in, made_of, write_new
from anyconsole.drivers.k3s.scripts import (
    as_root,
    as_root_if_may,
    calico_script,
    install_script,
    mark_script,
    receive_script,
)
from anyconsole.drivers.k3s.survey import Status, parse_status, parse_survey, status_script, survey_script
from anyconsole.drivers.parse_error import ParseError
from anyconsole.errors import AnyconsoleError
from anyconsole.model.bootstrap import Bootstrap
from anyconsole.profile.load import parse_profile
from tests.e2e.bare_host import SECRET, profile_text, write_bundle

BOOT = parse_profile(
    profile_text(Path("/etc/ssh/ssh_config"), Path("/root/fra.yaml"), Path("/srv/bundle")), Path("bare.toml")
).bootstraps[0]
FETCHED = msgspec.structs.replace(BOOT, bundle="", calico=("https://example.net/operator-crds.yaml",))
KUBECONFIG = f"""\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: QSBDRVJUSUZJQ0FURQ==
    server: https://127.0.0.1:6443
  name: default
users:
- name: default
  user:
    client-certificate-data: QUxTTyBPTkU=
    client-key-data: {SECRET}
"""


def sh(script: str, stdin: bytes = b"", **options: Any) -> subprocess.CompletedProcess[bytes]:  # noqa: ANN401 - as run takes them
    return subprocess.run(["sh", "-c", script], input=stdin, capture_output=True, timeout=30, check=False, **options)


# The look at a host


def test_a_look_at_a_real_host_tells_its_addresses_ports_and_files(tmp_path: Path) -> None:
    known = tmp_path / "a file"
    known.write_bytes(b"content")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        script = survey_script([str(known), str(tmp_path / "none")], "hv1", "calico-system")
        said = sh(script)
    assert said.returncode == 0
    found = parse_survey(said.stdout)
    assert found.is_root is (os.getuid() == 0)
    assert found.arch == os.uname().machine
    assert "127.0.0.1" in found.addresses
    assert port in found.ports
    assert found.files == {str(known): hashlib.sha256(b"content").hexdigest()}
    assert (found.is_begun, found.mark, found.unreached) == (False, "", ())


def test_what_isnt_reached_is_told_with_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    url = f"https://127.0.0.1:{port}/install.sh"
    found = parse_survey(sh(survey_script([], "hv1", "calico-system", [url], [f"https://127.0.0.1:{port}/v2/"])).stdout)
    assert {told for told, _ in found.unreached} == {url, f"https://127.0.0.1:{port}/v2/"}
    assert all(why for _, why in found.unreached)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", "did not come to its end"),
        (b"anyconsole survey 1\nuid 0\narch x86_64\n", "did not come to its end"),
        (b"anyconsole survey 1\nuid 0\nmemory 1\ndisk \nend\n", "expected a number"),
        (b"anyconsole survey 1\nuid 0\nmemory 1\ndisk 1\nhacked yes\nend\n", "a line that no survey has"),
        (b"anyconsole survey 1\nuid 0\nmemory 1\ndisk 1\nport XYZ\nend\n", "expected a number"),
        (b"anyconsole survey 1\nuid 0\nmemory 1\ndisk 1\nfile 12 /x\nend\n", "expected a SHA-256 and a path"),
    ],
)
def test_half_a_look_is_none(said: bytes, words: str) -> None:
    with pytest.raises(ParseError, match=words):
        parse_survey(said)


@given(st.binary(max_size=300))
def test_whatever_a_host_says_is_a_survey_or_an_error(said: bytes) -> None:
    with contextlib.suppress(ParseError):
        parse_survey(b"anyconsole survey 1\n" + said + b"\nend\n")
    assert isinstance(parse_status(said), Status)


def test_a_cluster_is_whole_when_its_node_and_calico_are_ready() -> None:
    young = parse_status(b"ready ok\nnode False\ncalico 1 0\nwaits ImagePullBackOff quay.io/calico/node:v3.31.2\n")
    assert (young.is_served, young.is_whole) == (True, False)
    assert young.waits == ("ImagePullBackOff quay.io/calico/node:v3.31.2",)
    assert parse_status(b"ready ok\nnode True\ncalico 1 1\n").is_whole
    assert not parse_status(b"ready ok\nnode True\ncalico \n").is_whole, "no calico-node is no Calico"


# Scripts


@pytest.mark.parametrize("boot", [BOOT, FETCHED], ids=["bundle", "vendor"])
def test_every_script_is_one_that_sh_can_read(boot: Bootstrap) -> None:
    scripts = [mark_script(boot), install_script(boot, "hv1"), calico_script(boot, "calico-system")]
    scripts += [status_script("hv1", "calico-system"), survey_script(["/x"], "hv1", "kube-system", ["https://x"])]
    for script in scripts:
        for whole in (script, as_root(script), as_root_if_may(script)):
            assert subprocess.run(["sh", "-n", "-c", whole], capture_output=True, timeout=10, check=False).stderr == b""


def test_with_a_bundle_nothing_is_fetched_and_without_one_all_of_it() -> None:
    bundled, fetched = install_script(BOOT, "hv1"), install_script(FETCHED, "hv1")
    assert "INSTALL_K3S_SKIP_DOWNLOAD=true" in bundled
    assert "https:" not in bundled + calico_script(BOOT, "calico-system")
    assert "INSTALL_K3S_SKIP_DOWNLOAD" not in fetched
    assert "fetch https://get.k3s.io /var/lib/rancher/k3s/anyconsole/install.sh" in fetched
    assert "fetch https://example.net/operator-crds.yaml" in calico_script(FETCHED, "calico-system")
    assert sources(BOOT, "amd64") == ([], [])
    assert (
        "https://github.com/k3s-io/k3s/releases/download/v1.34.2%2Bk3s1/sha256sum-amd64.txt"
        in sources(FETCHED, "amd64")[0]
    )


def test_only_calicos_operator_is_told_what_to_make() -> None:
    assert "kind: Installation" in calico_script(BOOT, "calico-system")
    assert "kind: Installation" not in calico_script(BOOT, "kube-system")


def test_a_file_gets_its_name_when_it_arrived_whole(tmp_path: Path) -> None:
    target = tmp_path / "bin" / "k3s"
    content = os.urandom(100_000)
    digest = hashlib.sha256(content).hexdigest()
    file = BundleFile(source="", target=str(target), size=len(content), sha256=digest, mode="755")
    cut = sh(receive_script(file), content[:-1])
    assert (cut.returncode, target.exists(), list(target.parent.iterdir())) == (74, False, [])
    assert sh(receive_script(file), content).returncode == 0
    assert target.read_bytes() == content
    assert target.stat().st_mode & 0o777 == 0o755


@pytest.mark.lab
def test_without_root_and_sudo_a_look_is_taken_all_the_same_and_nothing_else() -> None:
    if shutil.which("sudo"):
        pytest.skip("sudo is there, and may let anybody in")
    nobody: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []}
    assert sh(as_root_if_may("id -u"), **nobody).stdout == b"65534\n"
    refused = sh(as_root("id -u"), **nobody)
    assert (refused.returncode == 0, refused.stdout) == (False, b"")
    assert sh(as_root("id -u")).stdout == b"0\n"


# The bundle


def test_a_whole_bundle_goes_to_where_k3s_looks_for_it(tmp_path: Path) -> None:
    boot = msgspec.structs.replace(BOOT, bundle=str(write_bundle(tmp_path / "bundle")))
    supply = supply_of(boot, "amd64")
    assert supply.problems == ()
    assert [(file.target, file.mode) for file in supply.files] == [
        ("/usr/local/bin/k3s", "755"),
        ("/var/lib/rancher/k3s/agent/images/k3s-airgap-images-amd64.tar.zst", "644"),
        ("/var/lib/rancher/k3s/anyconsole/install.sh", "644"),
        ("/var/lib/rancher/k3s/anyconsole/operator-crds.yaml", "644"),
        ("/var/lib/rancher/k3s/anyconsole/tigera-operator.yaml", "644"),
        ("/var/lib/rancher/k3s/agent/images/calico-images.tar", "644"),
    ]
    arm = supply_of(boot, "arm64")
    assert len(arm.problems) == 3, "the binary, the images and the checksums are another architecture's"
    assert all("arm64" in problem for problem in arm.problems)


def test_a_bundle_that_isnt_there_is_described_whole() -> None:
    (problem,) = supply_of(BOOT, "amd64").problems
    for name in (
        "k3s (",
        "k3s-airgap-images-amd64.tar.zst",
        "sha256sum-amd64.txt",
        "install.sh",
        "tigera-operator.yaml",
        "images that Calico's",
    ):
        assert name in problem
    assert "https://github.com/k3s-io/k3s/releases/tag/v1.34.2%2Bk3s1" in problem


# The kubeconfig


def test_the_kubeconfig_leads_to_the_host_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "kube" / "fra.yaml"
    assert authority_in(path) is None
    write_new(path, made_of(KUBECONFIG.encode(), "https://[::1]:6443", "k3s-fra", "ops@k3s-fra"))
    text = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert "server: https://[::1]:6443" in text
    assert "127.0.0.1" not in text
    assert "current-context: ops@k3s-fra" in text
    assert SECRET in text
    assert authority_in(path) == hashlib.sha256(b"QSBDRVJUSUZJQ0FURQ==").hexdigest()
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_is_there_stays_and_an_error_quotes_no_key(tmp_path: Path) -> None:
    path = tmp_path / "fra.yaml"
    path.write_text("mine")
    with pytest.raises(AnyconsoleError, match="is left as it is"):
        write_new(path, "other")
    assert path.read_text() == "mine"
    assert authority_in(path) == ""
    with pytest.raises(AnyconsoleError) as caught:
        made_of(f"users: [{{user: {SECRET}}}".encode(), "https://x", "c", "c")
    assert SECRET not in str(caught.value)
