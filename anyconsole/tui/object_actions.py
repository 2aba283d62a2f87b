"""What can be asked about the object under the cursor: its facts, what its daemons said, its logs, another look, a shell, a copy."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import subprocess
import termios
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from anyconsole.errors import AnyconsoleError
from anyconsole.model.facts import Key
from anyconsole.model.table import Level
from anyconsole.tui.clipboard import copy_text
from anyconsole.tui.scope import node_of, scope_of
from anyconsole.tui.sources import logs_of, sections_of, shell_of

if TYPE_CHECKING:
    from anyconsole.tui.app import ConsoleApp

__all__ = ["ObjectActions"]

_log = logging.getLogger(__name__)


class ObjectActions:
    """Opens screens and asks the engine about one object; never waits in a key handler."""

    def __init__(self, app: ConsoleApp, lend_terminal: Callable[[Sequence[str]], int] | None = None) -> None:
        """Make it.

        Args:
            app: The console.
            lend_terminal: Runs a program on the terminal and returns its exit code; tests put their own here.
        """
        self._app = app
        self.lend_terminal = lend_terminal or self._lend_terminal

    def describe(self, key: Key) -> None:
        """All facts."""
        from anyconsole.tui.screens.describe import DescribeScreen  # noqa: PLC0415 - the first frame doesn't wait for it

        self._app.push_screen(DescribeScreen(self._app, key))

    def raw(self, key: Key) -> None:
        """What its daemons said."""
        if sources := sections_of(self._app.client.store, key):
            from anyconsole.tui.screens.sources import RawScreen  # noqa: PLC0415 - the first frame doesn't wait for it

            self._app.push_screen(RawScreen(self._app, sources))
        else:
            self._app.say("nothing can be asked about this", Level.WARN)

    def logs(self, key: Key) -> None:
        """Its logs."""
        if sources := logs_of(self._app.client.store, key):
            from anyconsole.tui.screens.sources import LogScreen  # noqa: PLC0415 - the first frame doesn't wait for it

            self._app.push_screen(LogScreen(self._app, sources))
        elif scope_of(self._app.client.inventory, key).cluster:
            self._app.say("there is no container of it whose log could be read", Level.WARN)
        else:
            self._app.say("the profile names no log for this", Level.WARN)

    def look_again(self, key: Key) -> None:
        """Have its node asked now."""
        if node := self._node(key):
            self._app.begin(self._poke(node))

    def shell(self, key: Key) -> None:
        """A shell in its container, else the user's own ssh to its node."""
        if (container := shell_of(self._app.client.store, key)) is not None:
            self._app.begin(self._shell(container.node, container.label, path=container.what))
        elif scope_of(self._app.client.inventory, key).cluster:
            self._app.say("there is no container of it that could run a shell", Level.WARN)
        elif node := self._node(key):
            self._app.begin(self._shell(node, node))

    def copy(self, text: str, what: str) -> None:
        """Text for the user's clipboard; `what` is it in words."""
        self._app.begin(self._copy(text, what))

    def _node(self, key: Key) -> str:
        node = node_of(self._app.client.inventory, key)
        if not node:
            self._app.say("this is not on one node", Level.WARN)
        return node

    async def _poke(self, node: str) -> None:
        await self._app.client.ask("poke", node=node)
        self._app.say(f"{node} is asked now")

    async def _shell(self, node: str, where: str, **args: str) -> None:
        argv: list[str] = json.loads(await self._app.client.ask("shell", node=node, **args))
        try:
            code = self.lend_terminal(argv)
        except OSError as error:
            raise AnyconsoleError(f"the shell on {where} can't be started: {error}") from error
        self._app.say(f"the shell on {where} ended with {code}", Level.NONE if code == 0 else Level.WARN)

    def _lend_terminal(self, argv: Sequence[str]) -> int:
        """Run a program on our terminal and wait for it. The loop stands still meanwhile: nobody could see what it paints."""
        # Ctrl-C is the program's now. A handler, unlike SIG_IGN, is not inherited by it.
        before = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            with self._app.suspend():
                termios.tcflush(0, termios.TCIFLUSH)  # a paste into the console must not go on as commands on a node
                return subprocess.run(list(argv), check=False).returncode
        finally:
            signal.signal(signal.SIGINT, before)

    async def _copy(self, text: str, what: str) -> None:
        try:
            copied = await asyncio.to_thread(copy_text, text, self._app.write_to_terminal)  # tmux may take its time
        except OSError as error:
            raise AnyconsoleError(f"{what} not copied: {error}") from error
        self._app.say(f"copied {what} to the {copied.where}")
