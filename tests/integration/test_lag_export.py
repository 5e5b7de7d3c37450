"""The lag metrics against a real broker: plain clients produce, commit and leave; the exporter looks on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from farshore.agents import lag_commits, lag_reader, lag_sampling
from farshore.agents.lag import COORDINATOR_SECONDS_MAX, LagExporter, WatchedGroups
from farshore.agents.lag_reader import LagReader
from farshore.agents.metrics import (
    CONSUMER_LAG_BYTES,
    CONSUMER_LAG_READ_TIMESTAMP,
    CONSUMER_LAG_RECORDS,
    CONSUMER_LAG_SECONDS,
    WORKER_REGISTRY,
)
from farshore.local.ports import free_ports

from ..conftest import SharedBroker
from .watched_site import VALUE, WAIT_SECONDS_MAX, WatchedSite

pytestmark = pytest.mark.broker

AGE_SECONDS = 90.0


@pytest.fixture
async def site(broker: SharedBroker, topic_prefix: str) -> AsyncIterator[WatchedSite]:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    site = WatchedSite(broker.bootstrap, topic_prefix, admin)
    await site.create(site.events, site.scored, site.anomalies)
    await site.coordinated()
    try:
        yield site
    finally:
        with contextlib.suppress(Exception):
            await admin.delete_topics([site.events, site.scored, site.anomalies])
        await admin.close()


@pytest.fixture
async def exporter(site: WatchedSite) -> AsyncIterator[LagExporter]:
    exporter = LagExporter(site.bootstrap, site.watched, interval_seconds=0.2)
    try:
        yield exporter
    finally:
        await exporter.close()


def lag(group: str, topic: str, partition: int = 0) -> tuple[float, float, float] | None:
    """Records, seconds and bytes as exported, or None where there is no such series."""
    labels = {"group": group, "topic": topic, "partition": str(partition)}
    values = [
        WORKER_REGISTRY.get_sample_value(f"farshore_consumer_lag_{unit}", labels)
        for unit in ("records", "seconds", "bytes")
    ]
    if None in values:
        assert values == [None, None, None]
        return None
    records, seconds, size = (value for value in values if value is not None)
    return records, seconds, size


async def test_lag_is_the_distance_age_and_size_from_the_commit(
    site: WatchedSite, exporter: LagExporter
) -> None:
    await site.produce(site.events, 4, age_seconds=600)
    await site.produce(site.events, 6, age_seconds=AGE_SECONDS)
    await site.commit(site.scorer, site.events, 4)

    assert await exporter.export_once()

    found = lag(site.scorer, site.events)
    assert found is not None
    records, seconds, size = found
    assert records == 6
    assert AGE_SECONDS <= seconds < AGE_SECONDS + 120
    assert size == 6 * len(VALUE)
    assert lag(site.scorer, site.events, partition=1) == (0, 0, 0)


async def test_a_group_without_a_commit_counts_from_the_log_start(
    site: WatchedSite, exporter: LagExporter
) -> None:
    await site.produce(site.anomalies, 5, age_seconds=AGE_SECONDS)
    await exporter.export_once()
    found = lag(site.bridge, site.anomalies)
    assert found is not None
    assert found[0] == 5
    assert found[1] >= AGE_SECONDS


async def test_a_commit_that_retention_has_passed_counts_from_the_log_start(
    site: WatchedSite, exporter: LagExporter
) -> None:
    await site.produce(site.events, 10, age_seconds=AGE_SECONDS)
    await site.commit(site.scorer, site.events, 2)
    await site.admin.delete_records({TopicPartition(site.events, 0): RecordsToDelete(7)})
    await exporter.export_once()
    found = lag(site.scorer, site.events)
    assert found is not None
    assert found[0] == 3
    assert found[1] >= AGE_SECONDS


async def test_a_commit_beyond_the_end_is_no_lag(site: WatchedSite, exporter: LagExporter) -> None:
    await site.produce(site.events, 3)
    await site.commit(site.scorer, site.events, 50)
    await exporter.export_once()
    assert lag(site.scorer, site.events) == (0, 0, 0)


async def test_every_group_that_committed_on_the_scored_topic_is_found_dead_or_not(
    site: WatchedSite, exporter: LagExporter
) -> None:
    await site.produce(site.scored, 8, age_seconds=AGE_SECONDS)
    one, two, elsewhere = site.prefix + "one", site.prefix + "two", site.prefix + "elsewhere"
    await site.commit(one, site.scored, 3)
    await site.commit(two, site.scored, 7)
    await site.commit(elsewhere, site.events, 0)

    # All three consumers are gone by now.
    await exporter.export_once()

    found_one, found_two = lag(one, site.scored), lag(two, site.scored)
    assert found_one is not None
    assert found_two is not None
    assert (found_one[0], found_two[0]) == (5, 1)
    assert min(found_one[1], found_two[1]) >= AGE_SECONDS
    assert lag(elsewhere, site.scored) is None


async def test_lag_follows_the_commit_and_ends_at_0(site: WatchedSite, exporter: LagExporter) -> None:
    await site.produce(site.events, 10, age_seconds=AGE_SECONDS)
    seen = []
    for offset in (0, 9, 10):
        await site.commit(site.scorer, site.events, offset)
        await exporter.export_once()
        found = lag(site.scorer, site.events)
        assert found is not None
        seen.append(found[0])
    assert seen == [10, 1, 0]
    assert lag(site.scorer, site.events) == (0, 0, 0)


async def test_a_group_that_is_deleted_loses_its_series(
    site: WatchedSite, exporter: LagExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = site.prefix + "gone"
    await site.produce(site.scored, 1)
    await site.commit(gone, site.scored, 0)
    await exporter.export_once()
    assert lag(gone, site.scored) is not None

    async def without_it(admin: Any, partitions: Any) -> Mapping[str, Any]:
        groups = await lag_commits.reading_groups(admin, partitions)
        return {name: commits for name, commits in groups.items() if name != gone}

    monkeypatch.setattr("farshore.agents.lag_reader.reading_groups", without_it)
    await exporter.export_once()
    assert lag(gone, site.scored) is None


async def test_a_topic_that_is_deleted_loses_its_series_and_hides_no_other(
    site: WatchedSite, exporter: LagExporter
) -> None:
    await site.produce(site.events, 2)
    await site.produce(site.anomalies, 3)
    await exporter.export_once()
    assert lag(site.scorer, site.events) is not None
    await site.admin.delete_topics([site.events])
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while lag(site.scorer, site.events) is not None:
            await asyncio.sleep(0.1)
            await exporter.export_once()
    assert lag(site.bridge, site.anomalies) is not None


async def test_missing_topics_are_left_out_and_not_made(broker: SharedBroker, topic_prefix: str) -> None:
    names = [topic_prefix + name for name in ("events", "anomalies", "scored")]
    watched = WatchedGroups(((topic_prefix + "a", names[0]), (topic_prefix + "b", names[1])), (names[2],))
    exporter = LagExporter(broker.bootstrap, watched, interval_seconds=1)
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        assert await exporter.export_once()
        assert not set(names) & set(await admin.list_topics())
    finally:
        await exporter.close()
        await admin.close()


async def test_a_trailing_transaction_marker_is_no_lag(site: WatchedSite, exporter: LagExporter) -> None:
    await site.transact(site.anomalies, 3)
    await site.commit(site.bridge, site.anomalies, 3)  # after the last record, before the marker
    await exporter.export_once()
    assert lag(site.bridge, site.anomalies) == (0, 0, 0)

    await site.produce(site.anomalies, 1, age_seconds=AGE_SECONDS)
    await exporter.export_once()
    found = lag(site.bridge, site.anomalies)
    assert found is not None
    assert found[1] >= AGE_SECONDS


async def test_aborted_records_are_no_lag(site: WatchedSite, exporter: LagExporter) -> None:
    await site.transact(site.anomalies, 5, commit=False)
    await exporter.export_once()
    assert lag(site.bridge, site.anomalies) == (0, 0, 0)


async def test_a_large_batch_is_sampled_on_every_partition(site: WatchedSite, exporter: LagExporter) -> None:
    """A batch above the partition's fetch limit still arrives: the broker gives one such batch a request."""
    value = b"w" * (lag_sampling.PARTITION_FETCH_BYTES * 4)
    async with AIOKafkaProducer(bootstrap_servers=site.bootstrap) as producer:
        for partition in (0, 1):
            await producer.send_and_wait(site.events, value, partition=partition, timestamp_ms=1_000)
    await exporter.export_once()
    for partition in (0, 1):
        found = lag(site.scorer, site.events, partition)
        assert found is not None
        assert found[1] > 1_000_000
        assert found[2] == len(value)


async def test_a_position_that_stands_still_is_read_once(
    site: WatchedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.produce(site.events, 3, age_seconds=AGE_SECONDS)
    polls = 0
    poll = lag_sampling.RecordSampler._poll

    async def counted(self: lag_sampling.RecordSampler, partitions: Any) -> Any:
        nonlocal polls
        polls += 1
        return await poll(self, partitions)

    monkeypatch.setattr(lag_sampling.RecordSampler, "_poll", counted)
    reader = LagReader(site.bootstrap, site.watched)
    try:
        first = await reader.read()
        after_first = polls
        second = await reader.read()
    finally:
        await reader.close()
    assert after_first > 0
    assert polls == after_first
    before, after = (max(entry.lag.seconds for entry in lags) for lags in (first, second))
    assert after >= before >= AGE_SECONDS


async def test_an_absent_broker_keeps_the_last_values_and_is_told_once(
    site: WatchedSite,
    exporter: LagExporter,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO, logger="farshore")
    await site.produce(site.events, 4, age_seconds=AGE_SECONDS)
    await exporter.export_once()
    read_at = WORKER_REGISTRY.get_sample_value(CONSUMER_LAG_READ_TIMESTAMP._name)

    await exporter.close()
    monkeypatch.setattr(exporter._reader, "_bootstrap", f"127.0.0.1:{free_ports(1)[0]}")
    for _ in range(3):
        assert not await exporter.export_once()
    found = lag(site.scorer, site.events)
    assert found is not None
    assert found[0] == 4
    assert WORKER_REGISTRY.get_sample_value(CONSUMER_LAG_READ_TIMESTAMP._name) == read_at

    monkeypatch.setattr(exporter._reader, "_bootstrap", site.bootstrap)
    assert await exporter.export_once()
    told = [record.message for record in caplog.records if record.name.startswith("farshore")]
    assert len(told) == 2
    assert "cannot be read" in told[0]
    assert "read again" in told[1]


async def test_a_coordinator_that_is_loading_is_not_taken_for_no_commit(
    site: WatchedSite,
    exporter: LagExporter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its answer has an error for the group and no partitions, which the client passes on as 'nothing'."""
    now = 0.0
    caplog.set_level(logging.INFO, logger="farshore")
    monkeypatch.setattr(exporter, "_clock", lambda: now)
    await site.produce(site.events, 5)
    await site.commit(site.scorer, site.events, 5)
    await exporter.export_once()

    async def nothing(*_: Any, **__: Any) -> dict[TopicPartition, Any]:
        return {}

    with monkeypatch.context() as patched:
        patched.setattr(AIOKafkaAdminClient, "list_consumer_group_offsets", nothing)
        caplog.clear()  # what the producer of a fresh topic said
        assert not await exporter.export_once()
        assert not caplog.messages  # every first start on a fresh broker goes through this
        now = COORDINATOR_SECONDS_MAX
        assert not await exporter.export_once()
        (told,) = caplog.messages
        assert "cannot be read" in told
    assert lag(site.scorer, site.events) == (0, 0, 0)


async def test_the_loop_goes_on_after_any_error_and_stops_when_cancelled(
    site: WatchedSite, exporter: LagExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.produce(site.events, 2)
    read = exporter._reader.read
    failures = iter([RuntimeError("unforeseen"), TimeoutError()])

    async def failing_twice() -> Any:
        for error in failures:
            raise error
        return await read()

    monkeypatch.setattr(exporter._reader, "read", failing_twice)
    task = asyncio.create_task(exporter.run())
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while lag(site.scorer, site.events) is None:
            await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, WAIT_SECONDS_MAX)


async def test_measuring_joins_no_group(site: WatchedSite, exporter: LagExporter) -> None:
    await site.produce(site.events, 2)
    before = set(await site.admin.list_consumer_groups())
    await exporter.export_once()
    mine = {name for name, *_ in set(await site.admin.list_consumer_groups()) - before}
    assert not {name for name in mine if name.startswith(site.prefix)}


@pytest.fixture(autouse=True)
def patient_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a loaded machine does not read in time has age and size 0 until the next pass; here it is waited
    for."""
    monkeypatch.setattr(lag_reader, "SAMPLING_SECONDS_MAX", lag_reader.PASS_SECONDS_MAX - 5)


@pytest.fixture(autouse=True)
def clean_gauges() -> Any:
    yield
    for gauge in (CONSUMER_LAG_RECORDS, CONSUMER_LAG_SECONDS, CONSUMER_LAG_BYTES):
        gauge.clear()
