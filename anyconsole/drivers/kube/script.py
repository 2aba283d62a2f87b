"""Calls of a cluster's API as text: what a plan shows, a journal keeps and `execute` carries out, as `sh` is on a host.

One call after another, the first that fails ends it:

    # comments, and empty lines between calls
    APPLY /apis/apps/v1/namespaces/de/deployments/ns
      apiVersion: apps/v1
      kind: Deployment
      ...
    DELETE /api/v1/namespaces/de/configmaps/old if-exists

APPLY is server-side apply as our field manager, MERGE a JSON merge patch (RFC 7396), CREATE a POST to the collection, REPLACE a PUT.
A body with `metadata.resourceVersion`, or a DELETE with `preconditions`, is refused if somebody was faster. Bodies are YAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final

import msgspec

from anyconsole.errors import AnyconsoleError

__all__ = ["Call", "ScriptError", "Verb", "parse", "render"]

_LINE: Final = re.compile(r"(?P<verb>[A-Z]+) (?P<path>/[!-~]+)(?P<lenient> if-exists)?")
_INDENT: Final = "  "


class Verb(StrEnum):
    """What a call does to an object."""

    APPLY = "APPLY"
    MERGE = "MERGE"
    CREATE = "CREATE"
    REPLACE = "REPLACE"
    DELETE = "DELETE"


class ScriptError(AnyconsoleError):
    """A text that is no script of API calls."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call. `path` is that of the object (of the collection for CREATE); `if_exists`: that it is gone already is no failure.

    `note` is a comment, shown above it.
    """

    verb: Verb
    path: str
    body: dict[str, Any] | None = None
    if_exists: bool = False
    note: str = ""


def render(calls: Iterable[Call]) -> str:
    """The script of these calls."""
    return "\n".join(_text(call) for call in calls)


def _text(call: Call) -> str:
    import yaml  # noqa: PLC0415 - only who plans for a cluster pays for it

    notes = "".join(f"# {line}\n" for line in call.note.splitlines())
    lenient = " if-exists" if call.if_exists else ""
    text = f"{notes}{call.verb} {call.path}{lenient}\n"
    if call.body is not None:
        body = yaml.safe_dump(call.body, sort_keys=False, allow_unicode=True, width=120)
        text += "".join(f"{_INDENT}{line}\n" if line else "\n" for line in body.splitlines())
    return text


def parse(text: str) -> list[Call]:
    """The calls of a script. Raises ScriptError."""
    import yaml  # noqa: PLC0415 - as above

    calls: list[Call] = []
    notes: list[str] = []
    body: list[str] = []

    def finish() -> None:
        if not "".join(body).strip():
            return
        if not calls or calls[-1].body is not None:
            raise ScriptError("a body without a call")
        try:
            parsed = yaml.safe_load("\n".join(body))
        except yaml.YAMLError as error:
            raise ScriptError(f"the body of {calls[-1].path} is no YAML: {error}") from error
        if not isinstance(parsed, dict):
            raise ScriptError(f"the body of {calls[-1].path} is no object")
        calls[-1] = msgspec.structs.replace(calls[-1], body=parsed)

    for number, line in enumerate(text.split("\n"), start=1):
        if line.startswith(_INDENT) or not line:
            body.append(line.removeprefix(_INDENT))
            continue
        finish()
        body = []
        if line.startswith("#"):
            notes.append(line.removeprefix("#").strip())
            continue
        match = _LINE.fullmatch(line)
        if match is None or match["verb"] not in {*Verb}:
            raise ScriptError(f"line {number} is no call: {line[:80]!r}")
        calls.append(
            Call(verb=Verb(match["verb"]), path=match["path"], if_exists=bool(match["lenient"]), note="\n".join(notes))
        )
        notes = []
    finish()
    return calls
