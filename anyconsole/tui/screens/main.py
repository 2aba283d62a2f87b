"""The main screen: header, the panes of the present place, messages and hints; and the trail of places that led here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.events import DescendantFocus
from textual.screen import Screen

from anyconsole.model.events import Event
from anyconsole.model.facts import Key
from anyconsole.model.store import ChangeSet
from anyconsole.model.table import Level
from anyconsole.tui.actions import Context, bindings
from anyconsole.tui.bottom import Bottom, Prompt
from anyconsole.tui.commands import complete
from anyconsole.tui.header import Header
from anyconsole.tui.live_rows import LiveRows
from anyconsole.tui.pacer import Pacer
from anyconsole.tui.panes.events import EventRows
from anyconsole.tui.panes.table_pane import TablePane
from anyconsole.tui.places import (
    EVENTS,
    JOURNAL,
    LOADS,
    PANES,
    Place,
    TableState,
    Visit,
    behind,
    other_place,
    view_at,
    views_at,
)
from anyconsole.tui.scope import Scope
from anyconsole.tui.targets import Wish
from anyconsole.tui.trail import Trail
from anyconsole.tui.widgets.line_table import LineTable

if TYPE_CHECKING:
    from anyconsole.tui.app import ConsoleApp
    from anyconsole.tui.panes.journal import JournalRows
    from anyconsole.tui.panes.load_results import LoadResultRows
    from anyconsole.tui.panes.qps import QpsCharts

__all__ = ["MainScreen"]

_LEAST_TABLE = 4
"""Lines of a table that is shown with others: title, heading and two rows."""

_TALL = 36
"""Lines from which on a place shows its extra tables, however many rows its own have."""

_ROOM = 6
"""Lines that the place's own tables must leave free for each extra table of a lower terminal."""

_CHROME = 4
"""Lines of header, message and hints."""

_CONTEXTS = (Context.TABLE, Context.MAIN, Context.APP)


def _no_cluster() -> str:
    return "the profile names no cluster"


class MainScreen(Screen[None], inherit_bindings=False):
    """Shows one place at a time; only its panes are mounted."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Context.MAIN)]

    def __init__(self, app: ConsoleApp) -> None:
        super().__init__()
        self.console = app
        self._client = app.client
        self._trail = Trail()
        self._filter_before = ""
        self._charts: QpsCharts | None = None
        self._panes: list[TablePane] = []
        self._pacer: Pacer | None = None
        self._is_aged = False

    def compose(self) -> ComposeResult:
        """Chrome around an empty body: the first frame waits for nobody."""
        yield Header(self._client.inventory, self.console.glyphs)
        yield Vertical(id="body")
        yield Bottom(_CONTEXTS, self.console.glyphs)

    async def on_mount(self) -> None:
        """Home."""
        self._pacer = Pacer(self.query_one("#body"), self.paint)
        self._pacer.start()
        await self._arrive()
        self.call_later(self.console.changing.take)

    def on_screen_resume(self) -> None:
        """What came meanwhile is shown at once."""
        if self._pacer is not None:
            self._is_aged = True
            self._pacer.hurry()

    # What is shown

    @property
    def visit(self) -> Visit:
        """Where the operator is."""
        return self._trail.visit

    @property
    def place(self) -> Place:
        """Where the operator is."""
        return self.visit.place

    @property
    def panes(self) -> Sequence[TablePane]:
        """The tables on the screen."""
        return self._panes

    @property
    def pane(self) -> TablePane | None:
        """The table that has the cursor."""
        index = min(self.visit.focused, len(self._panes) - 1)
        return self._panes[index] if self._panes else None

    @property
    def frozen_at(self) -> float | None:
        """Since when the view is held still."""
        return self._panes[0].frozen_at if self._panes else None

    def take(self, changes: ChangeSet, events: Sequence[Event]) -> None:
        """A frame came from the engine."""
        for pane in self._panes:
            pane.take(changes, events)
        if self._pacer is not None:
            self._pacer.touch()

    def age(self) -> None:
        """A second went by: ages and charts are to be painted again."""
        self._is_aged = True
        if self._pacer is not None:
            self._pacer.touch()

    def paint(self) -> None:
        """Show what came; the pacer's to call. Under a text screen it waits, under a dialog it goes on."""
        if not (self.is_active or self.console.screen.is_modal):
            return
        now = self.console.now()
        aged, self._is_aged = self._is_aged, False
        for pane in self._panes:
            pane.paint(now, aged=aged)
        if aged and self._charts is not None and self.frozen_at is None:
            self._charts.paint()
        self._explain()

    @on(LineTable.CursorMoved)
    def _explain(self) -> None:
        """The message line has the whole of what the row's last cell only begins."""
        if (pane := self.pane) is not None:
            self.query_one(Bottom).explain(*pane.last_words)

    def say(self, text: str, level: Level = Level.NONE) -> None:
        """A message in the message line."""
        self.query_one(Bottom).say(text, level)

    # Going places

    async def go(self, place: Place) -> None:
        """Go deeper."""
        self._leave()
        self._trail.deeper(place)
        await self._arrive()

    def _leave(self) -> None:
        self.visit.tables[:] = [pane.save() for pane in self._panes]

    async def _arrive(self) -> None:
        body = self.query_one("#body")
        trail = self._trail.crumbs
        views = views_at(self.place)
        self._panes, self._charts = [], None
        charts = []
        if self.place.pane == "qps":
            from anyconsole.tui.panes.qps import QpsCharts  # noqa: PLC0415 - the first frame doesn't wait for it

            charts = [QpsCharts(self._client.store, self.console.glyphs, self.console.now)]
        tables = zip(views, self.visit.tables, strict=True)
        panes = [self._pane(name, state, "" if i else trail) for i, (name, state) in enumerate(tables)]
        with self.console.batch_update():
            await body.remove_children()
            await body.mount_all([*charts, *panes])
            self._panes = panes
            for pane in panes[len(PANES[self.place.pane]) :]:
                pane.add_class("extra")
            now = self.console.now()
            for pane in panes:
                pane.load(now)
            self._make_room()
            for pane in panes[:-1]:
                pane.styles.max_height = max(_LEAST_TABLE, len(pane.source.rows) + 3)
            for chart in charts:
                chart.paint()
                self._charts = chart
        self._focus(self.visit.focused)
        self.say("")  # what was said belonged to the place before
        self.console.tick()

    def _pane(self, view_name: str, state: TableState, trail: str) -> TablePane:
        scope = self.place.scope
        glyphs = self.console.glyphs
        source: EventRows | JournalRows | LiveRows | LoadResultRows
        empty = None
        if view_name == EVENTS:
            source, title = EventRows(self._client, lambda: self.console.events_seen, scope, glyphs), "Events"
        elif view_name == JOURNAL:
            from anyconsole.tui.panes.journal import JournalRows  # noqa: PLC0415 - the first frame doesn't wait for it

            source, title = JournalRows(self._client, glyphs), "Journal"
        elif view_name == LOADS:
            from anyconsole.tui.panes.load_results import LoadResultRows  # noqa: PLC0415 - the first frame doesn't wait for it

            results = self.console.load_results
            results.refresh()
            source, title, empty = LoadResultRows(results, glyphs), "Load tests", lambda: results.words
        else:
            view = view_at(self._client.store, view_name, scope)
            source, title = LiveRows(view, self._client.store, Scope() if scope.pod else scope, glyphs), view.title
            if view.listed and not self._client.inventory.clusters:
                empty = _no_cluster
        return TablePane(
            self._client,
            source,
            view_name=view_name,
            title=title,
            scope=scope.words,
            trail=trail,
            glyphs=glyphs,
            state=state,
            empty=empty,
        )

    def _focus(self, index: int, step: int = 1) -> None:
        """Give a table the keyboard, or the next one in this direction that is shown."""
        count = max(1, len(self._panes))
        self.visit.focused = index % count
        while self.visit.focused and self._panes and not self._panes[self.visit.focused].display:
            self.visit.focused = (self.visit.focused + step) % count
        if (pane := self.pane) is not None:
            pane.table.focus()

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """A click may have chosen another table."""
        for index, pane in enumerate(self._panes):
            if pane.table is event.widget:
                self.visit.focused = index

    def on_resize(self) -> None:
        """Tables that need room come and go."""
        self._make_room()
        if (pane := self.pane) is not None and not pane.display:
            self._focus(0)

    def _make_room(self) -> None:
        """Show the extra tables of this place if the terminal is tall, or its own tables leave enough of it free."""
        own = len(PANES[self.place.pane])
        free = self.size.height - _CHROME - sum(len(pane.source.rows) + 2 for pane in self._panes[:own])
        has_room = self.size.height >= _TALL or free >= _ROOM * len(self._panes[own:])
        self.set_class(not has_room, "short")

    # Panes and places

    async def action_pane(self, name: str) -> None:
        """A digit."""
        if self.place != Place(name):
            self._leave()
            self._trail.root(Place(name))
            await self._arrive()
        if name == LOADS:
            self.console.changing.watch_load()

    async def action_last_place(self) -> None:
        """Swap with where we were before."""
        self._leave()
        if self._trail.swap():
            await self._arrive()

    async def action_back(self) -> None:
        """Filter, marks, place: the first there is."""
        pane = self.pane
        if pane is not None and pane.is_filtered:
            pane.set_unhealthy(False)
            pane.set_filter("")
        elif pane is not None and pane.table.escape():
            return
        else:
            await self._back()

    async def _back(self) -> None:
        self._leave()
        if self._trail.back():
            await self._arrive()

    async def action_quit_or_back(self) -> None:
        """`q`: quits in a pane, goes back from deeper."""
        if self._trail.is_deep:
            await self._back()
        else:
            self.console.exit(0)

    def action_next_table(self) -> None:
        """Tab."""
        self._focus(self.visit.focused + 1)

    def action_previous_table(self) -> None:
        """Shift+tab."""
        self._focus(self.visit.focused - 1, -1)

    async def action_other_view(self) -> None:
        """`m`."""
        pane = self.pane
        if self._charts is not None:
            self._charts.toggle()
            self.say(f"charts: {self._charts.words}")
        elif (
            pane is not None and (place := other_place(self._client.inventory, self.place, pane.view_name)) is not None
        ):
            self._leave()
            if len(PANES[self.place.pane]) > 1:
                self._trail.deeper(place)
            else:
                self._trail.instead(place)
            await self._arrive()
        else:
            self.say("this view has no other half")

    @on(LineTable.Selected)
    def _open(self, event: LineTable.Selected) -> None:
        event.stop()
        if (key := self.subject) is None:
            return
        if self._show_record(key):
            return
        place = behind(self._client.inventory, key)
        if place is not None and place != self.place:
            self.console.call_later(
                self.go, place
            )  # all going is done in the app's own queue, one step after the other
        else:
            self.console.objects.describe(key)

    # The object under the cursor

    @property
    def subject(self) -> Key | None:
        """What the row under the cursor is about."""
        pane = self.pane
        if pane is None or pane.key is None:
            return None
        return pane.source.subject(pane.key) if isinstance(pane.source, EventRows) else pane.key

    def action_describe(self) -> None:
        """`d`."""
        if (key := self.subject) is None or not self._show_record(key):
            self._with_subject(self.console.objects.describe)

    def _show_record(self, key: Key) -> bool:
        """Show what is written down of a change or a load test; False if the row is neither."""
        match key:
            case ("change", change):
                self.console.changing.report(change)
            case ("loadtest", record):
                self.console.changing.load_sheet(record)
            case _:
                return False
        return True

    def action_raw(self) -> None:
        """`y`."""
        self._with_subject(self.console.objects.raw)

    def action_logs(self) -> None:
        """`l`."""
        self._with_subject(self.console.objects.logs)

    def action_shell(self) -> None:
        """`s`."""
        self._with_subject(self.console.objects.shell)

    def action_refresh_node(self) -> None:
        """`R`."""
        self._with_subject(self.console.objects.look_again)

    def action_copy_name(self) -> None:
        """`c`."""
        if (pane := self.pane) is not None and pane.targets:
            self.console.objects.copy(
                "\n".join(" ".join(key[1:]) for key in pane.targets), f"{len(pane.targets)} name(s)"
            )

    def action_copy_json(self) -> None:
        """`C`."""
        if (pane := self.pane) is not None and pane.targets:
            self.console.objects.copy(pane.as_json(pane.targets), f"{len(pane.targets)} row(s) as JSON")

    def _with_subject(self, do: object) -> None:
        key = self.subject
        if key is None:
            self.say("no row is under the cursor", Level.WARN)
        elif callable(do):
            do(key)

    # Changing the fleet

    def action_drain(self) -> None:
        """`D`."""
        self._plan(Wish.DRAIN)

    def action_undrain(self) -> None:
        """`U`."""
        self._plan(Wish.UNDRAIN)

    def action_setup(self) -> None:
        """`S`."""
        self._plan(Wish.SET_UP)

    def action_teardown(self) -> None:
        """`T`."""
        self._plan(Wish.TEAR_DOWN)

    def action_loadtest(self) -> None:
        """`L`."""
        self._plan(Wish.LOAD_TEST)

    def action_load_stop(self) -> None:
        """`x`, wherever one is: nobody should have to look for it."""
        self.console.changing.stop_load()

    def action_adopt(self) -> None:
        """`:adopt`."""
        self._plan(Wish.ADOPT)

    def action_revert(self) -> None:
        """`:revert`."""
        self._plan(Wish.REVERT)

    def _plan(self, wish: Wish) -> None:
        """What is marked, else what is under the cursor, by name and as of now."""
        if (pane := self.pane) is not None:
            self.console.changing.plan(pane.targets, wish)

    def action_disarm(self) -> None:
        """`:disarm`."""
        self.console.changing.disarm()

    def action_changes(self) -> None:
        """`W`."""
        self.console.changing.watch()

    def action_acknowledge(self) -> None:
        """`:acknowledge`."""
        self.console.changing.acknowledge(self.subject)

    # The view

    def action_unhealthy(self) -> None:
        """`!`."""
        if (pane := self.pane) is not None:
            pane.set_unhealthy(not pane.state.unhealthy)

    def action_wide(self) -> None:
        """`w`."""
        if (pane := self.pane) is not None:
            pane.set_wide(not pane.state.wide)

    def action_freeze(self) -> None:
        """`Z`."""
        now = None if self.frozen_at is not None else self.console.now()
        for pane in self._panes:
            pane.freeze(now)
        self.say("frozen: data keeps coming in, Z shows it again" if now is not None else "live again")
        self.age()
        self.paint()
        self.console.tick()

    def action_sort(self) -> None:
        """`o`."""
        if (pane := self.pane) is None:
            return
        table = pane.table
        options = [("", "worst first (as the pane comes)"), *((c.id, c.title) for c in table.columns)]

        def chosen(column: str | None) -> None:
            if column is not None:
                table.sort_by(column or None, reverse=any(c.descending for c in table.columns if c.id == column))

        from anyconsole.tui.screens.choose import ChooseScreen  # noqa: PLC0415 - the first frame doesn't wait for it

        self.console.push_screen(ChooseScreen("Sort by", options, current=table.sort[0] if table.sort else ""), chosen)

    def set_filter(self, text: str) -> None:
        """Filter the table that has the cursor."""
        if (pane := self.pane) is not None:
            pane.set_filter(text)

    # Typing

    async def action_filter(self) -> None:
        """`/`."""
        if (pane := self.pane) is not None:
            self._filter_before = pane.state.filter
            await self.query_one(Bottom).ask("/", pane.state.filter, lambda _: (), self.console.history["/"])

    async def action_command(self, text: str = "") -> None:
        """`:`."""
        await self.query_one(Bottom).ask(":", text, self._complete, self.console.history[":"])

    def _complete(self, typed: str) -> list[str]:
        return complete(typed, self.console.choices, armed=self.console.changing.is_armed)

    def on_prompt_typed(self, event: Prompt.Typed) -> None:
        """A filter works while it is typed; a command shows what it could become."""
        bottom = self.query_one(Bottom)
        if bottom.prompt is None:
            return
        if bottom.prompt.sign == "/":
            self.set_filter(event.text)
        else:
            found = self._complete(event.text)
            bottom.offer(found if event.text and len(found) > 1 else ())

    async def on_prompt_done(self, event: Prompt.Done) -> None:
        """Enter keeps the filter or runs the command; escape puts things back."""
        bottom = self.query_one(Bottom)
        sign = bottom.prompt.sign if bottom.prompt is not None else ""
        bottom.close()
        self._focus(self.visit.focused)
        if sign == "/":
            self.set_filter(event.text if event.accepted else self._filter_before)
        elif event.accepted and event.text.strip():
            self.console.call_later(self.console.run_command, event.text)
