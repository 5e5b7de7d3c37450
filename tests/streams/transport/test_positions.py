"""Where reading begins: for every commit and every log, a position inside the log and honest gaps."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.schemas.reasons import GapReason
from farshore.streams.transport.positions import (
    Gap,
    LogBounds,
    Stand,
    parse_life,
    start_reading,
    write_life,
)

OLD, NEW = UUID(int=1), UUID(int=2)
PLACE = ("events", 3)


def gap(start: int | None, end: int | None, reason: GapReason, life: UUID | None) -> Gap:
    return Gap("events", 3, start, end, reason, life)


@pytest.mark.parametrize(
    ("stood", "log", "position", "gaps"),
    [
        (Stand(5, NEW), LogBounds(0, 9, NEW), 5, []),
        (Stand(5, NEW), LogBounds(5, 5, NEW), 5, []),
        (Stand(None, None), LogBounds(0, 9, NEW), 0, []),
        (Stand(None, NEW), LogBounds(4, 9, NEW), 4, [gap(0, 4, GapReason.RETENTION, NEW)]),
        (Stand(5, NEW), LogBounds(7, 9, NEW), 7, [gap(5, 7, GapReason.RETENTION, NEW)]),
        (Stand(5, OLD), LogBounds(0, 3, NEW), 0, [gap(5, None, GapReason.REMADE, OLD)]),
        (Stand(5, OLD), LogBounds(0, 9, NEW), 0, [gap(5, None, GapReason.REMADE, OLD)]),
        (Stand(None, OLD), LogBounds(0, 9, NEW), 0, [gap(None, None, GapReason.REMADE, OLD)]),
        (
            Stand(5, OLD),
            LogBounds(2, 9, NEW),
            2,
            [gap(5, None, GapReason.REMADE, OLD), gap(0, 2, GapReason.RETENTION, NEW)],
        ),
        (Stand(50, NEW), LogBounds(2, 9, NEW), 2, [gap(9, 50, GapReason.TRUNCATED, NEW)]),
        # A broker without ids: a topic made anew shows only while it is shorter.
        (Stand(50, None), LogBounds(0, 9, None), 0, [gap(9, 50, GapReason.TRUNCATED, None)]),
        (Stand(5, OLD), LogBounds(0, 9, None), 5, []),
    ],
)
def test_the_position_and_the_gaps_of_each_case(
    stood: Stand, log: LogBounds, position: int, gaps: list[Gap]
) -> None:
    start = start_reading(PLACE, stood, log)
    assert (start.position, list(start.gaps)) == (position, gaps)


lives = st.sampled_from([None, OLD, NEW])


@given(
    offset=st.none() | st.integers(0, 20),
    stood_life=lives,
    start=st.integers(0, 20),
    length=st.integers(0, 20),
    log_life=lives,
)
def test_nothing_that_is_there_and_was_not_read_is_left_out_and_a_new_life_is_remembered(
    offset: int | None, stood_life: UUID | None, start: int, length: int, log_life: UUID | None
) -> None:
    log = LogBounds(start, start + length, log_life)
    begun = start_reading(PLACE, Stand(offset, stood_life), log)
    assert log.start <= begun.position <= log.end
    same = None in (stood_life, log_life) or stood_life == log_life
    unread_from = offset if offset is not None and same else 0
    assert begun.position <= max(log.start, unread_from)
    told = {gap.reason for gap in begun.gaps}
    if same:
        assert (GapReason.RETENTION in told) == ((offset or 0) < log.start and (offset or 0) <= log.end)
    assert (begun.reading is not None) == (log_life is not None and log_life != stood_life)


def test_the_id_in_a_commit_is_read_back_and_what_others_write_there_is_no_id() -> None:
    assert parse_life(write_life(NEW)) == NEW
    for metadata in ("", write_life(None), "topic-id=", "topic-id=no-id", "host:1234"):
        assert parse_life(metadata) is None
