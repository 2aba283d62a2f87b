"""What a kubeconfig says of one cluster: where its API server is, how to trust it, and who we are there.

Files, contexts and merging are `kubernetes.aio.config`'s business. Ours is what it leaves open: exec plugins with a deadline, tokens that
change under way, key material that stays on no disk, and errors that never quote the file (the library's own words may hold its secrets).
"""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

import msgspec
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import kube_config

from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.plugin import CredentialError, run_plugin
from anyconsole.drivers.ssh.fault import Fault, plain
from anyconsole.model.inventory import ClusterSpec

__all__ = ["Login", "sign_in"]

_REREAD: Final = 60.0
"""Seconds between looks at a token file, as other clients do."""


class Login(msgspec.Struct, kw_only=True):
    """How one is let into a cluster. `expires` is epoch seconds, None where the credentials don't say."""

    server: str
    server_name: str
    proxy: str | None
    user: str
    origin: str
    context: ssl.SSLContext | None
    identity: bytes
    """Tells whether TLS would be done differently: of certificates and keys."""
    authorization: str
    headers: tuple[tuple[str, str], ...]
    expires: float | None
    token_file: Path | None
    read_at: float
    secrets: frozenset[str]

    def current_authorization(self) -> str:
        """The Authorization header of now, "" for none: a token file is read again when it may have changed."""
        if self.token_file is not None and time.monotonic() - self.read_at > _REREAD:
            self.read_at = time.monotonic()
            try:
                token = _token(self.token_file)
            except (OSError, ValueError, CredentialError):
                # It is being replaced, or gone: the token that we have may still do.
                return self.authorization
            self.authorization = f"Bearer {token}"
            self.secrets |= {token}
        return self.authorization

    def scrub(self, text: str) -> str:
        """The text without any secret of this login."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


class _Loader(kube_config.KubeConfigLoader):
    """The library's loader with its loose ends tied."""

    _user: Any
    _cluster: Any
    expires: float | None = None

    async def load_from_exec_plugin(self) -> bool:
        """Run the plugin; unlike the library, fail if it does."""
        folder = str(Path(self._user.path).parent) if self._user.path else ""
        cluster = dict(self._cluster.value)
        credential = await run_plugin(self._user["exec"].value, folder, cluster)
        self.expires = credential.expires
        if credential.token:
            self.token = f"Bearer {credential.token}"
        if credential.certificate:
            self.cert_file = self._kept("cert", credential.certificate)
            self.key_file = self._kept("key", credential.key)
        return True

    def _kept(self, name: str, text: str) -> str:
        path = Path(self._temp_file_path, name)
        path.touch(mode=0o600)
        path.write_text(text, encoding="ascii")
        return str(path)

    async def _load_oid_token(self) -> str:
        provider = self._user["auth-provider"]
        if "config" not in provider or "id-token" not in provider["config"]:
            raise CredentialError(
                "its auth-provider oidc has no id-token; use an exec plugin (kubectl oidc-login) instead"
            )
        return str(await super()._load_oid_token())  # type: ignore[no-untyped-call]

    async def _refresh_oidc(self, _: object) -> None:
        # The library would send the refresh token to a server whose certificate it doesn't check.
        raise CredentialError("its OpenID token has expired; sign in again, or use an exec plugin (kubectl oidc-login)")

    async def load_gcp_token(self) -> None:
        """Kubernetes 1.26 has dropped it."""
        raise CredentialError(
            "its auth-provider gcp is gone since Kubernetes 1.26; use the exec plugin gke-gcloud-auth-plugin"
        )

    @property
    def user_settings(self) -> Mapping[str, Any]:
        """What the file says of the user."""
        return self._user.value if self._user is not None and isinstance(self._user.value, dict) else {}


async def sign_in(spec: ClusterSpec) -> Login:
    """Read the kubeconfig of a cluster and run what it says must be run.

    Raises:
        KubeError: No file, no such context, something missing in it, or a plugin that failed. The message says which.
    """
    names = spec.kubeconfig or os.environ.get("KUBECONFIG", "") or str(Path.home() / ".kube" / "config")
    origin = f"kubeconfig {names}" + (f", context {spec.context}" if spec.context else "")

    def failed(what: str, fault: Fault = Fault.PROBE) -> KubeError:
        return KubeError(f"{spec.name}: {what} ({origin})", fault=fault)

    files = _files(names)
    if not files:
        raise failed("no such file; name one as `kubeconfig` of the cluster in the profile, or in $KUBECONFIG")
    try:
        merger = kube_config.KubeConfigMerger(os.pathsep.join(files))  # type: ignore[no-untyped-call]
        contexts = [str(c["name"]) for c in merger.config.value["contexts"]]
        # As kubectl does: the first file that names one wins.
        current = next((c for f in merger.config_files.values() if (c := f.get("current-context"))), "")
    except Exception as error:  # noqa: BLE001 - a file may hold anything, and the library checks nothing
        raise failed(_why(error)) from None
    wanted = spec.context or str(current)
    if not wanted:
        raise failed("it has no current context; name one as `context` of the cluster in the profile")
    if wanted not in contexts:
        known = ", ".join(contexts[:20]) or "none"
        raise failed(f"there is no context {wanted}; name one of these in the profile: {known}")
    origin = f"kubeconfig {names}, context {wanted}"
    with tempfile.TemporaryDirectory(prefix="anyconsole-") as folder:
        try:
            loader: Any = _Loader(  # type: ignore[no-untyped-call]
                config_dict=merger.config, active_context=wanted, config_base_path=None, temp_file_path=folder
            )
            if loader._user is None:
                raise CredentialError("the context's user isn't in it")
            await loader._load_authentication()
            return _login(loader, origin)
        except CredentialError as error:
            raise failed(str(error), Fault.AUTH) from None
        except ssl.SSLError as error:
            raise failed(f"its certificates or its key can't be used: {error.reason or error.strerror}") from None
        except Exception as error:  # noqa: BLE001 - as above
            raise failed(_why(error)) from None
        finally:
            _forget(folder)


def _files(names: str) -> list[str]:
    """Those of several files that exist."""
    return [str(path) for name in names.split(os.pathsep) if name and (path := Path(name).expanduser()).is_file()]


def _login(loader: Any, origin: str) -> Login:  # noqa: ANN401 - the library has no types
    """What was loaded, with the TLS context made: no other sign-in comes in between, so temporary files are ours alone."""
    settings = Configuration()
    # Kubernetes' own clients don't ask for it, and many clusters' authorities are older than the rule.
    settings.disable_strict_ssl_verification = True
    loader._load_cluster_info()
    loader._set_config(settings)
    where = urlsplit(settings.host)
    if "server" not in loader._cluster or where.scheme not in {"http", "https"} or not where.hostname:
        raise CredentialError("its cluster has no server like https://host:6443")
    if where.username:
        raise CredentialError("its server's URL holds a user name; only tokens, certificates and plugins are used")
    user = loader.user_settings
    token_file = _token_file(loader, user)
    authorization = settings.api_key.get("BearerToken", "")
    if token_file is not None:
        authorization = f"Bearer {_token(token_file)}"
    authorization = _one_line(authorization)
    proxy = _proxy(where.scheme, where.hostname, str(settings.proxy or ""))
    keys = b"".join(Path(f).read_bytes() for f in (settings.ssl_ca_cert, settings.cert_file, settings.key_file) if f)
    if b"ENCRYPTED" in keys:
        # OpenSSL would ask for the passphrase on the terminal.
        raise CredentialError("its client key is encrypted; only plain keys can be used")
    secrets = {authorization.partition(" ")[2], str(user.get("password") or ""), str(user.get("token") or "").strip()}
    secrets |= {unquote(urlsplit(proxy).password or ""), urlsplit(proxy).password or ""} if proxy else set()
    tls = where.scheme == "https"
    return Login(
        server=settings.host,
        server_name=str(settings.tls_server_name or where.hostname),
        proxy=proxy,
        user=str(user.get("as") or loader.current_context["context"].get("user") or ""),
        origin=origin,
        context=RESTClientObject(settings).ssl_context if tls else None,
        identity=hashlib.sha256(keys + bytes([bool(settings.verify_ssl)])).digest(),
        authorization=authorization,
        headers=_impersonation(user),
        expires=loader.expires,
        token_file=token_file,
        read_at=time.monotonic(),
        secrets=frozenset(secret for secret in secrets if len(secret) > 3),
    )


def _token_file(loader: Any, user: Mapping[str, Any]) -> Path | None:  # noqa: ANN401 - as above
    name = user.get("tokenFile")
    if not name or "exec" in user or "auth-provider" in user:
        return None
    return Path(loader._user.path or ".").parent / str(name)


def _token(path: Path) -> str:
    return _one_line(path.read_text(encoding="utf-8"))


def _one_line(text: str) -> str:
    """The text without the newline that files end with. Nothing else may be sent as a header."""
    text = text.strip()
    if not text.isprintable():
        raise CredentialError("its token holds control characters")
    return text


def _impersonation(user: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The headers by which the file says to act as somebody else; the library knows nothing of it."""
    found = [
        (header, user[key])
        for header, key in (("Impersonate-User", "as"), ("Impersonate-Uid", "as-uid"))
        if user.get(key)
    ]
    found += [("Impersonate-Group", group) for group in user.get("as-groups") or ()]
    extra = user.get("as-user-extra") or {}
    found += [(f"Impersonate-Extra-{quote(key, safe='')}", value) for key, values in extra.items() for value in values]
    return tuple((header, _one_line(str(value))) for header, value in found)


def _proxy(scheme: str, host: str, written: str) -> str | None:
    """The proxy that the file names, or else the environment."""
    proxy = written
    if not proxy:
        found = urllib.request.getproxies_environment()
        bypassed = urllib.request.proxy_bypass_environment(host, found)  # type: ignore[attr-defined]
        proxy = "" if bypassed else found.get(scheme, found.get("all", ""))
    if proxy and urlsplit(proxy).scheme not in {"http", "https"}:
        what = urlsplit(proxy).scheme or "this"
        raise CredentialError(
            f"a proxy of kind {what} can't be used; name the jump hosts in the profile (`jump`) instead"
        )
    return proxy or None


def _why(error: Exception) -> str:
    """What is wrong with a file, without a word of its content: what libraries say of it may hold tokens and keys."""
    text = str(error)
    if match := re.match(r"File does not exists: (.+)", text):
        return f"it names a file that isn't there: {plain(match[1], 120)}"
    if match := re.match(r"Invalid kube-config file\. Expected key ([\w-]{1,40}) in ", text):
        return f"it lacks {match[1]}"
    if match := re.match(r"Invalid kube-config file\. Expected (?:only one )?object with name (\S{1,120}) in ", text):
        return f"{match[1]} isn't in it exactly once"
    if isinstance(error, OSError):
        return f"{error.strerror or 'can not be read'}: {error.filename or 'a file'}"
    if (mark := getattr(error, "problem_mark", None)) is not None:
        return f"it isn't YAML, see line {mark.line + 1}"
    return f"it isn't a kubeconfig that can be understood ({type(error).__name__})"


def _forget(folder: str) -> None:
    """Let the library forget files that are about to go: it would hand them out again for the same content."""
    remembered: dict[str, str] = kube_config._temp_files
    gone: Sequence[str] = [content for content, name in remembered.items() if name.startswith(folder)]
    for content in gone:
        del remembered[content]
