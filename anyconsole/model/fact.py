"""What all facts have. The kinds of facts are in `facts`, and in `pods` those about Kubernetes clusters."""

from __future__ import annotations

from typing import ClassVar, TypeAlias

import msgspec

__all__ = ["Fact", "Key"]

Key: TypeAlias = tuple[str, ...]
"""Identity of a fact: its kind, its node, and what it is about."""


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """What all facts have: where it was seen, by which section, and when it was true (epoch seconds, engine's clock)."""

    kind: ClassVar[str] = ""

    node: str
    section: str
    at: float

    @property
    def key(self) -> Key:
        """Identity: a later fact with this key replaces this one."""
        return (self.kind, self.node)
