"""Lists: selectors, pages that stay consistent, and the three forms a client can ask for (whole, Table, metadata only)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

import msgspec

from tests.kube.apiserver import errors, selectors, tables
from tests.kube.apiserver.objects import Object, Value, encode
from tests.kube.apiserver.resources import Resource
from tests.kube.apiserver.selectors import Matcher
from tests.kube.apiserver.store import Store, Stored

_PAGES_KEPT = 100


class Form(msgspec.Struct, frozen=True):
    """In which form a client wants objects."""

    name: str = ""
    """Table, PartialObjectMetadata (List), or nothing for the objects themselves."""
    include: str = "Metadata"
    """What of the object the rows of a Table carry."""


def form_of(accept: str, include: str) -> Form:
    """The form that an Accept header asks for."""
    found = re.search(r"as=(Table|PartialObjectMetadata)", accept)
    return Form(found[1] if found else "", include or "Metadata")


def selection(resource: Resource, query: Mapping[str, str]) -> Matcher | None:
    """What a list or watch selects; None for everything."""
    wanted = [
        selectors.labels(query.get("labelSelector", "")),
        selectors.fields(query.get("fieldSelector", ""), resource.plural),
    ]
    terms = [term for term in wanted if term is not None]
    return (lambda obj: all(term(obj) for term in terms)) if terms else None


class Lists:
    """Answers lists. Keeps the rest of each paged one, as it was when its first page was read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pages: dict[str, tuple[int, list[Stored]]] = {}
        self._made = 0

    def forget_pages(self) -> None:
        """Let every continue token expire."""
        self._pages.clear()

    def answer(self, resource: Resource, namespace: str, query: Mapping[str, str], form: Form) -> bytes:
        """The JSON of a list.

        Raises:
            ApiError: 400, or 410 when the page asked for isn't kept any more.
        """
        revision, found = self._found(resource, namespace, query)
        limit = int(query.get("limit") or 0)
        page, rest = (found[:limit], found[limit:]) if limit else (found, [])
        metadata: Object = {"resourceVersion": str(revision)}
        if rest:
            metadata["continue"] = self._keep(revision, rest)
            if not query.get("labelSelector") and not query.get("fieldSelector"):
                metadata["remainingItemCount"] = len(rest)
        if form.name == "Table":
            table = tables.table(resource, [stored.obj for stored in page], form.include)
            return encode(table | {"metadata": metadata})
        if form.name:
            head = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
            return _joined(head, [encode(partial(stored.obj)) for stored in page])
        head = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": metadata}
        if resource.is_custom:
            return _joined(head, [stored.encoded for stored in page])
        # The items of a built-in list don't repeat their kind.
        lead = len(encode({"apiVersion": resource.api_version, "kind": resource.kind}))
        return _joined(head, [b"{" + stored.encoded[lead:] for stored in page])

    def _found(self, resource: Resource, namespace: str, query: Mapping[str, str]) -> tuple[int, list[Stored]]:
        if token := query.get("continue"):
            kept = self._pages.get(_decode(token))
            if kept is None or kept[0] < self._store.compacted:
                raise errors.expired()
            return kept
        wanted = int(query.get("resourceVersion") or 0)
        if wanted > self._store.revision:
            words = f"Too large resource version: {wanted}, current: {self._store.revision}"
            details = {
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1,
            }
            raise errors.ApiError(504, "Timeout", words, details)
        selects = selection(resource, query)
        found = self._store.all(resource.key, namespace)
        return self._store.revision, [s for s in found if selects is None or selects(s.obj)]

    def _keep(self, revision: int, rest: list[Stored]) -> str:
        self._made += 1
        token = f"{revision}/{self._made}"
        self._pages[token] = (revision, rest)
        while len(self._pages) > _PAGES_KEPT:
            del self._pages[next(iter(self._pages))]
        return base64.urlsafe_b64encode(token.encode()).decode()


def partial(obj: Object) -> Object:
    """Only the metadata of an object."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def shown(resource: Resource, obj: Object, form: Form, with_columns: bool = True) -> Value:
    """One object in the form asked for."""
    if form.name == "Table":
        return tables.table(resource, [obj], form.include, with_columns)
    return partial(obj) if form.name else obj


def _joined(head: Object, items: list[bytes]) -> bytes:
    return encode(head)[:-1] + b',"items":[' + b",".join(items) + b"]}"


def _decode(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise errors.bad_request("continue key is not valid") from error
