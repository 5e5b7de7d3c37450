"""A partition whose records waited for their reader is read on at once, whatever the others do."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic

from farshore.agents.admin import connect_admin
from farshore.streams.transport.record_reader import PARTIAL_WAIT_MS, ask_for_more, mend_fetches, take_batches

from ..conftest import SharedBroker

pytestmark = pytest.mark.broker

FETCH_WAIT_MS = 3_000
PREFETCH_BACKOFF_SECONDS = 0.1
"""aiokafka lets records wait that long for their reader before it asks for more of the other partitions."""
TAKE_SECONDS_MAX = 10.0


async def taken(consumer: AIOKafkaConsumer, timeout_seconds: float = TAKE_SECONDS_MAX) -> list[bytes | None]:
    """The values of one take."""
    batches = await take_batches(
        consumer._fetcher, timeout_seconds=timeout_seconds, rows_max=1_000_000, bytes_max=1_000_000
    )
    return [value for batch in batches.values() for value in batch.values]


async def test_records_behind_those_that_waited_do_not_wait_for_silent_partitions(
    broker: SharedBroker, topic_prefix: str
) -> None:
    topic = topic_prefix + "events"
    async with connect_admin(broker.bootstrap) as admin:
        await admin.create_topics([NewTopic(topic, 2, 1)])
    async with (
        AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer,
        AIOKafkaConsumer(
            bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=FETCH_WAIT_MS
        ) as consumer,
    ):
        await producer.send_and_wait(topic, b"first", partition=0)
        fetcher = consumer._fetcher
        mend_fetches(fetcher)
        consumer.assign([TopicPartition(topic, 0), TopicPartition(topic, 1)])
        async with asyncio.timeout(10):
            while not fetcher._records:
                await asyncio.sleep(0.01)
        # A fetch of the silent partition alone is under way by the time the first record is taken.
        await asyncio.sleep(3 * PREFETCH_BACKOFF_SECONDS)
        await producer.send_and_wait(topic, b"second", partition=0)
        begin = time.monotonic()
        values: list[bytes | None] = []
        while len(values) < 2:
            values += await taken(consumer)
            ask_for_more(fetcher)
        assert values == [b"first", b"second"]
        assert time.monotonic() - begin < (PARTIAL_WAIT_MS + FETCH_WAIT_MS) / 2 / 1000


async def test_what_is_all_taken_may_be_asked_for_again(broker: SharedBroker, topic_prefix: str) -> None:
    """Whoever takes may fail before it asks for more; the next take then finds nothing, and goes on."""
    topic = topic_prefix + "events"
    async with connect_admin(broker.bootstrap) as admin:
        await admin.create_topics([NewTopic(topic, 1, 1)])
    async with (
        AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer,
        AIOKafkaConsumer(bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest") as consumer,
    ):
        await producer.send_and_wait(topic, b"first")
        consumer.assign([TopicPartition(topic, 0)])
        assert await taken(consumer) == [b"first"]
        assert consumer._fetcher._records  # all taken, and no more asked for
        assert not await taken(consumer, timeout_seconds=0.05)
        await producer.send_and_wait(topic, b"second")
        assert await taken(consumer) == [b"second"]
