"""What a place is about: the part of the fleet that a pane is narrowed to, and which row belongs to it."""

from __future__ import annotations

import msgspec

from anyconsole.model.facts import Key
from anyconsole.model.inventory import Inventory

__all__ = ["Scope", "node_of", "scope_of"]


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the fleet. An empty field does not narrow."""

    node: str = ""
    tenant: str = ""
    session: str = ""
    prefix: str = ""

    def holds(self, other: Scope) -> bool:
        """True if everything this scope narrows to is said, and said alike, by `other`."""
        return all(
            mine in ("", theirs)
            for mine, theirs in (
                (self.node, other.node),
                (self.tenant, other.tenant),
                (self.session, other.session),
                (self.prefix, other.prefix),
            )
        )

    @property
    def words(self) -> str:
        """The scope in a title, "" for the whole fleet."""
        return " ".join(word for word in (self.node, self.session, self.tenant, self.prefix) if word)


def scope_of(inventory: Inventory, key: Key) -> Scope:
    """What a row or an event's subject is about, as narrow as it can be said."""
    match key:
        case ("node", node) | ("drain", node, _):
            return Scope(node=node)
        case ("tenant", tenant):
            return Scope(tenant=tenant)
        case ("instance", node, tenant):
            return Scope(node=node, tenant=tenant)
        case ("session", node, _, session):
            return Scope(node=node, session=session)
        case ("announcement", node, _, session, prefix):
            tenant = next((t.name for t in inventory.tenants if prefix in t.prefixes), "")
            return Scope(node=node, session=session, tenant=tenant, prefix=prefix)
        case ("catchment", _, address, _):
            return Scope(tenant=next((t.name for t in inventory.tenants if address in t.addresses), ""))
        case ("catchment", _, tenant):
            return Scope(tenant=tenant)
        case _:
            return Scope()


def node_of(inventory: Inventory, key: Key) -> str:
    """The node a key is about, "" if it is about none."""
    return scope_of(inventory, key).node
