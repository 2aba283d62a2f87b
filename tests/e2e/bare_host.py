"""A bare host to make a cluster of: a real sshd in a mount namespace of its own, and a bundle in which k3s is a double.

k3s can't be had where these tests run. `install.sh` and `k3s` are scripts of sh that note down how they are called, with which environment,
and what they are given, and answer what a young cluster answers. What the console does before, between and after them is real: SSH, sudo's
absence, files that are sent, what is read from the host, the kubeconfig, the journal.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tests.drivers.sshd import Servers, Sshd

__all__ = ["SECRET", "BareHost", "profile_text", "write_bundle"]

SECRET = "VEhJUyBJUyBBIEtFWQ"  # noqa: S105 - of nothing
"""The client key in the double's kubeconfig."""

_SURROUNDINGS = """
set -e
mount --make-rprivate /
mount -t tmpfs none /mnt
mkdir /mnt/etc && cp -a /etc/. /mnt/etc && mount --bind /mnt/etc /etc
for path in /usr/local/bin /var/lib /run; do mount -t tmpfs none $path; done
mkdir -p /run/sshd /run/systemd/system
exec "$@"
"""

_INSTALL = r"""#!/bin/sh
# A double of the vendor's installer: notes down what it is told, and starts nothing.
env | grep '^INSTALL_K3S_' | sort >>/run/k3s-double-env
[ -x /usr/local/bin/k3s ] || { echo '[ERROR]  no k3s binary' >&2; exit 1; }
if [ -e /usr/local/bin/k3s-uninstall.sh ] && [ "$INSTALL_K3S_FORCE_RESTART" != true ]; then
  echo '[INFO]  No change detected so skipping service start'; exit 0
fi
printf '#!/bin/sh\n' >/usr/local/bin/k3s-uninstall.sh && chmod 755 /usr/local/bin/k3s-uninstall.sh
if [ -e /run/k3s-double-fails ]; then echo '[ERROR]  the double was told to fail' >&2; exit 1; fi
while [ -e /run/k3s-double-hangs ]; do sleep 0.1; done
cat >/etc/rancher/k3s/k3s.yaml <<'END'
apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority-data: QSBDRVJUSUZJQ0FURQ==
    server: https://127.0.0.1:6443
  name: default
contexts:
- context:
    cluster: default
    user: default
  name: default
current-context: default
users:
- name: default
  user:
    client-certificate-data: QUxTTyBPTkU=
    client-key-data: SECRET
END
touch /run/k3s-double-up
echo '[INFO]  systemd: Starting k3s'
"""

_K3S = r"""#!/bin/sh
# A double of k3s: its kubectl answers what the console asks of a young cluster.
printf '%s\n' "$*" >>/run/k3s-double-calls
case $* in
  'kubectl get --raw /readyz') if [ -e /run/k3s-double-up ]; then printf ok; else echo refused >&2; exit 1; fi;;
  'kubectl get node hv1 '*) if [ -e /run/k3s-double-calico ]; then printf True; else printf False; fi;;
  *'get daemonset calico-node '*) if [ -e /run/k3s-double-calico ]; then printf '1 1'; fi;;
  'kubectl apply '*' -f -') cat >/run/k3s-double-installation; touch /run/k3s-double-calico;;
  'kubectl apply '*) test -f "${*##* }";;
esac
"""


def write_bundle(folder: Path) -> Path:
    """A bundle under the vendors' names, with the double in it and images that are none."""
    folder.mkdir()
    files = {
        "k3s": _K3S.encode(),
        "k3s-airgap-images-amd64.tar.zst": os.urandom(3 << 20),
        "calico-images.tar": os.urandom(1 << 16),
        "install.sh": _INSTALL.replace("SECRET", SECRET).encode(),
        "operator-crds.yaml": b"kind: CustomResourceDefinition\n",
        "tigera-operator.yaml": b"kind: Deployment\n",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    released = ("k3s", "k3s-airgap-images-amd64.tar.zst")
    sums = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in released)
    (folder / "sha256sum-amd64.txt").write_text("".join(sums))
    return folder


def profile_text(ssh_config: Path, kubeconfig: Path, bundle: Path) -> str:
    """A profile with one cluster of one node, which the host is to become."""
    return f"""
[profile]
name = "bare"
read_only = false
[ssh]
config_file = "{ssh_config}"
connect_timeout = 5.0
[[site]]
name = "fra"
[[interconnect]]
name = "ix1"
kind = "ixp"
  [[interconnect.peer]]
  name = "rs1"
  asn = 64611
  numbers = {{ ipv4 = 11 }}
[[tenant]]
name = "de"
number = 1
prefixes = ["192.0.2.0/24"]
addresses = ["192.0.2.53"]
zones = ["example.de"]
[[cluster]]
name = "k3s-fra"
kubeconfig = "{kubeconfig}"
calico = "calico-system"
[[node]]
name = "hv1"
site = "fra"
cluster = "k3s-fra"
  [[node.speaker]]
  kind = "calico"
    [[node.speaker.session]]
    name = "198.18.20.1"
    peer = "rs1"
    family = "ipv4"
  [[node.name_server]]
  kind = "nsd"
[[bootstrap]]
name = "hv1-host"
cluster = "k3s-fra"
node = "hv1"
version = "v1.34.2+k3s1"
bundle = "{bundle}"
calico = ["operator-crds.yaml", "tigera-operator.yaml"]
node_ips = ["127.0.0.1", "::1"]
cluster_cidr = ["10.42.0.0/16", "fd00:42::/56"]
service_cidr = ["10.43.0.0/16", "fd00:43::/112"]
"""


class BareHost:
    """The host, and a look at what is on it from outside."""

    def __init__(self, servers: Servers, name: str = "hv1-host") -> None:
        self.server: Sshd = servers.add(name, start=False)
        self.server.wrapper = ("unshare", "--mount", "sh", "-c", _SURROUNDINGS, "sh")
        self.server.start()

    def path(self, path: str) -> Path:
        """A path of the host's own."""
        assert self.server.process is not None
        return Path(f"/proc/{self.server.process.pid}/root{path}")

    def read(self, path: str) -> str:
        return self.path(path).read_text()
