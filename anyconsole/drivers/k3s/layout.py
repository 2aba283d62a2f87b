"""Where k3s keeps what on a host, and what is ours among it. All of it goes with `k3s-uninstall.sh`."""

from __future__ import annotations

from typing import Final

__all__ = [
    "APPLIED",
    "ARCHITECTURES",
    "BINARY",
    "CONFIG",
    "FOLDER",
    "FOREIGN",
    "IMAGES",
    "KUBECONFIG",
    "MARK",
    "OWN",
    "UNINSTALL",
]

BINARY: Final = "/usr/local/bin/k3s"
UNINSTALL: Final = "/usr/local/bin/k3s-uninstall.sh"
"""Made by the vendor's installer before it starts anything."""

CONFIG: Final = "/etc/rancher/k3s/config.yaml"
KUBECONFIG: Final = "/etc/rancher/k3s/k3s.yaml"
IMAGES: Final = "/var/lib/rancher/k3s/agent/images"
"""Archives of images that k3s imports when it starts."""

FOLDER: Final = "/var/lib/rancher/k3s/anyconsole"
MARK: Final = f"{FOLDER}/made-for"
"""One line: which cluster, which version. Without it a k3s is somebody else's."""

APPLIED: Final = f"{FOLDER}/calico-applied"
"""One line: the SHA-256 of the manifests that were applied."""

OWN: Final = (BINARY, "/etc/rancher/k3s", "/var/lib/rancher/k3s")
"""What a k3s leaves, whoever made it."""

FOREIGN: Final = (
    "/etc/kubernetes/kubelet.conf",
    "/etc/kubernetes/admin.conf",
    "/etc/rancher/rke2",
    "/var/lib/rancher/rke2",
    "/var/lib/k0s",
    "/var/snap/microk8s",
    "/etc/systemd/system/k3s-agent.service",
    "/usr/bin/kubelet",
    "/usr/local/bin/kubelet",
)
"""What other Kubernetes leave, and a k3s that is an agent of another cluster."""

ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
"""What both vendors publish for, by what `uname -m` calls it."""
