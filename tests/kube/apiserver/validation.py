"""What the API server refuses to store (422): names, selectors, references inside an object, immutable fields, custom schemas.

Not all of Kubernetes' rules: those that a wrong template or a wrong patch of this project would break.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from functools import cache
from ipaddress import ip_network

from tests.kube.apiserver import cel, errors
from tests.kube.apiserver.objects import Object, Value, copy, dig, items, name_of
from tests.kube.apiserver.resources import Resource

Causes = list[tuple[str, str]]

_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
_SUBDOMAIN = re.compile(r"^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_LABEL_KEY = re.compile(r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
_LABEL_VALUE = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")
_WORDS_LABEL = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-'"
_WORDS_SUBDOMAIN = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'"
_TEMPLATED = {"deployments", "daemonsets", "replicasets", "statefulsets", "jobs"}
# What may never change once an object is there.
_IMMUTABLE: dict[str, tuple[tuple[str, ...], ...]] = {
    "deployments": (("spec", "selector"),),
    "daemonsets": (("spec", "selector"),),
    "replicasets": (("spec", "selector"),),
    "statefulsets": (("spec", "selector"), ("spec", "serviceName")),
    "jobs": (("spec", "selector"), ("spec", "template"), ("spec", "completions")),
    "services": (("spec", "clusterIP"),),
    "secrets": (("type",),),
    "priorityclasses": (("value",),),
    "rolebindings": (("roleRef",),),
    "clusterrolebindings": (("roleRef",),),
}


def check(resource: Resource, obj: Object, live: Object | None) -> None:
    """Refuse what can't be stored.

    Raises:
        ApiError: 422, with one cause for each thing that is wrong.
    """
    causes = _metadata(resource, obj)
    if resource.is_custom:
        _schema(resource.schema or {}, obj, "", causes)
    else:
        causes += _built_in(resource, obj)
    if live is not None:
        causes += _changes(resource, obj, live)
    if causes:
        raise errors.invalid(resource.kind, resource.group, name_of(obj), causes)


def prune(schema: Object, value: Value, path: str = "") -> list[str]:
    """Take out of a custom object what its schema doesn't know. Returns the fields taken."""
    taken: list[str] = []
    if isinstance(value, list):
        for index, item in enumerate(value):
            taken += prune(schema.get("items") or {}, item, f"{path}[{index}]")
    if not isinstance(value, dict) or schema.get("x-kubernetes-preserve-unknown-fields"):
        return taken
    properties = schema.get("properties")
    extra = schema.get("additionalProperties")
    for key in list(value):
        where = f"{path}.{key}" if path else key
        if not path and key in {"apiVersion", "kind", "metadata"}:
            continue
        if properties and key in properties:
            taken += prune(properties[key], value[key], where)
        elif isinstance(extra, dict):
            taken += prune(extra, value[key], where)
        elif not extra:
            del value[key]
            taken.append(where)
    return taken


def fill_in(schema: Object, value: Value) -> None:
    """Put the defaults of a custom object's schema into it."""
    for item in value if isinstance(value, list) else ():
        fill_in(schema.get("items") or {}, item)
    for key, inner in (schema.get("properties") or {}).items() if isinstance(value, dict) else ():
        if "default" in inner and key not in value:
            value[key] = copy(inner["default"])
        if key in value:
            fill_in(inner, value[key])


def violations(schema: Object, value: Value) -> Causes:
    """What is wrong with a custom object by its schema, also what the schema doesn't know."""
    causes: Causes = []
    _schema(schema, value, "", causes)
    return causes + [(field, "unknown field") for field in prune(schema, copy(value))]


def _metadata(resource: Resource, obj: Object) -> Causes:
    causes: Causes = []
    name = name_of(obj)
    if not name:
        causes.append(("metadata.name", "Required value: name or generateName is required"))
    elif resource.group != "rbac.authorization.k8s.io":
        strict = resource.plural in {"namespaces", "services"}
        if not (_LABEL if strict else _SUBDOMAIN).match(name):
            causes.append(("metadata.name", f'Invalid value: "{name}": {_WORDS_LABEL if strict else _WORDS_SUBDOMAIN}'))
    for key, value in (dig(obj, "metadata", "labels") or {}).items():
        if not _LABEL_KEY.match(key) or not isinstance(value, str) or not _LABEL_VALUE.match(value):
            causes.append(("metadata.labels", f'Invalid value: "{key}={value}": not a valid label'))
    for key, value in (dig(obj, "metadata", "annotations") or {}).items():
        if not isinstance(value, str):
            causes.append(("metadata.annotations", f'Invalid value: "{key}": annotations are strings'))
    return causes


def _built_in(resource: Resource, obj: Object) -> Causes:
    causes: Causes = []
    plural = resource.plural
    if plural in _TEMPLATED or plural == "pods":
        if not isinstance(obj.get("spec"), dict):
            return [("spec", "Required value")]
        template = obj if plural == "pods" else dig(obj, "spec", "template") or {}
        at = "spec" if plural == "pods" else "spec.template.spec"
        causes += _pod_spec(template.get("spec") or {}, at)
        if plural in _TEMPLATED:
            causes += _template(plural, obj, template)
    if plural == "services":
        causes += _service(obj)
    if plural in {"configmaps", "secrets"}:
        for key, value in (obj.get("data") or {}).items():
            if not isinstance(value, str):
                causes.append((f"data[{key}]", "Invalid value: must be a string"))
            elif plural == "secrets" and not _is_base64(value):
                causes.append((f"data[{key}]", "Invalid value: illegal base64 data"))
    if plural in {"rolebindings", "clusterrolebindings"} and not dig(obj, "roleRef", "name"):
        causes.append(("roleRef.name", "Required value"))
    return causes


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error:
        return False
    return True


def _pod_spec(spec: Object, at: str) -> Causes:
    causes: Causes = []
    volumes = {volume.get("name") for volume in items(spec, "volumes")}
    seen: set[str] = set()
    if not items(spec, "containers"):
        causes.append((f"{at}.containers", "Required value"))
    for which in ("initContainers", "containers"):
        for index, container in enumerate(items(spec, which)):
            where = f"{at}.{which}[{index}]"
            name = str(container.get("name") or "")
            if not _LABEL.match(name):
                causes.append(
                    (f"{where}.name", f'Invalid value: "{name}": {_WORDS_LABEL}' if name else "Required value")
                )
            if name in seen:
                causes.append((f"{where}.name", f'Duplicate value: "{name}"'))
            seen.add(name)
            if not container.get("image"):
                causes.append((f"{where}.image", "Required value"))
            for number, mount in enumerate(container.get("volumeMounts") or ()):
                if mount.get("name") not in volumes and not str(mount.get("name")).startswith("kube-api-access"):
                    causes.append((f"{where}.volumeMounts[{number}].name", f'Not found: "{mount.get("name")}"'))
            for number, port in enumerate(container.get("ports") or ()):
                value = port.get("containerPort")
                if not isinstance(value, int) or not 0 < value < 65536:
                    causes.append(
                        (
                            f"{where}.ports[{number}].containerPort",
                            "Invalid value: must be between 1 and 65535, inclusive",
                        )
                    )
    return causes


def _template(plural: str, obj: Object, template: Object) -> Causes:
    restart = dig(template, "spec", "restartPolicy")
    if plural == "jobs":
        if restart not in {"Never", "OnFailure"}:
            return [
                (
                    "spec.template.spec.restartPolicy",
                    f'Unsupported value: "{restart}": supported values: "OnFailure", "Never"',
                )
            ]
        return []
    wanted = dig(obj, "spec", "selector", "matchLabels") or {}
    if not wanted and not dig(obj, "spec", "selector", "matchExpressions"):
        return [("spec.selector", "Required value")]
    have = dig(template, "metadata", "labels") or {}
    if any(have.get(key) != value for key, value in wanted.items()):
        return [
            ("spec.template.metadata.labels", f"Invalid value: {have}: `selector` does not match template `labels`")
        ]
    return []


def _service(service: Object) -> Causes:
    causes: Causes = []
    ports = items(service, "spec", "ports")
    if not ports and dig(service, "spec", "clusterIP") != "None" and dig(service, "spec", "type") != "ExternalName":
        causes.append(("spec.ports", "Required value"))
    names = [port.get("name") for port in ports]
    if len(ports) > 1:
        causes += [(f"spec.ports[{i}].name", "Required value") for i, name in enumerate(names) if not name]
    causes += [
        (f"spec.ports[{i}].name", f'Duplicate value: "{n}"') for i, n in enumerate(names) if n and n in names[:i]
    ]
    return causes


def _changes(resource: Resource, obj: Object, live: Object) -> Causes:
    causes: Causes = []
    for path in _IMMUTABLE.get(resource.plural, ()):
        if dig(live, *path) is not None and dig(obj, *path) != dig(live, *path):
            causes.append((".".join(path), "Invalid value: field is immutable"))
    if resource.plural == "pods" and _fixed(obj.get("spec") or {}) != _fixed(live.get("spec") or {}):
        words = "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`"
        causes.append(
            ("spec", words + ",`spec.activeDeadlineSeconds`,`spec.tolerations`,`spec.terminationGracePeriodSeconds`")
        )
    if resource.plural in {"configmaps", "secrets"} and live.get("immutable") and obj.get("data") != live.get("data"):
        causes.append(("data", "Forbidden: field is immutable when `immutable` is set"))
    return causes


def _fixed(spec: Object) -> Object:
    changeable = {"activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"}
    fixed = {key: value for key, value in spec.items() if key not in changeable}
    for which in ("containers", "initContainers"):
        fixed[which] = [{k: v for k, v in container.items() if k != "image"} for container in items(spec, which)]
    return fixed


_ANY = 2**63
_SIZES: tuple[tuple[str, str, str, type], ...] = (
    ("minLength", "maxLength", "characters", str), ("minItems", "maxItems", "items", list),
    ("minProperties", "maxProperties", "properties", dict),
)  # fmt: skip


_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,),
}  # fmt: skip


def _schema(schema: Object, value: Value, at: str, causes: Causes) -> None:
    if value is None and schema.get("nullable"):
        return
    if schema.get("x-kubernetes-int-or-string"):
        if not isinstance(value, int | str) or isinstance(value, bool):
            causes.append((at, f"Invalid value: {value!r}: must be an integer or a string"))
    elif (wanted := schema.get("type")) and (
        not isinstance(value, _TYPES[wanted]) or (isinstance(value, bool) and wanted != "boolean")
    ):
        kind = type(value).__name__.replace("str", "string").replace("int", "integer").replace("dict", "object")
        causes.append((at, f'Invalid value: "{kind}": {at} in body must be of type {wanted}: "{kind}"'))
        return
    causes += [(at, words) for words in (*_sizes(schema, value, at), *_values(schema, value, at))]
    for part in schema.get("allOf", ()):
        _schema(part, value, at, causes)
    causes += [(at, f"Invalid value: {words}") for words in cel.broken(schema, value)]
    if isinstance(value, list):
        for index, item in enumerate(value):
            _schema(schema.get("items") or {}, item, f"{at}[{index}]", causes)
    if isinstance(value, dict):
        for name in schema.get("required") or ():
            if name not in value:
                causes.append((f"{at}.{name}".lstrip("."), "Required value"))
        for key, inner in value.items():
            known = (schema.get("properties") or {}).get(key) or schema.get("additionalProperties")
            if isinstance(known, dict):
                _schema(known, inner, f"{at}.{key}".lstrip("."), causes)


def _sizes(schema: Object, value: Value, at: str) -> Iterator[str]:
    if not isinstance(value, str | list | dict):
        return
    size = len(value)
    for least, most, count, kind in _SIZES:
        low, high = schema.get(least, 0), schema.get(most, _ANY)
        if isinstance(value, kind) and not low <= size <= high:
            yield f"Invalid value: {at} should have at least {low} and at most {high} {count}"


def _values(schema: Object, value: Value, at: str) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        supported = ", ".join(f'"{choice}"' for choice in schema["enum"])
        yield f'Unsupported value: "{value}": supported values: {supported}'
    if isinstance(value, str):
        if schema.get("format") == "cidr" and not _is_cidr(value):
            yield f'Invalid value: "{value}": {at} in body must be of type cidr: "{value}"'
        if "pattern" in schema and not _pattern(schema["pattern"]).search(value):
            yield f"Invalid value: \"{value}\": {at} in body should match '{schema['pattern']}'"
    if isinstance(value, int | float):
        if "minimum" in schema and value < schema["minimum"]:
            yield f"Invalid value: {value}: {at} in body should be greater than or equal to {schema['minimum']}"
        if "maximum" in schema and value > schema["maximum"]:
            yield f"Invalid value: {value}: {at} in body should be less than or equal to {schema['maximum']}"


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """Go's regular expressions may have flags where Python's may not."""
    return re.compile(text.replace("(?i)", ""), re.IGNORECASE if "(?i)" in text else 0)


def _is_cidr(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text
