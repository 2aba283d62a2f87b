"""What is on a host that is to become a cluster: a script that only looks, and what it said as a value. The parser is total."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from anyconsole.drivers.k3s.layout import (
    APPLIED,
    BINARY,
    FOREIGN,
    KUBECONFIG,
    MARK,
    OWN,
    UNINSTALL,
)  # fmt: skip
from anyconsole.drivers.parse_error import ParseError

__all__ = ["HostSurvey", "Status", "parse_status", "parse_survey", "status_script", "survey_script"]

_FIRST: Final = "anyconsole survey 1"
_MOST: Final = 20_000
"""Lines that are read; no host has as many addresses and ports."""

_LOOK: Final = r"""
say() { printf '%s\n' "$*"; }
say "$FIRST"
say uid "$(id -u)"
say arch "$(uname -m)"
if [ -d /run/systemd/system ]; then say init systemd; elif [ -x /sbin/openrc-run ]; then say init openrc; fi
say memory "$(awk '/^MemTotal:/ {print $2}' /proc/meminfo)"
say disk "$(df -Pk /var/lib | awk 'NR == 2 {print $4}')"
ip -o addr show | awk '{sub("/.*", "", $4); print "address " $4}'
cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A" {n = split($2, a, ":"); print "port " a[n]}' | sort -u
if grep -qw memory /sys/fs/cgroup/cgroup.controllers 2>/dev/null; then say cgroup memory
elif awk '$1 == "memory" && $4 == "1" {found = 1} END {exit !found}' /proc/cgroups 2>/dev/null; then say cgroup memory; fi
for name in overlay br_netfilter nf_conntrack; do
  if [ -d "/sys/module/$name" ] || modprobe -nq "$name" 2>/dev/null || grep -qw "$name" /proc/filesystems; then say module "$name"; fi
done
network=$(readlink /proc/self/ns/net)
for process in /proc/[0-9]*; do
  { read -r name <"$process/comm"; } 2>/dev/null || continue
  case $name in
    bird|bird6|bgpd|gobgpd) if [ "$(readlink "$process/ns/net" 2>/dev/null)" = "$network" ]; then say daemon "$name"; fi;;
  esac
done
"""

_STATUS: Final = r"""
k3s() { timeout 15 "$K3S" "$@"; }
said=$(k3s kubectl get --raw /readyz 2>&1); printf 'ready %s\n' "$(printf '%s' "$said" | tail -n 1)"
if [ "$said" = ok ]; then
  printf 'node %s\n' "$(k3s kubectl get node "$NODE" -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null)"
  printf 'calico %s\n' "$(k3s kubectl -n "$NAMESPACE" get daemonset calico-node \
    -o jsonpath='{.status.desiredNumberScheduled} {.status.numberReady}' 2>/dev/null)"
  for kind in containerStatuses initContainerStatuses; do
    k3s kubectl get pods -A \
      -o jsonpath='{range .items[*].status.'$kind'[*]}{.state.waiting.reason} {.image}{"\n"}{end}' 2>/dev/null
  done | awk 'NF == 2 {print "waits " $0}' | sort -u
fi
"""

_REACH: Final = r"""
reach() {
  if command -v curl >/dev/null 2>&1; then why=$(curl -sSIL $2 --max-time 8 -o /dev/null "$1" 2>&1); code=$?
  elif command -v wget >/dev/null 2>&1; then
    why=$(wget -q -T 8 -t 1 --spider "$1" 2>&1); code=$?
    if [ -z "$2" ] && [ $code -ge 6 ]; then code=0; fi # it answered, and refused
  else why='neither curl nor wget is there'; code=127; fi
  if [ $code -ne 0 ]; then printf 'unreached %s %s\n' "$1" "$(printf '%s' "${why:-no answer}" | tail -n 1)"; fi
}
"""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How far a cluster is, by its own API. `ready` is "ok" where it answers; `waits` are reasons and images of what can't start."""

    ready: str = ""
    node: str = ""
    wanted: int = 0
    running: int = 0
    waits: tuple[str, ...] = ()

    @property
    def is_served(self) -> bool:
        """True if the API server answers."""
        return self.ready == "ok"

    @property
    def is_whole(self) -> bool:
        """True if node and Calico are ready."""
        return self.is_served and self.node == "True" and 0 < self.wanted == self.running


class HostSurvey(msgspec.Struct, frozen=True, kw_only=True):
    """A host as it was found. Sizes are KiB; `files` are SHA-256 by path of what was asked about and is there.

    `mark` is the line that we leave, "" where there is none; `there` are paths that belong to a Kubernetes; `is_begun` says that k3s'
    installer has run. `ca` is the SHA-256 of the authority in k3s' kubeconfig. `unreached` is (address, why not).
    """

    is_root: bool
    arch: str
    init: str
    memory: int
    disk: int
    addresses: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    has_cgroup: bool = False
    modules: tuple[str, ...] = ()
    daemons: tuple[str, ...] = ()
    there: tuple[str, ...] = ()
    mark: str = ""
    files: dict[str, str] = {}
    is_begun: bool = False
    status: Status = Status()
    ca: str = ""
    applied: str = ""
    unreached: tuple[tuple[str, str], ...] = ()


def status_script(node: str, namespace: str) -> str:
    """Asks the cluster itself how far it is. Changes nothing.

    Args:
        node: What Kubernetes calls the node.
        namespace: Calico's.
    """
    return f"K3S={BINARY}; NODE={shlex.quote(node)}; NAMESPACE={shlex.quote(namespace)}\n{_STATUS.strip()}\n"


def survey_script(
    files: Iterable[str], node: str, namespace: str, sources: Sequence[str] = (), registries: Sequence[str] = ()
) -> str:
    """Looks at a host. Changes nothing.

    Args:
        files: Paths whose SHA-256 is wanted.
        node: What Kubernetes calls the node.
        namespace: Calico's.
        sources: Addresses that must give what is fetched from them.
        registries: Addresses that must answer, whatever they say.
    """
    quoted = " ".join(map(shlex.quote, files))
    lines = [
        f"FIRST='{_FIRST}'",
        _LOOK.strip(),
        f'for path in {" ".join((*OWN, *FOREIGN))}; do if [ -e "$path" ]; then say there "$path"; fi; done',
        f'if [ -f {MARK} ]; then say mark "$(head -n 1 {MARK})"; fi',
        f'if [ -f {APPLIED} ]; then say applied "$(head -n 1 {APPLIED})"; fi',
        # A certificate, no secret: it tells whose kubeconfig another one is.
        f"if [ -f {KUBECONFIG} ]; then",
        f'  say ca "$(awk \'/certificate-authority-data:/ {{printf "%s", $2; exit}}\' {KUBECONFIG} | sha256sum)"',
        "fi",
    ]
    if quoted:
        lines.append(
            f'for path in {quoted}; do if [ -f "$path" ]; then say file "$(sha256sum <"$path")" "$path"; fi; done'
        )
    lines += [
        f"if [ -x {UNINSTALL} ] && [ -x {BINARY} ]; then",
        "say begun",
        status_script(node, namespace).strip(),
        "fi",
    ]
    if sources or registries:
        lines.append(_REACH.strip())
        lines += [f"reach {shlex.quote(url)} -f &" for url in sources]
        lines += [f"reach {shlex.quote(url)} '' &" for url in registries]
        lines.append("wait")
    lines.append("say end")
    return "\n".join(lines) + "\n"


def parse_status(output: bytes) -> Status:
    """What `status_script` said. Raises ParseError."""
    return _status(_lines(output))


def parse_survey(output: bytes) -> HostSurvey:
    """What `survey_script` said. Raises ParseError, also if it didn't come to its end."""
    lines = _lines(output)
    if not lines or " ".join(lines[0]).strip() != _FIRST or lines[-1][0] != "end":
        raise ParseError("the survey did not come to its end", output[-200:].decode("utf-8", "replace"))
    single: dict[str, str] = {}
    many: dict[str, list[str]] = {}
    for key, rest in lines[1:-1]:
        if key in _MANY:
            many.setdefault(key, []).append(rest)
        elif key in _SINGLE or key in _OF_STATUS:
            single[key] = rest
        else:
            raise ParseError("a line that no survey has", f"{key} {rest}")
    try:
        ports = tuple(sorted({int(port, 16) for port in many.get("port", ())}))
        uid, memory, disk = (int(single.get(key, "")) for key in ("uid", "memory", "disk"))
    except ValueError as error:
        raise ParseError(f"expected a number ({error})", output[:200].decode("utf-8", "replace")) from None
    return HostSurvey(
        is_root=uid == 0,
        arch=single.get("arch", ""),
        init=single.get("init", ""),
        memory=memory,
        disk=disk,
        addresses=tuple(dict.fromkeys(many.get("address", ()))),
        ports=ports,
        has_cgroup=single.get("cgroup") == "memory",
        modules=tuple(many.get("module", ())),
        daemons=tuple(dict.fromkeys(many.get("daemon", ()))),
        there=tuple(many.get("there", ())),
        mark=single.get("mark", ""),
        files=dict(_file(line) for line in many.get("file", ())),
        is_begun="begun" in single,
        status=_status(lines[1:-1]),
        ca=single.get("ca", "").partition(" ")[0],
        applied=single.get("applied", ""),
        unreached=tuple((url, why) for url, _, why in (line.partition(" ") for line in many.get("unreached", ()))),
    )


_SINGLE: Final = frozenset({"uid", "arch", "init", "memory", "disk", "cgroup", "mark", "applied", "ca", "begun"})
_MANY: Final = frozenset({"address", "port", "module", "daemon", "there", "file", "unreached", "waits"})
_OF_STATUS: Final = frozenset({"ready", "node", "calico"})


def _lines(output: bytes) -> list[tuple[str, str]]:
    text = output.decode("utf-8", "replace")
    found = [line.partition(" ") for line in text.splitlines()[:_MOST] if line.strip()]
    return [(key, rest.strip()) for key, _, rest in found]


def _status(lines: Iterable[tuple[str, str]]) -> Status:
    said = {key: rest for key, rest in lines if key in _OF_STATUS}
    counts = [int(word) for word in said.get("calico", "").split() if word.isascii() and word.isdigit()]
    wanted, running = counts if len(counts) == 2 else (counts[0] if counts else 0, 0)
    waits = tuple(rest for key, rest in lines if key == "waits")
    return Status(ready=said.get("ready", ""), node=said.get("node", ""), wanted=wanted, running=running, waits=waits)


def _file(line: str) -> tuple[str, str]:
    match = re.fullmatch(r"([0-9a-f]{64}) +- +(/.+)", line)
    if match is None:
        raise ParseError("expected a SHA-256 and a path", line)
    return match[2], match[1]
