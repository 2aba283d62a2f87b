"""`anyconsole render`: the objects that set-up would apply, as YAML for those who keep theirs in Git. Asks no cluster, changes nothing."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator

from anyconsole.drivers.kube.calico import CalicoApi
from anyconsole.drivers.kube.objects import (
    calico_objects,
    cluster_objects,
    key_secret,
    monitoring_objects,
    tenant_objects,
    tenants_of,
)
from anyconsole.drivers.kube.render import Object, to_yaml
from anyconsole.errors import AnyconsoleError
from anyconsole.model.inventory import ClusterSpec, Inventory, Tenant

__all__ = ["run"]


def run(inventory: Inventory, args: argparse.Namespace) -> int:
    """Print the objects; returns the exit code. Raises AnyconsoleError."""
    cluster = _cluster(inventory, args.cluster)
    tenants = _tenants(inventory, cluster, args.tenant)
    sets = args.sets or ["tenants"]
    if args.tenant and "tenants" not in sets:
        raise AnyconsoleError(f"--tenant says nothing to --set {sets[0]}: that is the whole cluster's")
    objects = list(_objects(inventory, cluster, tenants, sets, CalicoApi(args.calico)))
    if args.output == "json":
        print(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}, indent=2))
    else:
        print(to_yaml(objects), end="")
        print(_instead_of_keys(inventory, cluster, tenants if "tenants" in sets else []), end="")
    if "tenants" in sets:
        _tell_secrets(inventory, cluster, tenants)
    return 0


def _objects(
    inventory: Inventory, cluster: ClusterSpec, tenants: Iterable[Tenant], sets: list[str], calico: CalicoApi
) -> Iterator[Object]:
    """In the order in which they are applied."""
    if "cluster" in sets:
        yield from cluster_objects(inventory, cluster)
    if "calico" in sets:
        yield from calico_objects(inventory, cluster, calico)
    if "monitoring" in sets:
        found = monitoring_objects(inventory, cluster)
        if not found:
            raise AnyconsoleError(
                'the profile names no image for monitoring: stack.monitoring = { prometheus = "..." }'
            )
        yield from found
    if "tenants" in sets:
        for tenant in tenants:
            yield from tenant_objects(inventory, cluster, tenant)


def _cluster(inventory: Inventory, name: str) -> ClusterSpec:
    names = [cluster.name for cluster in inventory.clusters]
    if not names:
        raise AnyconsoleError("the profile has no [[cluster]]")
    if not name and len(names) > 1:
        raise AnyconsoleError(f"which cluster? say --cluster NAME, one of {', '.join(names)}")
    if name and name not in names:
        raise AnyconsoleError(f"there is no cluster {name!r}; the profile has {', '.join(names)}")
    return inventory.cluster(name or names[0])


def _tenants(inventory: Inventory, cluster: ClusterSpec, names: list[str]) -> list[Tenant]:
    here = {tenant.name: tenant for tenant in tenants_of(inventory, cluster)}
    for name in names:
        if name not in here:
            known = ", ".join(here) or "none"
            raise AnyconsoleError(f"tenant {name!r} has no name server in cluster {cluster.name}; there are {known}")
    return [here[name] for name in names or here]


def _instead_of_keys(inventory: Inventory, cluster: ClusterSpec, tenants: Iterable[Tenant]) -> str:
    """A comment for each Secret that set-up would make: who applies these objects by other means has to."""
    secrets = [secret for tenant in tenants if (secret := key_secret(inventory, cluster, tenant)) and secret.source]
    return "".join(
        f"# not here: {s.path}\n#   anyconsole setup makes it of the TSIG key that {s.source} holds\n" for s in secrets
    )


def _tell_secrets(inventory: Inventory, cluster: ClusterSpec, tenants: Iterable[Tenant]) -> None:
    """Say on standard error which Secrets the objects count on: they are not among them."""
    for tenant in tenants:
        if secret := key_secret(inventory, cluster, tenant):
            made = f"made by anyconsole setup of what {secret.source} holds" if secret.source else "made by you"
            print(f"anyconsole: not rendered: {secret.path}, the TSIG key of {tenant.name}, {made}", file=sys.stderr)
