"""The reading half of the consumer, in Faust's own consumer thread, with its own loop."""

from collections.abc import Iterable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, cast

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import CommitFailedError, ConsumerStoppedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, credentials_to_aiokafka_auth, server_list
from faust.types import TP

from .app import BatchApp
from .batch import PartitionBatch

if TYPE_CHECKING:
    from faust.transport.drivers.aiokafka import Transport

__all__ = ["BatchConsumerThread"]

_FETCH_WAIT_MS = 500


class BatchConsumerThread(AIOKafkaConsumerThread):
    """Polls, commits and seeks for one worker."""

    def _create_worker_consumer(self, transport: "Transport") -> AIOKafkaConsumer:
        settings = self.app.conf
        limits = cast(BatchApp, self.app).transport_settings
        self._assignor = RoundRobinPartitionAssignor
        return AIOKafkaConsumer(
            client_id=settings.broker_client_id,
            group_id=settings.id,
            bootstrap_servers=server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset=limits.offset_reset,
            isolation_level=limits.isolation_level,
            max_poll_records=limits.poll_rows_max,
            max_poll_interval_ms=int(settings.broker_max_poll_interval * 1000),
            max_partition_fetch_bytes=limits.partition_fetch_bytes_max,
            fetch_max_bytes=limits.fetch_bytes_max,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            request_timeout_ms=int(settings.broker_request_timeout * 1000),
            session_timeout_ms=int(settings.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(settings.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(settings.broker_heartbeat_interval * 1000),
            metadata_max_age_ms=settings.consumer_metadata_max_age_ms,
            connections_max_idle_ms=settings.consumer_connections_max_idle_ms,
            **credentials_to_aiokafka_auth(settings.broker_credentials, settings.ssl_context),
        )

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TP] | None,
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> dict[TP, PartitionBatch]:
        if not self.consumer.flow_active:
            return {}
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        with fetcher._subscriptions.fetch_context():
            records = await fetcher.fetched_records((), timeout=timeout, max_records=max_records)
        return {
            TP(*tp): _batch(tp, found, self._position(consumer, tp)) for tp, found in records.items() if found
        }

    def _position(self, consumer: AIOKafkaConsumer, tp: TopicPartition) -> int | None:
        assignment = consumer._subscription.subscription.assignment
        state = assignment.state_value(tp) if assignment is not None and tp in assignment.tps else None
        return None if state is None or not state.has_valid_position else int(state.position)

    async def keep_alive(self) -> None:
        """Count as a poll without taking records: the group coordinator sees a live member."""
        await self.call_thread(self._touch)

    async def _touch(self) -> None:
        with self._ensure_consumer()._subscription.fetch_context():
            pass

    async def hand_back(self, batches: Iterable[PartitionBatch]) -> None:
        """Read `batches` again, unless a seek or a rebalance has moved their partitions meanwhile."""
        await self.call_thread(self._hand_back, list(batches))

    async def _hand_back(self, batches: list[PartitionBatch]) -> None:
        consumer = self._ensure_consumer()
        for batch in batches:
            tp = TopicPartition(batch.topic, batch.partition)
            if self._position(consumer, tp) == batch.next_offset:
                consumer.seek(tp, batch.offsets[0])

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit; False when a rebalance or an absent broker prevented it. The next commit covers it."""
        consumer = self._ensure_consumer()
        try:
            await consumer.commit(
                {TopicPartition(*tp): OffsetAndMetadata(offset, "") for tp, offset in offsets.items()}
            )
        except (CommitFailedError, IllegalStateError, KafkaError) as error:
            self.log.info("commit put off: %r", error)
            return False
        now = monotonic()
        self.tp_last_committed_at.update(dict.fromkeys(offsets, now))
        return True


def _batch(tp: TopicPartition, records: list[ConsumerRecord], position: int | None) -> PartitionBatch:
    end = records[-1].offset + 1
    return PartitionBatch(
        topic=tp.topic,
        partition=tp.partition,
        next_offset=end if position is None else max(position, end),
        offsets=[record.offset for record in records],
        timestamps_ms=[record.timestamp for record in records],
        keys=[record.key for record in records],
        values=[record.value for record in records],
        size_bytes=sum(
            max(record.serialized_value_size, 0) + max(record.serialized_key_size, 0) for record in records
        ),
    )
