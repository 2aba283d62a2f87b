"""Textual's Linux driver with two changes: it sends only cells that differ, and it notices when the terminal is gone.

Stock Textual sends 12 to 36 KB a second for a live table where 0.7 KB would do; over SSH, and in a tmux that knows no synchronized
output, that is tearing and lag. `ANYCONSOLE_DIFF=0` switches the reduction off.

At end of file Textual's input thread reads again at once, for ever, and its output thread dies and blocks the app. Here a lost terminal
is reported once: to `app.terminal_lost()` if the app has such a method (which is also what a SIGHUP handler should call), else the
app exits.
"""

from __future__ import annotations

import asyncio
import errno
import os
import selectors
import signal
import sys
import threading
from codecs import getincrementaldecoder
from collections.abc import Callable
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from textual._parser import ParseError
from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver
from textual.events import Resize
from textual.message import Message

from anyconsole.tui.screen_diff import ScreenDiff

if TYPE_CHECKING:
    from textual.app import App

__all__ = ["DiffDriver", "HandlesLostTerminal"]

_SETTLE = 0.3
"""Seconds after the last change of size when everything is sent once more: what was painted for the old size meanwhile is void."""

_GONE = frozenset({errno.EIO, errno.ENXIO, errno.EBADF, errno.EPIPE})


@runtime_checkable
class HandlesLostTerminal(Protocol):
    """An app that has something to do before it exits when its terminal is closed."""

    def terminal_lost(self) -> None:
        """The terminal is gone for good; called once, in the app's event loop."""


class DiffDriver(LinuxDriver):
    """A terminal that is sent only what it doesn't show already. Pass it as `driver_class` to the app."""

    def __init__(
        self, app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self._file = cast("Any", _Output(cast("IO[str]", self._file), self._terminal_lost))
        self._diff = None if os.environ.get("ANYCONSOLE_DIFF") == "0" else ScreenDiff(*app.size)
        self._lock = threading.Lock()
        self._lost = threading.Lock()  # taken once, by whoever notices first
        self._was_started = False
        self._repaint_timer: asyncio.TimerHandle | None = None

    def repaint(self) -> None:
        """Send every cell again, because something else has written on the terminal (Ctrl-L, a wall message)."""
        with self._lock:
            if self._diff is not None:
                self._diff.forget()
        self._app.refresh(layout=True)

    def write(self, data: str) -> None:
        """Send what of `data` changes the picture."""
        if self._lost.locked():
            return
        with self._lock:
            if self._diff is not None:
                if (self._diff.width, self._diff.height) != tuple(self._app.size):
                    self._diff.resize(*self._app.size)
                data = self._diff.feed(data)
            if data:
                super().write(data)

    def start_application_mode(self) -> None:
        """Take the terminal, at first or again after it was lent to another program or to the shell."""
        super().start_application_mode()  # type: ignore[no-untyped-call]  # Textual has no annotation there
        theirs = signal.getsignal(signal.SIGWINCH)
        if callable(theirs):
            signal.signal(signal.SIGWINCH, self._also_settle(theirs))
        if self._was_started:
            self._loop.call_soon_threadsafe(self.repaint)
        self._was_started = True

    def process_message(self, message: Message) -> None:
        """Notice changes of size that the terminal reports among the input."""
        if isinstance(message, Resize):
            self._loop.call_soon_threadsafe(self._settle)
        super().process_message(message)

    def run_input_thread(self) -> None:
        """Read keys until the driver is stopped or the terminal is gone."""
        parser = XTermParser(self._debug)
        decoder = getincrementaldecoder("utf-8")(errors="replace")
        with selectors.SelectSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            while not self.exit_event.is_set():
                if selector.select(0.1):
                    data = self._read()
                    if not data:
                        self._terminal_lost()
                        break
                    for message in parser.feed(decoder.decode(data)):
                        self.process_message(message)
                for message in parser.tick():
                    self.process_message(message)
        try:
            for _ in parser.feed(""):
                pass
        except (EOFError, ParseError):
            pass  # that is how the parser is told the end, in the middle of a sequence or not

    def _read(self) -> bytes:
        """Input, or nothing if there is no terminal any more."""
        try:
            return os.read(self.fileno, 4096)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return b""

    def _terminal_lost(self) -> None:
        """Called in any thread, and possibly by two of them."""
        if not self._lost.acquire(blocking=False):
            return
        # Python's exit fails (status 120) if it can't flush what it still holds for a terminal that is gone.
        null = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.__stdout__, sys.__stderr__):
            if stream is not None:
                os.dup2(null, stream.fileno())
        os.close(null)
        app = self._app
        self._loop.call_soon_threadsafe(app.terminal_lost if isinstance(app, HandlesLostTerminal) else app.exit)

    def _also_settle(self, theirs: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], None]:
        def on_resize(number: int, frame: FrameType | None) -> None:
            theirs(number, frame)
            self._loop.call_soon_threadsafe(self._settle)

        return on_resize

    def _settle(self) -> None:
        if self._diff is None:
            return
        if self._repaint_timer is not None:
            self._repaint_timer.cancel()
        self._repaint_timer = self._loop.call_later(_SETTLE, self.repaint)


class _Output:
    """The terminal's output. When it is gone, that is reported and the rest is dropped, so that the writing thread lives on."""

    def __init__(self, file: IO[str], lost: Callable[[], None]) -> None:
        self._file, self._report = file, lost

    def write(self, text: str) -> None:
        self._unless_gone(self._file.write, text)

    def flush(self) -> None:
        self._unless_gone(self._file.flush)

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return self._file.isatty()

    def _unless_gone(self, call: Callable[..., object], *args: str) -> None:
        try:
            call(*args)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            self._report()
