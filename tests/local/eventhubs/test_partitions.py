"""The store: numbering, limits, reading from a position."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.local.eventhubs.errors import AttachRefused
from farshore.local.eventhubs.hub import Hub
from farshore.local.eventhubs.partitions import EVENT_OVERHEAD_BYTES, OFFSET_STRIDE, Partition
from farshore.local.eventhubs.positions import SELECTOR, start_sequence
from farshore.local.eventhubs.values import Described, Symbol, Value


def partition_with(*blocks: int, bytes_max: int = 1_000_000) -> Partition:
    """Blocks of so many events; block n is stored at n seconds."""
    clock = itertools.count(0, 1_000)
    partition = Partition("0", bytes_max=bytes_max, now_ms=lambda: next(clock))
    for block, size in enumerate(blocks):
        partition.append(tuple(b"%d.%d" % (block, event) for event in range(size)))
    return partition


def selector(expression: str) -> Value:
    return {Symbol(SELECTOR): Described(Symbol(SELECTOR), expression)}


@given(st.lists(st.integers(1, 5), max_size=12), st.integers(0, 70), st.integers(1, 9))
def test_reading_from_anywhere_gives_every_event_once_and_in_order(
    blocks: list[int], sequence: int, events_max: int
) -> None:
    partition = partition_with(*blocks)
    everything = [b"%d.%d" % (block, event) for block, size in enumerate(blocks) for event in range(size)]
    found: list[tuple[int, bytes]] = []
    place = sequence
    while events := partition.read(place, events_max):
        assert len(events) <= events_max
        found += [(event.sequence, event.data) for event in events]
        place = events[-1].sequence + 1
    assert found == list(enumerate(everything))[sequence:]


def test_past_its_limit_a_partition_drops_whole_blocks_from_the_oldest_and_counts_them() -> None:
    event_bytes = EVENT_OVERHEAD_BYTES + len(b"0.0")
    partition = partition_with(*[2] * 10, bytes_max=6 * event_bytes)
    assert partition.bytes_held <= 6 * event_bytes
    assert (partition.begin_sequence, partition.next_sequence, partition.events_dropped) == (14, 20, 14)
    assert [event.sequence for event in partition.read(0, 100)] == [14, 15, 16, 17, 18, 19]


def test_a_block_larger_than_the_limit_is_still_held_until_the_next_one() -> None:
    partition = partition_with(5, bytes_max=10)
    assert len(partition.read(0, 10)) == 5
    partition.append((b"next",))
    assert [event.data for event in partition.read(0, 10)] == [b"next"]


def test_ten_thousand_drops_leave_no_trace_in_memory() -> None:
    partition = partition_with(*[1] * 10_000, bytes_max=50 * (EVENT_OVERHEAD_BYTES + 6))
    assert len(partition._blocks) < 3_000
    assert len(partition.read(0, 100)) >= 50
    assert partition.read(9_999, 10)[0].data == b"9999.0"


def test_stored_times_never_run_backwards() -> None:
    clock = iter([5, 3, 9])
    partition = Partition("0", bytes_max=1_000, now_ms=lambda: next(clock))
    for _ in range(3):
        partition.append((b"x",))
    assert [event.enqueued_ms for event in partition.read(0, 9)] == [5, 5, 9]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("amqp.annotation.x-opt-offset > '-1'", 0),
        (f"amqp.annotation.x-opt-offset > '{2 * OFFSET_STRIDE}'", 3),
        (f"amqp.annotation.x-opt-offset >= '{2 * OFFSET_STRIDE}'", 2),
        (f"amqp.annotation.x-opt-offset >= '{2 * OFFSET_STRIDE + 1}'", 3),
        ("amqp.annotation.x-opt-offset > '@latest'", 6),
        ("amqp.annotation.x-opt-sequence-number > '-1'", 0),
        ("amqp.annotation.x-opt-sequence-number > '4'", 5),
        ("amqp.annotation.x-opt-sequence-number >= 4", 4),
        ("amqp.annotation.x-opt-enqueued-time > '0'", 2),
        ("amqp.annotation.x-opt-enqueued-time >= '1000'", 2),
        ("amqp.annotation.x-opt-enqueued-time > '2000'", 6),
    ],
)
def test_a_selector_chooses_the_first_event(expression: str, expected: int) -> None:
    assert start_sequence(selector(expression), partition_with(2, 2, 2)) == expected


@pytest.mark.parametrize(
    "filters",
    [
        selector("x-opt-offset > '0'"),
        selector("amqp.annotation.x-opt-sequence-number > '@latest'"),
        selector("amqp.annotation.x-opt-offset < '3'"),
        {Symbol(SELECTOR): 3},
        "all of it",
    ],
)
def test_a_selector_that_is_not_understood_is_refused(filters: Value) -> None:
    with pytest.raises(AttachRefused):
        start_sequence(filters, partition_with(1))


def test_keys_go_to_the_same_partition_in_every_run_and_spread_over_all() -> None:
    hub = Hub("anomalies", 4)
    assert hub.choose("press-17").name == "1"
    chosen = {hub.choose(f"press-{number}").name for number in range(100)}
    assert chosen == {"0", "1", "2", "3"}
