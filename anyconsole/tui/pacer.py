"""When to paint: at most so many times a second, never more than a tenth of a core, and nothing for what nobody sees.

A frame from the engine only says `touch()`; the pacer calls `paint` later, once for all touches since. While the view is hidden the
touches wait, and are painted when it is shown again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from textual.timer import Timer
from textual.widget import Widget

__all__ = ["Pacer"]

_SHARE = 10.0
"""One part painting to so many parts of waiting, at the least."""

_SLOWEST = 2.0
"""Seconds between two paints at the most, however dear they are."""


class Pacer:
    """Calls `paint` for one view as often as that is seen and can be afforded."""

    def __init__(
        self,
        view: Widget,
        paint: Callable[[], None],
        *,
        fps: float = 4.0,
        clock: Callable[[], float] = time.monotonic,
        spent: Callable[[], float] = time.process_time,
    ) -> None:
        """Make a pacer; `start` begins.

        Args:
            view: What is painted; nothing happens while it isn't on the screen.
            paint: Brings the view up to date.
            fps: Paints a second at the most.
            clock: Seconds, monotonic.
            spent: CPU seconds of this process.
        """
        self._view, self._paint = view, paint
        self._period = 1 / fps
        self._clock, self._spent = clock, spent
        self._due = 0.0
        self._is_touched = True
        self._timer: Timer | None = None

    def start(self) -> None:
        """Begin, and go on until the view is removed or `stop` is called."""
        if self._timer is None:
            self._timer = self._view.set_interval(self._period, self.tick)

    def stop(self) -> None:
        """Paint no more."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    def touch(self) -> None:
        """Something that the view shows has changed."""
        self._is_touched = True

    def hurry(self) -> None:
        """The user waits for this: paint now, whatever the pace."""
        self._due = 0.0
        self._is_touched = True
        self.tick()

    def tick(self) -> None:
        """Paint if there is reason to, and if it is time."""
        now = self._clock()
        if not self._is_touched or now < self._due or not self._view.is_on_screen:
            return
        self._is_touched = False
        before = self._spent()
        self._paint()
        self._wait(now, before)
        # The compositor paints after this; that belongs to the price.
        self._view.call_after_refresh(self._wait, now, before)

    def _wait(self, painted: float, before: float) -> None:
        cost = self._spent() - before
        # A little less than the period, so that a timer that is early by a millisecond doesn't skip a turn.
        self._due = painted + min(_SLOWEST, max(self._period * 0.9, cost * _SHARE))
