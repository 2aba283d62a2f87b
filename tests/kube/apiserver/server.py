"""The HTTP side: who asks, what the path means, whether that is allowed, and which part answers."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import cast

import msgspec
import yaml
from aiohttp import web

from tests.kube.apiserver import discovery, errors, patches, protobuf, reading, reviews, selectors, streams
from tests.kube.apiserver.api import Api, Delete, How, Place
from tests.kube.apiserver.objects import Object, dig, encode
from tests.kube.apiserver.rbac import ANONYMOUS, Asked, Authorizer, User
from tests.kube.apiserver.reading import Lists
from tests.kube.apiserver.reviews import Tokens
from tests.kube.apiserver.scripts import Scripts
from tests.kube.apiserver.watching import Watching

_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_UPGRADES = {"exec", "portforward", "attach"}


class Fault(msgspec.Struct):
    """An answer that the test puts in the place of the real one."""

    code: int
    reason: str
    message: str
    times: int
    verb: str = ""
    plural: str = ""
    retry_after: int | None = None


class Server:
    """Answers one HTTP request after the other."""

    def __init__(self, api: Api, authorizer: Authorizer, tokens: Tokens, watching: Watching, scripts: Scripts) -> None:
        self.api = api
        self.lists = Lists(api.store)
        self.faults: list[Fault] = []
        self.requests: collections.deque[tuple[str, str, str]] = collections.deque(maxlen=10_000)
        """What was asked: user, verb, path with query. For tests of how often and how a client asks."""
        self._authorizer = authorizer
        self._tokens = tokens
        self._watching = watching
        self._scripts = scripts

    def application(self) -> web.Application:
        """The aiohttp application."""
        application = web.Application(client_max_size=16 << 20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        return application

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        await self._watching.thawed.wait()
        try:
            return await self._answer(request)
        except errors.ApiError as error:
            headers = (
                {"Retry-After": str(error.details["retryAfterSeconds"])}
                if "retryAfterSeconds" in error.details
                else None
            )
            return _json(error.status(), error.code, headers)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        user = self._user(request)
        parts = request.path.strip("/").split("/")
        self.requests.append((user.name, request.method, request.path_qs))
        if parts[0] in {"healthz", "livez", "readyz"}:
            self._break("get", parts[0])
            return web.Response(text="ok")
        place, path = self._place(parts)
        if place is None:
            self._authorizer.require_path(user, "get", request.path)
            document = discovery.answer(self.api.catalogue, request.path)
            if document is None:
                raise errors.no_such_path()
            return _json(document)
        verb = self._verb(request, place)
        self._break(verb, place.resource.plural)
        asked = Asked(verb, place.resource.group, place.resource.plural, place.subresource, place.namespace, place.name)
        if not place.name and (named := selectors.name_in(request.query.get("fieldSelector", ""))):
            asked = msgspec.structs.replace(asked, name=named)
        self._authorizer.require(user, place.resource, asked)
        if verb not in {*place.resource.verbs, "get"} and not place.subresource:
            raise errors.method_not_allowed()
        if place.subresource not in {"", "status", "finalize"}:
            return await self._subresource(request, user, place, path)
        if verb in {"get", "list", "watch"}:
            return await self._read(request, place, verb)
        return await self._write(request, user, place, verb)

    def _user(self, request: web.Request) -> User:
        user = self._who(request)
        if wanted := request.headers.get("Impersonate-User"):
            asked = Asked("impersonate", "", "users", "", "", wanted)
            self._authorizer.require(user, self.api.catalogue.named("pods"), asked)
            return User(wanted, tuple(request.headers.getall("Impersonate-Group", [])) or ("system:authenticated",))
        return user

    def _who(self, request: web.Request) -> User:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._tokens.user(token.strip())
        certificate = request.get_extra_info("peercert")
        if not certificate:
            return ANONYMOUS
        pairs = [pair for part in certificate["subject"] for pair in part]
        groups = tuple(value for key, value in pairs if key == "organizationName")
        return User(next(value for key, value in pairs if key == "commonName"), (*groups, "system:authenticated"))

    def _place(self, parts: list[str]) -> tuple[Place | None, str]:
        """What a path is about, and what is left of it; None for a path that is no resource's."""
        if parts[0] == "api" and len(parts) > 2:
            group, version, rest = "", parts[1], parts[2:]
        elif parts[0] == "apis" and len(parts) > 3:
            group, version, rest = parts[1], parts[2], parts[3:]
        else:
            return None, ""
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in {"status", "finalize"}:
            namespace, rest = rest[1], rest[2:]
        resource = self.api.catalogue.at(group, version, rest[0])
        if resource is None or (namespace and not resource.namespaced):
            raise errors.no_such_path()
        name, subresource = (*rest[1:3], "", "")[:2]
        if subresource and subresource not in resource.subresources:
            raise errors.no_such_path()
        if name and resource.namespaced and not namespace:
            raise errors.no_such_path()
        return Place(resource, namespace, name, subresource), "/".join(rest[3:])

    def _verb(self, request: web.Request, place: Place) -> str:
        verb = _VERBS.get(request.method, "")
        if verb == "get" and not place.name:
            return "watch" if request.query.get("watch") in {"true", "1"} else "list"
        if verb == "delete" and not place.name:
            return "deletecollection"
        nowhere = place.resource.namespaced and not place.namespace
        if verb == "create" and not place.subresource and (place.name or nowhere):
            raise errors.method_not_allowed()
        return verb

    def _break(self, verb: str, plural: str) -> None:
        for fault in self.faults:
            if fault.times > 0 and fault.verb in {"", verb} and fault.plural in {"", plural}:
                fault.times -= 1
                details = {"retryAfterSeconds": fault.retry_after} if fault.retry_after is not None else None
                raise errors.ApiError(fault.code, fault.reason, fault.message, details)

    async def _read(self, request: web.Request, place: Place, verb: str) -> web.StreamResponse:
        query = request.query
        form = reading.form_of(request.headers.get("Accept", ""), query.get("includeObject", ""))
        if verb == "get":
            return _json(reading.shown(place.resource, self.api.get(place), form))
        if verb == "watch":
            return await self._watching.serve(request, place.resource, place.namespace, query, form)
        body = self.lists.answer(place.resource, place.namespace, query, form)
        return web.Response(body=body, content_type="application/json")

    async def _write(self, request: web.Request, user: User, place: Place, verb: str) -> web.StreamResponse:
        how = _how(request)
        if verb in {"delete", "deletecollection"}:
            return self._delete(request, place, verb, await _body(request))
        body = await _body(request)
        if place.resource.verbs == ("create",):
            return _json(reviews.answer(place.resource.kind, body, user, self._authorizer), 201)
        if verb == "create":
            self._authorizer.forbid_escalation(user, place.resource, place.namespace, body)
            return self._shown(request, place, self.api.create(place, body, how), 201)
        if verb == "update":
            self._authorizer.forbid_escalation(user, place.resource, place.namespace, body)
            return self._shown(request, place, self.api.replace(place, body, how))
        media_type = request.content_type
        if media_type == patches.APPLY:
            found = self.api.store.get(place.resource.key, place.namespace, place.name)
            if found is None:
                self._authorizer.require(user, place.resource, _asking(place, "create"))
        self._forbid_escalation_by_patch(user, place, media_type, body, how)
        obj, created = self.api.patch(place, media_type, body, how)
        return self._shown(request, place, obj, 201 if created else 200)

    def _forbid_escalation_by_patch(self, user: User, place: Place, media_type: str, body: Object, how: How) -> None:
        if place.resource.group == "rbac.authorization.k8s.io" and not user.is_master:
            becomes, _ = self.api.patch(place, media_type, body, msgspec.structs.replace(how, dry_run=True))
            self._authorizer.forbid_escalation(user, place.resource, place.namespace, becomes)

    def _shown(self, request: web.Request, place: Place, obj: Object, code: int = 200) -> web.Response:
        form = reading.form_of(request.headers.get("Accept", ""), request.query.get("includeObject", ""))
        return _json(reading.shown(place.resource, obj, form), code)

    def _delete(self, request: web.Request, place: Place, verb: str, body: Object) -> web.Response:
        how = _deletion(request.query, body)
        if verb == "delete":
            return _json(self.api.delete(place, how))
        selects = reading.selection(place.resource, request.query)
        chosen = [
            s for s in self.api.store.all(place.resource.key, place.namespace) if selects is None or selects(s.obj)
        ]
        for stored in chosen:
            self.api.delete(Place(place.resource, *stored.key), how)
        deleted = [stored.obj for stored in chosen]
        return _json(
            {
                "kind": f"{place.resource.kind}List",
                "apiVersion": place.resource.api_version,
                "metadata": {},
                "items": deleted,
            }
        )

    async def _subresource(self, request: web.Request, user: User, place: Place, path: str) -> web.StreamResponse:
        if place.subresource == "proxy":
            return await streams.service(request, place.namespace, place.name, path, self._scripts)
        obj = self.api.get(place)
        match place.subresource:
            case "scale":
                return await self._scale(request, place)
            case "log":
                return await streams.logs(request, obj, self._scripts)
            case "token":
                return _json(
                    reviews.token_request(await _body(request), place.namespace, place.name, self._tokens), 201
                )
            case "eviction":
                return _json(self._evict(request, place, obj, await _body(request)), 201)
            case "exec" | "portforward":
                # A WebSocket begins with GET. Since 1.35 that is not enough: whoever may exec, may `create` it.
                self._authorizer.require(user, place.resource, _asking(place, "create"))
                if not dig(obj, "spec", "nodeName"):
                    raise errors.bad_request(f"pod {place.name} does not have a host assigned")
                stream = streams.exec_in if place.subresource == "exec" else streams.forward
                return await stream(request, obj, self._scripts)
            case _:
                raise errors.method_not_allowed()

    async def _scale(self, request: web.Request, place: Place) -> web.Response:
        if request.method == "GET":
            return _json(self.api.scale(place))
        scale = await _body(request)
        if request.method == "PATCH":
            scale = cast("Object", patches.merge(self.api.scale(place), scale))
        return _json(self.api.rescale(place, scale, _how(request)))

    def _evict(self, request: web.Request, place: Place, pod: Object, body: Object) -> Object:
        for budget in self.api.store.all("poddisruptionbudgets.policy", place.namespace):
            selects = selectors.label_object(dig(budget.obj, "spec", "selector"))
            if selects(pod) and not (dig(budget.obj, "status", "disruptionsAllowed") or 0):
                words = "Cannot evict pod as it would violate the pod's disruption budget."
                causes = [
                    {"reason": "DisruptionBudget", "message": f"The disruption budget {budget.key[1]} allows none now"}
                ]
                raise errors.ApiError(429, "TooManyRequests", words, {"causes": causes})
        how = _deletion(request.query, body.get("deleteOptions") or {})
        self.api.delete(msgspec.structs.replace(place, subresource=""), how)
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _asking(place: Place, verb: str) -> Asked:
    return Asked(verb, place.resource.group, place.resource.plural, place.subresource, place.namespace, place.name)


def _how(request: web.Request) -> How:
    query = request.query
    agent = request.headers.get("User-Agent", "unknown").partition("/")[0]
    applies = request.content_type == patches.APPLY
    return How(
        manager=query.get("fieldManager") or ("" if applies else agent),
        dry_run=query.get("dryRun") == "All",
        force=query.get("force") in {"true", "1"},
        strict=query.get("fieldValidation") == "Strict",
    )


def _deletion(query: Mapping[str, str], body: Object) -> Delete:
    preconditions = body.get("preconditions") or {}
    grace = query.get("gracePeriodSeconds") or body.get("gracePeriodSeconds")
    return Delete(
        propagation=query.get("propagationPolicy") or body.get("propagationPolicy") or "Background",
        grace=None if grace is None else int(grace),
        uid=preconditions.get("uid") or "",
        revision=preconditions.get("resourceVersion") or "",
        dry_run=query.get("dryRun") == "All" or "All" in (body.get("dryRun") or ()),
    )


async def _body(request: web.Request) -> Object:
    raw = await request.read()
    if not raw:
        return {}
    if request.content_type == protobuf.MEDIA_TYPE:
        return protobuf.read(raw)
    try:
        return cast("Object", msgspec.json.decode(raw))
    except msgspec.DecodeError as error:
        if not request.content_type.endswith("yaml"):
            raise errors.bad_request(f"couldn't get version/kind; json parse error: {error}") from error
        return cast("Object", yaml.safe_load(raw))


def _json(body: Object, code: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=encode(body), status=code, content_type="application/json", headers=headers)
