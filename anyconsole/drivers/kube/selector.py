"""Calico's selector language (`has(rack) && site in {"ams", "fra"}`), by which a BGPPeer chooses its nodes: parsed and asked of labels.

Not Kubernetes' label selectors, which are another language.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, TypeAlias

from anyconsole.drivers.parse_error import ParseError

__all__ = ["EVERYTHING", "Selector", "parse", "selects"]

Selector: TypeAlias = Callable[[Mapping[str, str]], bool]
"""Whether labels are selected."""

EVERYTHING: Final = "all()"

_MAX_TEXT: Final = 8192
_MAX_DEPTH: Final = 50

_TOKEN: Final = re.compile(
    r"""[ \t]*(?:
        (?P<string>"[^"]*"|'[^']*')
      | (?P<has>has\([ \t]*(?P<key>[A-Za-z0-9_./-]{1,512})[ \t]*\))
      | (?P<all>(?:all|global)\([ \t]*\))
      | (?P<sign>&&|\|\||==|!=|[(){},!])
      | (?P<word>[A-Za-z0-9_./-]{1,512})
      | (?P<end>$)
    )""",
    re.VERBOSE,
)

_OPERATOR: Final = re.compile(
    r"[ \t]*(contains|starts[ \t]*with|ends[ \t]*with|not[ \t]*in|in|==|!=)(?![A-Za-z0-9_./-])"
)
_COMPARISONS: Final[dict[str, Callable[[str, str], bool]]] = {
    "contains": lambda value, wanted: wanted in value,
    "startswith": lambda value, wanted: value.startswith(wanted),
    "endswith": lambda value, wanted: value.endswith(wanted),
}


def selects(text: object, labels: Mapping[str, str]) -> bool:
    """Whether a selector chooses labels. One that makes no sense chooses nothing, as in Calico."""
    try:
        return isinstance(text, str) and parse(text)(labels)
    except ParseError:
        return False


@lru_cache(maxsize=1024)
def parse(text: str) -> Selector:
    """A selector; an empty one chooses everything. Raises ParseError."""
    if len(text) > _MAX_TEXT:
        raise ParseError("selector is too long", text)
    if not text.strip(" \t"):
        return lambda _labels: True
    reader = _Reader(text)
    found = reader.either(0)
    reader.expect("end")
    return found


class _Reader:
    """Reads a selector from left to right; `||` binds less than `&&`, which binds less than `!`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0

    def expect(self, kind: str, sign: str = "") -> str:
        found = self.take(kind, sign)
        if found is None:
            raise ParseError(f"selector lacks {sign or kind} at {self.place}", self.text)
        return found

    def take(self, kind: str, sign: str = "") -> str | None:
        """The next token if it is of that kind, and that one; else nothing is read."""
        match = _TOKEN.match(self.text, self.place)
        if match is None or match[kind] is None or (sign and match[kind] != sign):
            return None
        self.place = match.end()
        return match["key"] if kind == "has" else match[kind]

    def either(self, depth: int) -> Selector:
        choices = [self.every(depth)]
        while self.take("sign", "||") is not None:
            choices.append(self.every(depth))
        return choices[0] if len(choices) == 1 else lambda labels: any(chosen(labels) for chosen in choices)

    def every(self, depth: int) -> Selector:
        terms = [self.term(depth)]
        while self.take("sign", "&&") is not None:
            terms.append(self.term(depth))
        return terms[0] if len(terms) == 1 else lambda labels: all(term(labels) for term in terms)

    def term(self, depth: int) -> Selector:
        if depth > _MAX_DEPTH:
            raise ParseError("selector is nested too deeply", self.text)
        negated = False
        while self.take("sign", "!") is not None:
            negated = not negated
        found = self.positive(depth)
        return (lambda labels: not found(labels)) if negated else found

    def positive(self, depth: int) -> Selector:
        if self.take("sign", "(") is not None:
            inner = self.either(depth + 1)
            self.expect("sign", ")")
            return inner
        if self.take("all") is not None:
            return lambda _labels: True
        key = self.take("has")
        if key is not None:
            return lambda labels: key in labels
        return self.comparison(self.expect("word"))

    def comparison(self, key: str) -> Selector:
        match = _OPERATOR.match(self.text, self.place)
        if match is None:
            raise ParseError("selector has no operator after a label", self.text)
        self.place = match.end()
        operator = re.sub(r"[ \t]", "", match[1])
        if operator in {"in", "notin"}:
            members = self.members()
            if operator == "in":
                return lambda labels: labels.get(key) in members
            return lambda labels: labels.get(key) not in members
        wanted = self.expect("string")[1:-1]
        if operator == "==":
            return lambda labels: labels.get(key) == wanted
        if operator == "!=":
            return lambda labels: labels.get(key) != wanted
        compare = _COMPARISONS[operator]
        return lambda labels: key in labels and compare(labels[key], wanted)

    def members(self) -> frozenset[str]:
        self.expect("sign", "{")
        members = set()
        while (member := self.take("string")) is not None:
            members.add(member[1:-1])
            if self.take("sign", ",") is None:
                break
        self.expect("sign", "}")
        return frozenset(members)
