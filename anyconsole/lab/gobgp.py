"""GoBGP on a node: its configuration with the policy that drains need (docs/profiles.md), how it is started, and what its start loads.

gobgpd neither installs routes nor originates prefixes by itself: the node has static default routes, and a script adds what it announces.
"""

from __future__ import annotations

from typing import Any

from anyconsole.lab.topology import MY_AS, TENANTS, Node, Peer, Session, ends_of, management, sessions_of

__all__ = ["API", "DAEMON", "DRAIN_FILE", "FOLDER", "LOG", "SOCKET", "node_files", "sysctls"]

FOLDER = "/srv/gobgp"
DRAIN_FILE = f"{FOLDER}/drain.sets"
LOG = "/var/log/gobgpd.log"
SOCKET = "/run/gobgp/gobgp.sock"
API = f"unix://{SOCKET}"

# Its port needs one capability; the umask lets the group use the API and nobody else.
_COMMAND = (
    "umask 007; exec setpriv --reuid gobgp --regid gobgp --init-groups --inh-caps -all,+net_bind_service "
    f"--ambient-caps -all,+net_bind_service gobgpd -f {FOLDER}/gobgpd.toml --api-hosts {API} --log-plain --pprof-disable"
)

DAEMON: dict[str, Any] = {
    "name": "gobgpd",
    "argv": ["sh", "-c", _COMMAND],
    "ready": SOCKET,
    "post": ["sh", f"{FOLDER}/start"],
    "output": LOG,
}
"""As a host's first process starts it. The script says what is announced, once the configuration is in force."""


def node_files(spec: Node) -> dict[str, str]:
    """Files of FOLDER on a node."""
    sessions = sessions_of(spec)
    peers = list({s.peer.name: s.peer for s in sessions}.values())
    names = ", ".join(f'"ac-{p.name}"' for p in peers)
    refusals = ", ".join(f'"in-{p.name}"' for p in peers)
    parts = [
        f'[global.config]\nas = {MY_AS}\nrouter-id = "{management(spec.name)[0].ip}"',
        f'[global.apply-policy.config]\nimport-policy-list = [{refusals}]\nexport-policy-list = [{names}, "ac-tidy"]',
        *(_neighbor(s) for s in sessions),
        *(_defined_sets(p, [s for s in sessions if s.peer == p]) for p in peers),
        *(_policy(p) for p in peers),
        _TIDY,
    ]
    return {"gobgpd.toml": "\n\n".join(parts) + "\n", "start": _start(peers[-1])}


def sysctls(spec: Node) -> dict[str, str]:
    """Settings by which static routes over a dead link are passed over, as a routing daemon would have it."""
    return {
        f"net/{family}/conf/{link.other(spec.name)}/ignore_routes_with_linkdown": "1"
        for link in ends_of(spec.name)
        for family in ("ipv4", "ipv6")
    }


def _start(last: Peer) -> str:
    lines = [
        "# What the confirmed drain took out stays out: its sets come before the prefixes.",
        f'gobgp() {{ command gobgp --target {API} "$@"; }}',
        f'for try in $(seq 200); do gobgp policy prefix 2>&1 | grep -q "^AC-SOFT-{last.name.upper()}/6" && break; sleep 0.1; done',
        f"[ ! -e {DRAIN_FILE} ] || while read -r set prefix range; do",
        '  gobgp policy prefix add "$set" "$prefix" "$range"',
        f"done <{DRAIN_FILE}",
        *(f"gobgp global rib add {t.prefix4} origin igp" for t in TENANTS),
        *(f"gobgp global rib add {t.prefix6} origin igp -a ipv6" for t in TENANTS),
    ]
    return "\n".join(lines) + "\n"


def _neighbor(session: Session) -> str:
    return f"""\
[[neighbors]]
  [neighbors.config]
  neighbor-address = "{session.neighbor}"
  peer-as = {session.peer.asn}
  [neighbors.transport.config]
  local-address = "{session.local}"
  [neighbors.timers.config]
  hold-time = 9
  keepalive-interval = 3
  connect-retry = 1
  idle-hold-time-after-reset = 1
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
    afi-safi-name = "{session.family}-unicast\""""


def _defined_sets(peer: Peer, sessions: list[Session]) -> str:
    name = peer.name.upper()
    sets = "\n".join(
        f'[[defined-sets.prefix-sets]]\nprefix-set-name = "AC-{level}-{name}{end}"'
        for level in ("HARD", "SOFT")
        for end in ("", "/6")
    )
    addresses = ", ".join(f'"{s.neighbor}"' for s in sessions)
    marks = ", ".join(f'"^4294967295:911:{s.number}$"' for s in sessions)
    return f"""\
{sets}
[[defined-sets.neighbor-sets]]
neighbor-set-name = "{peer.name}"
neighbor-info-list = [{addresses}]
[[defined-sets.bgp-defined-sets.large-community-sets]]
large-community-set-name = "AC-KEEP-{name}"
large-community-list = [{marks}]"""


def _policy(peer: Peer) -> str:
    statements = [_hard(peer, end) for end in ("", "/6")] + [_soft(peer, end) for end in ("", "/6")]
    return "\n".join([f'[[policy-definitions]]\nname = "ac-{peer.name}"', *statements, _refusal(peer)])


def _refusal(peer: Peer) -> str:
    # What came in would go out to the other peers: the node would be a transit.
    return f"""\
[[policy-definitions]]
name = "in-{peer.name}"
  [[policy-definitions.statements]]
  name = "in-{peer.name}"
    [policy-definitions.statements.conditions.match-neighbor-set]
    neighbor-set = "{peer.name}"
    [policy-definitions.statements.actions]
    route-disposition = "reject-route\""""


def _conditions(peer: Peer, level: str, end: str) -> str:
    return f"""\
  [[policy-definitions.statements]]
  name = "{level}-{peer.name}{end}"
    [policy-definitions.statements.conditions.match-prefix-set]
    prefix-set = "AC-{level.upper()}-{peer.name.upper()}{end}"
    [policy-definitions.statements.conditions.match-neighbor-set]
    neighbor-set = "{peer.name}\""""


def _hard(peer: Peer, end: str) -> str:
    return f"""\
{_conditions(peer, "hard", end)}
    [policy-definitions.statements.conditions.bgp-conditions.match-large-community-set]
    large-community-set = "AC-KEEP-{peer.name.upper()}"
    match-set-options = "invert"
    [policy-definitions.statements.actions]
    route-disposition = "reject-route\""""


def _soft(peer: Peer, end: str) -> str:
    communities = ", ".join(f'"{c}"' for c in ("65535:0", peer.community) if c)
    return f"""\
{_conditions(peer, "soft", end)}
    [policy-definitions.statements.actions.bgp-actions.set-as-path-prepend]
    as = "{MY_AS}"
    repeat-n = 3
    [policy-definitions.statements.actions.bgp-actions.set-community]
    options = "add"
      [policy-definitions.statements.actions.bgp-actions.set-community.set-community-method]
      communities-list = [{communities}]"""


_TIDY = """\
[[policy-definitions]]
name = "ac-tidy"
  [[policy-definitions.statements]]
  name = "tidy"
    [policy-definitions.statements.actions.bgp-actions.set-large-community]
    options = "remove"
      [policy-definitions.statements.actions.bgp-actions.set-large-community.set-large-community-method]
      communities-list = ["^4294967295:911:.*$"]"""
