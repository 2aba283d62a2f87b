"""What is done on a host, as scripts of sh that root runs. Each can be run again: what is there already is put there once more."""

from __future__ import annotations

import hashlib
import json
import shlex
from ipaddress import ip_address
from typing import Final

from anyconsole.drivers.k3s.bundle import BundleFile
from anyconsole.drivers.k3s.layout import APPLIED, BINARY, CONFIG, FOLDER, KUBECONFIG, MARK
from anyconsole.drivers.kube.render import render, to_yaml
from anyconsole.model.bootstrap import OPERATOR_NAMESPACE, Bootstrap
from anyconsole.model.inventory import family_of

__all__ = [
    "READ_KUBECONFIG", "applied_hash", "as_root", "as_root_if_may", "calico_script", "config_text", "install_script",
    "mark_of", "mark_script", "receive_script", "server_of",
]  # fmt: skip

READ_KUBECONFIG: Final = f"cat {KUBECONFIG}\n"

_CRDS: Final = "crd/installations.operator.tigera.io crd/apiservers.operator.tigera.io"

_FETCH: Final = """\
fetch() {
  if command -v curl >/dev/null 2>&1; then curl -fsSL --proto '=https' -o "$2" "$1"; else wget -q --https-only -O "$2" "$1"; fi
}
"""


# The lock goes with the script, also where its console is gone; what the script starts for good doesn't get it.
_ALONE: Final = f"""\
exec 9>{FOLDER}/lock
flock -n 9 || {{ echo "another bootstrap is at it on this host: wait until it has ended" >&2; exit 75; }}
"""


def as_root(script: str) -> str:
    """The script as root runs it: it is, or may be without a password; else it fails with sudo's words."""
    return f"""S=; [ "$(id -u)" = 0 ] || S='sudo -n'; exec $S sh -c {shlex.quote(script)}"""


def as_root_if_may(script: str) -> str:
    """The same for a script that only looks: without root it sees less, and says so."""
    return (
        f"""S=; [ "$(id -u)" = 0 ] || ! sudo -n true 2>/dev/null || S='sudo -n'; exec $S sh -c {shlex.quote(script)}"""
    )


def mark_of(boot: Bootstrap) -> str:
    """The line that says for what all of it is there."""
    return f"{boot.cluster} {boot.version}"


def mark_script(boot: Bootstrap) -> str:
    """Leaves the mark."""
    return f"mkdir -p {FOLDER} && printf '%s\\n' {shlex.quote(mark_of(boot))} >{MARK}\n"


def receive_script(file: BundleFile) -> str:
    """Takes a file from standard input; it gets its name once it is whole."""
    folder, _, name = file.target.rpartition("/")
    name, part = shlex.quote(name), shlex.quote(f"{name}.part")
    return (
        f"umask 022; mkdir -p {shlex.quote(folder)} && cd {shlex.quote(folder)} && cat >{part} || exit 73\n"
        f'[ "$(sha256sum <{part})" = "{file.sha256}  -" ] || {{ rm -f {part}; echo "it arrived broken" >&2; exit 74; }}\n'
        f"chmod {file.mode} {part} && mv {part} {name}\n"
    )


def config_text(boot: Bootstrap, node: str) -> str:
    """k3s' own configuration: dual stack, and no network, policies, ingress and load balancer but Calico's and ours."""
    values: dict[str, object] = {
        "node-name": node,
        "node-ip": ",".join(boot.node_ips),
        "cluster-cidr": ",".join(boot.cluster_cidr),
        "service-cidr": ",".join(boot.service_cidr),
        "flannel-backend": "none",
        "disable-network-policy": True,
        "disable": ["traefik", "servicelb"],
        "write-kubeconfig-mode": "0600",
    }
    lines = [f"# Made by `anyconsole bootstrap` for the cluster {boot.cluster}, which compares it with the profile."]
    lines += [f"{key}: {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def install_script(boot: Bootstrap, node: str) -> str:
    """Installs and starts k3s by the vendor's own installer, which returns once the API server is up."""
    # Without the restart a second run would find its own unit unchanged, and not start what the first one could not.
    how = f"INSTALL_K3S_VERSION={shlex.quote(boot.version)} INSTALL_K3S_EXEC=server INSTALL_K3S_FORCE_RESTART=true"
    lines = ["set -eu", "umask 022", mark_script(boot).strip(), _ALONE.strip()]
    lines.append(f"mkdir -p {CONFIG.rpartition('/')[0]}")
    lines += [f"cat >{CONFIG} <<'END'", config_text(boot, node).strip(), "END"]
    if boot.bundle:
        how += " INSTALL_K3S_SKIP_DOWNLOAD=true"
    elif boot.installer_url:
        lines += [_FETCH.strip(), f"fetch {boot.installer_url} {FOLDER}/install.sh"]
    lines.append(f"{how} sh {FOLDER}/install.sh </dev/null 9>&-")
    return "\n".join(lines) + "\n"


def calico_script(boot: Bootstrap, namespace: str) -> str:
    """Applies Calico's manifests; where its operator is used, also what it is to make."""
    files = [f"{FOLDER}/{manifest.rpartition('/')[2]}" for manifest in boot.calico]
    lines = ["set -eu", "umask 022", _ALONE.strip()]
    if not boot.bundle:
        lines.append(_FETCH.strip())
        lines += [f"fetch {url} {path}" for url, path in zip(boot.calico, files, strict=True)]
    apply = f"{BINARY} kubectl apply --server-side --field-manager=anyconsole"
    lines += [f"{apply} -f {path}" for path in files]
    if objects := _installation(boot, namespace):
        # Some releases have them among the manifests, in others the operator makes them.
        lines += [f"n=0; until {BINARY} kubectl get {_CRDS} >/dev/null 2>&1; do", "  n=$((n + 1))"]
        lines.append(
            "  [ $n -lt 60 ] || { echo \"Calico's operator isn't there: none of its kinds is known\" >&2; exit 1; }"
        )
        lines += ["  sleep 2", "done", f"{BINARY} kubectl wait --for=condition=Established --timeout=60s {_CRDS}"]
        lines += [f"{apply} -f - <<'END'", objects.strip(), "END"]
    lines.append(f"printf '%s\\n' {applied_hash(boot, namespace)} >{APPLIED}")
    return "\n".join(lines) + "\n"


def applied_hash(boot: Bootstrap, namespace: str) -> str:
    """Tells whether what was applied is what the profile says: of names and of what is ours."""
    return hashlib.sha256("\n".join([*boot.calico, _installation(boot, namespace)]).encode()).hexdigest()


def server_of(boot: Bootstrap) -> str:
    """Where the API server is reached from outside."""
    host = boot.node_ips[0]
    return f"https://{f'[{host}]' if ip_address(host).version == 6 else host}:6443"


def _installation(boot: Bootstrap, namespace: str) -> str:
    if namespace != OPERATOR_NAMESPACE:
        return ""
    pools = [{"family": family_of(cidr), "cidr": cidr} for cidr in boot.cluster_cidr]
    return to_yaml(render("installation", {"pools": pools}))
