"""Reads stretches of single partitions, joining no group and changing nothing.

Guarantee: reading ends at the end that was asked for, also where the log has no record there (markers,
compaction); a broker that falls silent ends it with BrokerAbsentError after `silence_seconds_max`.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from .errors import BrokerAbsentError
from .topic_reader import open_consumer

__all__ = ["PartitionReader", "open_partition_reader"]

SILENCE_SECONDS_MAX: Final = 15.0
_POLL_MS: Final = 500
_FETCH_BYTES: Final = 1024 * 1024
_ROWS_MAX: Final = 2_000


class PartitionReader:
    """Committed records, a stretch of one partition at a time. Every method may raise BrokerAbsentError."""

    def __init__(self, consumer: AIOKafkaConsumer, silence_seconds_max: float = SILENCE_SECONDS_MAX) -> None:
        self._consumer = consumer
        self._silence_seconds_max = silence_seconds_max

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """Where the log starts and ends now."""
        part = TopicPartition(topic, partition)
        try:
            starts = await self._consumer.beginning_offsets([part])
            ends = await self._consumer.end_offsets([part])
        except KafkaError as error:
            raise BrokerAbsentError(f"the bounds of {topic} cannot be read: {error}") from None
        return int(starts[part]), int(ends[part])

    async def offset_at(self, topic: str, partition: int, time_ms: int) -> int | None:
        """The first offset whose record is at least as young; None when there is none."""
        part = TopicPartition(topic, partition)
        try:
            found = (await self._consumer.offsets_for_times({part: max(0, time_ms)}))[part]
        except KafkaError as error:
            raise BrokerAbsentError(f"offsets of {topic} cannot be read: {error}") from None
        return None if found is None else int(found.offset)

    async def read(
        self, topic: str, partition: int, start: int, end: int
    ) -> AsyncIterator[Sequence[ConsumerRecord]]:
        """Records with start <= offset < end, in order, in groups of at most 2,000."""
        if start >= end:
            return
        part = TopicPartition(topic, partition)
        self._consumer.assign([part])
        self._consumer.seek(part, start)
        heard = monotonic()
        while True:
            try:
                found = await self._consumer.getmany(part, timeout_ms=_POLL_MS, max_records=_ROWS_MAX)
                position = await self._consumer.position(part)
            except KafkaError as error:
                raise BrokerAbsentError(f"{topic} cannot be read: {error}") from None
            records = [record for record in found.get(part, ()) if record.offset < end]
            if records:
                heard = monotonic()
                yield records
            if position >= end:
                return
            if monotonic() - heard > self._silence_seconds_max:
                raise BrokerAbsentError(
                    f"reading {topic} brought nothing for {self._silence_seconds_max:g} s"
                )


@asynccontextmanager
async def open_partition_reader(bootstrap: str) -> AsyncIterator[PartitionReader]:
    """A reader; raises BrokerAbsentError when no broker answers."""
    async with open_consumer(bootstrap, fetch_bytes=_FETCH_BYTES) as consumer:
        yield PartitionReader(consumer)
