"""Reads the few records at given positions, to learn their age and size.

Guarantees
- Belongs to no group, commits nothing, and reads only committed records.
- One call takes about `seconds_max` at most, however much waits; what was not read in time is answered from
  the last time, or left out.
- A position sampled within SAMPLE_SECONDS_MAX is not read again: a consumer that stands still for hours costs
  next to nothing.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from ..streams.lag import Sample

__all__ = ["Position", "RecordSampler", "make_sampling_consumer"]

RECORDS_MAX: Final = 100
SAMPLE_SECONDS_MAX: Final = 60.0
POLL_SECONDS: Final = 0.05
PARTITION_FETCH_BYTES: Final = 16_384  # enough to learn a mean; a larger batch arrives whole all the same
FETCH_WAIT_MS: Final = 100


@dataclass(frozen=True, slots=True)
class Position:
    """One place to read at; `end` is where the log ended when the lag was counted."""

    partition: TopicPartition
    offset: int
    end: int


@dataclass(frozen=True, slots=True)
class _Kept:
    sample: Sample
    is_record: bool
    read_seconds: float


def make_sampling_consumer(bootstrap: str, request_timeout_ms: int) -> AIOKafkaConsumer:
    """A consumer fit for sampling; not started.

    Its `end_offsets` are those that a reader of committed records can reach.
    """
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        # Retention may pass a position between counting and reading: then the oldest record is meant.
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
        fetch_max_wait_ms=FETCH_WAIT_MS,
        request_timeout_ms=request_timeout_ms,
    )


class RecordSampler:
    """Samples records through one consumer, which is started and closed elsewhere. Between calls every
    partition is paused, so that nothing is fetched that nobody asked for."""

    def __init__(self, consumer: AIOKafkaConsumer, clock: Callable[[], float] = time.monotonic) -> None:
        self._consumer = consumer
        self._clock = clock
        self._kept: dict[tuple[TopicPartition, int], _Kept] = {}

    def watch(self, partitions: Collection[TopicPartition]) -> None:
        """Be ready for positions on `partitions`, and on no others."""
        if set(partitions) != self._consumer.assignment():
            self._consumer.assign(sorted(partitions))
            self._consumer.pause(*partitions)

    async def sample(
        self, positions: Collection[Position], seconds_max: float
    ) -> Mapping[tuple[TopicPartition, int], Sample]:
        """What stands at each position, by partition and offset; one that could not be read is absent."""
        wanted = {(position.partition, position.offset): position for position in positions}
        self._kept = {key: kept for key, kept in self._kept.items() if key in wanted}
        stale = [position for key, position in wanted.items() if not self._is_fresh(key, position)]
        deadline = self._clock() + seconds_max
        for one_each in _rounds(stale):
            for partition, position in one_each.items():
                self._consumer.seek(partition, position.offset)
            self._consumer.resume(*one_each)
            try:
                await self._read(dict(one_each), deadline)
            finally:
                self._consumer.pause(*one_each)
        return {key: kept.sample for key, kept in self._kept.items()}

    def _is_fresh(self, key: tuple[TopicPartition, int], position: Position) -> bool:
        kept = self._kept.get(key)
        if kept is None or self._clock() - kept.read_seconds > SAMPLE_SECONDS_MAX:
            return False
        # That there was no record holds for the log as far as it was read; it may have grown since.
        return kept.is_record or kept.sample.offset >= position.end

    async def _read(self, waiting: dict[TopicPartition, Position], deadline: float) -> None:
        while waiting and self._clock() < deadline:
            for partition, records in (await self._poll(waiting)).items():
                self._keep(waiting.pop(partition), _sample_of(records), is_record=True)
                self._consumer.pause(partition)
            for partition, position in list(waiting.items()):
                # Markers and aborted records are passed over without a record to show for it.
                reached = await self._reached(partition)
                if reached is not None and reached >= position.end:
                    self._keep(waiting.pop(partition), Sample(reached, -1, 0.0), is_record=False)
                    self._consumer.pause(partition)

    async def _poll(
        self, partitions: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, list[ConsumerRecord]]:
        timeout_ms = int(POLL_SECONDS * 1000)
        try:
            fetched: Mapping[TopicPartition, list[ConsumerRecord]] = await self._consumer.getmany(
                *partitions, timeout_ms=timeout_ms, max_records=RECORDS_MAX
            )
        except KafkaError:
            # One unreadable partition must not hide the lag of the others; it is left without a sample.
            await asyncio.sleep(POLL_SECONDS)
            return {}
        return fetched

    async def _reached(self, partition: TopicPartition) -> int | None:
        try:
            async with asyncio.timeout(POLL_SECONDS):
                return int(await self._consumer.position(partition))
        except TimeoutError:
            return None

    def _keep(self, position: Position, sample: Sample, *, is_record: bool) -> None:
        self._kept[position.partition, position.offset] = _Kept(sample, is_record, self._clock())


def _rounds(positions: Collection[Position]) -> list[dict[TopicPartition, Position]]:
    """Positions dealt out so that each round has one a partition: a consumer is at one place at a time."""
    by_partition: dict[TopicPartition, list[Position]] = {}
    for position in positions:
        by_partition.setdefault(position.partition, []).append(position)
    return [
        {position.partition: position for position in dealt if position is not None}
        for dealt in zip_longest(*by_partition.values())
    ]


def _sample_of(records: list[ConsumerRecord]) -> Sample:
    sizes = [
        len(record.key or b"")
        + len(record.value or b"")
        + sum(len(name) + len(value or b"") for name, value in record.headers)
        for record in records
    ]
    return Sample(records[0].offset, records[0].timestamp, sum(sizes) / len(sizes))
