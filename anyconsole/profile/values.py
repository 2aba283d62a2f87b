"""What a value in a profile must look like: checks that return it, made canonical, or raise ValueError that says what is expected.

Which key has which check is in `schema`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

__all__ = [
    "Check", "answer_timeout", "as_number", "canonical_address", "cluster_service", "colour", "command", "community", "context", "count",
    "cpu", "dns_seconds", "duration", "end_point", "glass_kind", "hold", "host_name", "https_url", "identity", "image", "interface",
    "job_name", "k3s_version", "kube_node", "kube_object", "label_value", "lag", "local_path", "local_path_or_url", "login",
    "loss_ratio", "manifest", "memory", "milliseconds", "namespace", "node_path", "non_empty", "number", "or_empty", "plain_name",
    "prefix", "processes", "rate", "replicas", "seconds", "session_name", "share", "title", "unicast_address", "url", "variable",
    "width", "zone_name",
]  # fmt: skip

Check = Callable[[Any], Any]
"""Takes a value of the right type and returns it, made canonical. Raises ValueError that says what is expected."""


def _matching(pattern: str, expected: str) -> Check:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(expected)
        return value

    return check


def _within(low: float, high: float, expected: str) -> Check:
    def check(value: float) -> float:
        # Written so that NaN fails.
        if not low <= value <= high:
            raise ValueError(expected)
        return value

    return check


def or_empty(check: Check) -> Check:
    """`check`, or nothing at all."""
    return lambda value: value if value == "" else check(value)


plain_name: Final = _matching(
    r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}",
    "expected a name of letters, digits, _ . and - (not first), at most 63 characters",
)
variable: Final = _matching(
    r"[A-Za-z_][A-Za-z0-9_]{0,127}",
    'expected the name of an environment variable, like "DE_TSIG", without a dollar sign',
)
title: Final = _matching(
    r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,62}", "expected a name of letters, digits, spaces, _ . and - (not first)"
)
host_name: Final = _matching(
    r"[A-Za-z0-9_:][A-Za-z0-9_.:%+-]{0,254}",
    "expected a host as ssh takes it: an alias, a name or an address, without user and port, not starting with -",
)
session_name: Final = _matching(
    r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]{0,254}",
    "expected BIRD's protocol name, or the neighbour's address for FRR and GoBGP",
)
glass_kind: Final = _matching("bird", 'expected "bird", the only kind of looking glass that can be read')
login: Final = _matching(r"[A-Za-z0-9_][A-Za-z0-9_.@\\$+-]{0,63}", "expected a login name, not starting with -")
zone_name: Final = _matching(r"\.|[A-Za-z0-9_*][A-Za-z0-9_./*-]{0,253}", 'expected a zone name like "example.de"')
colour: Final = _matching(r"#(?:[0-9A-Fa-f]{3}){1,2}", 'expected a colour like "#5fd7ff"')
number: Final = _within(1, 65535, "expected a whole number from 1 to 65535")
seconds: Final = _within(0.1, 86400, "expected seconds, from 0.1 to 86400")
# Response rate limiting of name servers makes faster questions look like packet loss.
dns_seconds: Final = _within(1, 86400, "expected seconds, at least 1: an address is asked at most once a second")
share: Final = _within(0, 1, "expected a share from 0 to 1")
hold: Final = _within(10, 3600, "expected whole seconds from 10 to 3600")
rate: Final = _within(1, 10_000_000, "expected queries per second, a whole number from 1 to 10000000")
duration: Final = _within(1, 86400, "expected whole seconds from 1 to 86400")
milliseconds: Final = _within(0.1, 10_000, "expected milliseconds, from 0.1 to 10000")
answer_timeout: Final = _within(0.01, 10, "expected seconds, from 0.01 to 10")
loss_ratio: Final = _within(0.0001, 0.5, "expected a share from 0.0001 to 0.5")
width: Final = _within(0.001, 0.2, "expected a share from 0.001 to 0.2")
processes: Final = _within(0, 256, "expected a whole number from 0 (by cores) to 256")
interface: Final = _matching(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}", 'expected a network interface like "eth1"')
identity: Final = _matching(
    r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}", "expected an NSID as the name server tells it, in plain letters"
)
count: Final = _within(0, 65535, "expected a whole number from 0 to 65535")
context: Final = _matching(
    r"[A-Za-z0-9_][A-Za-z0-9_.:@/+-]{0,254}", 'expected the name of a context in the kubeconfig, like "admin@k3s"'
)

_LABEL: Final = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
namespace: Final = _matching(
    _LABEL,
    "expected a Kubernetes namespace: lower-case letters, digits and - (not first, not last), at most 63 characters",
)
kube_node: Final = _matching(
    r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*",
    "expected the name of a Kubernetes node: lower-case letters, digits, - and . between them, at most 253 characters",
)

replicas: Final = _within(1, 100, "expected a whole number of pods from 1 to 100")
label_value: Final = _matching(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", "expected the value of a label, at most 63 characters"
)
job_name: Final = _matching(
    r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?",
    "expected the name of a Job, as it is in a cluster: lower-case letters, digits and -, at most 40 characters",
)
kube_object: Final = _matching(
    r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*",
    "expected the name of a Kubernetes object: lower-case letters, digits, - and . between them, at most 253 characters",
)
image: Final = _matching(
    r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,254}", 'expected the reference of an image, like "registry.example.net/nsd:4.12.0"'
)
k3s_version: Final = _matching(
    r"v1\.[0-9]{1,3}\.[0-9]{1,3}(?:-[a-z0-9]{1,16})?\+k3s[0-9]{1,3}", 'expected a release of k3s, like "v1.34.2+k3s1"'
)
cpu: Final = _matching(r"[1-9][0-9]{0,3}|[1-9][0-9]{0,5}m", 'expected cores like "2" or thousandths of one like "500m"')
memory: Final = _matching(r"[1-9][0-9]{0,6}(?:Mi|Gi)", 'expected memory like "512Mi" or "2Gi"')
lag: Final = _within(0, 31_536_000, "expected whole seconds from 0 (for ever) to 31536000")


def as_number(value: int) -> int:
    """An AS number that may be used."""
    if not 1 <= value <= 4294967294 or value in {23456, 65535}:
        raise ValueError("expected an AS number from 1 to 4294967294, but not the reserved 23456 and 65535")
    return value


def community(value: str) -> str:
    """A BGP community, plain or large."""
    parts = value.split(":") if re.fullmatch(r"[0-9]{1,10}(:[0-9]{1,10}){1,2}", value) else []
    largest = 65535 if len(parts) == 2 else 4294967295
    if not parts or any(int(part) > largest for part in parts):
        raise ValueError('expected a community like "64500:100" or a large one like "64500:1:100"')
    return value


def prefix(value: str) -> str:
    """A prefix without host bits."""
    if "/" not in value:
        raise ValueError('expected a prefix with its length, like "192.0.2.0/24" or "2001:db8::/48"')
    try:
        network = ip_network(value, strict=False)
    except ValueError as error:
        raise ValueError(f'expected a prefix like "192.0.2.0/24" or "2001:db8::/48" ({error})') from None
    if ip_address(value.partition("/")[0]) != network.network_address:
        raise ValueError(f'has host bits set, did you mean "{network}"?')
    return str(network)


def canonical_address(value: str) -> str:
    """An IP address in its shortest form, without a scope. Raises ValueError."""
    if "%" in value:
        raise ValueError("expected an address without a scope")
    try:
        return str(ip_address(value))
    except ValueError:
        raise ValueError('expected an IP address like "192.0.2.53" or "2001:db8::53"') from None


def unicast_address(value: str) -> str:
    """The address of one host."""
    try:
        address = ip_address(canonical_address(value))
    except ValueError:
        raise ValueError(
            'expected an IP address like "192.0.2.53" or "2001:db8::53", not a name: a target must not move'
        ) from None
    if address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255":
        raise ValueError("expected the address of one host")
    return str(address)


def node_path(value: str) -> str:
    """An absolute path on a node."""
    if not value.startswith("/") or ".." in value.split("/"):
        raise ValueError('expected an absolute path on the node, without ".."')
    return value


def end_point(value: str) -> str:
    """A socket on a node: its path, or host:port."""
    host, colon, port = value.rpartition(":")
    if (
        colon
        and port.isascii()
        and port.isdigit()
        and len(port) <= 5
        and 0 < int(port) < 65536
        and re.fullmatch(r"[\w.:\[\]-]+", host)
    ):
        return value
    try:
        return str(node_path(value))
    except ValueError:
        raise ValueError("expected an absolute socket path on the node, or host:port") from None


def local_path(value: str) -> str:
    """An absolute path on this machine, ~ replaced."""
    if value.startswith("~/"):
        return str(Path.home() / value[2:])
    if not value.startswith("/"):
        raise ValueError("expected an absolute path on this machine, or one that starts with ~/")
    return value


def https_url(value: str) -> str:
    """An address that is fetched over TLS, and that needs no quotes in a shell."""
    if not re.fullmatch(r"https://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/%+-]*)?", value):
        raise ValueError('expected an address like "https://get.k3s.io"')
    return value


def local_path_or_url(value: str) -> str:
    """A file of this machine, or an address that is fetched over TLS."""
    if value.startswith(("/", "~/")):
        return local_path(value)
    try:
        return https_url(value)
    except ValueError:
        raise ValueError(
            'expected a file of this machine ("/..." or "~/..."), or an address like "https://get.k3s.io"'
        ) from None


def manifest(value: str) -> str:
    """A file in a bundle, or an address that is fetched over TLS; it ends in .yaml."""
    expected = 'expected a file in the bundle like "tigera-operator.yaml", or the https address of one'
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,100}\.ya?ml", value.rpartition("/")[2]):
        raise ValueError(expected)
    if "/" not in value:
        return value
    try:
        return https_url(value)
    except ValueError:
        raise ValueError(expected) from None


def url(value: str) -> str:
    """The address of a web service."""
    expected = 'expected an address like "http://prometheus:9090"'
    try:
        parts = urlsplit(value)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or re.search(r"\s", value):
        raise ValueError(expected)
    return value


def cluster_service(value: str) -> str:
    """A port of a Service in a cluster."""
    match = re.fullmatch(f"{_LABEL}/{_LABEL}:({_LABEL})", value)
    if not match or (match[1].isdigit() and not 0 < int(match[1]) < 65536):
        raise ValueError(
            'expected NAMESPACE/SERVICE:PORT, its port by name or number, like "monitoring/prometheus:9090"'
        )
    return value


def command(value: str) -> str:
    """A program of this machine with its arguments, quoted as a shell has it."""
    try:
        words = shlex.split(value)
    except ValueError:
        words = []
    if not words or not value.isprintable():
        raise ValueError('expected a command with its arguments, like "pass show dns/de"; it is run without a shell')
    return value


def non_empty(value: str) -> str:
    """Any text but blanks."""
    if not value.strip():
        raise ValueError("expected text, got nothing")
    return value
