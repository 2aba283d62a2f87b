"""The cluster's own certificate authority: one server certificate, and one client certificate for each user."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = dt.timedelta(days=1)


class Authority:
    """Issues certificates into a directory. Keys are made anew for each cluster and trusted by nobody else."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fake-cluster-ca")])
        self._root = self._sign(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None))
        self.ca_file = directory / "ca.crt"
        self.ca_file.write_bytes(self._root.public_bytes(serialization.Encoding.PEM))

    def issue_server(self) -> tuple[Path, Path]:
        """The server's certificate and key."""
        names = [x509.DNSName(name) for name in ("localhost", "kubernetes", "kubernetes.default.svc")]
        addresses = [x509.IPAddress(ipaddress.ip_address(a)) for a in ("127.0.0.1", "::1")]
        return self._issue("server", "kube-apiserver", (), x509.SubjectAlternativeName([*names, *addresses]))

    def issue_client(self, user: str, groups: tuple[str, ...]) -> tuple[Path, Path]:
        """A client certificate and key: the common name is the user, the organisations are its groups."""
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        return self._issue(user.replace(":", "-").replace("/", "-"), user, groups, usage)

    def _issue(
        self, stem: str, common: str, organisations: tuple[str, ...], extension: x509.ExtensionType
    ) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in organisations]
        subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common)])
        certificate, key_file = self._directory / f"{stem}.crt", self._directory / f"{stem}.key"
        certificate.write_bytes(self._sign(subject, key, extension).public_bytes(serialization.Encoding.PEM))
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        key_file.touch(mode=0o600)
        key_file.write_bytes(key.private_bytes(*form))
        return certificate, key_file

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
    ) -> x509.Certificate:
        start = dt.datetime.now(dt.UTC) - _DAY
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + 30 * _DAY)
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        )
        return builder.sign(self._key, hashes.SHA256())
