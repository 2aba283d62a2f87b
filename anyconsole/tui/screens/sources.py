"""`y` and `l`: what a daemon itself said, and its log as it grows; the sections or logs of one object, one at a time."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, ClassVar, cast

from textual.binding import BindingType

from anyconsole.errors import AnyconsoleError
from anyconsole.model.table import Level, clock
from anyconsole.tui.actions import Context, bindings
from anyconsole.tui.screens.text import TextScreen
from anyconsole.tui.sources import Source
from anyconsole.tui.widgets.text_view import Line

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyconsole.tui.app import ConsoleApp

__all__ = ["LogScreen", "RawScreen"]

_log = logging.getLogger(__name__)

_LOG_LINES = 10_000
"""Lines of a log that are kept; older ones are dropped."""

_CONTAINER = "pod/"
"""How the path of a container begins."""

_SILENCE = 3.0
"""Seconds after which a log that has sent nothing at all is explained."""

_LONGEST_PART = 8192
"""A log that writes no line end is cut into lines of this many characters."""


class SourceScreen(TextScreen):
    """Reads one source at a time, in a task that ends with the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Context.SOURCES)]
    contexts: tuple[Context, ...] = (Context.TEXT, Context.SOURCES, Context.APP)
    kind: ClassVar[str] = ""

    def __init__(self, app: ConsoleApp, sources: Sequence[Source]) -> None:
        super().__init__(app, self.kind)
        self._sources = sources
        self._index = 0
        self._reading: asyncio.Task[None] | None = None

    @property
    def source(self) -> Source:
        """What is being read."""
        return self._sources[self._index]

    def begin(self) -> None:
        """Read the first source."""
        self._start()

    def on_unmount(self) -> None:
        """Nobody reads any more."""
        if self._reading is not None:
            self._reading.cancel()

    def action_source(self, step: int) -> None:
        """`[` and `]`."""
        self._index = (self._index + step) % len(self._sources)
        self._start()

    def action_ask_again(self) -> None:
        """`R`."""
        self._start()

    def _start(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        count = f"  {self._index + 1} of {len(self._sources)}" if len(self._sources) > 1 else ""
        self.heading = f"{self.kind} {self.source.node} {self.source.label}{count}"
        self.text.clear()
        self._reading = asyncio.create_task(self._guarded(), name=self.heading)

    async def _guarded(self) -> None:
        try:
            await self.read(self.source)
        except AnyconsoleError as error:
            self.note(f"{error}; R asks again", Level.CRIT)
        except Exception as error:  # noqa: BLE001 - said and logged: a fault in one text must not end the console
            _log.exception("reading %s", self.source)
            self.note(f"{type(error).__name__}: {error}", Level.CRIT)

    async def read(self, source: Source) -> None:
        """Fill the text. Raises AnyconsoleError."""


class RawScreen(SourceScreen):
    """What the daemon said last, as it said it."""

    kind = "raw"

    async def read(self, source: Source) -> None:
        """Ask once."""
        self.note("asking ...")
        text = await self.console.client.ask("raw", node=source.node, section=source.what)
        self.text.show(Line(line) for line in text.splitlines())
        self.note(f"as of {clock(self.console.now())} UTC" if text else "the section has said nothing yet")


class LogScreen(SourceScreen):
    """A log, followed."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Context.LOG)]
    contexts = (Context.TEXT, Context.SOURCES, Context.LOG, Context.APP)
    kind = "log"

    def __init__(self, app: ConsoleApp, sources: Sequence[Source]) -> None:
        super().__init__(app, sources)
        self._held: deque[Line] | None = None
        self._silent_since: float | None = None
        self._is_previous = False
        self.text.can_follow = True

    def tick(self) -> None:
        """A file that isn't there and one that is empty look alike from here: say so instead of showing nothing."""
        if self._silent_since is not None and self.console.now() - self._silent_since >= _SILENCE:
            self._silent_since = None
            what = self.source.what
            why = (
                "has it said anything?"
                if self._is_container
                else "is it empty, missing, or not readable by your login?"
            )
            self.note(f"{what}: nothing yet; {why}", Level.WARN)

    @property
    def _words(self) -> str:
        return f"PREVIOUS RUN of {self.source.what}" if self._is_previous else self.source.what

    @property
    def _is_container(self) -> bool:
        return self.source.what.startswith(_CONTAINER)

    def action_source(self, step: int) -> None:
        """Another log begins with what is said now."""
        self._is_previous = False
        super().action_source(step)

    def action_previous(self) -> None:
        """`p`: the container's run before this one, and back."""
        if self._is_container:
            self._is_previous = not self._is_previous
            self._start()
        else:
            self.say("only a container has a run before this one", Level.WARN)

    def engine_back(self) -> None:
        """What was followed ended with the engine."""
        self._start()

    def action_pause(self) -> None:
        """`Z`: lines that come meanwhile are kept and shown afterwards."""
        if self._held is None:
            self._held = deque(maxlen=_LOG_LINES)
            self.note("PAUSED, lines keep coming in", Level.WARN)
            return
        held, self._held = self._held, None
        self.text.append(held)
        self.note(self._words)

    async def read(self, source: Source) -> None:
        """Follow until the screen goes or the other end closes."""
        self.text.follow = True
        self._held = None
        self._silent_since = self.console.now()
        self.note(self._words)
        part = ""
        args = {"node": source.node, "path": source.what} | ({"previous": "true"} if self._is_previous else {})
        stream = cast("AsyncGenerator[str, None]", self.console.client.follow("log", **args))
        async with aclosing(stream):
            async for chunk in stream:
                if not self.text.lines and self._held is None:
                    self.note(self._words)
                self._silent_since = None
                *lines, part = (part + chunk).split("\n")
                if len(part) > _LONGEST_PART:
                    lines, part = [*lines, part], ""
                self._add(lines)
        self._add([part] if part else [])
        if self._is_previous:
            self.note(f"{self._words}: this is how it ended; p shows what it says now", Level.STALE)
        else:
            self.note("the log was closed at the other end; R follows it again", Level.WARN)

    def _add(self, lines: Sequence[str]) -> None:
        new = [Line(line.rstrip("\r")) for line in lines]
        if self._held is not None:
            self._held.extend(new)
        elif new:
            self.text.append(new)
