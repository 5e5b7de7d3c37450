"""A row of a table to an event: what a cell becomes, and which rows are refused by column."""

from __future__ import annotations

from datetime import UTC
from decimal import Decimal

import orjson
import pytest

from farshore.streams.tabular import Columns, RowError, choose_columns, event_of


@pytest.fixture
def columns() -> Columns:
    return choose_columns(["time", "flow", "note"], device=None, device_name="pump", time=None)


def test_whole_numbers_beyond_64_bits_are_numbers_all_the_same(columns: Columns) -> None:
    """The codec has no whole number of that size: such a cell used to end the replay with a traceback."""
    _, value = event_of(["9" * 30, "1" + "0" * 25, "-" + "9" * 19], columns, UTC)
    event = orjson.loads(value)
    assert event["time"] == "9" * 30  # no time; the scorer says so
    assert event["readings"] == {"flow": 1e25, "note": -1e19}


def test_a_delimiter_at_the_end_of_each_row_is_no_cell(columns: Columns) -> None:
    _, value = event_of(["1", "2", "3", ""], columns, UTC)
    assert orjson.loads(value)["readings"] == {"flow": 2, "note": 3}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (["1"], r"column 'flow': the row has 1 cells, the header has 3"),
        (["1", "2", "3", "4"], r"column 'note' is the last, and cells follow it"),
        ([1, Decimal("2.5"), 3], r"column 'flow' holds a Decimal"),
        ([1, 2, b"raw"], r"column 'note' holds a bytes"),
    ],
)
def test_a_row_that_is_no_event_is_refused_by_its_column(
    columns: Columns, row: list[object], said: str
) -> None:
    with pytest.raises(RowError, match=said):
        event_of(row, columns, UTC)
