"""What a running load test shows is what its generators told, once all of them have told it, and never grows without end."""

from __future__ import annotations

import pytest

from anyconsole.actions.load.answer import Answer, Ending, Progress
from anyconsole.actions.load.live import SECONDS_KEPT, Live
from anyconsole.model.load import Counts, Health, Latency, Order, Phase, Trial, bin_of
from anyconsole.model.load_view import GeneratorRow, LoadState, LoadView

NOW = 1_000.0


def counts(sent: int, answered: int | None = None, **fields: object) -> Counts:
    good = sent if answered is None else answered
    return Counts(offered=sent, sent=sent, answered=good, **fields)  # type: ignore[arg-type]


class Shown:
    """A test from two generators, and the seconds that it was told of."""

    def __init__(self) -> None:
        self.told: list[tuple[float, Counts]] = []
        view = LoadView(
            run="r", target="de-fra1", node="fra1", tenant="de", address="198.18.1.1", purpose="search",
            state=LoadState.PREPARING, began_at=NOW, cap=20_000, goal=0.01,
        )  # fmt: skip
        rows = [GeneratorRow(name="gen1"), GeneratorRow(name="gen2")]
        self.live = Live(view, rows, lambda at, second: self.told.append((at, second)))


@pytest.fixture
def shown() -> Shown:
    return Shown()


ORDER = Order(phase=Phase.VOTE, rate=1_000, seconds=2, prime_rate=1_400, prime_seconds=0.5)


def test_a_second_counts_once_every_generator_has_told_it(shown: Shown) -> None:
    shown.live.begin(ORDER, NOW)
    shown.live.heard("gen1", 0, counts(500, 490, latency=Latency(bins={bin_of(400): 490})))
    assert shown.told == []
    shown.live.heard("gen2", 0, counts(500, 500, latency=Latency(bins={bin_of(9_000): 500})))
    (second,) = shown.live.view.seconds
    assert (second.target, second.sent, second.lost) == (1_000, 1_000, 10)
    assert second.loss == 0.01
    assert second.p95 == pytest.approx(0.009, rel=0.03)
    assert [at for at, _ in shown.told] == [NOW + 0.5], "what primes isn't counted"


def test_seconds_of_a_generator_that_is_ahead_wait_for_the_other(shown: Shown) -> None:
    shown.live.begin(ORDER, NOW)
    for second in (0, 1):
        shown.live.heard("gen1", second, counts(500))
    shown.live.heard("gen2", 0, counts(400))
    assert [s.sent for s in shown.live.view.seconds] == [900]
    shown.live.heard("gen2", 1, counts(300))
    assert [(s.at - NOW, s.sent) for s in shown.live.view.seconds] == [(0.5, 900), (1.5, 800)]


def test_halves_of_a_trial_that_was_cut_are_not_added_to_the_next(shown: Shown) -> None:
    shown.live.begin(ORDER, NOW)
    shown.live.heard("gen1", 0, counts(500))
    shown.live.begin(ORDER, NOW + 5)
    shown.live.heard("gen2", 0, counts(1))
    assert shown.live.view.seconds == ()


def test_only_the_last_minutes_are_kept(shown: Shown) -> None:
    shown.live.begin(Order(phase=Phase.SOAK, rate=10, seconds=1_000), NOW)
    for second in range(SECONDS_KEPT + 50):
        for name in ("gen1", "gen2"):
            shown.live.heard(name, second, counts(5))
    seconds = shown.live.view.seconds
    assert len(seconds) == SECONDS_KEPT
    assert seconds[-1].at - seconds[0].at == SECONDS_KEPT - 1
    assert len(shown.told) == SECONDS_KEPT + 50, "the record has them all"


def test_who_answered_is_summed_over_the_whole_test(shown: Shown) -> None:
    for began in (NOW, NOW + 5):
        shown.live.begin(ORDER, began)
        shown.live.heard("gen1", 0, counts(100, identities={"de.fra1": 2}))
        shown.live.heard("gen2", 0, counts(100, identities={"de.fra1": 1, "": 1}))
    assert shown.live.identities == {"de.fra1": 6, "": 2}


@pytest.mark.parametrize(("phase", "can"), [(Phase.FIXED, True), (Phase.SOAK, False), (Phase.VOTE, False)])
def test_only_a_fixed_rate_can_be_changed(shown: Shown, phase: Phase, can: bool) -> None:
    shown.live.begin(Order(phase=phase, rate=1_000, seconds=60), NOW)
    view = shown.live.view
    assert (view.state, view.phase, view.can_adjust, view.ends_at) == (LoadState.RUNNING, phase, can, NOW + 60)


def test_generators_tell_how_they_fare(shown: Shown) -> None:
    shown.live.begin(ORDER, NOW)
    shown.live.ticked("gen2", Counts(offered=100, sent=90, skipped=10, receive_errors=3), 0.2, NOW + 1)
    health = {"gen1": Health(cpu=0.5, elapsed=2.0)}
    trial = Trial(order=ORDER, began_at=NOW, counts=counts(2_000), health=health)
    shown.live.ended(trial, Progress(plateau=990.0, lower=980.0, words="votes"))
    one, two = shown.live.view.generators
    assert (one.busy, one.heard_at) == (0.25, None)
    assert two.sent == pytest.approx(450)
    assert (two.short, two.receive_errors, two.heard_at) == (0.1, 3, NOW + 1)
    assert (shown.live.view.plateau, shown.live.view.lower, shown.live.view.words) == (990.0, 980.0, "votes")


def test_the_end_says_what_was_found_and_what_limited_it(shown: Shown) -> None:
    shown.live.begin(Order(phase=Phase.FIXED, rate=1_000, seconds=60), NOW)
    answer = Answer(ending=Ending.OK, why="1,000 q/s lose no more", lower=1_000.0, upper=1_010.0)
    shown.live.answered(answer, "their sockets dropped 12", NOW + 60)
    view = shown.live.view
    assert (view.state, view.verdict, view.limit) == (LoadState.ENDED, "ok", "their sockets dropped 12")
    assert (view.lower, view.upper, view.ended_at, view.can_adjust) == (1_000.0, 1_010.0, NOW + 60, False)
