"""The answers by which the API server refuses: HTTP code, reason and words of a Status object, as Kubernetes gives them."""

from __future__ import annotations

from tests.kube.apiserver.objects import Object


class ApiError(Exception):
    """A refusal that becomes a Status object."""

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}

    def status(self) -> Object:
        """The Status object on the wire."""
        status: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        status["message"] = self.message
        if self.reason:
            status["reason"] = self.reason
        if self.details:
            status["details"] = self.details
        status["code"] = self.code
        return status


def qualified(plural: str, group: str) -> str:
    """A resource as messages name it: pods, deployments.apps."""
    return f"{plural}.{group}" if group else plural


def _details(plural: str, group: str, name: str) -> Object:
    details = {"name": name, "kind": plural}
    return details | {"group": group} if group else details


def not_found(plural: str, group: str, name: str) -> ApiError:
    """No such object."""
    return ApiError(404, "NotFound", f'{qualified(plural, group)} "{name}" not found', _details(plural, group, name))


def no_such_path() -> ApiError:
    """No such resource at all: another group, version or path than is served."""
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def already_exists(plural: str, group: str, name: str) -> ApiError:
    """Created before."""
    words = f'{qualified(plural, group)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", words, _details(plural, group, name))


def conflict(plural: str, group: str, name: str, why: str = "") -> ApiError:
    """The object isn't any more what the writer read."""
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    words = f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}'
    return ApiError(409, "Conflict", words, _details(plural, group, name))


def apply_conflict(conflicts: list[tuple[str, str]]) -> ApiError:
    """Fields that others own: pairs of (manager and how it wrote, field)."""
    count = f"{len(conflicts)} conflict" + ("s" if len(conflicts) > 1 else "")
    managers = sorted({manager for manager, _ in conflicts})
    if len(conflicts) == 1:
        words = f"Apply failed with {count}: conflict with {managers[0]}: {conflicts[0][1]}"
    else:
        lines = []
        for manager in managers:
            lines.append(f"conflicts with {manager}:")
            lines += [f"- {field}" for owner, field in conflicts if owner == manager]
        words = f"Apply failed with {count}: " + "\n".join(lines)
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {manager}", "field": field}
        for manager, field in conflicts
    ]
    return ApiError(409, "Conflict", words, {"causes": causes})


def expired(words: str = "The provided continue parameter is too old to display a consistent list result.") -> ApiError:
    """Older than what the server still knows."""
    return ApiError(410, "Expired", words)


def invalid(kind: str, group: str, name: str, causes: list[tuple[str, str]]) -> ApiError:
    """The object breaks its schema: pairs of (field, what is wrong)."""
    said = [f"{field}: {words}" for field, words in causes]
    words = said[0] if len(said) == 1 else "[" + ", ".join(said) + "]"
    details = _details(kind, group, name) | {
        "causes": [{"reason": "FieldValueInvalid", "message": words, "field": field} for field, words in causes]
    }
    return ApiError(422, "Invalid", f'{qualified(kind, group)} "{name}" is invalid: {words}', details)


def bad_request(message: str) -> ApiError:
    """Not understood."""
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    """Nobody we know."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def forbidden(plural: str, group: str, name: str, why: str) -> ApiError:
    """Known, but not allowed."""
    what = qualified(plural, group) + (f' "{name}"' if name else "")
    return ApiError(403, "Forbidden", f"{what} is forbidden: {why}", _details(plural, group, name))


def unsupported_media_type(got: str, accepted: tuple[str, ...]) -> ApiError:
    """A patch of a kind this resource doesn't take."""
    words = f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    return ApiError(415, "UnsupportedMediaType", words, {"causes": [{"message": got}]})


def method_not_allowed() -> ApiError:
    """The resource doesn't have this verb."""
    words = "the server does not allow this method on the requested resource"
    return ApiError(405, "MethodNotAllowed", words)
