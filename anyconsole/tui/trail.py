"""The way an operator came: places from a pane down to where they are, each with how its tables were left."""

from __future__ import annotations

from anyconsole.tui.places import HOME, Place, Visit

__all__ = ["Trail"]


class Trail:
    """Visits from a root pane to the present place. Whoever moves it must have saved the present visit's tables before."""

    def __init__(self) -> None:
        self._visits: list[Visit] = [Visit(HOME)]
        self._roots: dict[str, Visit] = {}
        self._before: list[Visit] = []

    @property
    def visit(self) -> Visit:
        """The present one."""
        return self._visits[-1]

    @property
    def is_deep(self) -> bool:
        """True below a pane's root."""
        return len(self._visits) > 1

    @property
    def crumbs(self) -> str:
        """The way in words; "" at a root."""
        return " > ".join(visit.place.crumb for visit in self._visits) if self.is_deep else ""

    def deeper(self, place: Place) -> None:
        """Go on to a place."""
        self._move([*self._visits, Visit(place)])

    def root(self, place: Place) -> None:
        """Begin anew at a pane, as it was left."""
        root = self._visits[0]
        self._roots[root.place.pane] = root
        self._move([self._roots.get(place.pane) or Visit(place)])

    def instead(self, place: Place) -> None:
        """Put a place where the present one is."""
        if self.is_deep:
            self._move([*self._visits[:-1], Visit(place)])
        else:
            self.root(place)

    def back(self) -> bool:
        """One place back, from any root to the home pane; False if there is nothing behind."""
        if self.is_deep:
            self._move(self._visits[:-1])
        elif self.visit.place != HOME:
            self.root(HOME)
        else:
            return False
        return True

    def swap(self) -> bool:
        """Back to where we were before, and the next time here again; False at the beginning."""
        if not self._before:
            return False
        self._move(self._before)
        return True

    def _move(self, visits: list[Visit]) -> None:
        self._before, self._visits = self._visits, visits
