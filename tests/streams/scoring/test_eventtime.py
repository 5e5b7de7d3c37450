"""Event times: units, RFC 3339 in its forms, and the bounds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.schemas.records import TIME_MS_LIMIT
from farshore.streams.scoring.eventtime import BadTimeError, epoch_ms

MOMENT = 1_690_000_000_123


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (MOMENT, "ms", MOMENT),
        (1_690_000_000, "s", 1_690_000_000_000),
        (1_690_000_000.123, "s", MOMENT),
        (1_690_000_000_123_999, "us", MOMENT),
        (1_690_000_000_123_999_999, "ns", MOMENT),
        (1_690_000_000_123.9, "ms", MOMENT),
        (1.690000000123e15, "us", MOMENT),
        (0, "ms", 0),
        (0.0, "s", 0),
        (-0.0, "s", 0),
        (999, "us", 0),
        (TIME_MS_LIMIT - 1, "ms", TIME_MS_LIMIT - 1),
        (TIME_MS_LIMIT // 1000 - 1, "s", TIME_MS_LIMIT - 1000),
    ],
)
def test_a_number_is_read_in_the_packages_unit_and_cut_to_milliseconds(
    value: float, unit: str, expected: int
) -> None:
    assert epoch_ms(value, unit) == expected


@given(st.integers(0, TIME_MS_LIMIT - 1))
def test_seconds_with_three_decimals_give_exactly_their_milliseconds(time_ms: int) -> None:
    assert epoch_ms(time_ms / 1000, "s") == time_ms


@given(st.integers(0, TIME_MS_LIMIT - 1), st.sampled_from([("s", 1_000), ("us", 1_000), ("ns", 1_000_000)]))
def test_whole_numbers_are_converted_without_rounding(time_ms: int, unit: tuple[str, int]) -> None:
    name, factor = unit
    if name == "s":
        assert epoch_ms(time_ms // factor, name) == time_ms // factor * factor
    else:
        assert epoch_ms(time_ms * factor + factor - 1, name) == time_ms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-07-22T04:26:40Z", 1_690_000_000_000),
        ("2023-07-22t04:26:40z", 1_690_000_000_000),
        ("2023-07-22 04:26:40Z", 1_690_000_000_000),
        ("2023-07-22T04:26:40.1Z", 1_690_000_000_100),
        ("2023-07-22T04:26:40.123Z", MOMENT),
        ("2023-07-22T04:26:40.123999Z", MOMENT),
        ("2023-07-22T04:26:40.123999999999Z", MOMENT),
        ("2023-07-22T06:26:40.123+02:00", MOMENT),
        ("2023-07-21T22:56:40.123-05:30", MOMENT),
        ("2023-07-22T04:26:40.123-00:00", MOMENT),
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("2099-12-31T23:59:59.999Z", TIME_MS_LIMIT - 1),
        # Leap seconds, the second one the example of RFC 3339 itself (section 5.8).
        ("1990-12-31T23:59:60Z", 662_688_000_000),
        ("1990-12-31T15:59:60-08:00", 662_688_000_000),
    ],
)
def test_rfc_3339_is_read_in_all_its_forms(text: str, expected: int) -> None:
    assert epoch_ms(text, "ms") == expected
    # A string says its own unit, whatever numbers are in.
    assert epoch_ms(text, "ns") == expected


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(2099, 12, 30)),  # noqa: DTZ001  the offset is drawn too
    st.integers(-23 * 60, 23 * 60),
)
def test_rfc_3339_with_any_offset_is_the_moment_that_python_takes_it_for(
    naive: datetime, minutes: int
) -> None:
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    expected = (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert epoch_ms(moment.isoformat(), "ms") == expected


@pytest.mark.parametrize(
    ("value", "unit", "says"),
    [
        (-1, "ms", "outside 1970 to 2099"),
        (-0.1, "ms", "outside 1970 to 2099"),
        (TIME_MS_LIMIT, "ms", "outside 1970 to 2099"),
        (float(TIME_MS_LIMIT), "ms", "outside 1970 to 2099"),
        (TIME_MS_LIMIT // 1000, "s", "outside 1970 to 2099"),
        (MOMENT, "s", "outside 1970 to 2099"),
        (2**64 - 1, "ms", "outside 1970 to 2099"),
        (1e308, "s", "outside 1970 to 2099"),
        (-1e308, "s", "outside 1970 to 2099"),
        (1e308, "ns", "outside 1970 to 2099"),
        (float("nan"), "ms", "finite number"),
        (float("inf"), "s", "finite number"),
        (True, "ms", "time is a boolean"),
        (None, "ms", "time is null"),
        ([], "ms", "time is an array"),
        ({}, "ms", "time is an object"),
        ("1969-12-31T23:59:59.999Z", "ms", "outside 1970 to 2099"),
        ("2100-01-01T00:00:00Z", "ms", "outside 1970 to 2099"),
        ("0001-01-01T00:00:00+23:59", "ms", "outside 1970 to 2099"),
        ("9999-12-31T23:59:59-23:59", "ms", "outside 1970 to 2099"),
        ("", "ms", "no RFC 3339 time"),
        ("1690000000123", "ms", "no RFC 3339 time"),
        ("2023-07-22", "ms", "no RFC 3339 time"),
        ("2023-07-22T04:26:40", "ms", "no RFC 3339 time with an offset"),
        ("2023-07-22T04:26:40Z\n", "ms", "no RFC 3339 time"),
        ("2023-07-22T04:26:40,5Z", "ms", "no RFC 3339 time"),
        ("2023-07-22T04:26:40.Z", "ms", "no RFC 3339 time"),
        ("2023-02-30T04:26:40Z", "ms", "day is out of range"),
        ("0000-01-01T00:00:00Z", "ms", "year 0 is out of range"),
        ("2023-07-22T24:26:40Z", "ms", "hour must be in"),
        ("2023-07-22T04:26:61Z", "ms", "second must be in"),
        ("2023-07-22T04:26:60Z", "ms", "second 60 ends a UTC day"),
        ("2023-07-22T04:26:40+24:00", "ms", "no RFC 3339 time"),
        ("２０２３-07-22T04:26:40Z", "ms", "no RFC 3339 time"),
        ("2023-07-22T04:26:40." + "1" * 10_000 + "Z", "ms", "no RFC 3339 time"),
    ],
)
def test_what_is_no_time_of_these_years_is_refused_by_name(value: object, unit: str, says: str) -> None:
    with pytest.raises(BadTimeError, match=says) as caught:
        epoch_ms(value, unit)
    assert len(str(caught.value)) < 200


@given(st.floats() | st.integers(-(2**63), 2**64) | st.text(), st.sampled_from(["s", "ms", "us", "ns"]))
def test_no_value_makes_anything_but_a_time_in_bounds_or_a_refusal(value: object, unit: str) -> None:
    try:
        time_ms = epoch_ms(value, unit)
    except BadTimeError:
        return
    assert 0 <= time_ms < TIME_MS_LIMIT
