"""The reviews: may I, what may I, who am I; and tokens for service accounts."""

from __future__ import annotations

import datetime as dt
import secrets

from tests.kube.apiserver import errors
from tests.kube.apiserver.objects import Object, copy, dig
from tests.kube.apiserver.rbac import Asked, Authorizer, User


class Tokens:
    """The bearer tokens that are known."""

    def __init__(self) -> None:
        self._users: dict[str, User] = {}

    def issue(self, user: User) -> str:
        """A new token for a user."""
        token = secrets.token_urlsafe(24)
        self._users[token] = user
        return token

    def revoke(self, token: str) -> None:
        """Know it no more."""
        self._users.pop(token, None)

    def user(self, token: str) -> User:
        """Whose it is.

        Raises:
            ApiError: 401 when nobody's.
        """
        if token not in self._users:
            raise errors.unauthorized()
        return self._users[token]


def service_account(namespace: str, name: str) -> User:
    """The user that a service account is."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return User(f"system:serviceaccount:{namespace}:{name}", groups)


def answer(kind: str, body: Object, user: User, authorizer: Authorizer) -> Object:
    """The body of a review with its status filled in."""
    review = copy(body)
    spec = review.get("spec") or {}
    match kind:
        case "SelfSubjectAccessReview":
            review["status"] = _access(spec, user, authorizer)
        case "SubjectAccessReview" | "LocalSubjectAccessReview":
            about = User(str(spec.get("user") or ""), tuple(spec.get("groups") or ()))
            review["status"] = _access(spec, about, authorizer)
        case "SelfSubjectRulesReview":
            review["status"] = _rules(str(spec.get("namespace") or ""), user, authorizer)
        case _:
            review["status"] = {"userInfo": {"username": user.name, "groups": list(user.groups)}}
    return review


def token_request(body: Object, namespace: str, name: str, tokens: Tokens) -> Object:
    """A TokenRequest with its token."""
    seconds = int(dig(body, "spec", "expirationSeconds") or 3600)
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
    token = tokens.issue(service_account(namespace, name))
    status = {"token": token, "expirationTimestamp": ends.strftime("%Y-%m-%dT%H:%M:%SZ")}
    return {**body, "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "status": status}


def _access(spec: Object, user: User, authorizer: Authorizer) -> Object:
    if paths := spec.get("nonResourceAttributes"):
        asked = Asked(paths.get("verb", ""), path=paths.get("path", ""))
    else:
        wanted = spec.get("resourceAttributes") or {}
        names = ("verb", "group", "resource", "subresource", "namespace", "name")
        asked = Asked(**{name: str(wanted.get(name) or "") for name in names})
    return {"allowed": authorizer.allows(user, asked)}


def _rules(namespace: str, user: User, authorizer: Authorizer) -> Object:
    rules = authorizer.rules(user, namespace)
    if user.is_master:
        rules = [
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
            {"verbs": ["*"], "nonResourceURLs": ["*"]},
        ]
    return {
        "resourceRules": [rule for rule in rules if rule.get("resources")],
        "nonResourceRules": [rule for rule in rules if rule.get("nonResourceURLs")],
        "incomplete": False,
    }
