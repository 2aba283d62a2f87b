"""Who a host is: known_hosts files as OpenSSH reads them, and the verdict on the key or certificate a host offers.

Strict and read-only: an unknown or changed key is reported, never accepted and never written down. Keys are filed under the host's
name or HostKeyAlias, not its address, because an address seen through a jump host is that jump host's view.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Final

import asyncssh
import msgspec

from anyconsole.drivers.ssh.fault import Fault, SshError
from anyconsole.drivers.ssh.resolve import Endpoint, Stamp, stamp_of

__all__ = ["HostKeyBook", "KnownHosts", "Mark", "Offer", "Trust", "names_of", "offered_algorithms"]

# What OpenSSH offers by default, best first; certificates are asked for only where an authority is on file.
PLAIN_ALGORITHMS: Final = (
    "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com", "rsa-sha2-512", "rsa-sha2-256",
)  # fmt: skip
CERTIFICATE_ALGORITHMS: Final = tuple(
    f"{a.removesuffix('@openssh.com')}-cert-v01@openssh.com" for a in PLAIN_ALGORITHMS
)


class Mark(StrEnum):
    """What a line of known_hosts says about its key."""

    HOST = ""
    AUTHORITY = "@cert-authority"
    REVOKED = "@revoked"


class Entry(msgspec.Struct, frozen=True):
    """One line of a known_hosts file; the key stays text until somebody asks for that host."""

    mark: Mark
    pattern: str
    algorithm: str
    key: str
    where: str


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """The entries that apply to one host."""

    keys: tuple[Entry, ...] = ()
    authorities: tuple[Entry, ...] = ()
    revoked: tuple[Entry, ...] = ()


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A host key that was offered and not trusted. `reason` is set where it is about a certificate."""

    algorithm: str
    key: str
    fingerprint: str
    reason: str = ""

    @classmethod
    def of(cls, key: asyncssh.SSHKey, reason: str = "") -> Offer:
        """The offer of an asyncssh key."""
        return cls(
            algorithm=key.algorithm.decode("ascii"),
            key=base64.b64encode(key.public_data).decode("ascii"),
            fingerprint=key.get_fingerprint(),
            reason=reason,
        )


class KnownHosts:
    """One known_hosts file: exact names in a dictionary, hashed and wildcard lines in lists."""

    def __init__(self, text: str, path: str = "") -> None:
        self.exact: dict[str, list[Entry]] = {}
        self.patterns: list[Entry] = []
        self.hashed: list[tuple[bytes, bytes, Entry]] = []
        self.unreadable = 0
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            entry = _entry(words, f"{path}:{number}")
            if entry is None or not self._file(entry):
                self.unreadable += 1

    def _file(self, entry: Entry) -> bool:
        if entry.pattern.startswith("|"):
            salt_and_hash = _hash_parts(entry.pattern)
            if salt_and_hash is None:
                return False
            self.hashed.append((*salt_and_hash, entry))
        elif any(c in entry.pattern for c in "*?!"):
            self.patterns.append(entry)
        else:
            for name in entry.pattern.lower().split(","):
                self.exact.setdefault(name, []).append(entry)
        return True

    def entries(self, name: str) -> Iterable[Entry]:
        """The entries whose names match `name` (`[host]:port` for other ports than 22)."""
        yield from self.exact.get(name.lower(), ())
        for entry in self.patterns:
            if _matches(entry.pattern, name.lower()):
                yield entry
        for salt, digest, entry in self.hashed:
            if hmac.compare_digest(hmac.digest(salt, name.encode(), "sha1"), digest):
                yield entry


class HostKeyBook:
    """All known_hosts files in use, read again when they change."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[Stamp, KnownHosts]] = {}
        self._trusts: dict[tuple[Stamp, tuple[str, ...]], Trust] = {}

    def trust(self, endpoint: Endpoint) -> Trust:
        """What is on file about a host: under `[name]:port`, else (as OpenSSH does) under the bare name."""
        stamp = stamp_of(endpoint.known_hosts)
        names = names_of(endpoint)
        if (trust := self._trusts.get((stamp, names))) is None:
            trust = next((t for name in names if _says_something(t := self._look_up(endpoint, name))), Trust())
            if len(self._trusts) > 20_000:
                self._trusts.clear()
            self._trusts[stamp, names] = trust
        return trust

    def stamp(self, endpoint: Endpoint) -> frozenset[tuple[Mark, str]]:
        """What the files say about a host now; differs once another look at its key could end differently."""
        trust = self.trust(endpoint)
        return frozenset((entry.mark, entry.key) for entry in (*trust.keys, *trust.authorities, *trust.revoked))

    def refusal(self, endpoint: Endpoint, offer: Offer) -> SshError:
        """Why an offered key is not trusted, and what the operator can do about it."""
        trust = self.trust(endpoint)
        name = names_of(endpoint)[0]
        what = f"host key of {endpoint.label} ({offer.algorithm} {offer.fingerprint})"
        if revoked := next((entry for entry in trust.revoked if entry.key == offer.key), None):
            return SshError(
                Fault.HOSTKEY_CHANGED,
                f"the {what} is REVOKED in {revoked.where}; do not log in, find out why the host still uses it",
                offer.fingerprint,
            )
        if offer.reason:
            return SshError(
                Fault.HOSTKEY_UNKNOWN,
                f"the host certificate of {endpoint.label} is not accepted: {offer.reason} "
                f"(authority {offer.algorithm} {offer.fingerprint}); check its principals, dates and @cert-authority lines",
                offer.fingerprint,
            )
        if trust.keys:
            on_file = ", ".join(f"{e.algorithm} {_fingerprint(e.key)} in {e.where}" for e in trust.keys[:3])
            return SshError(
                Fault.HOSTKEY_CHANGED,
                f"the {what} CHANGED: on file is {on_file}. Somebody may be in between; if the host was really set up anew, "
                f"verify the fingerprint there, then ssh-keygen -R '{name}'",
                offer.fingerprint,
            )
        others = self._other_names(endpoint, offer)
        also = f"; the same key is on file for {', '.join(others)}" if others else ""
        return SshError(
            Fault.HOSTKEY_UNKNOWN,
            f"the {what} is not in {', '.join(endpoint.known_hosts) or 'any known_hosts file'}{also}. Compare the fingerprint "
            f"with the host's own, then log in once with ssh to accept it (filed as '{name}')",
            offer.fingerprint,
        )

    def _look_up(self, endpoint: Endpoint, name: str) -> Trust:
        entries = [entry for path in endpoint.known_hosts for entry in self._read(path).entries(name)]
        return Trust(
            keys=tuple(e for e in entries if e.mark is Mark.HOST),
            authorities=tuple(e for e in entries if e.mark is Mark.AUTHORITY),
            revoked=tuple(e for e in entries if e.mark is Mark.REVOKED),
        )

    def _read(self, path: str) -> KnownHosts:
        stamp = stamp_of((path,))
        known = self._files.get(path)
        if known is None or known[0] != stamp:
            try:
                text = Path(path).read_text("utf-8", "replace")
            except OSError:
                text = ""
            known = (stamp, KnownHosts(text, path))
            self._files[path] = known
            self._trusts.clear()
        return known[1]

    def _other_names(self, endpoint: Endpoint, offer: Offer) -> list[str]:
        found = {
            name
            for path in endpoint.known_hosts
            for name, entries in self._read(path).exact.items()
            if any(entry.key == offer.key and entry.mark is Mark.HOST for entry in entries)
        }
        return sorted(found)[:4]


def names_of(endpoint: Endpoint) -> tuple[str, ...]:
    """The names a host's key may be filed under, the one to file it under first."""
    name = endpoint.key_name
    # As in OpenSSH an alias stands for itself, whatever the port.
    return (name,) if endpoint.alias or endpoint.port == 22 else (f"[{name}]:{endpoint.port}", name)


def offered_algorithms(trust: Trust, wanted: Sequence[str]) -> list[str]:
    """Host key algorithms to negotiate: those whose keys are on file first, so that a host shows the key we know.

    Args:
        trust: What is on file about the host.
        wanted: HostKeyAlgorithms of the user's configuration, () for all.
    """
    allowed = [a for a in (wanted or PLAIN_ALGORITHMS) if a in PLAIN_ALGORITHMS]
    known = {entry.algorithm for entry in trust.keys}
    first = [a for a in allowed if _key_type(a) in known]
    certificates = [a for a in (wanted or CERTIFICATE_ALGORITHMS) if a in CERTIFICATE_ALGORITHMS and trust.authorities]
    return [*certificates, *first, *(a for a in allowed if a not in first)]


@lru_cache(maxsize=4096)
def public_key(entry: Entry) -> asyncssh.SSHKey | None:
    """The key of an entry; None if asyncssh can't read its type."""
    try:
        return asyncssh.import_public_key(f"{entry.algorithm} {entry.key}")
    except asyncssh.KeyImportError:
        return None


def _says_something(trust: Trust) -> bool:
    return bool(trust.keys or trust.authorities or trust.revoked)


def _entry(words: list[str], where: str) -> Entry | None:
    mark = Mark.HOST
    if words[0].startswith("@"):
        if words[0] not in {Mark.AUTHORITY, Mark.REVOKED}:
            return None
        mark = Mark(words[0])
        words = words[1:]
    if len(words) < 3:
        return None
    pattern, algorithm, key = words[:3]
    try:
        base64.b64decode(key, validate=True)
    except binascii.Error:
        return None
    return Entry(mark, pattern, algorithm, key, where)


def _hash_parts(pattern: str) -> tuple[bytes, bytes] | None:
    match pattern.split("|"):
        case ["", "1", salt, digest]:
            try:
                return base64.b64decode(salt, validate=True), base64.b64decode(digest, validate=True)
            except binascii.Error:
                return None
        case _:
            return None


def _matches(patterns: str, name: str) -> bool:
    """OpenSSH's pattern lists: any positive match, unless a negated one matches."""
    hit = False
    for pattern in patterns.lower().split(","):
        if _glob(pattern.removeprefix("!")).fullmatch(name):
            if pattern.startswith("!"):
                return False
            hit = True
    return hit


@lru_cache(maxsize=4096)
def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile("".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern), re.DOTALL)


def _key_type(algorithm: str) -> str:
    return "ssh-rsa" if algorithm.startswith("rsa-sha2") else algorithm


def _fingerprint(key: str) -> str:
    digest = hashlib.sha256(base64.b64decode(key)).digest()
    return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")
