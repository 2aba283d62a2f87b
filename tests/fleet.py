"""A small fleet on paper: an inventory, and the facts that make all of it healthy. Tests change one fact and look what it means.

`hybrid()` is that fleet with a Kubernetes cluster of two nodes beside it, and `healthy_hybrid()` what is known of it.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from anyconsole.model.facts import (
    Answer,
    Beat,
    Chroot,
    Covering,
    Export,
    Exported,
    HostHealth,
    InstanceStatus,
    Link,
    LinkState,
    PeerPath,
    PeerRoute,
    QueryRates,
    SessionState,
    SessionStatus,
    SpeakerStatus,
    covering_section,
)
from anyconsole.model.inventory import (
    ClusterSpec,
    Family,
    InstanceSpec,
    Interconnect,
    InterconnectKind,
    Inventory,
    LookingGlass,
    NodeSpec,
    Peer,
    SessionSpec,
    Site,
    SpeakerSpec,
    Stack,
    Tenant,
    Vantage,
    family_of,
)
from anyconsole.model.pods import (
    Cluster,
    ClusterEvent,
    ClusterNode,
    Container,
    ContainerState,
    Pod,
    RoutingConfig,
    TenantSet,
    set_section,
)
from anyconsole.model.store import FleetStore, Update
from anyconsole.model.verdicts import node_announcements

NOW = 1_795_460_000.0
SERIAL = 2026112301

_PEERS = {"ix1": (64611, 11, 12), "transit": (64613, 31, 32)}


def inventory(node_names: Iterable[str] = ("fra1", "fra2", "ams1", "lon1", "sin1")) -> Inventory:
    """Five nodes in four sites, three tenants, two peers, both families."""
    names = tuple(node_names)
    tenants = tuple(
        Tenant(
            name=name,
            number=number,
            prefixes=(v4 + ".0/24", v6 + "::/48"),
            addresses=(v4 + ".53", v6 + "::53"),
            zones=(f"{name}.example",),
            min_sites=2,
        )
        for name, number, v4, v6 in (
            ("de", 1, "192.0.2", "2001:db8:de"),
            ("nic", 2, "198.51.100", "2001:db8:11c"),
            ("enum", 3, "203.0.113", "2001:db8:e164"),
        )
    )
    sessions = tuple(
        SessionSpec(name=f"{peer}_v{family[3:]}"[:12], peer=peer, family=family, number=number)
        for peer, (_, v4, v6) in _PEERS.items()
        for family, number in ((Family.IPV4, v4), (Family.IPV6, v6))
    )
    nodes = tuple(
        NodeSpec(
            name=name,
            site=name[:3],
            address=name,
            speakers=(
                SpeakerSpec(
                    name="bird",
                    kind="bird",
                    socket="/run/bird/bird.ctl",
                    drain_file="/etc/bird/drain.conf",
                    log="/var/log/bird.log",
                    sessions=sessions,
                ),
            ),
            instances=tuple(
                InstanceSpec(
                    tenant=t.name,
                    kind="nsd",
                    control=f"/srv/anycast/{t.name}/run/nsd.ctl",
                    chroot=f"/srv/anycast/{t.name}",
                )
                for t in tenants
            ),
        )
        for name in names
    )
    return Inventory(
        name="paper",
        colour="#5fd7ff",
        sites=tuple(Site(name=s, region="eu") for s in dict.fromkeys(n[:3] for n in names)),
        interconnects=tuple(
            Interconnect(
                name=peer,
                kind=InterconnectKind.IXP,
                peers=(Peer(name=peer, interconnect=peer, asn=asn, numbers={Family.IPV4: v4, Family.IPV6: v6}),),
            )
            for peer, (asn, v4, v6) in _PEERS.items()
        ),
        tenants=tenants,
        nodes=nodes,
        vantages=(Vantage(name="client1", address="client1"),),
        looking_glasses=tuple(
            LookingGlass(name=name, peer=peer, address=name, socket="/run/bird/bird.ctl")
            for name, peer in (("ix1", "ix1"), ("transit", "transit"), ("transit2", "transit"))
        ),
    )


def healthy(fleet: Inventory, now: float = NOW) -> list[Update]:
    """Facts of a fleet in which everything serves."""
    facts: list[Update] = []
    for node in fleet.nodes:
        facts += _virtual_facts(fleet, node, now) if node.cluster else _node_facts(fleet, node, now)
    if fleet.clusters:
        facts += cluster_facts(fleet, now)
    for vantage in fleet.vantages:
        facts.append(Link(node=vantage.name, section="link", at=now, state=LinkState.LIVE, since=now - 60))
        facts += [
            Answer(
                node=vantage.name, section="dns", at=now, tenant=t.name, address=a, zone=z,
                rcode="NOERROR", serial=SERIAL, latency=0.003, nsid=f"{t.name}.{fleet.nodes[0].name}",
            )
            for t in fleet.tenants for a in t.addresses for z in t.zones
        ]  # fmt: skip
    for glass in fleet.looking_glasses:
        facts.append(Link(node=glass.name, section="link", at=now, state=LinkState.LIVE, since=now - 60))
        facts += _routes(fleet, glass, now)
    return facts


def local_address(fleet: Inventory, node: str, session: SessionSpec) -> str:
    """A node's own address on a session."""
    index = [n.name for n in fleet.nodes].index(node) + 1
    return (
        f"198.19.{session.number}.{index}"
        if session.family is Family.IPV4
        else f"2001:db8:ff00:{session.number}::{index}"
    )


def _routes(fleet: Inventory, glass: LookingGlass, now: float) -> list[Update]:
    """A peer's router's table: the first node's transit sessions end at transit, those of the others at transit2."""
    paths: dict[str, list[PeerPath]] = {p: [] for t in fleet.tenants for p in t.prefixes}
    for node in fleet.nodes:
        end = "transit" if node is fleet.nodes[0] else "transit2"
        for _, session, _, prefix in node_announcements(FleetStore(fleet), node):
            if glass.name == (end if session.peer == "transit" else session.peer):
                local = local_address(fleet, node.name, session)
                best = session.peer == "ix1" and not paths[prefix]
                paths[prefix].append(
                    PeerPath(
                        protocol=node.name, source=local, next_hop=local, local_pref=100, as_path=(64500,), best=best
                    )
                )
    return [
        PeerRoute(node=glass.name, section="routes", at=now, prefix=prefix, paths=tuple(found))
        for prefix, found in paths.items()
    ]


def _node_facts(fleet: Inventory, node: NodeSpec, now: float) -> list[Update]:
    facts: list[Update] = [
        Link(node=node.name, section="link", at=now, state=LinkState.LIVE, since=now - 60, probe="python"),
        HostHealth(
            node=node.name, section="host", at=now, load1=0.12, cores=2, mem_total=8 << 30, mem_available=6 << 30, uptime=86_400.0,
            clock_offset=0.001, addresses=tuple(a for t in fleet.tenants for a in t.addresses),
        ),
    ]  # fmt: skip
    for speaker in node.speakers:
        facts.append(
            SpeakerStatus(
                node=node.name, section=speaker.name, at=now, speaker=speaker.name, daemon=speaker.kind, running=True, version="2.0.12",
                drain_serial=0,
            )
        )  # fmt: skip
        facts += [
            SessionStatus(
                node=node.name, section=speaker.name, at=now - 60, speaker=speaker.name, session=s.name, state=SessionState.ESTABLISHED,
                since="16:57:35.780", neighbor="198.18.0.1", neighbor_as=64611, imported=1, exported=3,
                local=local_address(fleet, node.name, s),
            )
            for s in speaker.sessions
        ]  # fmt: skip
    facts += [
        Export(
            node=node.name,
            section=sp.name,
            at=now,
            speaker=sp.name,
            session=s.name,
            prefix=p,
            exported=Exported.ANNOUNCED,
        )
        for sp, s, _, p in node_announcements(FleetStore(fleet), node)
    ]
    facts += [
        Covering(node=node.name, section=covering_section(s.name), at=now, speaker=s.name, address=address)
        for s in node.speakers if not node.cluster for target in fleet.load.targets for address in target.addresses
    ]  # fmt: skip
    for spec in node.instances:
        tenant = fleet.tenant(spec.tenant)
        section = f"{spec.kind}:{tenant.name}"
        facts.append(
            InstanceStatus(
                node=node.name, section=section, at=now, tenant=tenant.name, daemon=spec.kind, running=True, version="4.6.1", pid=4711,
                uptime=7200.0, rss=21 << 20, chroot=Chroot.INSIDE, serials=dict.fromkeys(tenant.zones, SERIAL),
            )
        )  # fmt: skip
        facts.append(
            QueryRates(
                node=node.name, section=section, at=now, tenant=tenant.name, source="probe", qps=12.0, ipv4=6.0, ipv6=6.0, udp=12.0,
                tcp=0.0, rcodes={"NOERROR": 12.0},
            )
        )  # fmt: skip
        facts += [
            Answer(
                node=node.name, section="dns", at=now, tenant=tenant.name, address=a, zone=z, rcode="NOERROR", serial=SERIAL,
                latency=0.0004, nsid=f"{tenant.name}.{node.name}",
            )
            for a in tenant.addresses for z in tenant.zones
        ]  # fmt: skip
    return facts


def healthy_store(fleet: Inventory | None = None) -> FleetStore:
    """A store in which everything serves at NOW."""
    store = FleetStore(fleet or inventory())
    store.apply(healthy(store.inventory))
    return store


def prefixes_in(fleet: Inventory, tenant: str, family: Family) -> list[str]:
    """A tenant's prefixes of one family."""
    return [p for p in fleet.tenant(tenant).prefixes if family_of(p) is family]


# --- a cluster beside it

CLUSTER = "k3s"
MONITORING = ("prometheus", "node-exporter", "blackbox-exporter", "kube-state-metrics", "filebeat", "nginx")
_ON_EACH = ("node-exporter", "filebeat")


def hybrid(bare: Iterable[str] = ("fra1", "ams1")) -> Inventory:
    """Some of the bare nodes, and a site of two nodes in the cluster "k3s" which serve the same tenants with Calico."""
    fleet = inventory(bare)
    sessions = tuple(
        SessionSpec(
            name=f"198.19.{number}.1" if family is Family.IPV4 else f"2001:db8:ff00:{number}::1",
            peer=peer,
            family=family,
            number=number,
        )
        for peer, (_, v4, v6) in _PEERS.items()
        for family, number in ((Family.IPV4, v4), (Family.IPV6, v6))
    )
    virtual = tuple(
        NodeSpec(
            name=name,
            site="muc",
            address=name,
            stack=Stack.VIRTUAL,
            cluster=CLUSTER,
            speakers=(SpeakerSpec(name="calico", kind="calico", sessions=sessions),),
            instances=tuple(InstanceSpec(tenant=t.name, kind="nsd") for t in fleet.tenants),
        )
        for name in ("hv1", "hv2")
    )
    return msgspec.structs.replace(
        fleet,
        sites=(*fleet.sites, Site(name="muc", region="eu")),
        clusters=(ClusterSpec(name=CLUSTER, namespaces={t.name: t.name for t in fleet.tenants}),),
        nodes=(*fleet.nodes, *virtual),
    )


def container(name: str, **fields: object) -> Container:
    """A container that runs."""
    running: dict[str, object] = {
        "image": f"registry.example/{name}:1.0", "state": ContainerState.RUNNING, "ready": True, "started_at": NOW - 4380,
    }  # fmt: skip
    return Container(name=name, **(running | fields))  # type: ignore[arg-type]


def pod(namespace: str, name: str, host: str = "hv1", **fields: object) -> Pod:
    """A pod that runs since 73 minutes."""
    running: dict[str, object] = {
        "section": f"pods:{namespace}", "at": NOW, "status": "Running", "is_ready": True, "created_at": NOW - 4380,
        "addresses": ("10.42.0.7", "fd42::7"), "containers": (container(name.partition("-")[0]),),
    }  # fmt: skip
    return Pod(node=CLUSTER, namespace=namespace, name=name, host=host, **(running | fields))  # type: ignore[arg-type]


def name_server_pod(tenant: str, host: str, **fields: object) -> Pod:
    """The pod of a tenant's name server on a node: name server, observer and metrics exporter."""
    servers = tuple(container(name) for name in ("observer", "nsd", "exporter"))
    known: dict[str, object] = {
        "tenant": tenant, "app": "ns", "component": "name-server", "owner": f"Deployment/ns-{tenant}", "containers": servers,
    }  # fmt: skip
    return pod(tenant, f"ns.{tenant}-7c89b7799b-{host}", host, **(known | fields))


def cluster_facts(fleet: Inventory, now: float = NOW) -> list[Update]:
    """What a healthy cluster says of itself: three tenants and the monitoring namespace."""
    facts: list[Update] = [
        Link(node=CLUSTER, section="link", at=now, state=LinkState.LIVE, since=now - 60),
        Cluster(node=CLUSTER, section="api", at=now, version="v1.31.4+k3s1", calico="crd.projectcalico.org/v1", user="ops"),
        RoutingConfig(node=CLUSTER, section="calico", at=now, api="crd.projectcalico.org/v1", dead_man=True),
    ]  # fmt: skip
    hosts = [node.address for node in fleet.nodes if node.cluster == CLUSTER]
    for tenant in fleet.tenants:
        facts.append(
            TenantSet(node=CLUSTER, section=set_section(tenant.name), at=now, tenant=tenant.name, is_set_up=True)
        )
        facts += [name_server_pod(tenant.name, host, at=now) for host in hosts]
        facts.append(pod(tenant.name, "ac-c9df674b-wt9b8", tenant=tenant.name, app="ac", at=now))
        facts.append(
            ClusterEvent(
                node=CLUSTER, section=f"events:{tenant.name}", at=now, namespace=tenant.name, name=f"ns.{tenant.name}.17a3",
                severity="Normal", about=f"Pod/ns.{tenant.name}-7c89b7799b-hv1", reason="Pulled", message="Container image present",
                count=1, last_at=now - 4380,
            )
        )  # fmt: skip
    for app in MONITORING:
        for host in hosts if app in _ON_EACH else hosts[:1]:
            facts.append(pod("monitoring", f"{app}-{host}", host, app=app, at=now))
    return facts


def _virtual_facts(fleet: Inventory, node: NodeSpec, now: float) -> list[Update]:
    own = [f for f in _node_facts(fleet, node, now) if isinstance(f, SpeakerStatus | SessionStatus | Export)]
    facts: list[Update] = [
        Link(node=node.name, section="link", at=now, state=LinkState.LIVE, since=now - 60),
        ClusterNode(
            node=node.name, section="host", at=now, cluster=node.cluster, is_ready=True, version="v1.31.4+k3s1",
            addresses=("10.1.0.5",), labels={"kubernetes.io/hostname": node.address},
        ),
        *own,
    ]  # fmt: skip
    for spec in node.instances:
        facts += [
            InstanceStatus(
                node=node.name, section=f"pod:{spec.tenant}", at=now, tenant=spec.tenant, daemon=spec.kind, running=True, version="4.8.0",
                uptime=4380.0, is_ready=True,
            ),
            QueryRates(
                node=node.name, section=f"prometheus:{spec.tenant}", at=now, tenant=spec.tenant, source="prometheus", qps=9.0,
            ),
        ]  # fmt: skip
    return facts


def healthy_hybrid(fleet: Inventory | None = None, now: float = NOW) -> FleetStore:
    """A store in which everything serves, in the cluster too."""
    store = FleetStore(fleet or hybrid())
    store.apply(healthy(store.inventory, now))
    return store


def settled_hybrid() -> FleetStore:
    """The same, a while after everything came up: what isn't announced then isn't on its way."""
    store = healthy_hybrid(now=NOW - 10)
    places = {fact.node for fact in store}
    store.apply([Beat(node=name, at=NOW, sections=tuple(store.sections(name))) for name in places])
    return store
