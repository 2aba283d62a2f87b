"""Label and field selectors, parsed and matched as the API server does."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.kube.apiserver import errors
from tests.kube.apiserver.objects import Object, dig, name_of, namespace_of

Matcher = Callable[[Object], bool]

_SET = re.compile(r"^\s*([^\s!=,()]+)\s+(in|notin)\s+\(([^)]*)\)\s*$")
_EQUAL = re.compile(r"^\s*([^\s!=,()]+)\s*(==|=|!=)\s*([^\s!=,()]*)\s*$")
_EXISTS = re.compile(r"^\s*(!?)\s*([^\s!=,()]+)\s*$")
# Field selectors are for a fixed list of fields. What is not listed is refused, as in the real one.
_FIELDS = {
    "pods": (
        "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
        "status.phase", "status.podIP", "status.nominatedNodeName",
    ),
    "events": (
        "involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid", "involvedObject.fieldPath",
        "involvedObject.apiVersion", "involvedObject.resourceVersion", "reason", "source", "type", "reportingComponent",
    ),
    "nodes": ("spec.unschedulable",),
    "namespaces": ("status.phase",),
    "secrets": ("type",),
    "jobs": ("status.successful",),
    "services": ("spec.clusterIP", "spec.type"),
    "replicasets": ("status.replicas",),
}  # fmt: skip


def labels(text: str) -> Matcher | None:
    """The matcher of a label selector; None when it selects everything."""
    if not text.strip():
        return None
    terms = [_label_term(term) for term in re.split(r",(?![^(]*\))", text)]
    return lambda obj: _all_of(terms, dig(obj, "metadata", "labels") or {})


def label_object(selector: Object | None) -> Matcher:
    """The matcher of a LabelSelector in a spec: one that is empty selects everything, one that is missing nothing."""
    if selector is None:
        return lambda _: False
    terms = [_label_term(f"{key}={value}") for key, value in (selector.get("matchLabels") or {}).items()]
    for term in selector.get("matchExpressions") or ():
        key, values = term["key"], set(term.get("values") or ())
        terms.append(_expression(key, term["operator"], values))
    return lambda obj: _all_of(terms, dig(obj, "metadata", "labels") or {})


def fields(text: str, plural: str) -> Matcher | None:
    """The matcher of a field selector; None when it selects everything."""
    if not text.strip():
        return None
    terms = []
    for term in text.split(","):
        found = _EQUAL.match(term)
        if not found:
            raise errors.bad_request(f"invalid field selector: {term}")
        field, operator, value = found.groups()
        if field not in ("metadata.name", "metadata.namespace", *_FIELDS.get(plural, ())):
            words = f'Unable to find "{plural}" that match label selector "", field selector "{text}": '
            raise errors.bad_request(f"{words}field label not supported: {field}")
        terms.append((field, operator != "!=", value))
    return lambda obj: all((_field(obj, field) == value) == wanted for field, wanted, value in terms)


def name_in(text: str) -> str | None:
    """The one name that a field selector asks for, if it does."""
    for term in text.split(","):
        found = _EQUAL.match(term)
        if found and found[1] == "metadata.name" and found[2] != "!=":
            return found[3]
    return None


def _all_of(terms: list[Matcher], have: Object) -> bool:
    return all(term(have) for term in terms)


def _label_term(term: str) -> Matcher:
    if found := _SET.match(term):
        key, operator, values = found.groups()
        return _expression(key, "In" if operator == "in" else "NotIn", {v.strip() for v in values.split(",")})
    if found := _EQUAL.match(term):
        key, operator, value = found.groups()
        return _expression(key, "NotIn" if operator == "!=" else "In", {value})
    if found := _EXISTS.match(term):
        return _expression(found[2], "DoesNotExist" if found[1] else "Exists", set())
    raise errors.bad_request(f"unable to parse requirement: {term!r}")


def _expression(key: str, operator: str, values: set[str]) -> Matcher:
    match operator:
        case "In":
            return lambda have: have.get(key) in values
        case "NotIn":
            return lambda have: key not in have or have[key] not in values
        case "Exists":
            return lambda have: key in have
        case "DoesNotExist":
            return lambda have: key not in have
        case _:
            raise errors.bad_request(f'"{operator}" is not a valid label selector operator')


def _field(obj: Object, field: str) -> str:
    if field == "metadata.name":
        return name_of(obj)
    if field == "metadata.namespace":
        return namespace_of(obj)
    if field == "source":
        return str(dig(obj, "source", "component") or "")
    if field == "status.successful":
        return str(dig(obj, "status", "succeeded") or 0)
    value = dig(obj, *field.split("."))
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "false" if field in {"spec.unschedulable", "spec.hostNetwork"} else ""
    return str(value)
