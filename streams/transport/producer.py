"""Faust's producer made idempotent, with whole batches handed to Kafka at once."""

import asyncio
import contextlib
from collections.abc import Mapping
from time import monotonic
from typing import Final, cast

from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.structs import TopicPartition
from faust.transport.drivers.aiokafka import Producer as AIOKafkaProducer

from .app import SERVICE_LOG, BatchApp

__all__ = ["BatchProducer"]

_START_RETRY_SECONDS: Final = 0.5
_CLOSE_SECONDS_MAX: Final = 1.5


class BatchProducer(AIOKafkaProducer):
    """Acknowledged means every in-sync replica has it; a retry inside the client makes no duplicate."""

    logger = SERVICE_LOG

    def _settings_extra(self) -> Mapping[str, object]:
        limits = cast(BatchApp, self.app).transport_settings
        return {
            "acks": "all",
            "enable_idempotence": True,
            "linger_ms": 0,
            "max_batch_size": limits.producer_batch_bytes,
            "max_request_size": limits.request_bytes_max,
        }

    async def on_start(self) -> None:
        """Connect; a broker that is away just now gets as long as one request may take."""
        deadline = monotonic() + self.request_timeout
        while True:
            try:
                await super().on_start()
            except KafkaError:
                await self._ensure_producer().stop()
                if monotonic() > deadline:
                    raise
                await asyncio.sleep(_START_RETRY_SECONDS)
            else:
                return

    async def on_stop(self) -> None:
        """Close; what the broker has not acknowledged by now is not committed and comes again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS_MAX):
                await super().on_stop()

    @property
    def batch_bytes(self) -> int:
        """What a batch holds at most, unless a single record is larger."""
        return cast(BatchApp, self.app).transport_settings.producer_batch_bytes

    def create_batch(self, *, compressed: bool = False) -> BatchBuilder:
        """An empty batch of at most `batch_bytes`."""
        producer = self._ensure_producer()
        if not compressed:
            return producer.create_batch()
        transactional = producer._txn_manager.transactional_id is not None
        return BatchBuilder(self.batch_bytes, DefaultRecordBatch.CODEC_GZIP, is_transactional=transactional)

    def sequence(self, topic: str, partition: int) -> int:
        """The number of the next record that the idempotent client sends there."""
        manager = self._ensure_producer()._txn_manager
        return int(manager.sequence_number(TopicPartition(topic, partition)))

    def take_back(self, topic: str, partition: int, sequence: int) -> None:
        """Of a batch that the broker refused, and that was alone on its way: its numbers are free again.

        aiokafka counts them as used, and the broker would refuse everything behind them as out of order.
        """
        manager = self._ensure_producer()._txn_manager
        manager._sequence_numbers[TopicPartition(topic, partition)] = sequence

    async def has_partitions(self, topic: str, count: int) -> bool:
        """Whether the topic has partitions 0 to `count` - 1, as far as the broker says now."""
        producer = self._ensure_producer()
        if len(await producer.partitions_for(topic)) < count:
            await producer.client.force_metadata_update()
        return len(await producer.partitions_for(topic)) >= count

    async def send_batch(self, batch: BatchBuilder, topic: str, partition: int) -> "asyncio.Future[object]":
        """Queue a batch; the future is done once it is acknowledged, or fails with a KafkaError."""
        future: asyncio.Future[object] = await self._ensure_producer().send_batch(
            batch, topic, partition=partition
        )
        return future
