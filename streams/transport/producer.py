"""Faust's producer made idempotent, with whole batches handed to Kafka at once."""

import asyncio
from collections.abc import Mapping
from typing import cast

from aiokafka.producer.message_accumulator import BatchBuilder
from faust.transport.drivers.aiokafka import Producer as AIOKafkaProducer

from .app import BatchApp

__all__ = ["BatchProducer"]


class BatchProducer(AIOKafkaProducer):
    """Acknowledged means every in-sync replica has it; a retry inside the client makes no duplicate."""

    def _settings_extra(self) -> Mapping[str, object]:
        limits = cast(BatchApp, self.app).transport_settings
        return {
            "acks": "all",
            "enable_idempotence": True,
            "linger_ms": 0,
            "max_batch_size": limits.producer_batch_bytes,
            "max_request_size": limits.request_bytes_max,
        }

    def create_batch(self) -> BatchBuilder:
        """An empty batch of at most `producer_batch_bytes`."""
        return self._ensure_producer().create_batch()

    async def send_batch(self, batch: BatchBuilder, topic: str, partition: int) -> "asyncio.Future[object]":
        """Queue a batch; the future is done once it is acknowledged, or fails with a KafkaError."""
        future: asyncio.Future[object] = await self._ensure_producer().send_batch(
            batch, topic, partition=partition
        )
        return future
