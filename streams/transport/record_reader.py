"""Fetched record batches to columns, without an object for each record.

aiokafka makes a ConsumerRecord of every record, which costs nearly as much as decoding its JSON. Here the
batches that its fetcher holds are iterated once, in C, straight into columns. Everything else stays the
fetcher's: requests, positions, aborted transactions, checksums. The steps of `_columns` are those of
aiokafka.consumer.fetcher.PartitionRecords._unpack_records (0.14).

Guarantees: records come in offset order, none of an aborted transaction to a `read_committed` reader; the
position of a partition moves past everything taken and past what needs no taking (control batches, gaps).
"""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher, FetchResult, PartitionRecords
from aiokafka.consumer.subscription_state import Assignment
from aiokafka.errors import CorruptRecordException
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import DefaultRecord
from aiokafka.structs import TopicPartition

from .batch import PartitionBatch

__all__ = ["PARTIAL_WAIT_MS", "ask_for_more", "mend_fetches", "take_batches"]

PARTIAL_WAIT_MS: Final = 50
"""The longest that a fetch waits at the broker for data if it leaves out some of the partitions there."""


@dataclass(slots=True)
class _Columns:
    offsets: list[int] = field(default_factory=list)
    timestamps_ms: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    size_bytes: int = 0

    def extend(self, other: "_Columns") -> None:
        self.offsets += other.offsets
        self.timestamps_ms += other.timestamps_ms
        self.keys += other.keys
        self.values += other.values
        self.size_bytes += other.size_bytes


async def take_batches(
    fetcher: Fetcher, *, timeout_seconds: float, rows_max: int, bytes_max: int
) -> dict[TopicPartition, PartitionBatch]:
    """What is there, at once, or else what comes within the time.

    Whole record batches are taken, so it may be one of them more than `rows_max` or `bytes_max`. Raises what
    the fetcher met. The steps are those of Fetcher.fetched_records, but that the next fetch of what was taken
    waits for the caller's `ask_for_more`.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        if fetcher._subscriptions.reassignment_in_progress:
            await fetcher._subscriptions.wait_for_assignment()
        held = len(fetcher._records)
        taken = _take(fetcher, rows_max, bytes_max)
        if not taken and len(fetcher._records) < held:
            ask_for_more(fetcher)
        left = deadline - time.monotonic()
        if taken or left <= 0:
            return taken
        waiter = fetcher._create_fetch_waiter()
        over = asyncio.get_running_loop().call_later(left, fetcher._notify, waiter)
        try:
            await waiter
        finally:
            over.cancel()
        if fetcher._closed:
            return {}


def ask_for_more(fetcher: Fetcher) -> None:
    """Let the fetcher ask the broker for what comes next in the partitions of which everything is taken.

    Until then their empty results keep it from that, for as long as aiokafka waits for a reader.
    """
    for tp, result in list(fetcher._records.items()):
        if isinstance(result, FetchResult) and not result.has_more():
            del fetcher._records[tp]
    fetcher._notify(fetcher._wait_consume_future)


def mend_fetches(fetcher: Fetcher) -> None:
    """Have a fetch wake the reader at once, and one of some partitions alone not hold up the others.

    What a fetch brought is taken before the fetcher plans the next one. aiokafka's goes round its loop first,
    finds that everything waits for its reader, wakes it, and goes round once more when the records are taken.

    A partition whose records wait for their reader is left out of the next fetch. Of a broker only one is
    under way, so where the partitions in it are silent, the others' next records would wait with it, for as
    long as a fetch may wait, although they are there.
    """
    receive = fetcher._proc_fetch_request

    async def receive_and_wake(assignment: Assignment, node_id: int, request: FetchRequest) -> bool:
        if _leaves_out(fetcher, assignment, node_id, request):
            request._max_wait_ms = min(request._max_wait_ms, PARTIAL_WAIT_MS)
        brought: bool = await receive(assignment, node_id, request)
        if brought:
            for waiter in fetcher._fetch_waiters:
                fetcher._notify(waiter)
        return brought

    fetcher._proc_fetch_request = receive_and_wake


def _leaves_out(fetcher: Fetcher, assignment: Assignment, node_id: int, request: FetchRequest) -> bool:
    """Whether the broker has assigned partitions that are not asked for."""
    asked = sum(len(partitions) for _, partitions in request.topics)
    # Of one broker that is all there is to it; with several, each has its share.
    return asked < len(assignment.tps) and asked < sum(
        fetcher._select_read_replica(tp) == node_id for tp in assignment.tps
    )


def _take(fetcher: Fetcher, rows_max: int, bytes_max: int) -> dict[TopicPartition, PartitionBatch]:
    taken: dict[TopicPartition, PartitionBatch] = {}
    for tp in list(fetcher._records):
        result = fetcher._records[tp]
        if not isinstance(result, FetchResult):
            if taken:
                return taken  # the error is told by the next call
            del fetcher._records[tp]
            ask_for_more(fetcher)
            result.check_raise()
            continue
        batch = _drain(tp, result, rows_max, bytes_max)
        if batch is None:
            del fetcher._records[tp]
        else:
            taken[tp] = batch
            rows_max -= len(batch)
            bytes_max -= batch.size_bytes
            if rows_max <= 0 or bytes_max <= 0:
                break
    return taken


def _drain(tp: TopicPartition, result: FetchResult, rows_max: int, bytes_max: int) -> PartitionBatch | None:
    # In this order: an assignment is checked by the next record, and of a result all taken there is none.
    if not result.has_more() or not result.check_assignment(tp):
        return None
    records = result._partition_records
    if not isinstance(records._records_iterator, _ColumnIterator):
        records._records_iterator = _ColumnIterator(records)
    columns = _Columns()
    for part in records._records_iterator:
        columns.extend(part)
        if len(columns.offsets) >= rows_max or columns.size_bytes >= bytes_max:
            result._update_position()
            break
    else:
        result._update_position()
        result._partition_records = None
    if not columns.offsets:
        return None
    return PartitionBatch(
        topic=tp.topic,
        partition=tp.partition,
        next_offset=records.next_fetch_offset,
        offsets=columns.offsets,
        timestamps_ms=columns.timestamps_ms,
        keys=columns.keys,
        values=columns.values,
        size_bytes=columns.size_bytes,
    )


class _ColumnIterator:
    """One record batch's columns after the other; it may be left and taken up again."""

    def __init__(self, records: PartitionRecords) -> None:
        self._columns = _columns(records)

    def __iter__(self) -> Iterator[_Columns]:
        return self._columns


def _columns(records: PartitionRecords) -> Iterator[_Columns]:
    memory = records._records
    while memory.has_next():
        batch = memory.next_batch()
        if records._check_crcs and not batch.validate_crc():
            raise CorruptRecordException(f"Invalid CRC - {records._tp}")
        if records._isolation_level == READ_COMMITTED and batch.producer_id is not None:
            records._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and records._contains_abort_marker(batch):
                records._aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in records._aborted_producers:
                records.next_fetch_offset = batch.next_offset
                continue
        if not batch.is_control_batch:
            columns = _columns_of(batch, records.next_fetch_offset)
            # Before the yield: whoever stops here goes on behind this batch.
            records.next_fetch_offset = batch.next_offset
            if columns.offsets:
                yield columns
        records.next_fetch_offset = batch.next_offset


def _columns_of(batch: Iterable[DefaultRecord], first_offset: int) -> _Columns:
    """The records of one batch from `first_offset` on; a fetch begins anywhere in a batch."""
    columns = _Columns()
    # Bound methods: this loop runs once a record and makes nothing but what it keeps.
    add_offset, add_timestamp = columns.offsets.append, columns.timestamps_ms.append
    add_key, add_value = columns.keys.append, columns.values.append
    for record in batch:
        add_offset(record.offset)
        add_timestamp(record.timestamp)
        add_key(record.key)
        add_value(record.value)
    if columns.offsets and columns.offsets[0] < first_offset:
        start = bisect_left(columns.offsets, first_offset)
        columns = _Columns(
            columns.offsets[start:],
            columns.timestamps_ms[start:],
            columns.keys[start:],
            columns.values[start:],
        )
    columns.size_bytes = sum(map(len, filter(None, columns.values))) + sum(
        map(len, filter(None, columns.keys))
    )
    return columns
