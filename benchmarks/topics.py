"""Topics of a benchmark: made, filled, counted and deleted."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import orjson
import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from job import PARTITIONS, EventSpec

from farshore.agents.topic_review import MESSAGE_BYTES
from farshore.local.broker import BOOTSTRAP_VARIABLE, BrokerSettings, EmbeddedBroker
from farshore.schemas.topics import TopicSpec

BATCH_BYTES = 256 * 1024
REQUEST_BYTES_MAX = 8 * 1024 * 1024
SENT_AT_ONCE = 64
OUTPUT_BYTES_MAX = 64 * 1024 * 1024
"""A worker refuses an output topic that could not take what the largest event becomes."""
HEAP_MB = 1_024
SMALL_INDEXES = {"segment.index.bytes": str(1024 * 1024)}
"""Kafka sets 10 MB aside for each of the two indexes of a new partition. Where the kernel reads ahead, the
first record that is indexed has much of it filled with zeros: some 20 ms of processor a partition.
A topic in use has that behind it; here it would hide what many partitions cost."""

# A new topic's leaders are found after some tries, and each is a warning.
logging.getLogger("aiokafka").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is, and its process if it is the embedded one."""

    bootstrap: str
    process: psutil.Process | None


@contextmanager
def open_broker() -> Iterator[Broker]:
    """The broker that FARSHORE_KAFKA_BOOTSTRAP names, or an embedded one that ends with the benchmark."""
    if given := os.environ.get(BOOTSTRAP_VARIABLE, ""):
        yield Broker(given, None)
        return
    # A benchmark that is told to end takes its broker with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with EmbeddedBroker(BrokerSettings(heap_mb=HEAP_MB), print) as broker:
        yield Broker(broker.bootstrap, psutil.Process(broker.pid))


def new_name(what: str) -> str:
    """A topic's name that no other run has."""
    return f"benchmark.{what}.{time.time_ns()}"


async def make_topic(
    bootstrap: str, topic: str, partitions: int = PARTITIONS, *, output: bool = False
) -> None:
    """One replica, small indexes; an output topic takes larger messages than any events topic."""
    config = SMALL_INDEXES | ({MESSAGE_BYTES: str(OUTPUT_BYTES_MAX)} if output else {})
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=config)])
    finally:
        await admin.close()


async def make_room(bootstrap: str, topic: str) -> None:
    """Make an output topic of somebody else's take what `make_topic` would have."""
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, {MESSAGE_BYTES: str(OUTPUT_BYTES_MAX)})
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.alter_configs([resource])
    finally:
        await admin.close()


def unflushed(specs: Iterable[TopicSpec]) -> tuple[TopicSpec, ...]:
    """Topics of a site as they are beside a contender's: nobody waits for a disk; `cores.py` has the cost."""
    return tuple(
        replace(
            spec,
            config={name: value for name, value in spec.config.items() if name != "flush.messages"}
            | SMALL_INDEXES,
        )
        for spec in specs
    )


async def delete_topics(bootstrap: str, prefix: str) -> None:
    """Every topic whose name begins with `prefix`."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([name for name in await admin.list_topics() if name.startswith(prefix)])
    finally:
        await admin.close()


async def fill(
    bootstrap: str, topic: str, events: Iterable[tuple[bytes, bytes]], partitions: int = PARTITIONS
) -> None:
    """Make the topic and write `events` to its partitions in turn; returns when all are acknowledged."""
    await make_topic(bootstrap, topic, partitions)
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, max_batch_size=BATCH_BYTES, max_request_size=REQUEST_BYTES_MAX
    )
    await producer.start()
    try:
        batches = [producer.create_batch() for _ in range(partitions)]
        sent: list[asyncio.Future[object]] = []
        for number, (key, value) in enumerate(events):
            part = number % partitions
            if batches[part].append(timestamp=None, key=key, value=value) is None:
                sent.append(await producer.send_batch(batches[part], topic, partition=part))
                batches[part] = producer.create_batch()
                batches[part].append(timestamp=None, key=key, value=value)
                if len(sent) >= SENT_AT_ONCE:
                    await asyncio.gather(*sent)
                    sent.clear()
        sent += [
            await producer.send_batch(batch, topic, partition=part)
            for part, batch in enumerate(batches)
            if batch.record_count()
        ]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


def fill_with(bootstrap: str, topic: str, spec: EventSpec, count: int, partitions: int = PARTITIONS) -> None:
    """`fill` from synchronous code."""
    print(f"filling {topic} with {count:,} events", flush=True)
    asyncio.run(fill(bootstrap, topic, spec.events(count), partitions))


async def count_sources(bootstrap: str, topic: str, partitions: int = PARTITIONS) -> int:
    """Results by distinct source position."""
    parts = [TopicPartition(topic, number) for number in range(partitions)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await consumer.start()
    try:
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        found: set[tuple[int, int]] = set()
        while any([await consumer.position(part) < ends[part] for part in parts]):
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                for record in records:
                    source = orjson.loads(record.value)["source"]
                    found.add((source["partition"], source["offset"]))
    finally:
        await consumer.stop()
    return len(found)


async def count_records(bootstrap: str, topic: str, partitions: int = PARTITIONS) -> int:
    """Records by the ends of the partitions: quick, and enough where repeats do not matter."""
    parts = [TopicPartition(topic, number) for number in range(partitions)]
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        return sum((await consumer.end_offsets(parts)).values())
    finally:
        await consumer.stop()
