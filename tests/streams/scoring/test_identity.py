"""Anomaly ids: pure, distinct, opaque."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.streams.scoring.identity import anomaly_id

Position = tuple[str, str, int, int, int, bytes]

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
POSITIONS = st.tuples(
    NAMES, NAMES, st.integers(0, 300), st.integers(0, 2**63), st.integers(0, 2**41), st.binary(max_size=20)
)
ONE: Position = ("harbour", "events", 3, 120, 1_690_000_000_123, b'{"a":1}')


def test_an_id_never_changes_from_one_release_to_the_next() -> None:
    # Records on disk carry it: another value here would store every anomaly of a replay twice.
    assert anomaly_id(*ONE) == "6a52d5cdeb0e1905868ca21019445c5e"


@given(POSITIONS)
def test_an_id_is_a_pure_function_in_32_hexadecimal_digits(position: Position) -> None:
    identity = anomaly_id(*position)
    assert identity == anomaly_id(*position)
    assert re.fullmatch(r"[0-9a-f]{32}", identity)


@given(POSITIONS, POSITIONS)
def test_two_positions_never_share_an_id(first: Position, second: Position) -> None:
    assert (anomaly_id(*first) == anomaly_id(*second)) is (first == second)


@pytest.mark.parametrize(
    ("part", "value"),
    [(0, "quay"), (1, "events-2"), (2, 4), (3, 121), (4, 1_690_000_000_124), (5, b'{"a":2}')],
)
def test_each_part_of_the_position_counts(part: int, value: object) -> None:
    other = list(ONE)
    other[part] = value  # type: ignore[call-overload]
    assert anomaly_id(*other) != anomaly_id(*ONE)  # type: ignore[arg-type]


def test_digits_do_not_run_together() -> None:
    assert anomaly_id("s", "t", 1, 11, 1, b"") != anomaly_id("s", "t", 11, 1, 1, b"")
    assert anomaly_id("s", "t", 1, 2, 3, b"4") != anomaly_id("s", "t", 1, 2, 34, b"")
