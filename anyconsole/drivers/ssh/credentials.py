"""Who we are: identity files, certificates and the user's agent, in the order in which OpenSSH would offer them.

Key files are parsed once (an RSA key costs 100 ms) and shared. The agent is asked anew for every login, over a connection that lives
only as long as the login, so that a cancelled login can't leave a shared conversation out of step. No passphrase is ever asked for.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import asyncssh
import msgspec

from anyconsole.drivers.ssh.fault import plain
from anyconsole.drivers.ssh.resolve import Endpoint, Stamp, stamp_of

__all__ = ["Identities", "Keyring", "key_name"]

AGENT_DEADLINE: Final = 5.0


class Identities(msgspec.Struct, frozen=True, kw_only=True):
    """What is offered at one login. `notes` say which configured key could not be used and why."""

    keys: tuple[asyncssh.SSHKeyPair | asyncssh.SSHKey, ...] = ()
    certificates: tuple[asyncssh.SSHCertificate, ...] = ()
    notes: tuple[str, ...] = ()

    def key_pairs(self) -> Sequence[asyncssh.SSHKeyPair]:
        """The keys, those with a certificate with and without it."""
        return asyncssh.load_keypairs(list(self.keys), certlist=list(self.certificates)) if self.keys else ()


def key_name(key: asyncssh.SSHKeyPair) -> str:
    """Whose key it is: its comment, else its SHA256 fingerprint."""
    comment = plain((key.get_comment_bytes() or b"").decode("utf-8", "replace"), 100)
    digest = hashlib.sha256(key.key_public_data).digest()
    return comment or "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")


class _File(msgspec.Struct, frozen=True, kw_only=True):
    private: asyncssh.SSHKey | None = None
    public: bytes = b""
    certificate: asyncssh.SSHCertificate | None = None
    note: str = ""


class Keyring:
    """The identity files of all endpoints, read again when they change."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[Stamp, _File]] = {}

    @asynccontextmanager
    async def identities(self, endpoint: Endpoint) -> AsyncIterator[Identities]:
        """What to offer an endpoint: agent keys named by an IdentityFile, other agent keys, then key files."""
        files = [await asyncio.to_thread(self._read, path) for path in endpoint.identity_files]
        certificates = [f.certificate for f in files if f.certificate]
        certificates += [c for c in [_certificate(path) for path in endpoint.certificate_files] if c]
        configured = [f.public for f in files if f.public] + [c.public_data for c in certificates]
        if not endpoint.agent:
            yield _offer([], files, certificates, [])
            return
        agent = asyncssh.SSHAgentClient(endpoint.agent)
        notes: list[str] = []
        try:
            yield _offer(await _agent_keys(agent, endpoint, configured, notes), files, certificates, notes)
        finally:
            agent.close()

    async def stamp(self, endpoint: Endpoint) -> tuple[Stamp, str]:
        """What files and agent hold now; differs once another login could end differently."""
        files = stamp_of((*endpoint.identity_files, *endpoint.certificate_files))
        return files, await _agent_digest(endpoint.agent) if endpoint.agent else ""

    def _read(self, path: str) -> _File:
        stamp = stamp_of((path, path + ".pub", path + "-cert.pub"))
        known = self._files.get(path)
        if known is None or known[0] != stamp:
            known = (stamp, _load(path))
            self._files[path] = known
        return known[1]


async def _agent_keys(
    agent: asyncssh.SSHAgentClient, endpoint: Endpoint, configured: Sequence[bytes], notes: list[str]
) -> list[asyncssh.SSHKeyPair]:
    try:
        async with asyncio.timeout(AGENT_DEADLINE):
            held = list(await agent.get_keys())
    except (OSError, ValueError) as error:
        notes.append(f"agent {endpoint.agent}: {str(error) or 'no answer'}")
        return []
    rank = {public: number for number, public in enumerate(configured)}
    named = sorted((key for key in held if key.public_data in rank), key=lambda key: rank[key.public_data])
    return named if endpoint.identities_only else [*named, *(key for key in held if key.public_data not in rank)]


async def _agent_digest(path: str) -> str:
    agent = asyncssh.SSHAgentClient(path)
    try:
        async with asyncio.timeout(AGENT_DEADLINE):
            keys = await agent.get_keys()
    except (OSError, ValueError):
        return ""
    finally:
        agent.close()
    return hashlib.sha256(b"".join(sorted(key.public_data for key in keys))).hexdigest()


def _offer(
    agent_keys: Sequence[asyncssh.SSHKeyPair],
    files: Sequence[_File],
    certificates: Sequence[asyncssh.SSHCertificate],
    notes: Sequence[str],
) -> Identities:
    held = {key.public_data for key in agent_keys}
    private = [f.private for f in files if f.private and f.public not in held]
    # A passphrase doesn't matter where the agent has the key.
    unusable = [f.note for f in files if f.note and f.public not in held]
    return Identities(keys=(*agent_keys, *private), certificates=tuple(certificates), notes=(*unusable, *notes))


def _load(path: str) -> _File:
    public = _public(path + ".pub")
    certificate = _certificate(path + "-cert.pub")
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        # ssh's default names are in every configuration, most of them don't exist.
        return _File(public=public, certificate=certificate)
    except OSError as error:
        return _File(public=public, certificate=certificate, note=f"{path}: {error.strerror}")
    try:
        private = asyncssh.import_private_key(data)
    except asyncssh.KeyEncryptionError:
        return _File(public=public, certificate=certificate, note=f"{path}: could not be decrypted; ssh-add it")
    except asyncssh.KeyImportError as error:
        if (only_public := public or _public(path)) and "assphrase" not in str(error):
            return _File(public=only_public, certificate=certificate)
        note = "has a passphrase; ssh-add it" if "assphrase" in str(error) else str(error)
        return _File(public=public, certificate=certificate, note=f"{path}: {note}")
    return _File(private=private, public=private.public_data, certificate=certificate)


def _public(path: str) -> bytes:
    try:
        return asyncssh.read_public_key(path).public_data
    except (OSError, asyncssh.KeyImportError):
        return b""


def _certificate(path: str) -> asyncssh.SSHCertificate | None:
    try:
        return asyncssh.read_certificate(path)
    except (OSError, asyncssh.KeyImportError):
        return None
