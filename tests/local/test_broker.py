"""The embedded broker serves, keeps what it acknowledged, and comes back on the same address."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient

from farshore.local.broker import BrokerSettings, EmbeddedBroker
from farshore.local.broker_probe import broker_answers
from farshore.local.kafka_tools import console_consumer

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]

FIVE_MEGABYTES = 5 * 1024 * 1024
PROXY_PORT = 14_999


@contextlib.asynccontextmanager
async def admin_of(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def make_topic(bootstrap: str, topic: str) -> None:
    async with admin_of(bootstrap) as admin:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])


async def produce(bootstrap: str, topic: str, *values: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_request_size=2 * FIVE_MEGABYTES)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def consume(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def test_a_value_of_five_megabytes_comes_back_as_it_was_sent(broker, topic_prefix):
    topic = topic_prefix + "events"
    sent = b"small", bytes(range(256)) * (FIVE_MEGABYTES // 256)
    await make_topic(broker.bootstrap, topic)
    await produce(broker.bootstrap, topic, *sent)
    assert tuple(await consume(broker.bootstrap, topic, 2)) == sent


async def test_a_topic_that_was_not_created_is_not_made_by_asking_for_it(broker, topic_prefix):
    async with admin_of(broker.bootstrap) as admin:
        [answer] = await admin.describe_topics([topic_prefix + "mistyped"])
        assert answer["error_code"] == 3  # UNKNOWN_TOPIC_OR_PARTITION
        assert topic_prefix + "mistyped" not in await admin.list_topics()


async def test_kafkas_own_console_consumer_reads_what_we_wrote(broker, topic_prefix):
    topic = topic_prefix + "scored"
    await make_topic(broker.bootstrap, topic)
    await produce(broker.bootstrap, topic, '{"device":"Pümpe"}'.encode(), b"two", b"three")
    lines = console_consumer(broker.bootstrap, topic, count_max=3, timeout_seconds=90)
    assert lines == ['{"device":"Pümpe"}', "two", "three"]


def test_the_console_consumer_ends_when_nothing_more_comes(broker, topic_prefix):
    assert console_consumer(broker.bootstrap, topic_prefix + "none", idle_seconds_max=0.2) == []


async def advertised(bootstrap: str) -> list[str]:
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        return [f"{node.host}:{node.port}" for node in client.cluster.brokers()]
    finally:
        await client.close()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """A broker on a folder of its own, with a second listener that advertises a proxy."""
    data = tmp_path_factory.mktemp("Daten für Kafka")  # spaces and umlauts must not matter
    settings = BrokerSettings(data=data, heap_mb=256, extra_listeners={"PROXY": (0, PROXY_PORT)})
    with EmbeddedBroker(settings) as broker:
        yield broker


async def test_killed_with_nine_and_started_again_it_has_every_acknowledged_record(kept):
    await make_topic(kept.bootstrap, "killed")
    await produce(kept.bootstrap, "killed", *(b"%d" % number for number in range(100)))
    before = kept.bootstrap
    os.kill(kept.pid, signal.SIGKILL)
    while kept.running:
        await asyncio.sleep(0.01)
    kept.start()
    assert kept.bootstrap == before
    assert await consume(kept.bootstrap, "killed", 100) == [b"%d" % number for number in range(100)]


async def test_a_later_broker_on_the_same_folder_has_the_same_address_and_data(kept):
    await make_topic(kept.bootstrap, "restarted")
    await produce(kept.bootstrap, "restarted", b"still here")
    before, folder = kept.bootstrap, kept.folder
    kept.stop()
    try:
        with EmbeddedBroker(BrokerSettings(data=folder)) as later:
            assert later.bootstrap == before
            assert await consume(later.bootstrap, "restarted", 1) == [b"still here"]
    finally:
        kept.start()


async def test_an_extra_listener_advertises_the_port_of_the_proxy(kept):
    assert await advertised(kept.listener("PROXY")) == [f"127.0.0.1:{PROXY_PORT}"]
    assert await advertised(kept.bootstrap) == [kept.bootstrap]


def test_the_log_of_a_quiet_run_goes_to_a_file_and_has_no_error(kept):
    log = Path(kept.folder, "broker.log").read_text()
    assert "Kafka Server started" in log
    assert " ERROR " not in log


def test_a_stopped_temporary_broker_leaves_nothing_behind():
    broker = EmbeddedBroker().start()
    host, port = broker.bootstrap.split(":")
    folder = broker.folder
    assert broker_answers(host, int(port), 2.0)
    broker.kill()
    assert not broker.running
    assert not broker_answers(host, int(port), 2.0)
    assert folder.exists()  # a crash keeps the data for the next start
    broker.stop()
    assert not folder.exists()
    broker.stop()  # again is harmless
