"""A hold of the uplink ends by itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from farshore.streams.delivery.hold import HOLD_SECONDS_MAX, Hold


def test_a_hold_runs_out_and_can_be_ended_or_replaced_before() -> None:
    now = 100.0
    hold = Hold(clock=lambda: now)
    assert hold.wait_seconds() == 0
    hold.begin(30)
    now = 110.0
    assert hold.wait_seconds() == 20
    hold.begin(5)
    assert hold.wait_seconds() == 5
    now = 115.0
    assert hold.wait_seconds() == 0
    hold.begin(30)
    hold.end()
    assert hold.wait_seconds() == 0


@given(st.floats(allow_nan=False), st.floats(0, 1e6))
def test_no_word_holds_longer_than_the_limit(seconds: float, later: float) -> None:
    now = 0.0
    hold = Hold(clock=lambda: now)
    hold.begin(seconds)
    assert 0 <= hold.wait_seconds() <= HOLD_SECONDS_MAX
    now = later
    assert hold.wait_seconds() <= max(0.0, HOLD_SECONDS_MAX - later)
