"""Guards of a bootstrap, each on what the host itself said right before. Pure.

What serves somebody, or is somebody's, is left alone: no reason overrides that. What only may not be enough can be overridden.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

from anyconsole.actions.guards import GuardVerdict, Outcome
from anyconsole.drivers.k3s.bundle import Supply, wanted
from anyconsole.drivers.k3s.layout import ARCHITECTURES, CONFIG, OWN, UNINSTALL
from anyconsole.drivers.k3s.scripts import applied_hash, config_text, mark_of
from anyconsole.drivers.k3s.survey import HostSurvey
from anyconsole.model.bootstrap import Bootstrap
from anyconsole.model.inventory import Inventory

__all__ = ["findings"]

_PORTS: Final = {6443: "the API", 6444: "k3s", 10250: "the kubelet", 179: "BGP"}
"""Ports that k3s and Calico's BIRD take."""

_MEMORY: Final = 2 << 20
_DISK: Final = 10 << 20
"""KiB that k3s and Calico ask for, beside what name servers take."""


def findings(
    inventory: Inventory, boot: Bootstrap, survey: HostSurvey, supply: Supply, kubeconfig: str | None
) -> list[GuardVerdict]:
    """All guards, in the order in which they are shown.

    Args:
        inventory: The fleet.
        boot: What the host is to become.
        survey: The host as it is.
        supply: What is sent there.
        kubeconfig: Whose authority the kubeconfig trusts that is here already, as `authority_in` tells it.
    """
    is_ours = survey.mark.split()[:1] == [boot.cluster]
    told = [
        _said(
            "root",
            [] if survey.is_root else [f"the login on {boot.name} is neither root nor may use sudo without a password"],
            "is root there",
        ),
        _said("platform", _platform(boot, survey), f"{survey.arch}, {survey.init}"),
        _said("foreign", _foreign(survey, is_ours=is_ours), "no Kubernetes is there that isn't ours"),
        _said(
            "version",
            list(_version(inventory, boot, survey)),
            f"nothing but {boot.version} as the profile says is ours there",
        ),
        _said("calico", list(_calico(inventory, boot, survey)), "no other manifests were applied by us", may=True),
        _said("serving", _serving(inventory, survey), "no tenant's service address is there"),
    ]
    if not (is_ours and survey.is_begun):
        told += [
            _said(
                "routing",
                [f"{name} runs there: it would lose its port to Calico's" for name in survey.daemons],
                "no routing daemon runs there",
            ),
            _said(
                "ports",
                [f"{port} ({what}) is in use" for port, what in _PORTS.items() if port in survey.ports],
                f"{', '.join(map(str, _PORTS))} are free",
            ),
        ]
    told += [
        _said(
            "addresses",
            [f"{ip} is none of its addresses" for ip in boot.node_ips if ip not in survey.addresses],
            ", ".join(boot.node_ips),
        ),
        _said("kernel", list(_kernel(survey)), "memory can be limited, modules are there", may=True),
        _said("room", list(_room(survey)), f"memory {_gib(survey.memory)}, disk {_gib(survey.disk)}", may=True),
        _supplied(boot, survey, supply),
        _said(
            "kubeconfig",
            list(_taken(inventory, boot, survey, kubeconfig)),
            f"{inventory.cluster(boot.cluster).kubeconfig}",
        ),
    ]
    return told


def _said(name: str, problems: Sequence[str], well: str, *, may: bool = False) -> GuardVerdict:
    if problems:
        return GuardVerdict(name=name, outcome=Outcome.REFUSE, numbers="; ".join(problems), overridable=may)
    return GuardVerdict(name=name, outcome=Outcome.OK, numbers=well)


def _platform(boot: Bootstrap, survey: HostSurvey) -> list[str]:
    problems = []
    if survey.arch not in ARCHITECTURES:
        problems.append(
            f"{boot.name} is {survey.arch or 'of no known architecture'}; k3s and Calico are for {', '.join(ARCHITECTURES)}"
        )
    if not survey.init:
        problems.append(f"{boot.name} has neither systemd nor OpenRC, which k3s' installer needs")
    return problems


def _foreign(survey: HostSurvey, *, is_ours: bool) -> list[str]:
    others = [path for path in survey.there if path not in OWN]
    problems = [f"{', '.join(others)}: of another Kubernetes"] if others else []
    own = [path for path in survey.there if path in OWN]
    if own and not is_ours:
        whose = f"made for the cluster {survey.mark.split()[0]}" if survey.mark else "not made by this console"
        problems.append(f"{', '.join(own)}: a k3s is there, {whose}")
    return problems


def _version(inventory: Inventory, boot: Bootstrap, survey: HostSurvey) -> Iterator[str]:
    """What runs is left running: a cluster can't be given other networks, and an upgrade is k3s' own business."""
    if not survey.is_begun:
        return
    if survey.mark and survey.mark != mark_of(boot):
        yield f"{survey.mark} is there, the profile says {boot.version}: an upgrade is no bootstrap"
    wanted_config = config_text(boot, inventory.node(boot.node).address)
    if (found := survey.files.get(CONFIG)) and found != hashlib.sha256(wanted_config.encode()).hexdigest():
        yield f"{CONFIG} isn't what the profile says: change that, or take k3s away first ({UNINSTALL})"


def _calico(inventory: Inventory, boot: Bootstrap, survey: HostSurvey) -> Iterator[str]:
    if survey.applied and survey.applied != applied_hash(boot, inventory.cluster(boot.cluster).calico):
        yield "other manifests were applied: with these it is an upgrade, or a repair"


def _serving(inventory: Inventory, survey: HostSurvey) -> list[str]:
    return [
        f"{address} of tenant {tenant.name} is there: drain and remove it first"
        for tenant in inventory.tenants
        for address in tenant.addresses
        if address in survey.addresses
    ]


def _kernel(survey: HostSurvey) -> Iterator[str]:
    if not survey.has_cgroup:
        yield "the memory controller of cgroups is off: on its kernel's command line it is cgroup_enable=memory"
    if missing := [name for name in ("overlay", "br_netfilter", "nf_conntrack") if name not in survey.modules]:
        yield f"not seen in its kernel: {', '.join(missing)}"


def _room(survey: HostSurvey) -> Iterator[str]:
    if survey.memory < _MEMORY:
        yield f"{_gib(survey.memory)} of memory, {_gib(_MEMORY)} are wanted"
    if survey.disk < _DISK:
        yield f"{_gib(survey.disk)} free under /var/lib, {_gib(_DISK)} are wanted"


def _supplied(boot: Bootstrap, survey: HostSurvey, supply: Supply) -> GuardVerdict:
    """Whether all that it takes is at hand; else what is to be put where."""
    if boot.bundle or supply.problems:
        well = f"{len(supply.files)} files of {boot.bundle or 'this machine'}, those of the release as the vendor lists them"
        return _said("bundle", supply.problems, well)
    if not survey.unreached:
        return _said("vendor", [], f"{boot.name} reaches the vendors")
    told = "; ".join(f"{url} ({why})" for url, why in survey.unreached)
    arch = ARCHITECTURES.get(survey.arch, "amd64")
    needs = ", ".join(wanted(boot, arch))
    problem = (
        f"{boot.name} doesn't reach {told}. Without that it takes a folder on this machine, named as `bundle` in the profile, "
        f"with {needs}; `calico` then names the manifests in it"
    )
    return _said("vendor", [problem], "")


def _taken(inventory: Inventory, boot: Bootstrap, survey: HostSurvey, kubeconfig: str | None) -> Iterator[str]:
    if kubeconfig is not None and (not kubeconfig or kubeconfig != survey.ca):
        yield f"{inventory.cluster(boot.cluster).kubeconfig} is there already, and isn't this cluster's: move it away"


def _gib(kib: int) -> str:
    return f"{kib / (1 << 20):.1f} GiB"
