"""Publishes events as any producer would: keyed by device, Kafka's own partitioner, acknowledged by all.

Guarantees: events of one key keep their order; `close` returns when everything is acknowledged, and raises if
anything was not. At most `BATCHES_IN_FLIGHT_MAX` batches wait for their acknowledgement.
"""

import asyncio
from collections import deque
from types import TracebackType
from typing import Final, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.producer.message_accumulator import BatchBuilder

from .errors import BrokerAbsentError, FarshoreError

__all__ = ["BATCHES_IN_FLIGHT_MAX", "Publisher"]

BATCHES_IN_FLIGHT_MAX: Final = 64
_BATCH_BYTES: Final = 256 * 1024
_REQUEST_BYTES_MAX: Final = 64 * 1024 * 1024


class Publisher:
    """`async with Publisher(...) as publisher: await publisher.publish(key, value)`."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=_BATCH_BYTES,
            max_request_size=_REQUEST_BYTES_MAX,
        )
        self._partitioner = DefaultPartitioner()
        self._partitions: list[int] = []
        self._open: dict[int, BatchBuilder] = {}
        self._in_flight: deque[asyncio.Future[object]] = deque()
        self.acknowledged = 0

    async def __aenter__(self) -> Self:
        try:
            await self._producer.start()
            self._partitions = sorted(await self._producer.partitions_for(self._topic))
        except (KafkaConnectionError, OSError):
            await self._producer.stop()
            raise BrokerAbsentError.at(self._bootstrap) from None
        except KafkaError as error:
            await self._producer.stop()
            raise BrokerAbsentError(
                f"cannot publish to {self._topic!r} at {self._bootstrap}: {type(error).__name__}"
            ) from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self.flush()
        finally:
            await self._producer.stop()

    async def publish(self, key: bytes, value: bytes) -> None:
        """Queue one event; waits when too much is in flight."""
        partition = self._partitioner(key, self._partitions, self._partitions)
        batch = self._open.get(partition)
        if batch is None:
            batch = self._open[partition] = self._producer.create_batch()
        if batch.append(timestamp=None, key=key, value=value) is None:
            await self._send(partition)
            batch = self._open[partition] = self._producer.create_batch()
            batch.append(timestamp=None, key=key, value=value)

    async def flush(self) -> None:
        """Send what is open and wait for every acknowledgement."""
        for partition in list(self._open):
            await self._send(partition)
        while self._in_flight:
            await self._await_oldest()

    async def _send(self, partition: int) -> None:
        batch = self._open.pop(partition)
        while len(self._in_flight) >= BATCHES_IN_FLIGHT_MAX:
            await self._await_oldest()
        future = await self._producer.send_batch(batch, self._topic, partition=partition)
        count = batch.record_count()
        future.add_done_callback(lambda done: self._count(done, count))
        self._in_flight.append(future)

    def _count(self, done: "asyncio.Future[object]", count: int) -> None:
        if not done.cancelled() and done.exception() is None:
            self.acknowledged += count

    async def _await_oldest(self) -> None:
        try:
            await self._in_flight.popleft()
        except KafkaError as error:
            raise FarshoreError(f"events were not acknowledged: {type(error).__name__}: {error}") from None
