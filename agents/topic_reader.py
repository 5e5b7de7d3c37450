"""Reads topics up to where they end now, joining no group. Only who asks for it keeps a place, by commits."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from .errors import BrokerAbsentError

__all__ = ["READ_SECONDS_MAX", "TopicReader", "open_consumer", "open_reader"]

READ_SECONDS_MAX: Final = 30.0
"""How long one poll may bring nothing before reading is given up."""

_POLL_MS: Final = 1_000
# A fetch that waits for new records would hold up the change to the next topic.
_FETCH_WAIT_MS: Final = 20
_FETCH_BYTES: Final = 4 * 1024 * 1024


class TopicReader:
    """Committed records of whole topics."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer

    async def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Log start and end of each partition; raises BrokerAbsentError when the topic is not there."""
        parts = await self._partitions(topic)
        starts = await self._consumer.beginning_offsets(parts)
        ends = await self._consumer.end_offsets(parts)
        return {part.partition: (starts[part], ends[part]) for part in parts}

    async def records(self, topic: str) -> AsyncIterator[Sequence[ConsumerRecord]]:
        """Records up to the present end, in offset order within a partition, in groups of one partition."""
        async for records in self.records_between(topic, await self.bounds(topic)):
            yield records

    async def records_between(
        self, topic: str, ranges: Mapping[int, tuple[int, int]]
    ) -> AsyncIterator[Sequence[ConsumerRecord]]:
        """Records from the first up to the second offset of each partition, grouped as `records` has them."""
        left = {TopicPartition(topic, number): end for number, (start, end) in ranges.items() if end > start}
        if not left:
            return
        self._consumer.assign(list(left))
        for part in left:
            self._consumer.seek(part, ranges[part.partition][0])
        silent_since = asyncio.get_running_loop().time()
        while left:
            found = await self._consumer.getmany(*left, timeout_ms=_POLL_MS)
            for part, records in found.items():
                mine = [record for record in records if record.offset < left[part]]
                if mine:
                    yield mine
            # Positions, not records: a log may end in transaction markers, which are no records.
            done = [part for part, end in left.items() if await self._consumer.position(part) >= end]
            for part in done:
                del left[part]
            now = asyncio.get_running_loop().time()
            if found or done:
                silent_since = now
            elif now - silent_since > READ_SECONDS_MAX:
                raise BrokerAbsentError(f"reading {topic!r} brought nothing for {READ_SECONDS_MAX:g} s")

    async def place(self, topic: str, partition: int) -> int | None:
        """Where the group of this reader has got to; None before its first commit."""
        part = TopicPartition(topic, partition)
        self._consumer.assign([part])
        offset: int | None = await self._consumer.committed(part)
        return offset

    async def keep_place(self, topic: str, partition: int, offset: int) -> None:
        """Remember the next offset to read, under the group of this reader."""
        part = TopicPartition(topic, partition)
        if part not in self._consumer.assignment():
            self._consumer.assign([part])
        await self._consumer.commit({part: offset})

    async def _partitions(self, topic: str) -> list[TopicPartition]:
        numbers = await self._consumer._client.fetch_all_metadata()  # noqa: SLF001  the public call lists only subscribed topics
        parts = numbers.partitions_for_topic(topic)
        if not parts:
            raise BrokerAbsentError(f"there is no topic {topic!r}")
        return [TopicPartition(topic, number) for number in sorted(parts)]


@asynccontextmanager
async def open_reader(bootstrap: str, group: str | None = None) -> AsyncIterator[TopicReader]:
    """A reader, with places kept under `group`, if given; raises BrokerAbsentError when no broker answers."""
    async with open_consumer(bootstrap, group, fetch_bytes=_FETCH_BYTES) as consumer:
        yield TopicReader(consumer)


@asynccontextmanager
async def open_consumer(
    bootstrap: str, group: str | None = None, *, fetch_bytes: int
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of committed records, in no group; raises BrokerAbsentError when no broker answers."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        enable_auto_commit=False,
        # Retention may pass a start before it is read: then the oldest record is meant, never the newest.
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=fetch_bytes,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
    )
    try:
        await consumer.start()
    except (KafkaError, OSError):
        await consumer.stop()
        raise BrokerAbsentError.at(bootstrap) from None
    # A consumer without a group that is stopped before its own task has had a turn raises CancelledError.
    await asyncio.sleep(0)
    try:
        yield consumer
    finally:
        await consumer.stop()
