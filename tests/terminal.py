r"""A terminal for tests: a program in a real pty on one side, what a user would see on the other.

    with Terminal([sys.executable, "-m", "anyconsole"], columns=120, rows=40) as terminal:
        terminal.wait_for(r"fra1 .*ok")
        terminal.send("j\r")
        terminal.hang_up()
        assert terminal.exit_status() == 0

Output is read all the time by a thread, terminal queries are answered as xterm would, and everything is fed to pyte. Every wait has a
deadline and fails with the screen as it is.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import pyte
from rich.cells import cell_len

__all__ = [
    "ENTER",
    "ESCAPE",
    "Emulator",
    "ScreenCell",
    "Terminal",
    "TerminalTimeoutError",
    "cpu_seconds",
    "process_tree",
]

ENTER = "\r"
ESCAPE = "\x1b"

_TICKS = os.sysconf("SC_CLK_TCK")
_PYTE_CANNOT = re.compile(r"\x1b\[[<=>][0-9;:]*[ -/]*[@-~]|\x1b\[\??[0-9;]*[ $][@-~]")
_UNFINISHED = re.compile(r"\x1b(?:\[[0-9;:<=>? $]*|\][^\x07\x1b]*\x1b?)?\Z")
_ANSWERS = (
    (re.compile(rb"\x1b\[0?c"), b"\x1b[?62;22c"),
    (re.compile(rb"\x1b\[>0?c"), b"\x1b[>41;354;0c"),
    (re.compile(rb"\x1b\[\?2048\$p"), b"\x1b[?2048;0$y"),
    (re.compile(rb"\x1b\[6n"), b"\x1b[1;1R"),
)
_SYNC_QUERY = b"\x1b[?2026$p"


class TerminalTimeoutError(AssertionError):
    """Something didn't appear in time; the message holds the screen."""


class ScreenCell(NamedTuple):
    """One cell as a user sees it."""

    text: str
    colour: str
    ground: str
    bold: bool
    italic: bool
    underlined: bool
    reverse: bool


class Emulator:
    """pyte, fed with whole sequences only and spared those that it would misread."""

    def __init__(self, columns: int, rows: int) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.Stream(self.screen)
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._held = ""

    def feed(self, data: bytes | str) -> None:
        """Show output; a sequence that isn't complete yet waits for its rest."""
        text = self._held + (data if isinstance(data, str) else self._decode(data))
        unfinished = _UNFINISHED.search(text)
        cut = unfinished.start() if unfinished else len(text)
        self._held = text[cut:]
        self._stream.feed(_PYTE_CANNOT.sub("", text[:cut]))

    def lines(self) -> list[str]:
        """The text of each line, without blanks at the end."""
        return [
            _text([self.screen.buffer[y][x].data for x in range(self.screen.columns)]) for y in range(self.screen.lines)
        ]

    def cells(self) -> list[list[ScreenCell]]:
        """Every cell with its colours and attributes."""
        buffer, columns = self.screen.buffer, range(self.screen.columns)
        return [
            [
                ScreenCell(c.data, c.fg, c.bg, c.bold, c.italics, c.underscore, c.reverse)
                for c in (buffer[y][x] for x in columns)
            ]
            for y in range(self.screen.lines)
        ]


class Terminal:
    """A program in a pty. Leaving the `with` block kills it and everything it has started, and waits for it."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        columns: int = 120,
        rows: int = 40,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        synchronized: bool = False,
    ) -> None:
        """Start the program.

        Args:
            argv: Program and arguments.
            columns: Width in cells.
            rows: Height in lines.
            env: Changes to the environment; None removes a variable.
            cwd: Where it runs.
            synchronized: Whether the terminal says that it knows synchronized output.
        """
        environment = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "TMUX", "COLUMNS", "LINES"}}
        environment |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        for key, value in (env or {}).items():
            if value is None:
                environment.pop(key, None)
            else:
                environment[key] = value
        self.emulator = Emulator(columns, rows)
        self.output = bytearray()
        """All that the program has written."""
        self._synchronized = synchronized
        self._lock = threading.Lock()
        self._heard_at = time.monotonic()
        self._status: int | None = None
        self.pid, self._fd = pty.fork()
        if self.pid == 0:  # pragma: no cover - another process
            try:
                _set_size(0, columns, rows)
                if cwd is not None:
                    os.chdir(cwd)
                os.execvpe(argv[0], list(argv), environment)  # noqa: S606 - a program, no shell
            finally:
                os._exit(127)
        os.set_inheritable(self._fd, False)  # a program in another terminal would keep this one open
        self._stop = os.pipe()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    # What the user does

    def send(self, keys: str | bytes) -> None:
        """Type keys; `send("j")`, `send(ENTER)`."""
        os.write(self._fd, keys.encode() if isinstance(keys, str) else keys)

    def resize(self, columns: int, rows: int) -> None:
        """Change the window's size; the program gets SIGWINCH."""
        with self._lock:
            self.emulator.screen.resize(rows, columns)
        _set_size(self._fd, columns, rows)

    def hang_up(self) -> None:
        """Close the window: the program's terminal is gone, and it gets SIGHUP."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            # A descriptor that is being read elsewhere stays open after close(), so the reader has to let go first.
            os.write(self._stop[1], b"x")
            self._reader.join(5)
            for descriptor in (fd, *self._stop):
                os.close(descriptor)

    def close(self) -> None:
        """Kill the program and all that it has started, and wait for it."""
        for pid in reversed(process_tree(self.pid)):
            if self._status is None or pid != self.pid:
                _kill(pid)
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.hang_up()

    # What the user sees

    def text(self) -> str:
        """The screen's text, a line each, without blanks at the ends of lines."""
        with self._lock:
            return "\n".join(self.emulator.lines())

    def cells(self) -> list[list[ScreenCell]]:
        """The screen's cells with colours and attributes."""
        with self._lock:
            return self.emulator.cells()

    def wait_for(self, pattern: str, timeout: float = 10.0) -> re.Match[str]:
        """Wait until the screen's text matches a regular expression (`^` and `$` are of lines)."""
        regex = re.compile(pattern, re.MULTILINE)
        self.wait_until(lambda: regex.search(self.text()) is not None, timeout, f"/{pattern}/")
        found = regex.search(self.text())
        if found is None:
            raise TerminalTimeoutError(f"/{pattern}/ came and went\n{self.text()}")
        return found

    def wait_gone(self, pattern: str, timeout: float = 10.0) -> None:
        """Wait until the screen's text no longer matches."""
        regex = re.compile(pattern, re.MULTILINE)
        self.wait_until(lambda: regex.search(self.text()) is None, timeout, f"no /{pattern}/")

    def wait_until(self, is_so: Callable[[], bool], timeout: float, what: str) -> None:
        """Wait until something is true. Raises TerminalTimeoutError with `what` and the screen."""
        deadline = time.monotonic() + timeout
        while not is_so():
            if time.monotonic() > deadline:
                raise TerminalTimeoutError(f"not within {timeout} s: {what}\n{self.text()}")
            time.sleep(0.01)

    def wait_quiet(self, seconds: float = 0.4, timeout: float = 10.0) -> None:
        """Wait until nothing is written for a while, counted from now on."""
        begun = time.monotonic()
        self.wait_until(
            lambda: time.monotonic() - max(begun, self._heard_at) > seconds, timeout, f"{seconds} s of silence"
        )

    # What it costs

    @property
    def bytes_received(self) -> int:
        """Bytes the program has written to the terminal so far."""
        return len(self.output)

    def cpu_seconds(self) -> float:
        """CPU time of the program and its descendants so far."""
        return sum(cpu_seconds(pid) for pid in process_tree(self.pid))

    def exit_status(self, timeout: float = 10.0) -> int:
        """Wait for the program's end: its exit status, or minus the signal that killed it."""

        def has_ended() -> bool:
            if self._status is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self._status = os.waitstatus_to_exitcode(status) if pid else None
            return self._status is not None

        self.wait_until(has_ended, timeout, "the program's end")
        assert self._status is not None
        return self._status

    def _read(self) -> None:
        fd = self._fd
        while True:
            if self._stop[0] in select.select([fd, self._stop[0]], [], [])[0]:
                return
            try:
                data = os.read(fd, 65536)
            except OSError:
                return  # how Linux says that no process has the other side open any more
            if not data:
                return
            with self._lock:
                self.output += data
                self._heard_at = time.monotonic()
                self.emulator.feed(data)
            answers = [answer for query, answer in _ANSWERS if query.search(data)]
            if _SYNC_QUERY in data:
                answers.append(b"\x1b[?2026;2$y" if self._synchronized else b"\x1b[?2026;0$y")
            for answer in answers:
                try:
                    os.write(fd, answer)
                except OSError:
                    return


def _text(cells: list[str]) -> str:
    """A line as text. The second half of a wide character is empty; half a wide character that was overwritten is a blank."""
    is_tail = [False, *(cell_len(data) == 2 for data in cells)]
    return "".join([data or ("" if tail else " ") for data, tail in zip(cells, is_tail, strict=False)]).rstrip()


def process_tree(pid: int) -> list[int]:
    """A process and its descendants, parents first; empty if it is gone."""
    if not Path(f"/proc/{pid}").exists():
        return []
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            found += process_tree(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of one process so far; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _set_size(fd: int, columns: int, rows: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
