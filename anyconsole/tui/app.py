"""The console's app: owns the client's life, the clock, the screens, and the orderly end.

It never waits for the fleet in a key handler: the client applies frames to the replica, and timers paint what changed.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeGuard, runtime_checkable

from textual import events
from textual.actions import ActionParseResult
from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.dom import DOMNode
from textual.screen import Screen
from textual.widgets import Input

from anyconsole import theme as themes
from anyconsole.engine.client import EngineClient, EngineState
from anyconsole.errors import AnyconsoleError
from anyconsole.logs import log_to_file
from anyconsole.model.events import Event
from anyconsole.model.inventory import Inventory
from anyconsole.model.store import ChangeSet
from anyconsole.model.table import ASCII, UNICODE, Level
from anyconsole.model.table import clock as time_of_day
from anyconsole.model.views import FLEET
from anyconsole.tui import commands
from anyconsole.tui.actions import ACTIONS, Action, Context, bindings, mutating
from anyconsole.tui.bottom import Bottom
from anyconsole.tui.changing import Changing
from anyconsole.tui.diff_driver import DiffDriver
from anyconsole.tui.fleet_client import FleetClient
from anyconsole.tui.header import Header, HeaderFacts, freshness, summary
from anyconsole.tui.live_rows import LiveRows
from anyconsole.tui.load_results import LoadResults
from anyconsole.tui.object_actions import ObjectActions
from anyconsole.tui.places import Place
from anyconsole.tui.scope import Scope
from anyconsole.tui.screen_text import screen_text
from anyconsole.tui.screens.main import MainScreen

if TYPE_CHECKING:
    from anyconsole.tui.screens.dialog import Dialog
    from anyconsole.tui.screens.text import TextScreen

__all__ = ["ConsoleApp", "run"]

_log = logging.getLogger(__name__)

_SECOND_PRESS = 2.0
"""Seconds within which the second ctrl-c must come."""

_SUMMARY_BUDGET = 0.02

_NOT_IN_PALETTE = ("move(", "command_palette", "interrupt", "theme", "sideways(")
"""Beginnings of actions that the palette leaves out: they are keys only, or it says them better itself."""


@runtime_checkable
class _Saying(Protocol):
    """A screen with a message line of its own."""

    is_mounted: bool

    def say(self, text: str, level: Level = Level.NONE) -> None:
        """A message in it."""


class ConsoleApp(App[int], inherit_bindings=False):
    """One fleet, one terminal."""

    TITLE = "anyconsole"
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Context.APP)]
    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_BINDING = "ctrl+p"

    def __init__(
        self,
        client: FleetClient,
        *,
        theme: str = themes.DEFAULT_THEME,
        glyphs: str = "unicode",
        clock: Callable[[], float] = time.time,
        log_path: Path | None = None,
    ) -> None:
        """Make the app.

        Args:
            client: The replica of the fleet; the app runs and closes it.
            theme: Name of a theme.
            glyphs: "unicode" or "ascii".
            clock: Seconds since the epoch.
            log_path: Where errors are logged, for the one line that is said at an unexpected end.

        Raises:
            AnyconsoleError: There is no such theme.
        """
        # With NO_COLOR Textual makes greys of colours, and black of the sixteen named ones, unless it is told that those are meant.
        super().__init__(driver_class=DiffDriver, ansi_color=bool(os.environ.get("NO_COLOR")) or None)
        self.client = client
        self.now = clock
        self.glyphs = ASCII if glyphs == "ascii" else UNICODE
        self.history: dict[str, list[str]] = {"/": [], ":": [], "search": []}
        self.events_seen = 0
        self.objects = ObjectActions(self)
        self.changing = Changing(self)
        self.load_results = LoadResults(self)
        self.main: MainScreen = MainScreen(self)
        self.animation_level = "none"
        self._log_path = log_path
        self._summary = LiveRows(FLEET, client.store, Scope(), self.glyphs)
        self._client_task: asyncio.Task[None] | None = None
        self._interrupted_at = -_SECOND_PRESS
        self._is_loaded = False
        self._state = client.state
        self._was_lost = False
        self._themes = {path.stem: themes.load_theme(path) for path in themes.find_themes().values()}
        for known in self._themes.values():
            self.register_theme(known)
        self.use_theme(theme)

    # --- life

    def get_default_screen(self) -> Screen[Any]:
        """The main screen, at once: the first frame waits for nobody."""
        return self.main

    def on_mount(self) -> None:
        """Start the client, the clocks and the handlers of signals."""
        loop = asyncio.get_running_loop()
        self._summary.load(self.now())
        self.events_seen = len(self.client.events)
        self.client.listen(self._take)
        self._client_task = loop.create_task(self._run_client(), name="engine client")
        self.set_interval(1.0, self._each_second)
        if not self.is_headless:
            for number in (signal.SIGHUP, signal.SIGTERM):
                loop.add_signal_handler(number, self._end, 128 + number)

    async def _run_client(self) -> None:
        try:
            await self.client.run()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - a lost engine is a state on the screen, never the end of it
            _log.exception("the engine client stopped")
            self.client.state, self.client.state_detail = EngineState.LOST, f"{type(error).__name__}: {error}"
            self.call_later(self.tick)

    async def on_unmount(self) -> None:
        """Take the engine down with us."""
        if self._client_task is not None:
            self._client_task.cancel()
            await asyncio.gather(self._client_task, return_exceptions=True)
        await self.client.close()

    def terminal_lost(self) -> None:
        """The terminal was closed: there is nobody to paint for."""
        self._end(128 + signal.SIGHUP)

    def _end(self, code: int) -> None:
        _log.info("ends with %d", code)
        self.exit(code, return_code=code)

    def _handle_exception(self, error: Exception) -> None:
        """An error of ours: logged with its traceback; the terminal gets one line instead of it."""
        if self._exit:  # a terminal that went before the first frame leaves half-made screens behind
            _log.info("while ending", exc_info=error)
            return
        _log.critical("the console failed", exc_info=error)
        if self.is_headless:
            super()._handle_exception(error)
            return
        where = f", see {self._log_path}" if self._log_path else ""
        self.exit(70, return_code=70, message=f"anyconsole: {type(error).__name__}{where}")
        self._close_messages_no_wait()

    async def on_event(self, event: events.Event) -> None:
        """Act on a key before looking at the next: what is pasted, or comes in one piece over a slow link, lands where it belongs.

        Textual would hand all of `/knot` to the table before the prompt that `/` opens is there.
        """
        if isinstance(event, events.Key) and not event.is_forwarded and not self._is_typed(event.key):
            for is_priority in (True, False):
                if await self._check_bindings(event.key, priority=is_priority):
                    return
        await super().on_event(event)

    def _is_typed(self, key: str) -> bool:
        """True for a key that is the focused line's own. In a dialog tab is not: what is typed behind it belongs to the next field."""
        return isinstance(self.focused, Input) and not (key in ("tab", "shift+tab") and _is_dialog(self.screen))

    # --- data

    def _take(self, changes: ChangeSet, events: Sequence[Event]) -> None:
        self.events_seen += len(events)
        self._summary.mark(changes)
        self.main.take(changes, events)
        self._tell_state()
        self.changing.take()
        if not self._is_loaded and changes.changed and self.client.state is EngineState.LIVE:
            self._is_loaded = True
            self.set_timer(5.0, _spare_the_collector)

    def _tell_state(self) -> None:
        """The header has little room; why the engine is lost, and that it is back, is said in the message line too."""
        before, self._state = self._state, self.client.state
        if self._state is EngineState.LOST and before is not EngineState.LOST:
            self.say(self.client.state_detail, Level.CRIT)
        elif self._state is EngineState.LIVE and self._was_lost:
            self.say("the engine is back", Level.OK)
            for screen in self.screen_stack:
                if _is_text(screen) and screen.is_there:
                    screen.engine_back()
        self._was_lost = self._state is EngineState.LOST or (self._was_lost and self._state is not EngineState.LIVE)
        if self._state is not before:
            self.tick()

    def _each_second(self) -> None:
        self.client.store.sample(self.now())
        self.main.age()
        for screen in self.screen_stack:
            if (_is_text(screen) or _is_dialog(screen)) and screen.is_there:
                screen.tick()
        self.tick()

    def tick(self) -> None:
        """Bring the headers up to date."""
        now = self.now()
        self._summary.sweep((), now, _SUMMARY_BUDGET)
        rows = self._summary.rows.values()
        states, qps = summary(rows)
        facts = HeaderFacts(
            now=now,
            summary=states,
            qps=qps,
            freshness=freshness(rows, self.client.state, self.client.state_detail, self.client.inventory.poll.stale),
            frozen_at=self.main.frozen_at,
            armed_for=self.changing.armed_for,
            changes=self.changing.words,
        )
        for screen in self.screen_stack:
            for bottom in screen.query(Bottom):
                bottom.show_armed(self.changing.is_armed)
            for header in screen.query(Header):
                header.show(facts)

    # --- themes

    @property
    def theme_is_plain(self) -> bool:
        """True if the theme leaves colours to the terminal."""
        return bool(self.current_theme.ansi)

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Our own variables, for themes that don't say them."""
        # Textual's own CSS wants ansi-background, and its ansi palette lacks it.
        return {"ansi-background": "ansi_default", **themes.VARIABLE_DEFAULTS}

    @property
    def theme_names(self) -> list[str]:
        """Themes to choose from: the project's and the user's. Textual's own fail our lint."""
        return sorted(self._themes)

    def use_theme(self, name: str) -> None:
        """Change the colours. Raises AnyconsoleError for an unknown theme."""
        if name not in self._themes:
            raise AnyconsoleError(f"there is no theme {name!r}; there are {', '.join(self.theme_names)}")
        self.theme = name

    # --- commands

    async def run_action(
        self,
        action: str | ActionParseResult,
        default_namespace: DOMNode | None = None,
        namespaces: Mapping[str, DOMNode] | None = None,
    ) -> bool:
        """Every key, command and palette entry comes through here: what changes the fleet goes no further while it is read-only."""
        name = action if isinstance(action, str) else action[1]
        if mutating(name) is not None and self.changing.refuse():
            return True
        return await super().run_action(action, default_namespace, namespaces)

    @property
    def choices(self) -> commands.Choices:
        """What the arguments of commands can be."""
        inventory = self.client.inventory
        return {
            "node": lambda: [n.name for n in inventory.nodes],
            "tenant": lambda: [t.name for t in inventory.tenants],
            "theme": lambda: self.theme_names,
            "sort": lambda: [c.id for c in self.main.pane.source.columns] if self.main.pane else [],
        }

    async def run_command(self, text: str) -> None:
        """Run what was typed after `:`."""
        try:
            command = commands.parse(text, self.choices)
        except commands.UnknownCommandError as error:
            self.say(str(error), Level.WARN)
            return
        argument = command.argument
        match command.action.argument:
            case "node":
                await self.main.go(Place("node", Scope(node=argument)))
            case "tenant":
                await self.main.go(Place("tenant", Scope(tenant=argument)))
            case "theme":
                self.use_theme(argument)
            case "filter":
                self.main.set_filter(argument)
            case "sort":
                if (pane := self.main.pane) is not None:
                    pane.table.sort_by(argument)
            case "file":
                self.write_screen(argument)
            case "time":
                self.changing.arm(argument)
            case _:
                await self.run_action(command.action.act, self._namespace(command.action))

    def _namespace(self, action: Action) -> DOMNode:
        if Context.MAIN in action.contexts:
            return self.main
        if Context.TABLE in action.contexts and self.main.pane is not None:
            return self.main.pane.table
        return self

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: what the registry has for this place, and every theme."""
        on_main = screen is self.main
        for action in ACTIONS:
            where = {Context.MAIN, Context.TABLE, Context.APP} if on_main else {Context.APP}
            if action.mutates and not self.changing.is_armed:
                continue
            if where.intersection(action.contexts) and not action.act.startswith(_NOT_IN_PALETTE):
                yield SystemCommand(action.title, action.explain, lambda action=action: self._run_from_palette(action))
        for name in self.theme_names:
            yield SystemCommand(f"Theme {name}", "Change the colours.", lambda name=name: self.use_theme(name))

    def _run_from_palette(self, action: Action) -> None:
        self.call_later(self.run_action, action.act, self._namespace(action))

    # --- what screens ask for

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that takes its time; what goes wrong is said."""
        self.run_worker(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except AnyconsoleError as error:
            self.say(str(error), Level.CRIT)
        except Exception as error:  # noqa: BLE001 - said and logged: a fault in one action must not end the console
            _log.exception("an action failed")
            self.say(f"{type(error).__name__}: {error}", Level.CRIT)

    def say(self, text: str, level: Level = Level.NONE) -> None:
        """A message on whichever screen is seen."""
        screen = self.screen
        target = screen if isinstance(screen, _Saying) else self.main
        if target.is_mounted:
            target.say(text, level)

    def write_to_terminal(self, sequence: str) -> None:
        """Send a control sequence past the painted picture."""
        if self._driver is not None:
            self._driver.write(sequence)

    def write_screen(self, name: str) -> None:
        """Write what is shown, with the message that says so, to a new file; with colours if its name ends in `.ans`."""
        path = Path(name).expanduser()

        def write() -> None:
            try:
                with path.open("x", encoding="utf-8") as file:
                    file.write(screen_text(self.screen, colours=path.suffix == ".ans"))
            except OSError as error:
                self.say(f"{path}: {error.strerror}", Level.CRIT)

        if not name:
            self.say(":dump wants the name of a file", Level.WARN)
            return
        self.say(f"the screen is written to {path}")
        self.call_after_refresh(write)

    # --- actions that work everywhere

    def action_help(self) -> None:
        """`?`."""
        screen = self.screen
        from anyconsole.tui.screens.help import HelpScreen  # noqa: PLC0415 - the first frame doesn't wait for it

        if isinstance(screen, HelpScreen):
            return
        contexts = (
            screen.contexts if _is_text(screen) or _is_dialog(screen) else (Context.TABLE, Context.MAIN, Context.APP)
        )
        self.push_screen(HelpScreen(self, contexts))

    async def action_theme(self) -> None:
        """Ask which theme on the command line."""
        await self.main.action_command("theme ")

    def action_redraw(self) -> None:
        """Ctrl-l."""
        if isinstance(self._driver, DiffDriver):
            self._driver.repaint()
        else:
            self.refresh(layout=True)

    async def action_quit(self) -> None:
        """`:q`."""
        self.exit(0)

    def action_interrupt(self) -> None:
        """Ctrl-c, twice."""
        now = time.monotonic()
        if now - self._interrupted_at <= _SECOND_PRESS:
            self.exit(0)
            return
        self._interrupted_at = now
        self.say("press ctrl-c again within 2 seconds to quit", Level.WARN)


def _is_text(screen: Screen[Any]) -> TypeGuard[TextScreen]:
    from anyconsole.tui.screens.text import TextScreen  # noqa: PLC0415 - the first frame doesn't wait for it

    return isinstance(screen, TextScreen)


def _is_dialog(screen: Screen[Any]) -> TypeGuard[Dialog[Any]]:
    from anyconsole.tui.screens.dialog import Dialog  # noqa: PLC0415 - as above

    return isinstance(screen, Dialog)


def _spare_the_collector() -> None:
    """What is loaded by now stays: a full collection would stop the screen for tens of milliseconds each time."""
    gc.collect()
    gc.freeze()


def run(inventory: Inventory, *, theme: str = themes.DEFAULT_THEME, glyphs: str = "unicode", mouse: bool = True) -> int:
    """Open the console on a fleet; returns the exit code (0, or 128 + signal).

    Raises:
        AnyconsoleError: There is no such theme.
    """
    log_path = log_to_file("console")
    if os.environ.get("NO_COLOR"):
        theme = themes.MONOCHROME_THEME  # Textual takes NO_COLOR from the environment when an app is made
    app = ConsoleApp(EngineClient(inventory), theme=theme, glyphs=glyphs, log_path=log_path)
    app.run(mouse=mouse)
    _log.info("ended at %s", time_of_day(time.time()))
    return app.return_code or 0
