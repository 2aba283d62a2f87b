"""Calls of a cluster's API as text: what a plan shows, a journal keeps and `execute` carries out, as `sh` is on a host.

One call after another, the first that fails ends it:

    # comments, and empty lines between calls
    APPLY /apis/apps/v1/namespaces/de/deployments/ns
      apiVersion: apps/v1
      kind: Deployment
      ...
    DELETE /api/v1/namespaces/de/configmaps/old if-exists

APPLY is server-side apply as our field manager (`force`: fields that somebody else wrote to are ours again), MERGE a JSON merge patch
(RFC 7396), CREATE a POST to the collection, REPLACE a PUT. A body with `metadata.resourceVersion`, or a DELETE with `preconditions`, is
refused if somebody was faster. Bodies are YAML.

EXPECT changes nothing: it ends the script unless the object has what its body says (null is "not there"). A MERGE or DELETE of the same
object right after it is refused if the object changed in between, so both together compare and swap what matters, whatever else of an
object its controllers write all the time. With `else-skip` it only leaves out that call. AWAIT is an EXPECT that waits for a while.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final

import msgspec

from anyconsole.drivers.kube.render import yaml_of
from anyconsole.errors import AnyconsoleError
from anyconsole.model.pods import Permission

__all__ = ["Call", "ScriptError", "Verb", "needed", "parse", "render", "unmet"]

_LINE: Final = re.compile(
    r"(?P<verb>[A-Z]+) (?P<path>/[!-~]+)(?P<lenient> if-exists| unless-exists| else-skip| force)?"
)
_INDENT: Final = "  "


class Verb(StrEnum):
    """What a call does to an object."""

    APPLY = "APPLY"
    MERGE = "MERGE"
    CREATE = "CREATE"
    REPLACE = "REPLACE"
    DELETE = "DELETE"
    EXPECT = "EXPECT"
    AWAIT = "AWAIT"

    @property
    def changes(self) -> bool:
        """Whether it changes anything."""
        return self not in (Verb.EXPECT, Verb.AWAIT)


class ScriptError(AnyconsoleError):
    """A text that is no script of API calls."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call. `path` is that of the object (of the collection for CREATE).

    `if_exists`: that it is gone already is no failure; `unless_exists` (CREATE): nor that it is there. `else_skip` (EXPECT): if it isn't
    so, the next call of that object is left out. `force` (APPLY): fields of ours that somebody else wrote to are ours again. `note` is a
    comment, shown above it.
    """

    verb: Verb
    path: str
    body: dict[str, Any] | None = None
    if_exists: bool = False
    unless_exists: bool = False
    else_skip: bool = False
    force: bool = False
    note: str = ""


def render(calls: Iterable[Call]) -> str:
    """The script of these calls."""
    return "\n".join(_text(call) for call in calls)


def _text(call: Call) -> str:
    notes = "".join(f"# {line}\n" for line in call.note.splitlines())
    lenient = " if-exists" if call.if_exists else " unless-exists" if call.unless_exists else ""
    lenient = " force" if call.force else " else-skip" if call.else_skip else lenient
    text = f"{notes}{call.verb} {call.path}{lenient}\n"
    if call.body is not None:
        text += "".join(f"{_INDENT}{line}\n" if line else "\n" for line in yaml_of(call.body).splitlines())
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
            Call(
                verb=Verb(match["verb"]),
                path=match["path"],
                if_exists=match["lenient"] == " if-exists",
                unless_exists=match["lenient"] == " unless-exists",
                else_skip=match["lenient"] == " else-skip",
                force=match["lenient"] == " force",
                note="\n".join(notes),
            )
        )
        notes = []
    finish()
    return calls


_NEEDS: Final = {
    Verb.APPLY: ("create", "patch"),
    Verb.MERGE: ("patch",),
    Verb.CREATE: ("create",),
    Verb.REPLACE: ("update",),
    Verb.DELETE: ("delete",),
    Verb.EXPECT: ("get",),
    Verb.AWAIT: ("get",),
}
_PLACE: Final = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/[^/]+/(?:namespaces/(?P<namespace>[^/]+)/(?=[^/]))?(?P<resource>[^/?]+)(?:/(?P<name>[^/?]+))?(?P<sub>/[^/?]+)?"
)


def needed(calls: Iterable[Call]) -> tuple[Permission, ...]:
    """What one must be permitted to carry these calls out."""
    found: dict[Permission, None] = {}
    for call in calls:
        if (match := _PLACE.match(call.path)) is None:
            continue
        resource = match["resource"] + (match["sub"] or "")
        place = {"group": match["group"] or "", "namespace": match["namespace"] or ""}
        if resource == "secrets":  # of which nobody may do anything to all
            place["name"] = match["name"] or ""
        found |= dict.fromkeys(Permission(verb=verb, resource=resource, **place) for verb in _NEEDS[call.verb])
    return tuple(found)


def unmet(expected: object, found: object, where: str = "") -> str:
    """How an object differs from what is expected of it, in words; "" if it doesn't. What isn't mentioned may be anything."""
    if isinstance(expected, dict) and (found is None or isinstance(found, dict)):
        held = found or {}
        told = (unmet(value, held.get(key), f"{where}.{key}" if where else str(key)) for key, value in expected.items())
        return next(filter(None, told), "")
    if expected == found:
        return ""
    return f"{where} is {_words(found)}, not {_words(expected)}"


def _words(value: object) -> str:
    if value is None:
        return "not there"
    text = " ".join(str(value).split())
    return f"{text[:100]!r}..." if len(text) > 100 else repr(text)
