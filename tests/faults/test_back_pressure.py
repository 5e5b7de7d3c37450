"""What is slow behind the reader slows the reader; nothing but the topic grows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import faust
import orjson
import psutil
import pytest

from farshore.agents.admin import topic_ids
from farshore.agents.faust_app import POLL_ROWS_MAX, make_app
from farshore.agents.receipts import count_site
from farshore.streams.transport.app import batch_of, settle
from farshore.streams.transport.schema import BatchSchema

from ..site import EventSource, Site, until

pytestmark = pytest.mark.broker

MEGABYTE = 1024 * 1024
TOLD = "Kafka does not acknowledge results"


async def publish_batches(site: Site, values: Sequence[bytes]) -> None:
    """Many records quickly, in turn over the partitions."""
    topic, partitions = site.settings.topic_events, site.settings.topic_partitions
    async with site.producer(max_batch_size=256 * 1024) as producer:
        for partition in range(partitions):
            batch, sent = producer.create_batch(), []
            for value in values[partition::partitions]:
                if batch.append(timestamp=None, key=None, value=value) is None:
                    sent.append(await producer.send_batch(batch, topic, partition=partition))
                    batch = producer.create_batch()
                    assert batch.append(timestamp=None, key=None, value=value) is not None
            sent.append(await producer.send_batch(batch, topic, partition=partition))
            await asyncio.gather(*sent)


async def unknown(site: Site, topic: str) -> bool:
    """Whether the broker has let go of a topic that was deleted; its controller answers earlier."""
    async with site.admin() as admin:
        return topic not in await topic_ids(admin, [topic])


async def test_a_broker_that_takes_no_results_stops_the_reading_and_memory_stays_flat(site: Site) -> None:
    site.more = {
        "guarantee": "exactly-once",
        # aiokafka looks for the leader of a vanished topic for as long as one request may take.
        "kafka_request_timeout_seconds": "8",
        "kafka_session_timeout_seconds": "6",
    }
    scorer = await site.start("score")
    # It has its ids and reads, so that nothing but the missing topic keeps it from working below.
    for partition in range(site.settings.topic_partitions):
        await site.publish([(None, b"{")], partition=partition)
    await site.scored()
    # A topic taken away under the worker's feet is one that the broker takes no record of, once it is gone.
    async with site.admin() as admin:
        await admin.delete_topics([site.settings.topic_scored])
    await until(lambda: unknown(site, site.settings.topic_scored), "rid of the topic")
    padding = "x" * 50_000
    events = [orjson.loads(value) | {"note": padding} for _, value in EventSource(seed=71).take(2_400)]
    memory = psutil.Process(scorer.process.pid).memory_info
    before, told = memory().rss, scorer.log.count(TOLD)
    await publish_batches(site, [orjson.dumps(event) for event in events])  # 120 MB
    await until(lambda: scorer.log.count(TOLD) > told, lambda: "told; log:\n" + scorer.log)
    held = [memory().rss]
    for _ in range(20):
        await asyncio.sleep(0.2)
        held.append(memory().rss)
    # Records in hand, what the client has fetched ahead, and what Python makes of them: far from all of them.
    assert max(held) - before < 70 * MEGABYTE, [rss // MEGABYTE for rss in (before, *held)]
    assert max(held) - held[0] < 16 * MEGABYTE, [rss // MEGABYTE for rss in held]
    await site.make_topics()
    await site.scored()
    count = await count_site(site.settings)
    assert count.scored_records == len(count.scored) == len(events)
    await scorer.stop()


async def test_a_slow_agent_holds_a_bounded_number_of_even_the_smallest_records(site: Site) -> None:
    """Bytes alone would let in millions of records of one byte, and each costs some hundred in memory."""
    app = make_app(site.settings, group=site.settings.scorer_group, outputs=())
    released = asyncio.Event()

    @app.agent(app.topic(site.settings.topic_events, schema=BatchSchema()), name="slow")
    async def agent(stream: faust.StreamT) -> None:
        async for event in stream.noack().events():
            await released.wait()
            assert len(batch_of(event))
            settle(event)

    await publish_batches(site, [b"x"] * 240_000)
    await app.start()
    try:
        ledger, limit = app.consumer.ledger, app.transport_settings.outstanding_rows_max
        await until(lambda: ledger.rows_outstanding >= limit, "full")
        await asyncio.sleep(1.0)
        # One poll may pass the limit, and one record batch (some 30,000 of these) the limit of a poll.
        assert ledger.rows_outstanding < limit + 2 * (POLL_ROWS_MAX + 30_000) < 240_000
        released.set()
        await site.scored()
        assert ledger.rows_outstanding == 0
    finally:
        await app.stop()
