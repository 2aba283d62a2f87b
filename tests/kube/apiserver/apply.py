"""Server-side apply: fields have owners, who applies less gives fields up, who applies another's field is told whose it is."""

from __future__ import annotations

from tests.kube.apiserver import errors, fields
from tests.kube.apiserver.fields import Field
from tests.kube.apiserver.list_types import Path, is_atomic_map, list_type
from tests.kube.apiserver.objects import Object, Value, copy, now
from tests.kube.apiserver.resources import Resource

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

Owner = tuple[str, str, str, str]
"""Manager, operation, apiVersion, subresource."""


def apply(
    resource: Resource, live: Object | None, config: Object, manager: str, force: bool, subresource: str = ""
) -> Object:
    """The object after an apply of what `config` says.

    Raises:
        ApiError: 409, naming every field that another manager owns with another value, unless forced.
    """
    config = _applicable(resource, config, subresource)
    if live is None:
        live = {"apiVersion": config["apiVersion"], "kind": config["kind"], "metadata": {}}
    owners = owners_of(live)
    me: Owner = (manager, "Apply", config["apiVersion"], subresource)
    mine, before = set(fields.flatten(resource, config)), owners.get(me, set())
    others = {owner: owned for owner, owned in owners.items() if owner != me}
    merged: Object = _merge(resource, copy(live), config, ())
    was, becomes = fields.flatten(resource, live), fields.flatten(resource, merged)
    changed = {field for field in mine if field not in was or was[field] != becomes.get(field)}
    contested = [(owner, field) for owner, owned in others.items() for field in sorted(owned & changed) if field in was]
    if contested and manager == "kubectl" and _LAST_APPLIED in (live["metadata"].get("annotations") or {}):
        # kubectl goes over from client-side to server-side apply: what it owned as the one it may take as the other.
        ceded = [(owner, field) for owner, field in contested if owner[0] == "kubectl-client-side-apply"]
        others |= {owner: others[owner] - {f for o, f in ceded if o == owner} for owner, _ in ceded}
        contested = [contest for contest in contested if contest not in ceded]
    if contested and not force:
        raise errors.apply_conflict([(_say_owner(owner), fields.say(field)) for owner, field in contested])
    for owner, field in contested:
        others[owner] = others[owner] - {field}
    # An item before its fields: what nobody set in it, defaults, goes with it.
    for field in sorted(before - mine, key=len):
        if not any(_owns(owned, field) for owned in (*others.values(), mine)):
            fields.remove(merged, field, resource)
    _record(merged, live, others | {me: mine})
    return merged


def track_update(resource: Resource, live: Object | None, new: Object, manager: str, subresource: str = "") -> None:
    """Write into `new` who owns what, after a create, an update or a patch by a manager."""
    given = new["metadata"].get("managedFields")
    reset = given is not None and not any(given)
    base = new if given and live is not None else live or {}
    owners = {} if reset else owners_of(base)
    was = fields.flatten(resource, live) if live else {}
    becomes = fields.flatten(resource, new)
    changed = {field for field, value in becomes.items() if field not in was or was[field] != value}
    owners = {owner: {f for f in owned if f in becomes and f not in changed} for owner, owned in owners.items()}
    # What a manager leaves as it is stays with everyone who owns it; what it changes becomes its own alone.
    me: Owner = (manager, "Update", new["apiVersion"], subresource)
    if not reset:
        owners[me] = owners.get(me, set()) | changed
    _record(new, base, owners)


def owners_of(obj: Object) -> dict[Owner, set[Field]]:
    """Who owns which fields."""
    return {
        _owner(entry): fields.from_v1(entry.get("fieldsV1") or {})
        for entry in obj.get("metadata", {}).get("managedFields") or ()
    }


def _owner(entry: Object) -> Owner:
    return (entry.get("manager", ""), entry["operation"], entry.get("apiVersion", ""), entry.get("subresource", ""))


def _say_owner(owner: Owner) -> str:
    manager, operation, api_version, subresource = owner
    within = f' with subresource "{subresource}"' if subresource else ""
    return f'"{manager}"{within}' + (f" using {api_version}" if operation == "Update" else "")


def _owns(owned: set[Field], field: Field) -> bool:
    return field in owned or any(other[: len(field)] == field for other in owned)


def _applicable(resource: Resource, config: Object, subresource: str) -> Object:
    if config.get("metadata", {}).get("managedFields"):
        raise errors.bad_request("metadata.managedFields must be nil")
    if "status" in resource.subresources:
        unwanted = {"status"} if subresource != "status" else {key for key in config if key not in _IDENTITY}
        return {key: value for key, value in config.items() if key not in unwanted}
    return config


_IDENTITY = ("apiVersion", "kind", "metadata", "status")


def _record(obj: Object, before: Object, owners: dict[Owner, set[Field]]) -> None:
    """Write managedFields, keeping the entries (and so their times) that say what they said before."""
    known = {_owner(entry): entry for entry in before.get("metadata", {}).get("managedFields") or ()}
    entries = []
    for owner, owned in owners.items():
        if not owned:
            continue
        manager, operation, api_version, subresource = owner
        entry = known.get(owner)
        if entry is None or fields.from_v1(entry.get("fieldsV1") or {}) != owned:
            entry = {"manager": manager, "operation": operation, "apiVersion": api_version, "time": now()}
            entry |= {"fieldsType": "FieldsV1", "fieldsV1": fields.to_v1(owned)}
            entry |= {"subresource": subresource} if subresource else {}
        entries.append(entry)
    entries.sort(key=lambda entry: (entry["operation"] != "Apply", entry["time"], entry["manager"]))
    obj["metadata"].pop("managedFields", None)
    if entries:
        obj["metadata"]["managedFields"] = entries


def _merge(resource: Resource, live: Value, config: Value, path: Path) -> Value:
    if isinstance(config, dict) and isinstance(live, dict) and not is_atomic_map(resource, path):
        result = dict(live)
        for key, value in config.items():
            result[key] = _merge(resource, live.get(key), value, (*path, key))
        return result
    if isinstance(config, list) and isinstance(live, list):
        how = list_type(resource, path)
        if how.is_set:
            return [*live, *(item for item in config if item not in live)]
        if how.keys:
            wanted = {fields.item_key(how, item): item for item in config}
            if len(wanted) < len(config):
                raise errors.bad_request(
                    f"failed to create typed patch object: .{'.'.join(path)}: duplicate entries for key"
                )
            have = {fields.item_key(how, item): item for item in live}
            merged = {
                key: _merge(resource, item, wanted[key], path) if key in wanted else item for key, item in have.items()
            }
            return list((merged | {key: item for key, item in wanted.items() if key not in have}).values())
    return config
