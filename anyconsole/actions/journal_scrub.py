"""Keeps secrets out of the journal: what looks like a key, a password or a TSIG secret is replaced before anything is written.

It works on text alone and knows no daemon. It rather takes away a harmless word after "password" than leaves a secret in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["REMOVED", "scrub", "scrub_json"]

REMOVED: Final = "[removed]"
"""What stands where a secret was."""

_PRIVATE_KEY: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)

_ASSIGNED: Final = r"""\\*["']?[ \t]*[:=][ \t]*"""
# What may stand before a value that no colon announces; Cisco's dialects put the kind of encryption there, as a number.
_BLANK: Final = r"""\\*["']?[ \t]+(?:\d{1,2}[ \t]+)?"""
_NAMED: Final = rf"(?:password|passwd|passphrase|secret)(?:{_ASSIGNED}|{_BLANK})"
# In quotes (escaped ones too, as in a script within a script), from a quote that never ends to the end of the line, or one word.
_VALUE: Final = (
    rf"""(?:\[removed\]|(?P<quote>\\*["']).*?(?<!\\)(?P=quote)|\\*["'].*|(?!{_NAMED}\S)[^\s;"'{{}}][^\s;]*)"""
)

_RULES: Final = tuple(
    re.compile(f"(?P<before>{before}){value}", re.IGNORECASE | re.MULTILINE)
    for before, value in (
        # secret "..." (BIND, NSD, Knot), password ... (BIRD, FRR), PGPASSWORD=..., "auth-password": "..."
        (_NAMED, _VALUE),
        # Words of plain sentences too, so only with a colon or an equals sign: YAML, TOML, the environment, BIND's *.private.
        (
            r"(?:token|sshpass|api[-_]?key|access[-_]?key|private[-_]?key|privateexponent|prime[12]|exponent[12]|coefficient)"
            + _ASSIGNED,
            _VALUE,
        ),
        (r"(?:message-digest-key[ \t]+\d+[ \t]+md5|authentication-key|key-string)[ \t]+(?:\d[ \t]+)?", _VALUE),
        (r"authorization:[ \t]*(?:[a-z]+[ \t]+)?", r"[^\s\"']+"),
        # dig -y, nsupdate, and the file of a TSIG key
        (r"\bhmac-[a-z0-9-]{1,20}:[^\s:]{1,255}[: \t]", r"[^\s;\"']+"),
        (r"-y[ \t]*['\"]?[\w.-]{1,255}:", r"[A-Za-z0-9+/]{8,}={0,2}"),
        (r"^[ \t]*key(?::|[ \t]+[^\s{]+)[ \t]+", r"[A-Za-z0-9+/]{16,}={0,2}"),
        # user:password@ in an address
        (r"://[^\s/:@\"']{1,255}:", r"[^\s/@\"']+(?=@)"),
    )
)
_SECRET_NAME: Final = re.compile(r"(?:password|passwd|passphrase|secret|token|private[-_]?key)\Z", re.IGNORECASE)


def scrub(text: str) -> str:
    """`text` with `[removed]` in the place of everything that looks like a secret. Scrubbing twice changes nothing more."""
    if "-----BEGIN" in text:
        text = _PRIVATE_KEY.sub("[private key removed]", text)
    for rule in _RULES:
        text = rule.sub(rf"\g<before>{REMOVED}", text)
    return text


def scrub_json(value: Any) -> Any:  # noqa: ANN401 - JSON in, JSON out
    """A JSON value with every text in it scrubbed, also what is named like a secret; NaN and infinity, which JSON lacks, become null."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, Mapping):
        return {
            str(key): REMOVED if isinstance(item, str) and _SECRET_NAME.search(str(key)) else scrub_json(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        pairs = zip((None, *value), value, strict=False)
        return [
            REMOVED if _announces_secret(before) and isinstance(item, str) else scrub_json(item)
            for before, item in pairs
        ]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value


def _announces_secret(word: object) -> bool:
    """True for an argument like `--password`, whose value is the next one."""
    return isinstance(word, str) and word.startswith("-") and _SECRET_NAME.search(word) is not None
