"""The circuit breaker: states, waits, and what it reports."""

from __future__ import annotations

import random

import pytest

from farshore.streams.delivery.breaker import (
    BUSY_SECONDS_MIN,
    CALM_SECONDS,
    BackoffLimits,
    Breaker,
    UplinkState,
)


class Clock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def breaker(clock: Clock, changes: list[str], seed: int = 1) -> Breaker:
    return Breaker(
        BackoffLimits(0.5, 30.0),
        clock=clock,
        on_change=lambda before, after, reason: changes.append(f"{before} > {after}: {reason}"),
        jitter=random.Random(seed),
    )


def test_the_first_attempt_may_be_made_at_once(clock: Clock) -> None:
    assert breaker(clock, []).wait_seconds() == 0


def test_waits_double_with_jitter_up_to_their_ceiling(clock: Clock) -> None:
    subject = breaker(clock, [])
    waits = []
    for _ in range(2_000):
        subject.attempting()
        subject.failed("refused")
        waits.append(subject.wait_seconds())
        clock.now += waits[-1]
    for setbacks, wait in enumerate(waits):
        full = min(30.0, 0.5 * 2.0 ** min(setbacks, 10))
        assert max(0.5, full / 2) - 1e-9 <= wait <= full + 1e-9
    assert len(set(waits[20:])) > 1_000


def test_a_success_makes_the_next_wait_short_again(clock: Clock) -> None:
    subject = breaker(clock, [])
    for _ in range(10):
        subject.failed("refused")
    subject.succeeded()
    subject.failed("refused")
    assert subject.wait_seconds() <= 0.5


@pytest.mark.parametrize("seed", range(20))
def test_a_busy_service_is_left_alone_for_at_least_as_long_as_it_asks(clock: Clock, seed: int) -> None:
    subject = breaker(clock, [], seed)
    for _ in range(6):
        subject.busy("server-busy")
        assert BUSY_SECONDS_MIN <= subject.wait_seconds() <= 30.0
    assert subject.state is UplinkState.THROTTLED


def test_a_busy_service_is_obeyed_even_where_the_ceiling_is_lower(clock: Clock) -> None:
    subject = Breaker(BackoffLimits(0.1, 1.0), clock=clock, on_change=lambda *_: None)
    subject.busy("server-busy")
    assert subject.wait_seconds() == BUSY_SECONDS_MIN


def test_every_change_is_reported_once_and_a_repetition_never(clock: Clock) -> None:
    changes: list[str] = []
    subject = breaker(clock, changes)
    for _ in range(3):
        subject.attempting()
        subject.failed("refused")
    subject.attempting()
    subject.succeeded()
    subject.succeeded()
    subject.busy("server-busy")
    subject.busy("server-busy")
    subject.attempting()
    subject.succeeded()
    assert changes == [
        *["offline > probing: trying", "probing > offline: refused"] * 3,
        "offline > probing: trying",
        "probing > online: acknowledged",
        "online > throttled: server-busy",
        "throttled > online: acknowledged",
    ]


def test_the_metric_rises_with_the_state() -> None:
    assert [state.number for state in UplinkState] == [0, 1, 2, 3]
    assert UplinkState.OFFLINE.number == 0
    assert UplinkState.ONLINE.number == 3


def test_attempts_that_were_under_way_together_are_one_setback(clock: Clock) -> None:
    changes: list[str] = []
    subject = breaker(clock, changes)
    subject.succeeded(subject.attempting())
    together = [subject.attempting() for _ in range(8)]
    for attempt in together:
        subject.failed("reset", attempt)
    assert subject.wait_seconds() <= 0.5
    # One of them that went well before the link was lost does not open it again.
    subject.succeeded(together[0])
    assert subject.state is UplinkState.OFFLINE
    assert changes[-1] == "online > offline: reset"
    clock.now += 1
    subject.succeeded(subject.attempting())
    assert subject.ready


def test_a_service_that_is_busy_again_soon_is_left_alone_for_longer(clock: Clock) -> None:
    """Success in between is no calm: the service takes one batch and is busy with the next."""
    subject = breaker(clock, [])
    waits = []
    for _ in range(4):
        subject.busy("server-busy", subject.attempting())
        waits.append(subject.wait_seconds())
        clock.now += waits[-1]
        subject.succeeded(subject.attempting())
    assert waits[-1] > 2 * BUSY_SECONDS_MIN
    clock.now += CALM_SECONDS
    subject.succeeded(subject.attempting())
    subject.busy("server-busy", subject.attempting())
    assert subject.wait_seconds() == BUSY_SECONDS_MIN
