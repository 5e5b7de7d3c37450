"""Reads the site's topics into the ledger, each time on from where it stopped, as a committed reader."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from farshore.schemas.topics import TopicNames

from .ledger import Ledger
from .load import event_of

SILENT_SECONDS_MAX = 60.0


class TopicTails:
    """Where reading stands in every topic of the site."""

    def __init__(self, bootstrap: str, names: TopicNames, partitions: int, ledger: Ledger) -> None:
        self._bootstrap = bootstrap
        self._names = names
        self._partitions = partitions
        self._ledger = ledger
        self._positions: dict[TopicPartition, int] = {}
        self.outcomes: dict[bytes, str] = {}
        self.detected_ms: list[int] = []

    async def ends(self, topic: str) -> dict[int, int]:
        """Where committed records end now."""
        async with _consumer(self._bootstrap) as consumer:
            ends = await consumer.end_offsets(self._parts(topic))
        return {part.partition: end for part, end in ends.items()}

    async def read(self) -> None:
        """Everything new; events first, so that an outcome's event is known."""
        names = self._names
        readers: Mapping[str, Callable[[ConsumerRecord], None]] = {
            names.events: self._event,
            names.scored: self._scored,
            names.dead_letters: self._dead_letter,
            names.anomalies: self._anomaly,
            names.deliveries: self._delivery,
        }
        async with _consumer(self._bootstrap) as consumer:
            for topic, note in readers.items():
                await self._read_on(consumer, topic, note)

    def _parts(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for number in range(self._partitions)]

    async def _read_on(
        self, consumer: AIOKafkaConsumer, topic: str, note: Callable[[ConsumerRecord], None]
    ) -> None:
        ends = await consumer.end_offsets(self._parts(topic))
        left = {part: end for part, end in ends.items() if self._positions.get(part, 0) < end}
        if not left:
            return
        consumer.assign(list(left))
        for part in left:
            consumer.seek(part, self._positions.get(part, 0))
        silent_ms = 0
        while left:
            found = await consumer.getmany(*left, timeout_ms=500)
            silent_ms = 0 if found else silent_ms + 500
            assert silent_ms < SILENT_SECONDS_MAX * 1000, f"reading {topic} brings nothing"
            for records in found.values():
                for record in records:
                    note(record)
            for part, end in list(left.items()):
                # Positions, not records: a log may end in transaction markers.
                self._positions[part] = await consumer.position(part)
                if self._positions[part] >= end:
                    del left[part]

    def _event(self, record: ConsumerRecord) -> None:
        self._ledger.event((record.partition, record.offset), event_of(record))

    def _scored(self, record: ConsumerRecord) -> None:
        value = orjson.loads(record.value)
        position = (value["source"]["partition"], value["source"]["offset"])
        self._ledger.scored(
            position,
            record.offset,
            mark=(value["device"], value["time"]),
            anomaly=value["anomaly"],
            checksum=zlib.crc32(record.value),
        )

    def _dead_letter(self, record: ConsumerRecord) -> None:
        headers = dict(record.headers)
        position = (int(headers["partition"]), int(headers["offset"]))
        self._ledger.dead_letter(position, record.offset, zlib.crc32(record.value or b""))

    def _anomaly(self, record: ConsumerRecord) -> None:
        if record.value is not None:
            anomaly = orjson.loads(record.value)
            source = anomaly["source"]
            self.detected_ms.append(anomaly["detected_at"])
            self._ledger.stored(record.key, (source["partition"], source["offset"]))

    def _delivery(self, record: ConsumerRecord) -> None:
        if record.value is not None:
            self.outcomes[record.key] = orjson.loads(record.value)["outcome"]


@asynccontextmanager
async def _consumer(bootstrap: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        isolation_level="read_committed",
        fetch_max_wait_ms=20,
        max_partition_fetch_bytes=16 * 1024 * 1024,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()
