"""Generators are connected to like every other host, kept alive, and asked nothing but how they are."""

from __future__ import annotations

import asyncio

import pytest

from anyconsole.headless import looked_at
from anyconsole.lab import Lab
from anyconsole.model.facts import LinkState
from anyconsole.profile.load import load_profile

pytestmark = pytest.mark.lab

PATIENCE = 20.0


async def test_every_generator_is_connected_and_stays_so_beside_the_vantage_point_on_its_host(lab: Lab) -> None:
    fleet = load_profile(str(lab.profile_path))
    async with looked_at(fleet, PATIENCE) as engine:
        store = engine.store
        async with asyncio.timeout(PATIENCE):
            while not all(store.host(g.name) for g in fleet.generators):
                await engine.changed()
            # One more tick of each: what keeps the link alive goes on.
            seen = {g.name: store.section_seen_at(g.name, "host") or 0.0 for g in fleet.generators}
            while any((store.section_seen_at(name, "host") or 0.0) <= at for name, at in seen.items()):
                await engine.changed()
        for generator in fleet.generators:
            link = store.link(generator.name)
            assert link is not None
            assert (link.state, link.detail) == (LinkState.LIVE, "")
            assert set(store.sections(generator.name)) == {"link", "host"}
        assert [g.address for g in fleet.generators] == [v.address for v in fleet.vantages]
