"""The quota's arithmetic: growth, times to full and to drain, and what has to go."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.streams.delivery.quota import (
    SAMPLES_MAX,
    Growth,
    bytes_to_drop,
    seconds_to_drain,
    seconds_to_full,
)


def growth_of(*samples: tuple[float, float], window_seconds: float = 100.0) -> Growth:
    growth = Growth(window_seconds)
    for now, value in samples:
        growth.add(now, value)
    return growth


def test_growth_is_from_the_first_to_the_last_sample_of_the_window() -> None:
    assert growth_of().per_second == 0
    assert growth_of((0, 5)).per_second == 0
    assert growth_of((0, 5), (0, 9)).per_second == 0
    assert growth_of((0, 0), (10, 50), (20, 40)).per_second == 2
    # The first sample has left the window.
    assert growth_of((0, 0), (100, 1_000), (150, 1_050)).per_second == 1


def test_frequent_samples_still_cover_the_window_and_their_number_is_bounded() -> None:
    growth = growth_of(*((second / 100, second) for second in range(10_000)))
    assert growth.per_second == pytest.approx(100)
    assert len(growth._samples) <= SAMPLES_MAX


def test_time_to_full_is_what_is_left_by_net_growth() -> None:
    assert seconds_to_full(600, 1_000, 4) == 100
    assert seconds_to_full(600, 1_000, 0) == math.inf
    assert seconds_to_full(600, 1_000, -4) == math.inf
    assert seconds_to_full(600, None, 4) == math.inf
    assert seconds_to_full(1_200, 1_000, -4) == 0


def test_time_to_drain_is_what_waits_by_how_fast_it_becomes_less() -> None:
    assert seconds_to_drain(0, 5) == 0
    assert seconds_to_drain(100, -5) == 20
    assert seconds_to_drain(100, 0) == math.inf
    assert seconds_to_drain(100, 5) == math.inf


def test_nothing_goes_below_the_mark_and_at_it_what_arrives_until_the_cleaner_had_its_turn() -> None:
    def wanted(store_bytes: int, growth: float) -> int:
        return bytes_to_drop(store_bytes, 1_000, high_water=0.8, growth_per_second=growth, settle_seconds=10)

    assert wanted(799, 50) == 0
    assert wanted(800, 0) == 1
    assert wanted(850, 5) == 100
    assert wanted(850, -5) == 50
    assert wanted(850, 1_000) == 850


@given(
    st.floats(0, 1e12), st.floats(1, 1e12), st.floats(0.01, 0.99), st.floats(-1e9, 1e9), st.floats(0.5, 1e6)
)
def test_never_more_than_the_store_holds(
    store: float, quota: float, mark: float, growth: float, settle: float
) -> None:
    dropped = bytes_to_drop(store, quota, high_water=mark, growth_per_second=growth, settle_seconds=settle)
    assert 0 <= dropped <= math.ceil(store)
