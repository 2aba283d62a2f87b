"""`anyconsole render` gives GitOps users the YAML that set-up would apply, and asks no cluster for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from anyconsole import cli
from tests.drivers.kube.stack import TEXT


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "virtual.toml"
    path.write_text(TEXT)
    return path


def render(profile: Path, *args: str) -> int:
    return cli.main(["--profile", str(profile), "render", *args])


def test_a_tenants_objects_are_printed_as_yaml_and_the_missing_secret_is_said(
    profile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert render(profile, "--tenant", "de") == 0
    said = capsys.readouterr()
    objects = list(yaml.safe_load_all(said.out))
    assert [objects[0]["kind"], objects[-1]["kind"]] == ["Namespace", "Deployment"]
    assert {o["metadata"]["labels"]["anyconsole.io/tenant"] for o in objects} == {"de"}
    # For people: configuration and programs are text, not one long string.
    assert '    nsid: "ascii_de.@NODE@"\n' in said.out
    assert "/api/v1/namespaces/de/secrets/tsig" in said.err


def test_the_same_as_json_and_all_tenants_in_the_profiles_order(
    profile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert render(profile, "--output", "json", "--cluster", "k3s") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "List"
    names = [o["metadata"]["name"] for o in found["items"] if o["kind"] == "Namespace"]
    assert names == ["de", "nic", "enum"]


def test_the_clusters_own_objects_are_printed_when_asked_for(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ("--set", "cluster", "--set", "calico", "--set", "monitoring", "--calico", "crd.projectcalico.org/v1")
    assert render(profile, *args) == 0
    objects = list(yaml.safe_load_all(capsys.readouterr().out))
    kinds = {o["kind"] for o in objects}
    assert {"ClusterRole", "PriorityClass", "BGPConfiguration", "BGPPeer", "DaemonSet"} <= kinds
    assert {o["apiVersion"] for o in objects if o["kind"] == "BGPPeer"} == {"crd.projectcalico.org/v1"}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--tenant", "xy"), "tenant 'xy' has no name server in cluster k3s; there are de, nic, enum"),
        (("--cluster", "k4s"), "there is no cluster 'k4s'; the profile has k3s"),
        (("--tenant", "de", "--set", "cluster"), "--tenant says nothing to --set cluster"),
    ],
)
def test_what_cant_be_rendered_is_said_in_a_line(
    profile: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], words: str
) -> None:
    assert render(profile, *args) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err


def test_which_of_two_clusters_must_be_said_and_one_is_needed(
    profile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile.write_text(
        TEXT.replace('[[cluster]]\nname = "k3s"', '[[cluster]]\nname = "k3s"\n[[cluster]]\nname = "other"')
    )
    assert render(profile) == 2
    assert "which cluster? say --cluster NAME, one of k3s, other" in capsys.readouterr().err
    assert cli.main(["--profile", "lab-less", "render"]) == 2
