"""TSIG keys from where the operator keeps them: what a command prints, or an environment variable of ours, in the form of `dig -y`.

A key is read when it is needed and then forgotten. It is never in an error, a log, a file or a command line; `fingerprint` tells two
keys apart without telling either.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import re
import shlex
import signal
from typing import Final

from anyconsole.errors import AnyconsoleError
from anyconsole.model.inventory import StackTenant

__all__ = ["TsigError", "TsigKey", "parse_key", "read_key"]

_DEADLINE: Final = 30.0
"""Seconds for a command: somebody may have to touch a token."""

_MOST: Final = 16384
_ALGORITHMS: Final = ("hmac-sha1", "hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512")
_DEFAULT: Final = "hmac-sha256"
_NAME: Final = re.compile(r"(?=.{1,255}\Z)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_TELLING: Final = 8
"""Characters of a secret that are too many to be shown."""
_SHORTEST: Final = 16
"""Bytes of a secret (RFC 8945, section 8); a shorter one could be guessed from its fingerprint."""


class TsigError(AnyconsoleError):
    """A key that can't be had, or isn't one. Says where it should have come from, never what came."""


class TsigKey:
    """A key. What it is made of is told by nothing but `data`."""

    __slots__ = ("_algorithm", "_name", "_secret")

    def __init__(self, algorithm: str, name: str, secret: str) -> None:
        self._algorithm = algorithm
        self._name = name
        self._secret = secret

    def __repr__(self) -> str:
        return "TsigKey(...)"

    def data(self) -> dict[str, str]:
        """The content of its Secret."""
        parts = {"name": self._name, "algorithm": self._algorithm, "secret": self._secret}
        return {key: base64.b64encode(value.encode()).decode() for key, value in parts.items()}

    def fingerprint(self, where: str) -> str:
        """Tells this key from others at one place. It is made with the key, as a signature is, and says as little about it."""
        about = "\0".join(("anyconsole", where, self._name, self._algorithm))
        return hmac.new(base64.b64decode(self._secret), about.encode(), hashlib.sha256).hexdigest()[:16]

    def scrub(self, text: str) -> str:
        """Text without the secret, however a server may have repeated it: also where its words were cut off in the middle of it."""
        for word in (self._secret, self.data()["secret"]):
            for length in range(len(word), _TELLING - 1, -1):
                text = text.replace(word[:length], "***")
        return text


async def read_key(known: StackTenant) -> TsigKey:
    """The key of a tenant, from its source in the profile. Raises TsigError."""
    if known.tsig_env:
        return parse_key(os.environ.get(known.tsig_env, ""), known.tsig_source)
    return parse_key(await _printed(known.tsig_command, known.tsig_source), known.tsig_source)


def parse_key(text: str, source: str) -> TsigKey:
    """The key in the first line of a text: [ALGORITHM:]NAME:SECRET, the secret in base64. Raises TsigError."""
    line = next(iter(text.splitlines()), "").strip()
    if not line:
        raise TsigError(f"{source} holds no TSIG key: nothing is in its first line")
    *algorithm, name, secret = ("", *line.split(":")) if line.count(":") < 2 else line.split(":")
    chosen = (":".join(algorithm) or _DEFAULT).lower()
    try:
        length = len(base64.b64decode(secret, validate=True))
    except (binascii.Error, ValueError):
        length = 0
    if chosen not in _ALGORITHMS or not _NAME.fullmatch(name) or not length:
        expected = f"[ALGORITHM:]NAME:SECRET as dig -y takes it, ALGORITHM one of {', '.join(_ALGORITHMS)}"
        raise TsigError(f"what {source} holds is no TSIG key: expected {expected}")
    if length < _SHORTEST:
        raise TsigError(f"the TSIG key of {source} is too short: {length} bytes, at least {_SHORTEST} are wanted")
    return TsigKey(chosen, name, secret)


async def _printed(command: str, source: str) -> str:
    """What a command prints. What it says on standard error isn't read: nobody knows what is in it. Raises TsigError."""
    nothing = asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *shlex.split(command), stdin=nothing, stdout=asyncio.subprocess.PIPE, stderr=nothing, start_new_session=True
        )
    except (OSError, ValueError) as error:
        raise TsigError(f"{source} can't be run: {getattr(error, 'strerror', None) or 'not a command'}") from None
    try:
        async with asyncio.timeout(_DEADLINE):
            said = await _first(process)
            await process.wait()
    except TimeoutError:
        raise TsigError(f"{source} gave no TSIG key in {_DEADLINE:.0f} s: it must not ask for anything") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode:
        raise TsigError(f"{source} failed with {process.returncode}; try it by hand")
    return said.decode("utf-8", "replace")


async def _first(process: asyncio.subprocess.Process) -> bytes:
    """The beginning of what it prints; the rest is read and dropped, so that it can end."""
    kept = bytearray()
    while process.stdout is not None and (chunk := await process.stdout.read(65536)):
        kept += chunk[: _MOST - len(kept)]
    return bytes(kept)
