"""Who may do what: RBAC's roles and bindings, read from the store at each request as the real authorizer does."""

from __future__ import annotations

import itertools

import msgspec

from tests.kube.apiserver import errors
from tests.kube.apiserver.objects import Object, dig
from tests.kube.apiserver.resources import Resource
from tests.kube.apiserver.store import Store

GROUP = "rbac.authorization.k8s.io"
_MASTERS = "system:masters"


class User(msgspec.Struct, frozen=True):
    """Whom a request comes from."""

    name: str
    groups: tuple[str, ...] = ()

    @property
    def is_master(self) -> bool:
        """Whether rules don't apply to it."""
        return _MASTERS in self.groups


ADMIN = User("kubernetes-admin", (_MASTERS, "system:authenticated"))
ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


class Asked(msgspec.Struct, frozen=True):
    """One question to the authorizer."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    """A path that is no resource's: /version, /healthz."""


class Authorizer:
    """Answers from the roles and bindings in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def allows(self, user: User, asked: Asked) -> bool:
        """Whether this user may do this."""
        return user.is_master or any(matches(rule, asked) for rule in self.rules(user, asked.namespace))

    def require(self, user: User, resource: Resource, asked: Asked) -> None:
        """Refuse with the words of the real server.

        Raises:
            ApiError: 403.
        """
        if self.allows(user, asked):
            return
        what = asked.resource + (f"/{asked.subresource}" if asked.subresource else "")
        where = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
        why = f'User "{user.name}" cannot {asked.verb} resource "{what}" in API group "{asked.group}" {where}'
        raise errors.forbidden(resource.plural, resource.group, asked.name, why)

    def require_path(self, user: User, verb: str, path: str) -> None:
        """The same for paths that are no resource's.

        Raises:
            ApiError: 403.
        """
        if not self.allows(user, Asked(verb, path=path)):
            raise errors.ApiError(403, "Forbidden", f'forbidden: User "{user.name}" cannot {verb} path "{path}"')

    def rules(self, user: User, namespace: str) -> list[Object]:
        """Every rule that holds for a user: the cluster's, and those of one namespace."""
        bindings = [stored.obj for stored in self._store.all(f"clusterrolebindings.{GROUP}")]
        if namespace:
            bindings += [stored.obj for stored in self._store.all(f"rolebindings.{GROUP}", namespace)]
        roles = (self._role(binding) for binding in bindings if _binds(binding, user))
        return list(itertools.chain.from_iterable(role.get("rules") or () for role in roles))

    def forbid_escalation(self, user: User, resource: Resource, namespace: str, obj: Object) -> None:
        """Nobody may give away what he doesn't hold himself, unless he may `escalate` or `bind`.

        Raises:
            ApiError: 403.
        """
        if resource.group != GROUP or user.is_master:
            return
        name = str(dig(obj, "metadata", "name") or "")
        if resource.kind.endswith("Role"):
            excused = Asked("escalate", GROUP, resource.plural, "", namespace, name)
            given = obj.get("rules") or []
        else:
            reference = obj.get("roleRef") or {}
            plural = "clusterroles" if reference.get("kind") == "ClusterRole" else "roles"
            excused = Asked("bind", GROUP, plural, "", namespace, str(reference.get("name")))
            given = self._role(obj).get("rules") or []
        if self.allows(user, excused):
            return
        have = self.rules(user, namespace)
        missing = [
            asked for rule in given for asked in _asked_by(rule, namespace) if not any(matches(r, asked) for r in have)
        ]
        if missing:
            lost = missing[0]
            words = f'{{APIGroups:["{lost.group}"], Resources:["{lost.resource}"], Verbs:["{lost.verb}"]}}'
            why = f'user "{user.name}" (groups={list(user.groups)}) is attempting to grant RBAC permissions not currently held:\n{words}'
            raise errors.forbidden(resource.plural, resource.group, name, why)

    def _role(self, binding: Object) -> Object:
        reference = binding.get("roleRef") or {}
        namespace = str(dig(binding, "metadata", "namespace") or "")
        if reference.get("kind") == "ClusterRole":
            found = self._store.get(f"clusterroles.{GROUP}", "", str(reference.get("name")))
        else:
            found = self._store.get(f"roles.{GROUP}", namespace, str(reference.get("name")))
        return found.obj if found else {}


def matches(rule: Object, asked: Asked) -> bool:
    """Whether one rule allows it."""
    if not _covers(rule.get("verbs"), asked.verb):
        return False
    if asked.path:
        paths = rule.get("nonResourceURLs") or ()
        return any(p in {"*", asked.path} or (p.endswith("*") and asked.path.startswith(p[:-1])) for p in paths)
    named = rule.get("resourceNames")
    return (
        _covers(rule.get("apiGroups"), asked.group)
        and _covers_resource(rule.get("resources") or (), asked)
        and (not named or asked.name in named)
    )


def _covers(values: list[str] | None, wanted: str) -> bool:
    return bool(values) and ("*" in (values or ()) or wanted in (values or ()))


def _covers_resource(resources: list[str] | tuple[()], asked: Asked) -> bool:
    if not asked.subresource:
        return "*" in resources or asked.resource in resources
    accepted = {"*", f"{asked.resource}/{asked.subresource}", f"*/{asked.subresource}"}
    return any(resource in accepted for resource in resources)


def _binds(binding: Object, user: User) -> bool:
    for subject in binding.get("subjects") or ():
        match subject.get("kind"):
            case "User" if subject.get("name") == user.name:
                return True
            case "Group" if subject.get("name") in user.groups:
                return True
            case "ServiceAccount":
                if user.name == f"system:serviceaccount:{subject.get('namespace')}:{subject.get('name')}":
                    return True
            case _:
                pass
    return False


def _asked_by(rule: Object, namespace: str) -> list[Asked]:
    """The single permissions that a rule grants, a wildcard being one that only a wildcard holds."""
    paths = [Asked(verb, path=path) for verb in rule.get("verbs") or () for path in rule.get("nonResourceURLs") or ()]
    parts = itertools.product(
        rule.get("verbs") or (),
        rule.get("apiGroups") or (),
        rule.get("resources") or (),
        rule.get("resourceNames") or [""],
    )
    for verb, group, resource, name in parts:
        plural, _, subresource = resource.partition("/")
        paths.append(Asked(verb, group, plural, subresource, namespace, name))
    return paths
