"""Records that are gone before they are read: told, counted, and in the receipt before, during and after."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import faust
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewPartitions, NewTopic, RecordsToDelete
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from aiokafka.structs import OffsetAndMetadata
from jsonschema import Draft202012Validator

from farshore.agents.admin import topic_ids
from farshore.agents.errors import TopicError
from farshore.agents.faust_app import make_app
from farshore.agents.receipts import count_site
from farshore.schemas.manifest import load_schema
from farshore.schemas.receipt import Receipt
from farshore.streams.transport.app import batch_of, settle
from farshore.streams.transport.schema import BatchSchema

from ..site import EventSource, Site, until

pytestmark = pytest.mark.broker


async def receipt(site: Site) -> Receipt:
    return (await count_site(site.settings)).receipt()


async def audit(site: Site, kind: str) -> list[dict[str, Any]]:
    """The records of one kind on `audit`, each as its schema has it."""
    found = [orjson.loads(record.value) for record in await site.records(site.settings.topic_audit)]
    for record in found:
        Draft202012Validator(load_schema(record["kind"])).validate(record)
    return [record for record in found if record["kind"] == kind]


async def delete_below(site: Site, partition: int, offset: int) -> None:
    """What retention does, at once."""
    events = TopicPartition(site.settings.topic_events, partition)
    async with site.admin() as admin:
        await admin.delete_records({events: RecordsToDelete(offset)})


async def make_anew(site: Site, topic: str) -> None:
    old_id = await id_of(site, topic)
    async with site.admin() as admin:
        await admin.delete_topics([topic])

    async def made() -> bool:
        async with site.admin() as admin:
            config = {"max.message.bytes": str(site.settings.topic_event_bytes_max)}
            new = NewTopic(topic, site.settings.topic_partitions, 1, topic_configs=config)
            answer = await admin.create_topics([new])
        code = answer.topic_errors[0][1]
        assert not code or for_code(code) is TopicAlreadyExistsError, answer
        return not code

    async def known() -> bool:
        async with site.admin() as admin:
            ids = await topic_ids(admin, [topic])
        return topic in ids and str(ids[topic]) != old_id

    await until(made, "made anew")
    # The controller has made it; until the broker has heard of that, it writes into the old one.
    await until(known, "known to the broker")


async def id_of(site: Site, topic: str) -> str:
    async with site.admin() as admin:
        return str((await topic_ids(admin, [topic]))[topic])


async def test_events_that_retention_took_before_they_were_read_are_told_and_stay_in_the_receipt(
    site: Site,
) -> None:
    events, source = site.settings.topic_events, EventSource(seed=81)
    await site.publish(source.take(20), partition=0)
    await site.publish(source.take(30), partition=1)
    await delete_below(site, 1, 5)  # before anybody read any of them
    assert (await receipt(site)).lost_to_retention == 5
    scorer = await site.start("score")
    await site.scored()
    await scorer.stop()
    await site.publish(source.take(50), partition=0)
    await delete_below(site, 0, 50)

    before = await receipt(site)
    assert (before.events, before.scored, before.unread, before.lost_to_retention) == (100, 45, 20, 35)
    assert before.adds_up

    scorer = await site.start("score")
    await site.scored()
    after = await receipt(site)
    assert (after.events, after.scored, after.unread, after.lost_to_retention) == (100, 65, 0, 35)
    assert after.adds_up
    gaps = [(gap["partition"], gap["from"], gap["to"], gap["reason"]) for gap in await audit(site, "gap")]
    assert gaps == [(1, 0, 5, "retention"), (0, 20, 50, "retention")]
    assert {gap["topic_id"] for gap in await audit(site, "gap")} == {await id_of(site, events)}
    (line,) = scorer.lines("WARNING")
    assert f"{events}/0: 30 offsets from 20 to 50 were deleted before they were read" in line
    assert scorer.metric("farshore_records_lost_total", topic=events, reason="retention") == 30
    await scorer.stop()


@asynccontextmanager
async def reading_app(site: Site, given: list[int], free: asyncio.Event) -> AsyncIterator[None]:
    """A worker whose agent notes the offsets that it is given, and settles them once it is free."""
    settings = site.settings
    app = make_app(settings, group=settings.scorer_group, outputs=())

    @app.agent(app.topic(settings.topic_events, schema=BatchSchema()), name="reading")
    async def agent(stream: faust.StreamT) -> None:
        async for event in stream.noack().events():
            given.extend(batch_of(event).offsets)
            await free.wait()
            settle(event)

    await app.start()
    try:
        yield
    finally:
        await app.stop()


async def test_a_reader_that_retention_overtakes_goes_on_behind_the_gap(site: Site) -> None:
    """An agent that is held, with more in the topic than its worker may take into memory meanwhile."""
    large, count = b"x" * 100_000, 100
    free, given = asyncio.Event(), list[int]()
    async with reading_app(site, given, free):
        await site.publish([(None, b"first")], partition=0)
        await until(lambda: given == [0], "given the first")
        await site.publish([(None, large)] * count, partition=0)
        await delete_below(site, 0, count)
        free.set()
        await until(lambda: given[-1] == count, "given the last")
        await site.scored()
    (gap,) = await audit(site, "gap")
    assert given == [*range(gap["from"]), *range(gap["to"], count + 1)]
    assert (gap["to"], gap["reason"]) == (count, "retention")
    assert 0 < gap["from"] < 60  # what a fetch had brought before


async def test_a_commit_behind_the_end_of_the_log_means_that_everything_there_is_read_again(
    site: Site,
) -> None:
    """As after a power cut: the broker had given out and lost what it had not written to its disk."""
    topic = site.settings.topic_events
    await site.publish([(None, b"event")] * 10, partition=0)
    commit = OffsetAndMetadata(500, f"topic-id={await id_of(site, topic)}")
    await commit_as(site, site.settings.scorer_group, TopicPartition(topic, 0), commit)
    free, given = asyncio.Event(), list[int]()
    free.set()
    async with reading_app(site, given, free):
        await until(lambda: len(given) >= 10, "given all")
        await until(lambda: committed_to(site, 10), "committed anew")
    assert given == list(range(10))
    (gap,) = await audit(site, "gap")
    assert (gap["from"], gap["to"], gap["reason"]) == (10, 500, "truncated")


async def test_a_topic_made_anew_is_read_from_its_beginning(site: Site) -> None:
    """Kafka deletes commits with their topic, so there is none to compare: `audit` knows what was read."""
    events, source = site.settings.topic_events, EventSource(seed=83)
    scorer = await site.start("score")
    await site.publish(source.take(40), partition=0)
    await site.scored()
    await scorer.stop()
    old_id = await id_of(site, events)
    await make_anew(site, events)
    await site.publish(source.take(10), partition=0)

    scorer = await site.start("score")
    await site.scored()
    count = await count_site(site.settings)
    assert {offset for _, offset in count.scored} == set(range(10))
    assert count.receipt().adds_up
    assert count.receipt().events == count.receipt().scored == 50
    assert count.store_is_complete
    gaps = [gap for gap in await audit(site, "gap") if gap["partition"] == 0]
    assert [(gap["reason"], gap["topic_id"], gap["to"]) for gap in gaps] == [("remade", old_id, None)]
    told = f"{events}/0: the topic was deleted and made again"
    assert sum(told in line for line in scorer.lines("WARNING")) == 1
    await scorer.stop()


async def test_an_old_commit_is_not_taken_for_one_of_a_topic_made_anew_that_has_grown_past_it(
    site: Site,
) -> None:
    """As a worker leaves it that ended before it saw that its topic had changed."""
    topic = site.settings.topic_events
    old_id = await id_of(site, topic)
    commit = OffsetAndMetadata(40, f"topic-id={old_id}")
    await commit_as(site, site.settings.scorer_group, TopicPartition(topic, 0), commit)
    await make_anew(site, topic)
    # Kafka deletes commits some time after their topic, and does not look whose they are: not the next one.
    await until(lambda: without_commit(site), "rid of the old topic's commit")
    await site.publish([(None, b"event")] * 60, partition=0)
    await commit_as(site, site.settings.scorer_group, TopicPartition(topic, 0), commit)
    free, given = asyncio.Event(), list[int]()
    free.set()
    async with reading_app(site, given, free):
        await until(lambda: len(given) >= 60, "given all")
        await site.scored()
    assert given == list(range(60))
    (gap,) = await audit(site, "gap")
    assert (gap["from"], gap["to"], gap["reason"], gap["topic_id"]) == (40, None, "remade", old_id)


@pytest.mark.parametrize("guarantee", ["at-least-once", "exactly-once"])
async def test_a_commit_that_kafka_drops_late_is_made_again(site: Site, guarantee: str) -> None:
    """As it drops those of a deleted topic by name, when they may be those of the topic made anew."""
    site.more = {"kafka_metadata_age_seconds_max": "1", "guarantee": guarantee}
    part = TopicPartition(site.settings.topic_events, 0)
    scorer = await site.start("score")
    await site.publish(EventSource(seed=86).take(40), partition=0)
    await site.scored()
    # Held meanwhile, so that it cannot make the commit again before it is seen to be gone.
    scorer.process.send_signal(signal.SIGSTOP)
    # Only a transaction may commit for a group that has members.
    async with site.producer(transactional_id=site.prefix + "dropping") as producer, producer.transaction():
        nothing = {part: OffsetAndMetadata(-1, "")}
        await producer.send_offsets_to_transaction(nothing, site.settings.scorer_group)
    await until(lambda: without_commit(site), "without a commit")
    scorer.process.send_signal(signal.SIGCONT)
    await until(lambda: committed_to(site, 40), lambda: "committed again; log:\n" + scorer.log)
    assert len(await site.records(site.settings.topic_scored)) == 40
    assert scorer.lines("WARNING", "ERROR") == []
    await scorer.stop()


async def committed_to(site: Site, offset: int) -> bool:
    return (await site.committed(site.settings.scorer_group, site.settings.topic_events)).get(0) == offset


async def without_commit(site: Site) -> bool:
    committed = await site.committed(site.settings.scorer_group, site.settings.topic_events)
    return committed.get(0, -1) < 0


async def commit_as(site: Site, group: str, tp: TopicPartition, commit: OffsetAndMetadata) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=site.bootstrap, group_id=group, enable_auto_commit=False)
    await consumer.start()
    consumer.assign([tp])
    await consumer.commit({tp: commit})
    await consumer.stop()


async def test_a_topic_made_anew_under_a_running_worker_is_read_from_its_beginning(site: Site) -> None:
    site.more = {"kafka_metadata_age_seconds_max": "1"}
    events, store, source = site.settings.topic_events, site.settings.topic_anomalies, EventSource(seed=84)
    scorer = await site.start("score")
    await site.publish(source.take(40), partition=0)
    await site.scored()
    # Held meanwhile, so that it finds a topic that is there and longer than its position: no error to see.
    scorer.process.send_signal(signal.SIGSTOP)
    await make_anew(site, events)
    await site.publish(source.take(100), partition=0)
    scorer.process.send_signal(signal.SIGCONT)
    await until(lambda: f"{events}/0: the topic was deleted" in scorer.log, "noticed")
    await site.scored()
    count = await count_site(site.settings)
    assert {offset for _, offset in count.scored} == set(range(100))
    assert count.receipt().adds_up
    await scorer.stop()

    # The bridge reads by the same transport.
    bridge = await site.start("bridge")
    await site.delivered()
    async with site.admin() as admin:
        await admin.delete_topics([store])
    await until(lambda: remade_store(site), "made anew")
    await site.publish_anomalies(range(8))
    await until(lambda: f"{store}/0: the topic was deleted" in bridge.log, "noticed")
    await site.delivered()
    outcomes = (await count_site(site.settings)).outcomes
    assert {f"{number:032x}" for number in range(8)} <= outcomes.keys()
    await bridge.stop()


async def remade_store(site: Site) -> bool:
    try:
        await site.make_topics()
    except TopicError:
        return False  # still being deleted
    return True


async def test_partitions_that_events_gains_under_a_running_worker_are_scored(site: Site) -> None:
    site.more = {"kafka_metadata_age_seconds_max": "1"}
    settings = site.settings
    scorer = await site.start("score")
    bridge = await site.start("bridge")
    async with site.admin() as admin:
        await admin.create_partitions({settings.topic_events: NewPartitions(7)})
    await until(lambda: in_seven(site), "seven partitions")
    source = EventSource(seed=85, anomaly_share=0.5)
    for partition in (0, 6):
        await site.publish(source.take(20), partition=partition)
    await site.publish([(b"k", b"{")], partition=6)
    count = await site.settled()
    assert {partition for partition, _ in count.scored} == {0, 6}
    assert len(count.scored) == 40
    assert list(count.dead_letters) == [(6, 20)]
    assert count.receipt().adds_up
    assert scorer.lines("WARNING") == []
    await scorer.stop()
    await bridge.stop()


async def in_seven(site: Site) -> bool:
    try:
        return len(await site.ends(site.settings.topic_events)) == 7
    except KafkaError:
        return False  # no leader yet
