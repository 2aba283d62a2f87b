"""What is refused after RBAC and before the schema: missing or ending namespaces, pod security, accounts, priorities, quotas."""

from __future__ import annotations

from tests.kube.apiserver import errors
from tests.kube.apiserver.objects import Object, dig, items, name_of
from tests.kube.apiserver.resources import Resource
from tests.kube.apiserver.store import Store

_ENFORCE = "pod-security.kubernetes.io/enforce"


def admit_create(store: Store, resource: Resource, namespace: str, obj: Object) -> None:
    """Refuse what may not come into a namespace; complete what a pod takes from the cluster.

    Raises:
        ApiError: 404 or 403.
    """
    if not resource.namespaced:
        return
    home = store.get("namespaces", "", namespace)
    if home is None:
        raise errors.not_found("namespaces", "", namespace)
    name = name_of(obj)
    if home.obj["metadata"].get("deletionTimestamp"):
        why = f"unable to create new content in namespace {namespace} because it is being terminated"
        raise errors.forbidden(resource.plural, resource.group, name, why)
    if resource.plural != "pods":
        return
    account = str(dig(obj, "spec", "serviceAccountName") or "default")
    if store.get("serviceaccounts", namespace, account) is None:
        why = f'error looking up service account {namespace}/{account}: serviceaccount "{account}" not found'
        raise errors.forbidden("pods", "", name, why)
    _prioritise(store, obj)
    level = (home.obj["metadata"].get("labels") or {}).get(_ENFORCE, "privileged")
    if breaches := security_breaches(level, obj.get("spec") or {}):
        raise errors.forbidden("pods", "", name, f'violates PodSecurity "{level}:latest": {", ".join(breaches)}')
    _count_against_quota(store, namespace, name)


def security_breaches(level: str, spec: Object) -> list[str]:
    """What a pod does that the baseline or restricted Pod Security Standard forbids."""
    if level not in {"baseline", "restricted"}:
        return []
    breaches = [f"{field}=true" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    breaches += ["hostPath volumes" for volume in items(spec, "volumes") if "hostPath" in volume]
    for container in [*items(spec, "initContainers"), *items(spec, "containers")]:
        context = container.get("securityContext") or {}
        name = container.get("name")
        if context.get("privileged"):
            breaches.append(f'privileged (container "{name}")')
        breaches += [f'hostPort (container "{name}")' for port in container.get("ports") or () if port.get("hostPort")]
        if level == "restricted":
            breaches += _restricted(str(name), context, spec.get("securityContext") or {})
    return breaches


def _restricted(name: str, context: Object, pod: Object) -> list[str]:
    breaches = []
    if context.get("allowPrivilegeEscalation") is not False:
        breaches.append(f'allowPrivilegeEscalation != false (container "{name}" must set it to false)')
    capabilities = context.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or ()) or set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}:
        breaches.append(
            f'unrestricted capabilities (container "{name}" must set securityContext.capabilities.drop=["ALL"])'
        )
    if context.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        breaches.append(f'runAsNonRoot != true (pod or container "{name}" must set securityContext.runAsNonRoot=true)')
    if context.get("runAsUser", pod.get("runAsUser")) == 0:
        breaches.append(f'runAsUser=0 (container "{name}" must not set it to 0)')
    profile = dig(context, "seccompProfile", "type") or dig(pod, "seccompProfile", "type")
    if profile not in {"RuntimeDefault", "Localhost"}:
        breaches.append(f'seccompProfile (pod or container "{name}" must set it to "RuntimeDefault" or "Localhost")')
    return breaches


def _prioritise(store: Store, pod: Object) -> None:
    wanted = dig(pod, "spec", "priorityClassName")
    if not wanted:
        pod["spec"].setdefault("priority", 0)
        return
    found = store.get("priorityclasses.scheduling.k8s.io", "", wanted)
    if found is None:
        raise errors.forbidden("pods", "", name_of(pod), f"no PriorityClass with name {wanted} was found")
    pod["spec"]["priority"] = found.obj.get("value", 0)


def _count_against_quota(store: Store, namespace: str, name: str) -> None:
    for quota in store.all("resourcequotas", namespace):
        limit = (dig(quota.obj, "spec", "hard") or {}).get("pods")
        used = sum(
            1 for pod in store.all("pods", namespace) if dig(pod.obj, "status", "phase") not in {"Succeeded", "Failed"}
        )
        if limit is not None and used >= int(limit):
            have = f"exceeded quota: {name_of(quota.obj)}, requested: pods=1, used: pods={used}, limited: pods={limit}"
            raise errors.forbidden("pods", "", name, have)
