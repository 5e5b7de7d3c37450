"""Caps and batch sizes, by a clock that the test moves."""

from __future__ import annotations

import random

from farshore.streams.delivery.pace import BATCH_BYTES_MIN, BatchSize, Cap, Pace


class Clock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def test_over_any_time_no_more_leaves_than_the_rate_and_one_charge() -> None:
    clock, choice = Clock(), random.Random(5)
    cap = Cap(1_000.0, clock)
    sent: list[tuple[float, float]] = []
    while clock.now < 150:
        clock.now += cap.wait_seconds() + choice.choice((0, 0, 0.001, 3.0))
        amount = choice.uniform(1, 800)
        cap.charge(amount)
        sent.append((clock.now, amount))
    for first in range(0, len(sent), 7):
        for last in range(first, len(sent), 11):
            total = sum(amount for _, amount in sent[first : last + 1])
            assert total <= 1_000 * (sent[last][0] - sent[first][0]) + 800 + 1e-6


def test_without_a_cap_nothing_waits() -> None:
    pace = Pace(None, None, senders=4, clock=Clock())
    pace.charge(10_000, 10_000_000)
    assert pace.wait_seconds() == 0
    assert pace.batch_bytes_max is None
    assert pace.batch_events_max is None


def test_the_stricter_cap_decides() -> None:
    pace = Pace(8.0, 10.0, senders=2, clock=Clock())  # 1,000 bytes/s, 10 events/s
    pace.charge(5, 2_000)
    assert pace.wait_seconds() == 2.0
    assert pace.batch_bytes_max == 500
    assert pace.batch_events_max == 5


def test_batches_shrink_on_a_line_that_cannot_carry_them_and_grow_again() -> None:
    """A line of 8 kB/s and a limit of 4.5 s: batches settle between a quarter of what fits and all of it."""
    size = BatchSize(seconds_max=4.5)
    line_bytes_per_second = 8_000
    sizes = []
    for _ in range(60):
        batch = size.fit(1_000_000)
        if batch / line_bytes_per_second > 4.5:
            size.not_carried()
        else:
            size.carried(batch, batch / line_bytes_per_second)
        sizes.append(batch)
    assert min(sizes[10:]) >= 8_000
    assert max(sizes[10:]) <= 36_000
    for _ in range(20):
        size.carried(size.fit(1_000_000), 0.1)
    assert size.fit(1_000_000) == 1_000_000


def test_no_outage_makes_batches_smaller_than_the_least() -> None:
    size = BatchSize(4.5)
    for _ in range(1_000):
        size.not_carried()
    assert size.fit(1_000_000) == BATCH_BYTES_MIN


def test_small_batches_say_nothing_about_large_ones() -> None:
    size = BatchSize(4.5)
    before = size.fit(1_000_000)
    for _ in range(20):
        size.carried(500, 0.01)
    assert size.fit(1_000_000) == before
