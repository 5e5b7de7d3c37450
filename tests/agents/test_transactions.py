"""Transactions on the real broker: who is locked out, what is never seen, whose commits are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
)
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import OffsetAndMetadata

from farshore.streams.transport.stable_offsets import StableOffsetFetch, UnstableCommitError, commits_in
from farshore.streams.transport.transactional_producer import TransactionalProducer

from ..site import Site, until

pytestmark = pytest.mark.broker


@pytest.fixture
async def site(broker: Any, topic_prefix: str, tmp_path: Path) -> Site:
    """A site whose topics are made; no worker."""
    site = Site(broker.bootstrap, topic_prefix, tmp_path, tmp_path)
    await site.make_topics()
    return site


class Writer:
    """One worker's producer for partition 0, with what a lane does for each batch."""

    def __init__(self, site: Site) -> None:
        self._source = TopicPartition(site.settings.topic_events, 0)
        self._target = TopicPartition(site.settings.topic_scored, 0)
        self.producer = TransactionalProducer(
            lambda: AIOKafkaProducer(
                bootstrap_servers=site.bootstrap,
                transactional_id=site.prefix + "id",
                max_request_size=32 * 1024 * 1024,
            ),
            site.settings.scorer_group,
        )

    def batches(self, values: Iterable[bytes]) -> dict[TopicPartition, list[BatchBuilder]]:
        batch = self.producer.new_batch()
        for value in values:
            assert batch.append(timestamp=None, key=b"key", value=value) is not None
        return {self._target: [batch]}

    async def write(self, values: Iterable[bytes], offset: int) -> None:
        """One transaction, from its beginning to its commit."""
        if not self.producer.has_begun:
            await self.producer.begin([self._target])
        await self.producer.commit(self.batches(values), {self._source: OffsetAndMetadata(offset, "")})


@asynccontextmanager
async def writer(site: Site) -> AsyncIterator[Writer]:
    opened = Writer(site)
    await opened.producer.open()
    try:
        yield opened
    finally:
        await opened.producer.close()


async def seen(site: Site, isolation_level: str) -> list[bytes]:
    """The values on partition 0 of `scored`, once reading has come to its end."""
    tp = TopicPartition(site.settings.topic_scored, 0)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=site.bootstrap, isolation_level=isolation_level, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        consumer.assign([tp])
        end, found = (await consumer.end_offsets([tp]))[tp], []
        while await consumer.position(tp) < end:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [record.value for record in records]
        return found
    finally:
        await consumer.stop()


async def committed(site: Site) -> int | None:
    return (await site.committed(site.settings.scorer_group, site.settings.topic_events)).get(0)


async def sees(site: Site, isolation_level: str, expected: list[bytes]) -> None:
    """The broker decides a transaction at once and writes its markers soon after."""

    async def look() -> bool:
        found.append(await seen(site, isolation_level))
        return found[-1] == expected

    found: list[list[bytes]] = []
    await until(look, f"{expected} to be seen by {isolation_level}", 20)


async def has_committed(site: Site, offset: int) -> None:
    async def look() -> bool:
        return await committed(site) == offset

    await until(look, f"a commit of {offset}", 20)


async def test_a_worker_that_was_replaced_writes_nothing_more(site: Site) -> None:
    async with writer(site) as zombie:
        await zombie.write([b"before"], 1)
        await zombie.producer.begin([])
        async with writer(site) as owner:
            with pytest.raises(ProducerFenced):
                await zombie.write([b"late"], 2)
            await has_committed(site, 1)
            await owner.write([b"after"], 2)
        # Not even a reader of everything finds what it tried: the broker refused the records themselves.
        await sees(site, "read_uncommitted", [b"before", b"after"])
        await has_committed(site, 2)


async def test_what_a_worker_left_half_done_is_gone_when_the_next_one_begins(site: Site) -> None:
    async with writer(site) as gone:
        await gone.producer.begin([])
        client = gone.producer._client
        assert client is not None
        ((tp, (batch,)),) = gone.batches([b"half"]).items()
        await (await client.send_batch(batch, tp.topic, partition=tp.partition))
        source = TopicPartition(site.settings.topic_events, 0)
        offsets = {source: OffsetAndMetadata(7, "")}
        await client.send_offsets_to_transaction(offsets, site.settings.scorer_group)
        async with writer(site) as owner:
            # A reader of committed records is not held up by what was open: the next worker ended it.
            await owner.write([b"whole"], 8)
            await sees(site, "read_uncommitted", [b"half", b"whole"])
            await sees(site, "read_committed", [b"whole"])
            await has_committed(site, 8)


async def test_one_record_that_kafka_will_never_take_takes_its_whole_transaction_with_it(site: Site) -> None:
    too_large = b"x" * 9 * 1024 * 1024
    async with writer(site) as first:
        with pytest.raises(MessageSizeTooLargeError):
            await first.write([too_large], 1)
    await sees(site, "read_committed", [])
    assert await committed(site) is None
    async with writer(site) as second:
        await second.write([b"small"], 1)
    await sees(site, "read_committed", [b"small"])


async def test_a_transaction_that_was_opened_ahead_may_be_dropped_and_opened_again(site: Site) -> None:
    async with writer(site) as one:
        target = TopicPartition(site.settings.topic_scored, 0)
        for number in range(3):
            await one.producer.begin([target])
            await one.producer.abort()
            await one.producer.begin([target])
            await one.write([b"%d" % number], number + 1)
        await sees(site, "read_committed", [b"0", b"1", b"2"])
        await has_committed(site, 3)


async def test_a_commit_is_read_only_when_no_transaction_can_change_it_any_more(site: Site) -> None:
    """aiokafka's own request answers with the commit before, and that would repeat a batch."""
    group, source = site.settings.scorer_group, TopicPartition(site.settings.topic_events, 0)
    async with writer(site) as one, site.admin() as admin:
        await one.write([b"first"], 5)
        await one.producer.begin([])
        client = one.producer._client
        assert client is not None
        await client.send_offsets_to_transaction({source: OffsetAndMetadata(6, "")}, group)
        node = await admin.find_coordinator(group)

        async def stable() -> int | None:
            answer = await admin._client.send(node, StableOffsetFetch(group, [source]))
            return commits_in(answer)[source]

        await has_committed(site, 5)
        with pytest.raises(UnstableCommitError):
            await stable()
        await client.commit_transaction()
        await until(lambda: committed_is(stable), "the commit of the transaction")
        await has_committed(site, 6)


async def committed_is(stable: Any) -> bool:
    try:
        return await stable() == 6
    except UnstableCommitError:
        return False


async def test_an_absent_broker_is_waited_for_and_the_wait_may_be_ended(site: Site) -> None:
    nobody = TransactionalProducer(
        lambda: AIOKafkaProducer(bootstrap_servers="127.0.0.1:9", transactional_id="id"), "group"
    )
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await nobody.open()
    await nobody.close()
    assert not nobody.has_begun


async def test_offsets_are_sent_when_the_broker_has_the_records(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked to verify both at once, a broker refuses one of them, and aiokafka sends it again after 100 ms:
    every sixth transaction took so long."""
    writer = Writer(site)
    await writer.producer.open()
    client = writer.producer._client
    assert client is not None
    send_offsets, ends = client.send_offsets_to_transaction, []

    async def noting(*arguments: Any) -> None:
        ends.append(await end_of(site, site.settings.topic_scored))
        await send_offsets(*arguments)

    monkeypatch.setattr(client, "send_offsets_to_transaction", noting)
    await writer.write([b"1", b"2"], 2)
    await writer.write([b"3"], 3)
    await writer.producer.close()
    assert ends == [2, 4]  # a marker stands between them


async def end_of(site: Site, topic: str) -> int:
    """Where partition 0 ends, be it in an open transaction."""
    part = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=site.bootstrap)
    await consumer.start()
    try:
        return int((await consumer.end_offsets([part]))[part])
    finally:
        await consumer.stop()


async def test_a_transaction_fails_with_what_ended_its_client_whenever_that_was(site: Site) -> None:
    """Not with what aiokafka says of calls that then come in the wrong order."""
    writer = Writer(site)
    await writer.producer.open()
    await writer.write([b"1"], 1)
    await writer.producer.begin([TopicPartition(site.settings.topic_scored, 0)])
    assert writer.producer._transactions is not None
    ended = KafkaError("Unexpected error during batch delivery")
    writer.producer._transactions.fatal_error(ended)
    offsets = {TopicPartition(site.settings.topic_events, 0): OffsetAndMetadata(2, "")}
    with pytest.raises(KafkaError) as failed:
        await writer.producer.commit(writer.batches([b"2"]), offsets)
    assert failed.value is ended
    await writer.producer.close()
