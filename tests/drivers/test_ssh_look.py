"""What is done on a node by hand: in the store as soon as a fresh look returns, and called drift where the daemon doesn't know of it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from anyconsole.drivers.ssh.fleet import SshFleet
from anyconsole.lab import Lab, control
from anyconsole.model import verdicts
from anyconsole.model.facts import LinkState
from anyconsole.model.store import FleetStore
from anyconsole.model.verdicts import Verdict
from anyconsole.profile import load_profile

pytestmark = pytest.mark.lab

NAMES = ("fra1", "fra2", "lon1")
DRAIN = """\
define DRAIN_SERIAL = {serial};
define DRAIN_NOTE = "by hand";
define DRAIN_HARD = [ (0,0) ];
define DRAIN_SOFT = [ (0,0) ];
"""


@asynccontextmanager
async def watched(lab: Lab) -> AsyncIterator[tuple[SshFleet, FleetStore]]:
    """The lab's fleet, all of `NAMES` live."""
    inventory = load_profile(str(lab.profile_path))
    store = FleetStore(inventory)
    fleet = SshFleet(inventory, store.apply)  # type: ignore[arg-type]
    task = asyncio.create_task(fleet.run())
    try:
        async with asyncio.timeout(20):
            while any((link := store.link(n)) is None or link.state is not LinkState.LIVE for n in NAMES):
                await asyncio.sleep(0.05)
        yield fleet, store
    finally:
        await fleet.close()
        await asyncio.wait({task})


async def by_hand(lab: Lab, host: str, script: str) -> None:
    done = await asyncio.to_thread(lab.run, host, ["sh", "-c", script], 10)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_what_was_changed_by_hand_is_in_the_store_when_the_look_returns(lab: Lab) -> None:
    kept = lab.run("fra1", ["cat", "/etc/bird/drain.conf"]).stdout
    took = []
    try:
        async with watched(lab) as (fleet, store):
            for serial in range(101, 106):
                text = DRAIN.format(serial=serial)
                await by_hand(lab, "fra1", f"cat > /etc/bird/drain.conf <<'EOT'\n{text}EOT\nbirdc configure")
                began = time.monotonic()
                assert await fleet.look(["fra1"], 5.0) == {"fra1"}
                took.append(time.monotonic() - began)
                status = store.speaker("fra1", "bird")
                assert status is not None
                assert status.drain_serial == serial
            assert fleet.operator_key("fra1"), "the key that logged us in has a name"
            assert fleet.operator_key("nowhere") == ""
    finally:
        await by_hand(lab, "fra1", f"cat > /etc/bird/drain.conf <<'EOT'\n{kept}EOT\nbirdc configure")
    print("looks took", [f"{t:.2f}" for t in took])
    assert min(took) < 0.5, "it does not wait for the next tick"


async def test_a_stuck_daemon_is_missing_and_the_others_are_not_delayed(lab: Lab) -> None:
    async with watched(lab) as (fleet, _):
        assert await fleet.look(NAMES, 5.0) == set(NAMES)
        control.signal_program(lab.paths, "fra2", "/usr/sbin/bird", signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert await fleet.look([*NAMES, "nowhere"], 1.5) == {"fra1", "lon1"}
            assert time.monotonic() - began < 2.5
        finally:
            control.signal_program(lab.paths, "fra2", "/usr/sbin/bird", signal.SIGCONT)
        async with asyncio.timeout(10):
            while await fleet.look(["fra2"], 5.0) != {"fra2"}:
                await asyncio.sleep(0.1)


async def test_a_drain_file_edited_by_hand_is_drift_until_it_agrees_again(lab: Lab) -> None:
    def seen(store: FleetStore) -> tuple[Verdict, str]:
        verdict = verdicts.node(store, store.inventory.node("fra1"), time.time())
        return verdict.verdict, verdict.reason

    async def until(store: FleetStore, wanted: tuple[Verdict, str]) -> None:
        try:
            async with asyncio.timeout(10):
                while seen(store) != wanted:
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"wanted {wanted}, seen {seen(store)}") from None

    serving = (Verdict.SERVING, "")
    async with watched(lab) as (_, store):
        await until(store, serving)
        status = store.speaker("fra1", "bird")
        assert status is not None
        assert status.disk_serial == status.drain_serial
        await by_hand(
            lab,
            "fra1",
            "cp -p /etc/bird/drain.conf /tmp/kept; sed -i 's/SERIAL = .*/SERIAL = 777;/' /etc/bird/drain.conf",
        )
        try:
            await until(store, (Verdict.DRIFT, f"drain file says serial 777, the daemon {status.drain_serial}"))
            await by_hand(lab, "fra1", "chmod 600 /etc/bird/drain.conf; chown root /etc/bird/drain.conf")
            await until(store, serving)
            assert (now := store.speaker("fra1", "bird")) is not None
            assert now.disk_serial is None, "what may not be read is not known, and no drift"
        finally:
            await by_hand(lab, "fra1", "cp -p /tmp/kept /etc/bird/drain.conf; rm /tmp/kept")
        await until(store, serving)
