"""A console that is killed, or cut off from its nodes, at each boundary of a drain leaves no node in between, and loses no query.

`ANYCONSOLE_TESTS=all` strikes at every boundary in every way, which takes 25 minutes. Without it some boundaries at which the
node is in another state are met by a SIGKILL, and a few by each other fault. All strikes are carried out first, four at once on different
nodes; then there is one test for each.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from anyconsole.lab import Lab
from anyconsole.lab.uptimes import Uptimes, flapped, uptimes
from tests.e2e.long import is_all
from tests.e2e.observe import run_headless
from tests.e2e.strike_cases import Case, Kind, boundaries
from tests.e2e.strikes import Range
from tests.e2e.struck import Boundary

pytestmark = [pytest.mark.lab, pytest.mark.timeout(3600)]

_APPLIED = Boundary("after", "applied")
_WITHIN = [b for b in boundaries() if b.event not in ("opened", "closed")]
_KILLS = [
    Boundary("during", "applied"),
    _APPLIED,
    Boundary("during", "confirmed"),
    Boundary("before", "closed"),
]
"""Where the node or the journal is in another state than at the boundary before."""

_FEW = [
    Case(Kind.NODE_KILLED, Boundary("during", "confirmed")),
    Case(Kind.SCREEN, _APPLIED),
    Case(Kind.BOTH, Boundary("after", "verified")),
    Case(Kind.JUMP_FROZEN, Boundary("after", "applying")),
    Case(Kind.JUMP_FROZEN, _APPLIED),
    Case(Kind.JUMP_FROZEN, Boundary("after", "confirming")),
    Case(Kind.JUMP_FROZEN, Boundary("during", "confirmed")),
]


def _cases() -> list[Case]:
    signals = [Case(Kind.CTRL_C, _APPLIED), Case(Kind.HANG_UP, _APPLIED)]
    if not is_all():
        return [*_FEW, *signals[:1], *(Case(Kind.CONSOLE, b) for b in _KILLS)]
    deaths = [Case(kind, b) for kind in (Kind.CONSOLE, Kind.BOTH, Kind.SCREEN) for b in boundaries()]
    cuts = (Kind.NODE_FROZEN, Kind.NODE_KILLED, Kind.JUMP_FROZEN, Kind.JUMP_KILLED)
    return [*deaths, *signals, *(Case(kind, b) for kind in cuts for b in _WITHIN)]


class Struck:
    """What became of all the strikes."""

    def __init__(self, lab: Lab, field: Range, cases: list[Case]) -> None:
        self.field = field
        self.up: Uptimes = uptimes(lab)
        with field.under_fire() as watching:
            self.wrong = field.strike(cases)
            shown = ("journal", "show", "--open")
            self.open_before = run_headless(lab, field.state, *shown).stdout
            for id_ in field.open:
                watching.ask("acknowledge", change=id_)
            self.open_after = run_headless(lab, field.state, *shown).stdout
        self.up_after: Uptimes = uptimes(lab)


@pytest.fixture(scope="module")
def struck(lab: Lab, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Struck]:
    """All strikes that are asked for, carried out."""
    items = [item for item in request.session.items if item.path == request.path]
    chosen = {item.callspec.params["case"] for item in items if hasattr(item, "callspec")}
    state = tmp_path_factory.mktemp("struck")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_STATE_HOME", str(state))
        try:
            yield Struck(lab, Range(lab, state), [case for case in _cases() if case in chosen])
        finally:
            lab.heal()
            lab.wait_until_well()


@pytest.mark.parametrize("case", _cases(), ids=str)
def test_no_node_is_left_in_between_and_the_next_console_says_where_it_is(struck: Struck, case: Case) -> None:
    assert struck.wrong[case] == ""


def test_no_query_is_lost_and_no_session_flaps(struck: Struck) -> None:
    for tenant, result in struck.field.results.items():
        assert result.lost == 0, f"{tenant}: {result}"
        assert result.failed == 0, f"{tenant}: {result}"
    assert flapped(struck.up, struck.up_after) == []


def test_what_was_left_open_is_listed_until_somebody_has_looked(struck: Struck) -> None:
    assert {id_ for id_ in struck.field.open if id_ not in struck.open_before} == set()
    assert struck.open_before.count("\n") >= len(struck.field.open)
    assert struck.open_after == ""
