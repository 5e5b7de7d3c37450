"""A site's topics and groups whose lag is looked at."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from farshore.agents.lag import WatchedGroups

WAIT_SECONDS_MAX = 60.0
VALUE = b"v" * 50


class WatchedSite:
    """One site's topics and groups on the shared broker."""

    def __init__(self, bootstrap: str, prefix: str, admin: AIOKafkaAdminClient) -> None:
        self.bootstrap, self.admin = bootstrap, admin
        self.events, self.scored, self.anomalies = prefix + "events", prefix + "scored", prefix + "anomalies"
        self.scorer, self.bridge = prefix + "scorer", prefix + "bridge"
        self.prefix = prefix
        self.watched = WatchedGroups(
            ((self.scorer, self.events), (self.bridge, self.anomalies)), (self.scored,)
        )

    async def create(self, *topics: str, partitions: int = 2) -> None:
        await self.admin.create_topics([NewTopic(topic, partitions, 1) for topic in topics])
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while True:
                described = await self.admin.describe_topics(list(topics))
                if all(len(topic["partitions"]) == partitions for topic in described):
                    return
                await asyncio.sleep(0.05)

    async def coordinated(self) -> None:
        """Wait for the coordinators of both groups: a broker just started makes their topic first, and until
        it is loaded answers name no partition."""
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            for group, topic in self.watched.on_topics:
                found: dict[TopicPartition, Any] = {}
                while not found:
                    with contextlib.suppress(KafkaError):
                        found = await self.admin.list_consumer_group_offsets(
                            group, partitions=[TopicPartition(topic, 0)]
                        )
                    await asyncio.sleep(0.02)

    async def produce(self, topic: str, count: int, partition: int = 0, age_seconds: float = 0.0) -> None:
        at_ms = int((time.time() - age_seconds) * 1000)
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap) as producer:
            for _ in range(count):
                await producer.send(topic, VALUE, partition=partition, timestamp_ms=at_ms)

    async def transact(self, topic: str, count: int, *, commit: bool = True) -> None:
        name = f"{self.prefix}{time.monotonic_ns()}"
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap, transactional_id=name) as producer:
            await producer.begin_transaction()
            for _ in range(count):
                await producer.send(topic, VALUE, partition=0)
            await (producer.commit_transaction() if commit else producer.abort_transaction())

    async def commit(self, group: str, topic: str, offset: int, partition: int = 0) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=group, enable_auto_commit=False
        )
        async with consumer:
            consumer.assign([TopicPartition(topic, partition)])
            await consumer.commit({TopicPartition(topic, partition): offset})
