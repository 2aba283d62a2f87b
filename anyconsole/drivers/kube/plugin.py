"""Credential plugins of kubeconfigs (client.authentication.k8s.io): run one, read what it grants. It never gets our terminal."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from anyconsole.drivers.ssh.fault import plain

__all__ = ["Credential", "CredentialError", "run_plugin"]

_DEADLINE: Final = 60.0
_OPAQUE: Final = re.compile(r"[A-Za-z0-9+/=_.~-]{24,}")
"""Words that might be a token or a key. What a plugin complains about is shown, but not those."""


class CredentialError(Exception):
    """A kubeconfig gives no credentials. The words name neither cluster nor file, and hold no secret."""


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """What a plugin granted: a token, or a client certificate with its key (PEM), or both. `expires` is epoch seconds."""

    token: str = ""
    certificate: str = ""
    key: str = ""
    expires: float | None = None


async def run_plugin(spec: Mapping[str, Any], folder: str, cluster: Mapping[str, Any]) -> Credential:
    """Run a plugin.

    Args:
        spec: The user's `exec` in the kubeconfig.
        folder: Where that kubeconfig is: a command with a slash in it is relative to it.
        cluster: What the kubeconfig says of the cluster, told to plugins that want to know.

    Raises:
        CredentialError: It can't be run, failed, took too long, or said something else than credentials.
    """
    command, version = spec.get("command"), spec.get("apiVersion")
    if not isinstance(command, str) or not command or not isinstance(version, str):
        raise CredentialError("its exec plugin lacks command or apiVersion")
    if spec.get("interactiveMode") == "Always":
        raise CredentialError(f"its exec plugin {plain(command, 80)} wants a terminal, which it can't have here")
    if "/" in command:
        command = str(Path(folder, command))
    arguments = [str(argument) for argument in spec.get("args") or ()]
    environment = os.environ | {str(e["name"]): str(e["value"]) for e in spec.get("env") or ()}
    asked: dict[str, Any] = {"interactive": False}
    if spec.get("provideClusterInfo"):
        asked["cluster"] = _told(cluster, folder)
    environment["KUBERNETES_EXEC_INFO"] = msgspec.json.encode(
        {"apiVersion": version, "kind": "ExecCredential", "spec": asked}
    ).decode()
    said = await _run(command, arguments, environment)
    return _credential(said, version, f"its exec plugin {plain(command, 80)}")


async def _run(command: str, arguments: list[str], environment: Mapping[str, str]) -> bytes:
    name = f"its exec plugin {plain(command, 80)}"
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            command, *arguments, env=environment, stdin=nothing, stdout=pipe, stderr=pipe
        )
    except (OSError, ValueError) as error:
        raise CredentialError(f"{name} can't be run: {getattr(error, 'strerror', None) or 'not a command'}") from None
    try:
        async with asyncio.timeout(_DEADLINE):
            said, complained = await process.communicate()
    except TimeoutError:
        raise CredentialError(f"{name} gave no answer in {_DEADLINE:.0f} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        lines = complained.decode("utf-8", "replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
        raise CredentialError(
            f"{name} failed with {process.returncode}: {_OPAQUE.sub('***', plain(last, 200))}; try it by hand"
        )
    return said


def _credential(said: bytes, version: str, name: str) -> Credential:
    try:
        match msgspec.json.decode(said):
            case {"kind": "ExecCredential", "apiVersion": str(spoken), "status": dict(status)}:
                pass
            case _:
                raise CredentialError(f"{name} didn't answer with credentials (kind ExecCredential)")
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise CredentialError(f"{name} didn't answer with JSON") from None
    if spoken != version:
        raise CredentialError(f"{name} speaks {plain(spoken, 60)}, not {plain(version, 60)} as the kubeconfig says")
    token, certificate, key = (
        str(status.get(word) or "") for word in ("token", "clientCertificateData", "clientKeyData")
    )
    if not token and not (certificate and key):
        raise CredentialError(f"{name} granted neither a token nor a client certificate with its key")
    expires = None
    if stamp := status.get("expirationTimestamp"):
        try:
            expires = dt.datetime.fromisoformat(str(stamp)).timestamp()
        except ValueError:
            raise CredentialError(
                f"{name} says that its credentials end at {plain(str(stamp), 40)}, which is no time"
            ) from None
    return Credential(token=token, certificate=certificate, key=key, expires=expires)


def _told(cluster: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """The cluster as plugins are told of it: a certificate authority is told by its content."""
    told = {key: value for key, value in cluster.items() if key != "certificate-authority"}
    if authority := cluster.get("certificate-authority"):
        with contextlib.suppress(OSError):
            told["certificate-authority-data"] = base64.b64encode(Path(folder, str(authority)).read_bytes()).decode()
    return told
