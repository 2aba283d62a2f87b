"""One login: a transport (TCP, a channel of a jump host, or the user's ProxyCommand), the host key, our identity, a deadline.

Everything that many logins share (parsed keys, options, known hosts, the limit on handshakes in flight) lives in the `Dialer`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncssh

from anyconsole.drivers.ssh.credentials import Identities, Keyring, key_name
from anyconsole.drivers.ssh.fault import Fault, SshError, Stage, classify, plain
from anyconsole.drivers.ssh.hostkeys import HostKeyBook, Offer, offered_algorithms, public_key
from anyconsole.drivers.ssh.proxy import ProxyCommand
from anyconsole.drivers.ssh.resolve import Endpoint

__all__ = ["OPERATOR_KEY", "Dialer", "Slots"]

log = logging.getLogger(__name__)

# In Python AES-GCM costs two thirds of chacha20-poly1305 per message.
CIPHERS: Final = (
    "aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr", "aes128-ctr",
)  # fmt: skip
HANDSHAKES: Final = 25
HANDSHAKES_PER_JUMP: Final = 10
PATIENCE: Final = 1.0
NODE_KEEPALIVE: Final = (15.0, 2)
JUMP_KEEPALIVE: Final = (3.0, 2)


OPERATOR_KEY: Final = "operator_key"
"""Extra info of a connection: the name of the key that logged us in."""


class Slots:
    """How many handshakes may be in flight, so that their bursts of arithmetic leave the event loop responsive.

    A peer that stays silent costs no arithmetic: after `PATIENCE` seconds its slot goes to the next one, so that frozen hosts
    never delay the others.
    """

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Wait for a slot and hold it, for `PATIENCE` seconds at most."""
        await self._free.acquire()
        held = True

        def give_back() -> None:
            nonlocal held
            if held:
                held = False
                self._free.release()

        timer = asyncio.get_running_loop().call_later(PATIENCE, give_back)
        try:
            yield
        finally:
            timer.cancel()
            give_back()


class Dialer:
    """Logs in to endpoints; shared by all links and tunnels of a fleet."""

    def __init__(self, book: HostKeyBook, keyring: Keyring, timeout: float) -> None:
        self.book = book
        self.slots = Slots(HANDSHAKES)
        self._keyring = keyring
        self._timeout = timeout
        self._options: dict[tuple[object, ...], asyncssh.SSHClientConnectionOptions] = {}

    async def dial(
        self, endpoint: Endpoint, tunnel: asyncssh.SSHClientConnection | None = None, *, is_jump: bool = False
    ) -> asyncssh.SSHClientConnection:
        """Log in to an endpoint, over `tunnel` if it has jump hosts.

        Raises:
            SshError: With the fault, what was tried, what came back and what to do.
        """
        client = _Client()
        identities = Identities()
        try:
            async with asyncio.timeout(self._timeout), self._keyring.identities(endpoint) as identities:
                if not endpoint.proxy_command:
                    return await self._connect(endpoint, client, identities, is_jump=is_jump, tunnel=tunnel)
                client.proxy = await ProxyCommand.start(endpoint.proxy_command)
                try:
                    return await self._connect(endpoint, client, identities, is_jump=is_jump, sock=client.proxy.sock)
                except BaseException:
                    client.proxy.stop()
                    raise
        except Exception as error:
            if not isinstance(error, OSError | asyncssh.Error | ValueError):
                log.exception("%s: login failed in an unforeseen way", endpoint.label)
            raise self._explain(error, endpoint, client, identities) from error

    async def _connect(
        self,
        endpoint: Endpoint,
        client: _Client,
        identities: Identities,
        *,
        is_jump: bool,
        tunnel: asyncssh.SSHClientConnection | None = None,
        sock: socket.socket | None = None,
    ) -> asyncssh.SSHClientConnection:
        trust = self.book.trust(endpoint)
        client.trusted = frozenset(e.key for e in trust.keys) - frozenset(e.key for e in trust.revoked)
        client.authorities = frozenset(e.key for e in trust.authorities)
        client.keys = iter(identities.key_pairs())
        revoked = [key for key in map(public_key, trust.revoked) if key] if trust.authorities else []
        return await asyncssh.connect(
            endpoint.host,
            endpoint.port,
            # An empty tunnel, not None, would make asyncssh look for one in its configuration.
            tunnel=tunnel,
            sock=sock,
            family=endpoint.family,
            config=[],
            options=self._shared_options(endpoint, is_jump=is_jump),
            client_factory=lambda: client,
            # The client hands them out one by one: so it knows which of them was taken.
            client_keys=None,
            client_certs=(),
            known_hosts=([], [], revoked),
            server_host_key_algs=offered_algorithms(trust, endpoint.host_key_algorithms),
            # Connections that were opened together must not all rekey together an hour later.
            rekey_seconds=3600 * random.uniform(0.6, 1.4),  # noqa: S311 - spreads load, keeps no secret
        )

    def _shared_options(self, endpoint: Endpoint, *, is_jump: bool) -> asyncssh.SSHClientConnectionOptions:
        key = (endpoint.user, endpoint.alias, is_jump)
        if (options := self._options.get(key)) is None:
            interval, count = JUMP_KEEPALIVE if is_jump else NODE_KEEPALIVE
            given: dict[str, Any] = {"username": endpoint.user} if endpoint.user else {}
            options = self._options[key] = asyncssh.SSHClientConnectionOptions(
                config=[],
                host_key_alias=endpoint.alias or None,
                client_keys=None,
                agent_path=None,
                agent_forwarding=False,
                x509_trusted_certs=None,
                gss_host=None,
                preferred_auth=["publickey"],
                encryption_algs=list(CIPHERS),
                compression_algs=["none"],
                connect_timeout=None,
                login_timeout=self._timeout,
                keepalive_interval=interval,
                keepalive_count_max=count,
                **given,
            )
        return options

    def _explain(self, error: Exception, endpoint: Endpoint, client: _Client, identities: Identities) -> SshError:
        if client.offer is not None:
            return self.book.refusal(endpoint, client.offer)
        stage = Stage.HANDSHAKE if client.connected else Stage.TRANSPORT
        fault = classify(error, stage)
        said = plain(str(error)) or type(error).__name__
        via = f" through {endpoint.via[-1].name}" if endpoint.via else ""
        where = f"{endpoint.label}{via}"
        match fault:
            case Fault.TIMEOUT if client.connected and not client.greeted():
                text = f"{where}: accepted the connection, then said nothing for {self._timeout:.0f} s; is its sshd frozen?"
            case Fault.TIMEOUT:
                text = f"{where}: no login in {self._timeout:.0f} s"
            case Fault.REFUSED:
                text = f"{where}: connection refused; is sshd running there?"
            case Fault.RESET:
                text = (
                    f"{where}: closed before login ({said}); its sshd may be limiting logins (MaxStartups, PerSourcePenalties), "
                    "so the next try comes late"
                )
            case Fault.AUTH:
                text = _denied(where, endpoint, identities)
            case Fault.HOSTKEY_UNKNOWN:
                text = f"{where}: {said}; check its certificate and the @cert-authority and @revoked lines"
            case Fault.NEGOTIATION:
                text = f"{where}: no common algorithm ({said})"
            case _:
                text = f"{where}: {said}"
        return SshError(fault, text)


class _Client(asyncssh.SSHClient):
    """Decides about the host key and keeps what was offered; asyncssh alone can't tell unknown from changed."""

    def __init__(self) -> None:
        self.trusted: frozenset[str] = frozenset()
        self.authorities: frozenset[str] = frozenset()
        self.offer: Offer | None = None
        self.connected = False
        self.proxy: ProxyCommand | None = None
        self.keys: Iterator[asyncssh.SSHKeyPair] = iter(())
        self._key: asyncssh.SSHKeyPair | None = None
        self._conn: asyncssh.SSHClientConnection | None = None

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self.connected = True
        self._conn = conn

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self.proxy is not None:
            self.proxy.stop()

    def public_key_auth_requested(self) -> asyncssh.SSHKeyPair | None:
        self._key = next(self.keys, None)
        return self._key

    def auth_completed(self) -> None:
        if self._conn is not None and self._key is not None:
            self._conn.set_extra_info(**{OPERATOR_KEY: key_name(self._key)})

    def greeted(self) -> bool:
        """True once the server has sent its version line."""
        return bool(self._conn and self._conn.get_extra_info("server_version"))

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002
        offer = Offer.of(key)
        if offer.key in self.trusted:
            return True
        self.offer = offer
        return False

    def validate_host_ca_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002
        offer = Offer.of(key, reason="its authority is not on file for this name")
        if offer.key in self.authorities:
            return True
        self.offer = offer
        return False


def _denied(where: str, endpoint: Endpoint, identities: Identities) -> str:
    count = len(identities.keys)
    offered = "no key to offer" if not count else f"{count} key{'s' * (count > 1)} offered"
    notes = f" ({'; '.join(identities.notes[:3])})" if identities.notes else ""
    user = endpoint.user or "the default user"
    return plain(
        f"{where}: login as {user} denied, {offered}{notes}. Not tried again until keys, agent or configuration change",
        400,
    )
