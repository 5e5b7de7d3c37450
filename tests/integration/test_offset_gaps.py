"""Offsets with gaps, by transactions and compaction: what is there is read once, commits reach the end."""

from __future__ import annotations

import asyncio
from collections import Counter

import orjson
import pytest
from aiokafka.admin import NewTopic

from ..site import EventSource, Site, anomaly_record, stored_in, until, values_of

pytestmark = pytest.mark.broker


async def in_transaction(site: Site, events: list[tuple[bytes, bytes]], *, commit: bool) -> None:
    async with site.producer(transactional_id=site.prefix + "writer") as producer:
        await producer.begin_transaction()
        for index, (key, value) in enumerate(events):
            await producer.send_and_wait(site.settings.topic_events, value, key=key, partition=index % 4)
        await (producer.commit_transaction() if commit else producer.abort_transaction())


async def test_aborted_events_are_not_scored_and_markers_do_not_hold_up_commits(site: Site) -> None:
    source = EventSource(seed=31)
    kept: list[tuple[bytes, bytes]] = []
    for commit in (True, False, True, False):
        events = source.take(20)
        await in_transaction(site, events, commit=commit)
        kept += events if commit else []
    scorer = await site.start("score")
    await site.scored()
    # Only markers and aborted records from here on: no record will ever carry the commit past them.
    for commit in (False, False):
        await in_transaction(site, source.take(8), commit=commit)
    await site.scored()
    scored = Counter(value["time"] for value in values_of(await site.records(site.settings.topic_scored)))
    assert scored == Counter(orjson.loads(value)["time"] for _, value in kept)
    ends = await site.ends(site.settings.topic_events)
    assert await site.committed(site.settings.scorer_group, site.settings.topic_events) == ends
    assert sum(ends.values()) > len(kept) + 40
    await scorer.stop()


async def test_a_store_with_holes_is_delivered_once_and_committed_to_its_end(site: Site) -> None:
    topic = site.prefix + "store-with-holes"
    site.more = {"topic_anomalies": topic}
    config = {
        "cleanup.policy": "compact",
        "segment.ms": "300",
        "min.cleanable.dirty.ratio": "0.01",
        "delete.retention.ms": "100",
    }
    async with site.admin() as admin:
        await admin.create_topics([NewTopic(topic, 4, 1, topic_configs=config)])
    async with site.producer(enable_idempotence=True) as producer:
        for _ in range(2):
            for number in range(200):
                anomaly = anomaly_record(number)
                await producer.send(
                    topic, orjson.dumps(anomaly), key=anomaly["id"].encode(), partition=number % 4
                )
            await producer.flush()
            await asyncio.sleep(0.5)  # older than segment.ms, so that the next write begins a new segment
        for number in range(0, 200, 5):  # tombstones, as for deliveries that are long settled
            await producer.send(topic, None, key=anomaly_record(number)["id"].encode(), partition=number % 4)
        await producer.flush()

        async def compacted() -> bool:
            # The active segment is never cleaned: a new one begins with the next record only.
            for partition in range(4):
                await producer.send_and_wait(topic, None, key=b"no anomaly", partition=partition)
            records = await site.records(topic)
            return len(records) < sum((await site.ends(topic)).values()) / 2

        await until(compacted, "compacted")
    bridge = await site.start("bridge")
    await site.delivered()
    assert site.hub is not None
    delivered = Counter(int(orjson.loads(body)["id"], 16) for _, body in stored_in(site.hub))
    assert delivered == Counter(number for number in range(200) if number % 5)
    assert await site.committed(site.settings.bridge_group, topic) == await site.ends(topic)
    await bridge.stop()
