"""Guards and plans of a bootstrap, on hosts on paper: what is somebody's or serves somebody is left alone, what is done has no step."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable
from pathlib import Path

import msgspec
import pytest

from anyconsole.actions.action import NotBegunError
from anyconsole.actions.bootstrap.guards import findings
from anyconsole.actions.bootstrap.installing import Bootstrapping
from anyconsole.actions.bootstrap.planning import Look, make_plan, steps_of
from anyconsole.actions.bootstrap.request import BootstrapRequest, boot_of
from anyconsole.actions.guards import GuardVerdict
from anyconsole.actions.plan import Plan, render
from anyconsole.actions.run import Outcome
from anyconsole.drivers.k3s.bundle import BundleFile, Supply
from anyconsole.drivers.k3s.layout import CONFIG, OWN
from anyconsole.drivers.k3s.scripts import applied_hash, config_text, mark_of
from anyconsole.drivers.k3s.survey import HostSurvey, Status
from anyconsole.drivers.ssh.execute import Completed
from anyconsole.errors import AnyconsoleError
from anyconsole.model.facts import Link, LinkState
from anyconsole.model.inventory import Inventory
from anyconsole.model.store import FleetStore
from anyconsole.profile.load import parse_profile
from tests.e2e.bare_host import profile_text

FLEET = parse_profile(
    profile_text(Path("/etc/ssh/ssh_config"), Path("/root/fra.yaml"), Path("/srv/bundle")), Path("bare.toml")
)
BOOT = FLEET.bootstraps[0]
FETCHED = msgspec.structs.replace(BOOT, bundle="", calico=("https://example.net/calico.yaml",))
BARE = HostSurvey(
    is_root=True, arch="x86_64", init="systemd", memory=8 << 20, disk=99 << 20, addresses=("127.0.0.1", "::1"),
    has_cgroup=True, modules=("overlay", "br_netfilter", "nf_conntrack"),
)  # fmt: skip
BINARY = BundleFile(source="/srv/bundle/k3s", target="/usr/local/bin/k3s", size=9, sha256="a" * 64, mode="755")
MANIFEST = BundleFile(source="/srv/bundle/c.yaml", target="/x/c.yaml", size=9, sha256="b" * 64, of_k3s=False)
SUPPLY = Supply(files=(BINARY, MANIFEST))
CA = hashlib.sha256(b"authority").hexdigest()
WHOLE = msgspec.structs.replace(
    BARE,
    there=OWN,
    ports=(179, 6443),
    daemons=("bird",),
    mark=mark_of(BOOT),
    is_begun=True,
    files={CONFIG: hashlib.sha256(config_text(BOOT, "hv1").encode()).hexdigest()},
    status=Status(ready="ok", node="True", wanted=1, running=1),
    applied=applied_hash(BOOT, "calico-system"),
    ca=CA,
)


def found(survey: HostSurvey, supply: Supply = SUPPLY, kubeconfig: str | None = None) -> dict[str, GuardVerdict]:
    return {g.name: g for g in findings(FLEET, BOOT, survey, supply, kubeconfig)}


def refused(survey: HostSurvey, supply: Supply = SUPPLY, kubeconfig: str | None = None) -> dict[str, str]:
    return {name: g.numbers for name, g in found(survey, supply, kubeconfig).items() if g.refuses}


def parts(survey: HostSurvey, kubeconfig: str | None = None) -> list[str]:
    look = Look(survey=survey, supply=SUPPLY, kubeconfig=kubeconfig)
    return [step.part for step in steps_of(FLEET, BOOT, look, 900)]


@pytest.mark.parametrize(
    ("change", "guard", "words", "may"),
    [
        ({"is_root": False}, "root", "neither root nor may use sudo", False),
        ({"arch": "riscv64"}, "platform", "hv1-host is riscv64", False),
        ({"init": ""}, "platform", "neither systemd nor OpenRC", False),
        ({"there": OWN[:1]}, "foreign", "a k3s is there, not made by this console", False),
        ({"there": OWN, "mark": "k3s-ams v1.34.2+k3s1"}, "foreign", "made for the cluster k3s-ams", False),
        ({"there": ("/etc/kubernetes/kubelet.conf",)}, "foreign", "of another Kubernetes", False),
        ({"addresses": ("127.0.0.1", "::1", "192.0.2.53")}, "serving", "192.0.2.53 of tenant de is there", False),
        ({"daemons": ("bird",)}, "routing", "bird runs there", False),
        ({"ports": (22, 179)}, "ports", "179 (BGP) is in use", False),
        ({"ports": (6443,)}, "ports", "6443 (the API) is in use", False),
        ({"addresses": ("127.0.0.1",)}, "addresses", "::1 is none of its addresses", False),
        ({"has_cgroup": False}, "kernel", "the memory controller of cgroups is off", True),
        ({"modules": ("overlay",)}, "kernel", "br_netfilter, nf_conntrack", True),
        ({"memory": 1 << 20}, "room", "1.0 GiB of memory, 2.0 GiB are wanted", True),
        ({"disk": 1 << 20}, "room", "10.0 GiB are wanted", True),
    ],
)  # fmt: skip
def test_a_host_that_isnt_fit_is_refused_by_the_guard_that_says_why(
    change: dict[str, object], guard: str, words: str, *, may: bool
) -> None:
    assert refused(BARE) == {}
    survey = msgspec.structs.replace(BARE, **change)
    assert list(refused(survey)) == [guard]
    assert words in refused(survey)[guard]
    assert found(survey)[guard].overridable is may


def test_what_runs_is_neither_upgraded_nor_given_other_networks() -> None:
    assert refused(WHOLE, kubeconfig=CA) == {}, "its own BIRD and API server are in nobody's way"
    older = msgspec.structs.replace(WHOLE, mark="k3s-fra v1.33.1+k3s1")
    assert "an upgrade is no bootstrap" in refused(older, kubeconfig=CA)["version"]
    other = msgspec.structs.replace(WHOLE, files={CONFIG: "c" * 64})
    assert f"{CONFIG} isn't what the profile says" in refused(other, kubeconfig=CA)["version"]
    assert not found(other, kubeconfig=CA)["version"].overridable
    upgraded = msgspec.structs.replace(WHOLE, applied="d" * 64)
    assert found(upgraded, kubeconfig=CA)["calico"].overridable


@pytest.mark.parametrize("kubeconfig", ["", "e" * 64])
def test_a_kubeconfig_of_somebody_elses_is_never_written_over(kubeconfig: str) -> None:
    assert "isn't this cluster's: move it away" in refused(BARE, kubeconfig=kubeconfig)["kubeconfig"]
    assert "kubeconfig" in refused(WHOLE, kubeconfig=kubeconfig)


def test_without_a_way_to_the_vendors_it_says_what_to_put_where() -> None:
    cut_off = msgspec.structs.replace(BARE, unreached=(("https://get.k3s.io", "could not resolve host"),))
    verdict = next(g for g in findings(FLEET, FETCHED, cut_off, Supply(), None) if g.refuses)
    assert (verdict.name, verdict.overridable) == ("vendor", False)
    for words in (
        "https://get.k3s.io (could not resolve host)", "named as `bundle` in the profile", "k3s-airgap-images-amd64.tar.zst",
        "sha256sum-amd64.txt", "install.sh (https://get.k3s.io)", "calico.yaml", "https://github.com/k3s-io/k3s/releases/tag/v1.34.2%2Bk3s1",
    ):  # fmt: skip
        assert words in verdict.numbers


def test_what_is_done_has_no_step() -> None:
    everything = ["files", "k3s", "calico", "kubeconfig"]
    assert parts(BARE) == everything
    sent = msgspec.structs.replace(
        BARE, there=OWN, mark=mark_of(BOOT), files={BINARY.target: BINARY.sha256, MANIFEST.target: MANIFEST.sha256}
    )
    assert parts(sent) == everything[1:]
    assert parts(WHOLE) == ["kubeconfig"]
    assert parts(WHOLE, kubeconfig=CA) == [], "although the files may be gone from there"
    half = msgspec.structs.replace(WHOLE, applied="")
    assert parts(half, kubeconfig=CA) == ["files", "calico"], "k3s stays as it is, and its own files aren't sent again"
    down = msgspec.structs.replace(WHOLE, status=Status(ready="refused"))
    assert "k3s" in parts(down, kubeconfig=CA)


class Paper:
    """A host on paper: says `survey` when it is looked at, and does what it is told. None: it can't be reached."""

    def __init__(self, survey: HostSurvey | None) -> None:
        self.survey = survey
        self.done: list[str] = []

    async def execute(self, host: str, script: str, deadline: float) -> Completed:  # noqa: ARG002
        if self.survey is None:
            raise AnyconsoleError(f"{host} is not connected: refused")
        if script == "uname -m":
            return _completed(self.survey.arch)
        if "anyconsole survey 1" in script:
            return _completed(_text(self.survey))
        self.done.append(script)
        return _completed("")

    async def feed(self, host: str, script: str, pieces: AsyncIterable[bytes], deadline: float) -> Completed:
        raise NotImplementedError


def _completed(text: str) -> Completed:
    return Completed(exit_status=0, stdout=text.encode(), stderr=b"")


def _text(survey: HostSurvey) -> str:
    """What the look at a host says."""
    lines = [
        "anyconsole survey 1",
        f"uid {0 if survey.is_root else 1000}",
        f"arch {survey.arch}",
        f"init {survey.init}",
    ]
    lines += [f"memory {survey.memory}", f"disk {survey.disk}", *(f"address {ip}" for ip in survey.addresses)]
    lines += [*(f"module {name}" for name in survey.modules), *(f"port {port:X}" for port in survey.ports)]
    lines += [
        *(f"there {path}" for path in survey.there),
        *(f"file {sha}  - {path}" for path, sha in survey.files.items()),
    ]
    lines += ["cgroup memory"] if survey.has_cgroup else []
    if survey.is_begun:
        state = survey.status
        lines += ["begun", f"mark {survey.mark}", f"applied {survey.applied}", f"ca {survey.ca}  -"]
        lines += [f"ready {state.ready}", f"node {state.node}", f"calico {state.wanted} {state.running}"]
    return "\n".join([*lines, "end"])


def reached() -> FleetStore:
    store = FleetStore(FLEET)
    store.apply([Link(node=BOOT.name, at=0.0, section="link", state=LinkState.LIVE, since=0.0)])
    return store


async def planned(host: Paper) -> Plan:
    return await make_plan(reached(), host, BootstrapRequest(reason="new site"), 0.0)


async def test_a_host_that_isnt_reached_has_no_plan() -> None:
    plan = await planned(Paper(None))
    assert plan.missing == ("hv1-host is not connected: refused",)
    assert "MISSING  hv1-host is not connected: refused" in render(plan, [])


async def test_nothing_is_begun_on_a_host_that_has_become_another_one() -> None:
    half = msgspec.structs.replace(WHOLE, applied="", ca="")
    host = Paper(half)
    plan = await planned(host)
    action = Bootstrapping(reached(), plan, host)
    step = next(step for step in plan.steps if step.part == "calico")
    assert "not done; anyconsole bootstrap again does the rest" in await action.inspect(step)

    host.survey = WHOLE  # somebody else was faster
    assert await action.inspect(step) == "done"
    with pytest.raises(NotBegunError, match="plan again") as other:
        await action.perform(step, lambda _: None)
    assert other.value.outcome is Outcome.CONFLICT

    host.survey = msgspec.structs.replace(half, addresses=(*half.addresses, "192.0.2.53"))
    with pytest.raises(NotBegunError, match=r"serving: 192\.0\.2\.53 of tenant de is there") as refusal:
        await action.perform(step, lambda _: None)
    assert refusal.value.outcome is Outcome.REFUSED

    host.survey = None
    with pytest.raises(NotBegunError) as unseen:
        await action.perform(step, lambda _: None)
    assert unseen.value.outcome is Outcome.NO_EVIDENCE
    assert host.done == []


def test_a_cluster_that_nothing_is_said_of_is_named() -> None:
    assert boot_of(FLEET, "") is BOOT
    with pytest.raises(AnyconsoleError, match="there are k3s-fra"):
        boot_of(FLEET, "k3s-ams")
    with pytest.raises(AnyconsoleError, match=r"has no \[\[bootstrap\]\]"):
        boot_of(Inventory(name="none"), "")
