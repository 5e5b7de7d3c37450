"""Exactly once: readers of committed records see each event's result once, whatever dies on the way."""

from __future__ import annotations

import asyncio
import hashlib
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from farshore.agents.receipts import count_site
from farshore.local.broker import BrokerSettings, EmbeddedBroker

from ..site import EventSource, Load, Site, open_site, until, values_of

pytestmark = pytest.mark.broker

# The shortest session the broker takes: the group waits as long for a member that was killed.
LIMITS = {
    "guarantee": "exactly-once",
    "kafka_session_timeout_seconds": "6",
    "transaction_seconds_max": "20",
}


@pytest.fixture
async def exact_site(broker: Any, topic_prefix: str, tmp_path: Path, package: Path) -> AsyncIterator[Site]:
    """A site in exactly-once mode, with its topics made and no worker yet."""
    async with open_site(broker.bootstrap, topic_prefix, tmp_path, package, **LIMITS) as opened:
        yield opened


async def check_exact(site: Site, load: Load) -> None:
    """Each event that was published has one scored record, each anomaly one record in the store."""
    await site.scored()
    count = await count_site(site.settings)
    receipt = count.receipt()
    assert receipt.events_add_up, receipt
    assert receipt.events == receipt.scored == load.published
    assert receipt.unread == 0
    scored = values_of(await site.records(site.settings.topic_scored))
    times = Counter(value["time"] for value in scored)
    assert [time for time, records in times.items() if records > 1] == []
    assert len(times) == len(scored) == load.published
    anomalies = await site.records(site.settings.topic_anomalies)
    assert len(anomalies) == len(count.scored_anomalies) > 0
    assert count.store_is_complete


async def test_a_scorer_killed_again_and_again_gives_each_event_one_result(
    exact_site: Site, seed: int
) -> None:
    choice, site = random.Random(seed), exact_site
    async with site.load(EventSource(seed=seed), events_per_second=3_000) as load:
        for _ in range(2):
            scorer = await site.start("score")
            await until(lambda scorer=scorer: scorer.metric("farshore_transactions_total") > 0, "at work")
            await asyncio.sleep(choice.uniform(0.0, 2.0))
            scorer.kill()
        await site.start("score")
    await check_exact(site, load)


async def test_a_worker_frozen_past_its_session_and_woken_writes_nothing_of_what_it_held(
    exact_site: Site,
) -> None:
    """One worker, then two, then the second alone while the first is frozen, then both again."""
    site = exact_site
    first = await site.start("score")
    async with site.load(EventSource(seed=61), events_per_second=3_000) as load:
        await until(lambda: load.published > 1_000, "load")
        second = await site.start("score")
        await until(lambda: second.metric("farshore_events_total", outcome="scored") > 1_000, "shared")
        first.process.send_signal(signal.SIGSTOP)
        frozen_at = second.metric("farshore_events_total", outcome="scored")

        async def taken_over() -> bool:
            committed = await site.committed(site.settings.scorer_group, site.settings.topic_events)
            return all(committed.get(number, 0) > end for number, end in ends.items())

        ends = await site.ends(site.settings.topic_events)
        # Everybody's events from after the freeze are committed: the second worker has all partitions.
        await until(taken_over, "taken over")
        assert second.metric("farshore_events_total", outcome="scored") > frozen_at
        first.process.send_signal(signal.SIGCONT)
        woken_at = first.metric("farshore_events_total", outcome="scored")
        await until(
            lambda: first.metric("farshore_events_total", outcome="scored") > woken_at + 1_000,
            "a member again",
        )
    await check_exact(site, load)
    for worker in (first, second):
        assert worker.running
        assert worker.lines("ERROR") == []
        assert worker.log.count("did not come about") <= 1, worker.log
        assert "Traceback" not in worker.log
        await worker.stop()


async def test_a_broker_away_for_longer_than_a_transaction_may_take_costs_and_repeats_nothing(
    topic_prefix: str, tmp_path: Path, package: Path
) -> None:
    """The broker aborts what was open when it went; to the worker that looks like a second worker."""
    short = LIMITS | {"transaction_seconds_max": "2", "kafka_request_timeout_seconds": "8"}
    with EmbeddedBroker(
        BrokerSettings(properties={"transaction.abort.timed.out.transaction.cleanup.interval.ms": "500"})
    ) as broker:
        async with open_site(broker.bootstrap, topic_prefix, tmp_path, package, **short) as site:
            scorer = await site.start("score")
            async with site.load(EventSource(seed=62), events_per_second=3_000) as load:
                await until(lambda: load.published > 3_000, "load")
                await asyncio.to_thread(broker.kill)
                await asyncio.sleep(4)
                await asyncio.to_thread(broker.start)
                before = load.published
                await until(lambda: load.published > before + 3_000, "load again")
            await check_exact(site, load)
            assert scorer.running
            assert "Traceback" not in scorer.log
            assert len(scorer.lines("WARNING", "ERROR")) <= 5, scorer.log
            await scorer.stop()


async def test_an_event_that_only_fits_its_topic_compressed_stops_nothing_in_transactions(
    exact_site: Site,
) -> None:
    """Of the other one, too large even so, the dead letter is cut and says so."""
    site, topic = exact_site, exact_site.settings.topic_events
    letters = site.settings.topic_dead_letters
    whole = b'{"note":"' + b"x" * 20 * 1024 * 1024 + b'"}'
    noise = random.Random(7).randbytes(300_000)
    scorer = await site.start("score")
    # A start would refuse such a topic; its owner may make it so later.
    async with site.admin() as admin:
        config = ConfigResource(ConfigResourceType.TOPIC, letters, {"max.message.bytes": "100000"})
        await admin.alter_configs([config])
    async with site.producer(compression_type="gzip") as producer:
        await producer.send_and_wait(topic, noise, key=b"noise", partition=0)
    async with AIOKafkaProducer(
        bootstrap_servers=site.bootstrap, compression_type="gzip", max_request_size=2 * len(whole)
    ) as producer:
        await producer.send_and_wait(topic, whole, key=b"whole", partition=0)
    await site.publish(EventSource(seed=92).take(50), partition=0)
    await site.scored()
    found = {letter.key: letter for letter in await site.records(letters)}
    assert found.keys() == {b"noise", b"whole"}
    assert found[b"whole"].value == whole
    cut, headers = found[b"noise"].value, dict(found[b"noise"].headers)
    assert 0 < len(cut) < 100_000
    assert noise.startswith(cut)
    assert headers["truncated"] == b"300000"
    assert headers["sha256"] == hashlib.sha256(noise).hexdigest().encode()
    receipt = (await count_site(site.settings)).receipt()
    assert (receipt.scored, receipt.dead_letters) == (50, 2)
    assert receipt.adds_up
    await scorer.stop()
