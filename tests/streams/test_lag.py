from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.streams.lag import NO_LAG, Lag, LogRange, Sample, counted_from, lag_between

LOG = LogRange(100, 200)
NOW_MS = 1_700_000_010_000


def sample(offset: int, timestamp_ms: int = NOW_MS - 2_500, bytes_mean: float = 30.0) -> Sample:
    return Sample(offset, timestamp_ms, bytes_mean)


@pytest.mark.parametrize(
    ("committed", "counted"),
    [(150, 150), (None, 100), (99, 100), (0, 100), (100, 100), (200, 200), (201, 200), (9_999, 200)],
)
def test_lag_counts_from_the_commit_kept_within_the_log(committed: int | None, counted: int) -> None:
    assert counted_from(committed, LOG) == counted


def test_lag_is_distance_age_and_estimated_bytes() -> None:
    assert lag_between(150, LOG, sample(150), NOW_MS) == Lag(50, 2.5, 1_500.0)


def test_a_group_without_a_commit_has_the_whole_log_before_it() -> None:
    assert lag_between(None, LOG, sample(100), NOW_MS).records == 100


@pytest.mark.parametrize("committed", [200, 201])
def test_a_commit_at_or_beyond_the_end_is_no_lag_whatever_was_sampled(committed: int) -> None:
    assert lag_between(committed, LOG, sample(150), NOW_MS) == NO_LAG


def test_an_empty_log_is_no_lag() -> None:
    assert lag_between(None, LogRange(0, 0), None, NOW_MS) == NO_LAG


def test_a_trailing_marker_is_no_lag() -> None:
    assert lag_between(199, LOG, Sample(200, -1, 0.0), NOW_MS) == NO_LAG


def test_a_record_appended_after_the_end_was_read_is_not_counted() -> None:
    assert lag_between(199, LOG, sample(203), NOW_MS) == NO_LAG


def test_without_a_sample_only_the_records_are_known() -> None:
    assert lag_between(150, LOG, None, NOW_MS) == Lag(50, 0.0, 0.0)


def test_a_record_from_the_future_has_no_age() -> None:
    assert lag_between(150, LOG, sample(150, NOW_MS + 60_000), NOW_MS).seconds == 0.0


def test_a_record_without_a_timestamp_has_no_age() -> None:
    assert lag_between(150, LOG, sample(150, -1), NOW_MS).seconds == 0.0


@given(
    committed=st.none() | st.integers(0, 2**62),
    start=st.integers(0, 2**40),
    length=st.integers(0, 2**40),
    offset=st.integers(0, 2**62),
    timestamp_ms=st.integers(-1, 2**45),
    now_ms=st.integers(0, 2**45),
)
def test_lag_is_never_negative_nor_longer_than_the_log(
    committed: int | None, start: int, length: int, offset: int, timestamp_ms: int, now_ms: int
) -> None:
    log = LogRange(start, start + length)
    lag = lag_between(committed, log, Sample(offset, timestamp_ms, 1.0), now_ms)
    assert 0 <= lag.records <= length
    assert lag.seconds >= 0.0
    assert lag.records > 0 or lag == NO_LAG
