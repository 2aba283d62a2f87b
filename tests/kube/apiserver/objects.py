"""What every part knows of a Kubernetes object: its identity, its times, and how to copy it.

Objects in the store are never changed in place: a writer copies, changes the copy and puts it back.
"""

from __future__ import annotations

import datetime as dt
import random
import uuid
from typing import Any, TypeAlias, cast

import msgspec

Object: TypeAlias = dict[str, Any]
"""A JSON object as it came off the wire."""
Value: TypeAlias = Any
"""Any JSON value: what patches, field sets and selectors work on."""

_encoder = msgspec.json.Encoder()
_NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # Kubernetes' own: no vowels, so no words


def encode(value: Value) -> bytes:
    """JSON, compact."""
    return _encoder.encode(value)


def copy(value: Object) -> Object:
    """A copy that shares nothing with the original."""
    return cast("Object", msgspec.json.decode(_encoder.encode(value)))


def meta(obj: Object) -> Object:
    """The object's metadata, made if missing."""
    return cast("Object", obj.setdefault("metadata", {}))


def name_of(obj: Object) -> str:
    """Its name, or nothing."""
    return str((obj.get("metadata") or {}).get("name") or "")


def namespace_of(obj: Object) -> str:
    """Its namespace, or nothing for what belongs to the whole cluster."""
    return str((obj.get("metadata") or {}).get("namespace") or "")


def dig(obj: Value, *path: str) -> Value:
    """The value at a path of keys, None where any of them is missing."""
    for key in path:
        if not isinstance(obj, dict):
            return None
        obj = obj.get(key)
    return obj


def items(obj: Value, *path: str) -> list[Value]:
    """The list at a path of keys, empty where there is none."""
    found = dig(obj, *path)
    return found if isinstance(found, list) else []


def now(fraction: bool = False) -> str:
    """The time as the API writes it: whole seconds, or with microseconds where the field is a MicroTime."""
    moment = dt.datetime.now(dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if fraction else "%Y-%m-%dT%H:%M:%SZ")


def moment_of(stamp: str) -> dt.datetime:
    """The time that a timestamp of the API names."""
    return dt.datetime.fromisoformat(stamp)


def new_uid() -> str:
    """A fresh uid."""
    return str(uuid.uuid4())


def name_suffix(length: int = 5) -> str:
    """The random end of a generated name."""
    return "".join(random.choices(_NAME_ALPHABET, k=length))


def owner_reference(owner: Object, controller: bool = True) -> Object:
    """The reference by which a dependent names its owner."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name_of(owner),
        "uid": owner["metadata"]["uid"],
        "controller": controller,
        "blockOwnerDeletion": controller,
    }


def controller_of(obj: Object) -> Object | None:
    """The reference to the object that controls this one."""
    for reference in items(obj, "metadata", "ownerReferences"):
        if reference.get("controller"):
            return cast("Object", reference)
    return None
