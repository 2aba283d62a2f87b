"""What limited a load test: every cause from figures as they were measured (loadtest.md, 2), and none from figures that nobody has."""

from __future__ import annotations

import msgspec
import pytest

from anyconsole.actions.load.limit import Cause, Limit, Reading, Watched, limit_of
from anyconsole.model.load import Counts, Order, Phase, Trial


def trial(rate: float = 20_000, lost: int = 0, seconds: float = 1.0, **counts: object) -> Trial:
    sent = round(rate * seconds)
    fields: dict[str, object] = {"offered": sent, "sent": sent, "answered": sent - lost} | counts
    return Trial(
        order=Order(phase=Phase.VOTE, rate=rate, seconds=seconds), began_at=0.0, counts=msgspec.convert(fields, Counts)
    )


QUIET = Reading(
    served=0,
    withheld=0,
    cpu={"1": 0.0, "2": 0.0, "3": 0.0, "4": 0.0},
    waited={"1": 0.0, "2": 0.0, "3": 0.0, "4": 0.0},
    periods=0,
    throttled=0,
    datagrams=0,
    receive_errors=0,
    socket_drops={"1": 0, "2": 0},
    softnet_drops=0,
    nic_drops=0,
)
FREE = {"1": 0.31, "2": 0.30, "3": 0.29, "4": 0.33}


def watched(name: str = "nsd", *, seconds: float = 1.0, rate_limit: int | None = 0, **grown: object) -> Watched:
    after = msgspec.structs.replace(QUIET, **({"served": 20_000, "periods": 24, "cpu": FREE} | grown))
    return Watched(name=name, before=QUIET, after=after, seconds=seconds, rate_limit=rate_limit)


def limit(trial_: Trial, *instances: Watched, rest: Trial | None = None) -> Limit:
    return limit_of(trial_, instances, rest=rest)


# --- the table, first match wins


def test_a_generator_that_fell_behind_is_blamed_before_the_target() -> None:
    """80 k with two CPU hogs beside it: 11 to 37 % skipped."""
    found = limit(trial(80_000, lost=10_720, skipped=8_800), watched(throttled=24, receive_errors=10_720))
    assert (found.cause, found.evidence["skipped"]) == (Cause.GENERATOR, 8_800)
    assert "11.0%" in found.words


def test_a_generators_own_dropped_answers_are_no_loss_of_the_target() -> None:
    assert limit(trial(lost=300, receive_errors=280), watched(receive_errors=300)).cause is Cause.GENERATOR


def test_nsds_default_rate_limiting_shows_as_truncated_answers() -> None:
    """3,000 q/s against Debian's NSD: 3.36 % missing, about 6 % truncated."""
    found = limit(trial(3_000, lost=101, truncated=180), watched(served=3_000, rate_limit=200))
    assert found.cause is Cause.RATE_LIMIT
    assert "6.0%" in found.words
    assert "200 q/s per client" in found.words
    assert found.evidence["truncated"] == 180


def test_refused_queries_are_a_rate_limit() -> None:
    assert limit(trial(3_000, rcodes={0: 2_900, 5: 100}), watched(served=3_000)).cause is Cause.RATE_LIMIT


def test_answers_that_are_truncated_at_any_rate_are_no_rate_limit() -> None:
    """Large answers are truncated for their size, at rest too."""
    rest = trial(1_000, truncated=60)
    overloaded = trial(lost=1_000, truncated=1_200)
    cpu = {"1": 0.99, "2": 0.97, "3": 0.98, "4": 0.98}
    assert limit(overloaded, watched(receive_errors=1_000, cpu=cpu), rest=rest).cause is Cause.WORKER_CPU


def test_a_rate_limit_without_slip_is_seen_in_the_name_servers_own_count() -> None:
    """rrl-slip 0 drops without a trace on the wire, but NSD counts it as num.dropped."""
    found = limit(trial(3_000, lost=2_600), watched(served=3_000, withheld=2_600, rate_limit=200))
    assert (found.cause, found.evidence["withheld"]) == (Cause.RATE_LIMIT, 2_600)


def test_a_rate_limit_that_nobody_counts_is_not_taken_for_a_broken_return_path() -> None:
    """Knot tells nothing of a mod-rrl that is a zone's own: the queries are taken in, and nothing comes back."""
    found = limit(trial(3_000, lost=2_600), watched("knot", served=3_000, withheld=None, rate_limit=200))
    assert found.cause is Cause.RATE_LIMIT
    assert "doesn't count" in found.words


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"has_moved": True}, "BGP"),
        ({"share": 0.96}, "96% of the answers"),
    ],
)
def test_a_catchment_that_moved_says_nothing_about_the_target(change: dict[str, object], said: str) -> None:
    instance = msgspec.structs.replace(watched(throttled=20), **change)
    found = limit(trial(lost=1_000), instance)
    assert found.cause is Cause.CATCHMENT_MOVED
    assert said in found.words


@pytest.mark.parametrize(("rate", "lost", "throttled"), [(12_000, 420, 24), (11_000, 0, 23), (10_000, 520, 12)])
def test_a_cpu_quota_is_named_with_the_periods_it_throttled(rate: float, lost: int, throttled: int) -> None:
    """NSD and Knot at 10 % of a core, NSD at 11,000 without any loss, but with 53 ms."""
    found = limit(trial(rate, lost=lost), watched(throttled=throttled, receive_errors=lost))
    assert (found.cause, found.evidence["throttled"], found.evidence["periods"]) == (Cause.CPU_QUOTA, throttled, 24)


def test_a_single_throttled_period_is_an_accident() -> None:
    """Knot at 8,000 and 0 % loss had up to 5 of 24; one is none at all."""
    assert limit(trial(lost=460), watched(throttled=1, receive_errors=460)).cause is Cause.SOCKET_BUFFER


@pytest.mark.parametrize(("lost", "errors"), [(4_098, 4_098), (460, 460), (400, 270)])
def test_busy_workers_whose_sockets_dropped_what_is_missing_are_the_limit(lost: int, errors: int) -> None:
    """RcvbufErrors equalled the client's loss to the packet. With priming there are more of them, at another instant fewer."""
    found = limit(trial(lost=lost), watched(receive_errors=errors, cpu={"1": 0.99, "2": 1.0, "3": 0.97, "4": 0.98}))
    assert (found.cause, found.evidence["socket_drops"]) == (Cause.WORKER_CPU, errors)
    assert "4 of 4 workers" in found.words


def test_one_busy_worker_among_idle_ones_is_a_skew_of_flows() -> None:
    """One socket: all of it at one of four workers."""
    found = limit(trial(lost=5_000), watched(receive_errors=5_000, cpu={"1": 1.0, "2": 0.01, "3": 0.0, "4": 0.01}))
    assert found.cause is Cause.FLOW_SKEW
    assert "3 others for 1%" in found.words


def test_one_busy_instance_among_idle_ones_is_a_skew_of_flows() -> None:
    """ECMP hashes address pairs: one generator's address meets one instance."""
    one = watched("a", receive_errors=5_000, cpu={"1": 0.99})
    others = [watched(name, served=0, cpu={"1": 0.0}) for name in ("b", "c")]
    assert limit(trial(lost=5_000), one, *others).cause is Cause.FLOW_SKEW


def test_a_worker_that_waits_for_a_cpu_that_others_have_has_nothing_left_either() -> None:
    worn = watched(receive_errors=5_000, cpu={"1": 0.68, "2": 0.03}, waited={"1": 0.29, "2": 0.02})
    found = limit(trial(lost=5_000), worn)
    assert found.cause is Cause.FLOW_SKEW
    assert "at work for 97%" in found.words


def test_a_single_busy_worker_is_no_skew() -> None:
    assert limit(trial(lost=500), watched(receive_errors=500, cpu={"1": 0.98})).cause is Cause.WORKER_CPU


def test_sockets_that_drop_while_the_cpu_is_free_are_too_small() -> None:
    """Knot's 208 KiB hold 277 small packets."""
    found = limit(trial(lost=2_000), watched(receive_errors=2_000))
    assert found.cause is Cause.SOCKET_BUFFER
    assert "busiest worker was at work for 33%" in found.words


def test_drops_are_told_socket_by_socket_where_the_namespace_tells_nothing() -> None:
    found = limit(trial(lost=2_000), watched(receive_errors=None, socket_drops={"1": 1_900, "2": 100}))
    assert (found.cause, found.evidence["socket_drops"]) == (Cause.SOCKET_BUFFER, 2_000)


def test_late_answers_of_busy_workers_are_their_cpus_fault() -> None:
    """664 of 1,600 came after the timeout: nothing was dropped anywhere."""
    found = limit(trial(1_600, answered=936, late=664), watched(served=1_600, cpu={"1": 1.0}))
    assert found.cause is Cause.WORKER_CPU
    assert "late, not lost" in found.words


def test_packets_that_the_host_dropped_before_any_socket() -> None:
    found = limit(trial(lost=1_000), watched(served=19_000, softnet_drops=700, nic_drops=290))
    assert (found.cause, found.evidence["softnet_drops"]) == (Cause.HOST_NETWORK, 700)


def test_queries_that_were_served_and_never_came_back() -> None:
    found = limit(trial(lost=1_000), watched(served=20_003))
    assert found.cause is Cause.RETURN_PATH
    assert "rate" not in found.words


def test_an_unknown_rate_limit_leaves_a_doubt_about_the_return_path() -> None:
    found = limit(trial(lost=1_000), watched(served=20_003, rate_limit=None))
    assert found.cause is Cause.RETURN_PATH
    assert "limit rates without a word" in found.words


def test_queries_that_never_reached_the_name_server_were_lost_on_the_way() -> None:
    """The nftables limiter in front of it: 5,000 of 5,500 pass."""
    found = limit(trial(5_500, lost=450), watched(served=5_050))
    assert (found.cause, found.evidence["asked"]) == (Cause.PATH, 5_500)


def test_priming_is_counted_among_what_the_counters_saw() -> None:
    """5,150 asked in the second, 2,163 in the priming before it: of both, the limiter let 6,500 and 50 ms of burst through."""
    primed = msgspec.structs.replace(
        trial(5_150, lost=150), order=Order(phase=Phase.VOTE, rate=5_150, prime_rate=7_210, prime_seconds=0.3)
    )
    assert limit(primed, watched(served=6_750)).cause is Cause.PATH
    assert limit(primed, watched(served=7_310)).cause is Cause.RETURN_PATH


# --- what isn't known


def test_unknown_counters_are_not_taken_for_zero() -> None:
    found = limit(trial(lost=1_000), Watched(name="pod", before=Reading(), after=Reading(), seconds=1.0))
    assert found.cause is Cause.UNKNOWN
    for counter in ("queries served", "UDP receive errors", "CPU throttling", "softnet drops", "CPU of the workers"):
        assert counter in found.words


def test_a_counter_that_began_anew_is_unknown() -> None:
    """The name server was restarted in between."""
    before = msgspec.structs.replace(QUIET, served=1_000_000, receive_errors=70)
    instance = msgspec.structs.replace(watched(served=400, receive_errors=0, datagrams=None), before=before)
    found = limit(trial(lost=1_000), instance)
    assert found.cause is Cause.UNKNOWN
    assert "queries served" in found.words


def test_one_instance_without_a_counter_makes_the_sum_unknown() -> None:
    """19,000 of 20,000 reached one, nobody knows what reached the other."""
    one, other = watched("a", served=9_500), watched("b", served=None, datagrams=None)
    assert limit(trial(lost=1_000), one, other).cause is Cause.UNKNOWN


def test_what_reached_no_socket_was_lost_on_the_way_whatever_the_name_server_counts() -> None:
    """A packet filter in front of it: fewer datagrams came than were asked, and no socket dropped one."""
    found = limit(trial(lost=1_000), watched(served=None, datagrams=19_000))
    assert found.cause is Cause.PATH
    assert "19,000 of 20,000" in found.words
    assert limit(trial(lost=1_000), watched(served=None, datagrams=20_000)).cause is Cause.UNKNOWN


def test_busy_workers_are_not_made_up_where_their_cpu_is_unknown() -> None:
    found = limit(trial(lost=2_000), watched(receive_errors=2_000, cpu=None))
    assert found.cause is Cause.SOCKET_BUFFER
    assert "isn't known" in found.words


def test_a_trial_that_lost_nothing_with_free_workers_has_no_cause() -> None:
    found = limit(trial(), watched())
    assert (found.cause, "no counter" in found.words) == (Cause.UNKNOWN, True)
