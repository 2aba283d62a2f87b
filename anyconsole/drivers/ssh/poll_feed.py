"""Polling over SSH where a host can't run the probe: the same collectors, driven from here, with the same facts at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import asyncssh

from anyconsole.drivers.ask import FRESH, Ask, CollectError, Reply, Row, Run
from anyconsole.drivers.parse_error import ParseError
from anyconsole.drivers.probe.collect import Section, sections
from anyconsole.drivers.probe.config import unprobed
from anyconsole.drivers.probe.facts_of import RowError
from anyconsole.drivers.probe.stream import FactTracker, Update
from anyconsole.drivers.ssh.fault import Fault, Lost, SshError, plain
from anyconsole.drivers.ssh.node_transport import NodeTransport

__all__ = ["PollFeed"]

PERIOD: Final = 2.0
"""Seconds between rounds: each costs the host several processes, where the probe costs it half a millisecond."""

PATIENCE: Final = 3.0
CLOCK_EVERY: Final = 60.0
RAW_LIMIT: Final = 262_144


class PollFeed:
    """One host's sections, asked by turns."""

    kind = "poll"

    def __init__(
        self,
        name: str,
        connection: asyncssh.SSHClientConnection,
        config: dict[str, Any],
        received: Callable[[Sequence[Update]], None],
        tracker: FactTracker,
    ) -> None:
        self.errors: dict[str, str] = {}
        self.last_words = ""
        self._name = name
        self._received = received
        self._transport = NodeTransport(connection)
        self._tracker = tracker
        self._period = max(PERIOD, 1.0 / float(config["hz"]))
        self._sections = sections(unprobed(config))
        self._states: dict[str, dict[str, Any]] = {section.name: {} for section in self._sections}
        self._heard: dict[str, list[tuple[Ask, Reply]]] = {}
        self._clock_offset = 0.0
        self._clock_due = 0.0
        self._looks: list[asyncio.Future[frozenset[str]]] = []
        self._look_wanted = asyncio.Event()

    async def run(self) -> None:
        """Poll until the connection is lost. Always raises."""
        on_demand = [s for s in self._sections if s.on_demand]
        others = [s for s in self._sections if not s.on_demand]
        try:
            while True:
                began = time.monotonic()
                # Whoever asks from here on waits for the next round: of this one, some part may be over by then.
                asked, self._looks = self._looks, []
                self._look_wanted.clear()
                try:
                    if began >= self._clock_due:
                        self._clock_due = began + CLOCK_EVERY
                        await self._read_clock()
                    seen = frozenset([s.name for s in on_demand if await self._poll(s, fresh=bool(asked))])
                except BaseException:
                    self._looks += asked
                    raise
                for look in asked:
                    if not look.done():
                        look.set_result(seen)
                if not self._looks:
                    for section in others:
                        await self._poll(section)
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.1, self._period - (time.monotonic() - began))):
                        await self._look_wanted.wait()
        finally:
            for look in self._looks:
                look.cancel()

    async def look(self) -> frozenset[str]:
        """Look at every section but DNS in a round that begins now, or when the present one is over. Raises SshError."""
        look: asyncio.Future[frozenset[str]] = asyncio.get_running_loop().create_future()
        self._looks.append(look)
        self._look_wanted.set()
        await asyncio.wait({look})
        if look.cancelled():
            raise Lost(f"{self._name}: connection lost before it was looked at")
        return look.result()

    async def _poll(self, section: Section, *, fresh: bool = False) -> bool:
        """One round of a section; True if it was seen."""
        self._states[section.name][FRESH] = fresh
        try:
            rows = await self._round(section)
            if rows is None:
                return False
            updates = self._tracker.replace(section.name, rows, time.time(), self._clock_offset)
        except (CollectError, ParseError, RowError) as error:
            self.errors[section.name] = plain(str(error))
        except SshError:
            raise
        except Exception as error:  # noqa: BLE001 - a bug in one section must not end the others; it is shown as its error
            self._states[section.name].clear()
            self.errors[section.name] = plain(repr(error))
        else:
            self.errors.pop(section.name, None)
            self._received(updates)
            return True
        return False

    async def raw(self, section: str) -> str:
        """What was asked of a section in its last round, and what came back. Raises SshError."""
        if section not in self._heard:
            raise SshError(Fault.PROBE, f"{self._name}: no section {section!r} was polled yet")
        return "\n".join(
            f"> {ask}\n{reply.data.decode('utf-8', 'replace') or reply.text}" for ask, reply in self._heard[section]
        )[:RAW_LIMIT]

    async def _round(self, section: Section) -> list[Row] | None:
        """The rows of a section; None if there was nothing to look at this time."""
        timeout = max(PATIENCE, section.deadline)
        heard: list[tuple[Ask, Reply]] = []
        collector = section.start(self._states[section.name], time.monotonic())
        try:
            batch = next(collector)
            while True:
                replies = await self._transport.answer(batch, timeout)
                heard += zip(batch, replies, strict=True)
                if any(reply.fault != "timeout" for reply in replies):
                    self._received([])
                batch = collector.send(replies)
        except StopIteration as done:
            rows: list[Row] | None = done.value
            return rows
        finally:
            collector.close()
            if heard:
                self._heard[section.name] = heard

    async def _read_clock(self) -> None:
        asked = time.time()
        reply = (await self._transport.answer([Run(("date", "+%s.%N"))], PATIENCE))[0]
        try:
            # Where date can't tell parts of a second it prints a letter, and half a second is a fair guess.
            whole, _, part = reply.data.decode("ascii").strip().partition(".")
            clock = int(whole) + (float(f"0.{part}") if part.isdigit() else 0.5)
            self._clock_offset = round(clock - (asked + time.time()) / 2, 2)
        except (ValueError, OverflowError):
            return
