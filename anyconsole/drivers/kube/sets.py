"""What it takes to have a set of objects in a cluster as it is rendered, or to have it there no more. Pure: from what was read of them.

What exists and has no owner label of ours isn't ours: it is neither applied over nor deleted, and named. A namespace that was there before
us is used if somebody wants that, and left to its owners afterwards; one that we made says so in an annotation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from anyconsole.drivers.kube.calico import MANAGED_BY, OWNER
from anyconsole.drivers.kube.diff import difference, differences
from anyconsole.drivers.kube.execute import Preview, named
from anyconsole.drivers.kube.lacking import lacking
from anyconsole.drivers.kube.objects import SET_LABEL, path_of
from anyconsole.drivers.kube.render import Object
from anyconsole.drivers.kube.script import Call, Verb
from anyconsole.model.pods import Permission

__all__ = [
    "COUNTED", "COUNTER", "MADE", "Addition", "Removal", "addition", "apply", "counted", "is_ours", "ours_in", "removal", "set_of",
    "strangers", "with_origin",
]  # fmt: skip

MADE: Final = "anyconsole.io/made"
"""The annotation of a namespace that wasn't there before us: with it, it may go again."""
COUNTED: Final = ("secrets", "persistentvolumeclaims")
"""How many of these a namespace holds is told by the quota in it, for we may not list them."""

COUNTER: Final = "ResourceQuota"
"""What counts them; it stays as long as its namespace does."""

_AUTOMATIC: Final = frozenset({("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")})
"""What Kubernetes itself puts into every namespace."""
_WORKLOADS: Final = frozenset({"Deployment", "DaemonSet", "StatefulSet"})


class Addition(msgspec.Struct, frozen=True, kw_only=True):
    """What applying a set would do, each object by its name as kubectl words it.

    `foreign` are there and not ours, `used` are such namespaces, `contested` fields that somebody else manages, `rejected` what the API
    server won't take; none of the first and the last is among the calls. `restarted` are workloads whose pods are replaced.
    """

    calls: tuple[Call, ...] = ()
    diff: str = ""
    created: int = 0
    unchanged: int = 0
    foreign: tuple[str, ...] = ()
    used: tuple[str, ...] = ()
    contested: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """What taking a set away would do: the calls, the objects that go, and what stays and why."""

    calls: tuple[Call, ...] = ()
    gone: tuple[str, ...] = ()
    stays: tuple[str, ...] = ()


def apply(rendered: Iterable[Object], forced: Iterable[str] = ()) -> list[Call]:
    """The calls that apply objects; those whose paths are `forced` take fields from who manages them."""
    taken = set(forced)
    return [
        Call(verb=Verb.APPLY, path=path, body=obj, force=path in taken) for obj in rendered if (path := path_of(obj))
    ]


def with_origin(rendered: Object, live: Object | None) -> Object:
    """A namespace that says whether we made it."""
    if live is not None and MADE not in _annotations(live):
        return rendered
    metadata = rendered["metadata"]
    return {**rendered, "metadata": {**metadata, "annotations": {**_annotations(rendered), MADE: "true"}}}


def addition(
    previews: Sequence[Preview], denied: Iterable[Permission] = (), contested: Mapping[str, str] | None = None
) -> Addition:
    """What applying a set would do.

    Args:
        previews: What each of its calls would do.
        denied: What we may not do there: without a dry run then, as far as can be seen.
        contested: Who manages fields of which object (by path), where the calls take them by force.
    """
    missing = {p.call.path for p in previews if p.live is None and _body(p).get("kind") == "Namespace"}
    told: dict[str, list[str]] = {key: [] for key in ("foreign", "used", "contested", "rejected", "restarted")}
    calls: list[Call] = []
    lines: dict[str, list[str]] = {}
    created: list[str] = []
    unchanged = 0
    taken = contested or {}
    for preview in previews:
        call, name = preview.call, named(preview.call.path)
        expected: dict[str, Any] | None = None
        if preview.live is not None and not is_ours(preview.live, set_of(_body(preview))):
            if _body(preview).get("kind") != "Namespace":
                told["foreign"].append(f"{name}{_manager(preview.live)}")
                continue
            told["used"].append(name)
            expected = {"metadata": {"uid": preview.live["metadata"].get("uid")}}
        elif preview.live is not None:
            expected = {"metadata": {"labels": {MANAGED_BY: OWNER}}}
        if preview.status == 409 or call.path in taken:
            told["contested"].append(f"{name}: {taken.get(call.path) or preview.problem}")
        elif preview.problem and not (_is_early(preview, missing) or lacking((call,), denied)):
            told["rejected"].append(f"{name}: {preview.problem}")
            continue
        changed = difference(_body(preview), preview.live, preview.after)
        if not changed:
            unchanged += 1
            continue
        if preview.live is None:
            created.append(f"+ {name}")  # all of it is in the call
        else:
            lines[name] = changed
        if preview.live is not None and _body(preview).get("kind") in _WORKLOADS and _restarts(changed):
            told["restarted"].append(name)
        if expected is not None:
            calls.append(Call(verb=Verb.EXPECT, path=call.path, body=expected))
        calls.append(call)
    return Addition(
        calls=tuple(calls),
        diff="\n".join([*created, *([differences(lines)] if lines else [])]),
        created=len(created),
        unchanged=unchanged,
        **{key: tuple(words) for key, words in told.items()},
    )


def removal(
    objects: Iterable[Object], set_id: str, namespace: Object | None = None, others: Sequence[str] = ()
) -> Removal:
    """What taking a set away would do.

    Args:
        objects: Those of the set that are there, in the order in which they go; whatever isn't ours is left.
        set_id: The set.
        namespace: Its namespace as it is, None if it is gone or stays out of it.
        others: What else is in the namespace, or may be, in words; it stays then.
    """
    calls: list[Call] = []
    gone: list[str] = []
    stays: list[str] = []
    is_kept = namespace is not None and is_ours(namespace, set_id) and MADE in _annotations(namespace) and bool(others)
    for obj in objects:
        if is_kept and obj["kind"] == COUNTER:
            stays.append(f"{named(path_of(obj))}, which counts them")
        elif is_ours(obj, set_id):
            calls += _deleted(obj, set_id)
            gone.append(named(path_of(obj)))
    if namespace is not None and is_ours(namespace, set_id):
        name = named(path_of(namespace))
        if MADE not in _annotations(namespace):
            # Applying nothing gives up what we applied: labels and annotations of ours go, the namespace stays as it was before.
            bare = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace["metadata"]["name"]}}
            calls += [_expected(namespace, set_id), Call(verb=Verb.APPLY, path=path_of(namespace), body=bare)]
            stays.append(f"{name}, which was there before us")
        elif others:
            stays.insert(0, f"{name}, with {', '.join(others[:5])}{' ...' if len(others) > 5 else ''}")
        else:
            calls += _deleted(namespace, set_id)
            gone.append(name)
    return Removal(calls=tuple(calls), gone=tuple(gone), stays=tuple(stays))


def strangers(objects: Iterable[Object], set_id: str) -> list[str]:
    """What in a namespace neither is ours, nor belongs to what is, nor is in every namespace."""
    return [
        f"{obj.get('kind')} {obj['metadata'].get('name')}"
        for obj in objects
        if _labels(obj).get(SET_LABEL) != set_id and (obj.get("kind"), obj["metadata"].get("name")) not in _AUTOMATIC
    ]


def counted(quota: Object | None, ours: Mapping[str, int] | None = None) -> list[str]:
    """What a namespace holds of what we may not list, or may hold: nobody counts it where there is no quota, or it has not counted yet.

    `ours` of them go with us.
    """
    used = ((quota or {}).get("status") or {}).get("used") or {}
    told = []
    for kind in COUNTED:
        mine, count = (ours or {}).get(kind, 0), str(used.get(kind, ""))
        left = int(count) - mine if count.isdecimal() else None
        if left is None or left < 0:
            told.append(f"{kind} that we may not list")
        elif left:
            told.append(f"{left} {kind}")
    return told


def ours_in(objects: Iterable[Object], set_id: str) -> list[Object]:
    """The objects that are of a set of ours."""
    return [obj for obj in objects if is_ours(obj, set_id)]


def is_ours(obj: Object, set_id: str) -> bool:
    """Whether an object has our owner label and is of this set."""
    labels = _labels(obj)
    return labels.get(MANAGED_BY) == OWNER and labels.get(SET_LABEL) == set_id


def set_of(obj: Object) -> str:
    """The set that an object says it is of, "" if it says none."""
    return str(_labels(obj).get(SET_LABEL) or "")


def _deleted(obj: Object, set_id: str) -> list[Call]:
    return [_expected(obj, set_id), Call(verb=Verb.DELETE, path=path_of(obj), if_exists=True)]


def _expected(obj: Object, set_id: str) -> Call:
    labels = {MANAGED_BY: OWNER, SET_LABEL: set_id}
    return Call(verb=Verb.EXPECT, path=path_of(obj), body={"metadata": {"labels": labels}})


def _is_early(preview: Preview, missing: set[str]) -> bool:
    """Whether it can't be tried only because its namespace isn't made yet."""
    namespace = (_body(preview).get("metadata") or {}).get("namespace")
    return preview.status == 404 and f"/api/v1/namespaces/{namespace}" in missing


def _restarts(lines: Iterable[str]) -> bool:
    return any(line[2:].startswith("spec.template.") for line in lines)


def _manager(obj: Object) -> str:
    manager = _labels(obj).get(MANAGED_BY)
    return f" (managed by {manager})" if manager else ""


def _body(preview: Preview) -> Object:
    return preview.call.body or {}


def _labels(obj: Object) -> dict[str, Any]:
    return (obj.get("metadata") or {}).get("labels") or {}


def _annotations(obj: Object) -> dict[str, Any]:
    return (obj.get("metadata") or {}).get("annotations") or {}
