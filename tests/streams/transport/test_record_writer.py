"""Records written by column are byte for byte those that aiokafka's own batch would hold."""

from __future__ import annotations

import time

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from farshore.streams.transport.record_writer import append_records

NOW = 1_700_000_000.125
BYTES = st.binary(max_size=60)
RECORDS = st.lists(st.tuples(st.none() | BYTES, BYTES), min_size=1, max_size=40)
HEADERS = [("reason", b"not-json"), ("offset", b"12")]


@pytest.fixture(scope="module", autouse=True)
def one_moment() -> object:
    """Both ways look at the same clock, which stands still."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: NOW)
        yield


@given(records=RECORDS, with_headers=st.booleans(), batch_bytes=st.integers(100, 2_000), data=st.data())
def test_columns_make_the_same_batch_as_record_by_record(
    records: list[tuple[bytes | None, bytes]], with_headers: bool, batch_bytes: int, data: st.DataObject
) -> None:
    headers = [HEADERS] * len(records) if with_headers else []
    by_record = BatchBuilder(batch_bytes, 0)
    fitting = 0
    for key, value in records:
        added = by_record.append(
            timestamp=int(NOW * 1000), key=key, value=value, headers=HEADERS if with_headers else []
        )
        if added is None:
            break
        fitting += 1

    by_column = BatchBuilder(batch_bytes, 0)
    keys, values = [key for key, _ in records], [value for _, value in records]
    middle = data.draw(st.integers(0, len(records)))
    taken = append_records(by_column, keys, values, headers, 0, middle)
    assert taken == min(fitting, middle)
    taken = append_records(by_column, keys, values, headers, taken, len(records))

    assert taken == fitting == by_column.record_count() == by_record.record_count()
    assert by_column.closed() == by_record.closed()
    assert by_column.size() == by_record.size()
    assert bytes(by_column._build()) == bytes(by_record._build())


def test_a_closed_batch_takes_nothing() -> None:
    batch = BatchBuilder(1_000, 0)
    batch.close()
    assert append_records(batch, [b"k"], [b"v"], [], 0, 1) == 0
    assert batch.record_count() == 0
