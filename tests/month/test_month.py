"""A month of a site with a bad line, made short: the receipt adds up and the disk stays bounded.

30 simulated days with outages of 1 minute to 7 days on a real broker, whose cleaner settings are shortened in
the same measure; a real bridge, killed once in the longest outage; the SDK over real sockets. Every anomaly
has a number; at the end each has arrived, and the store is as good as empty.

    make test-month                                     some minutes
    make test-month MONTH_ANOMALIES=10000000 MONTH_SECONDS=3600

Not part of `make test`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from farshore.agents.admin import connect_admin, site_topics
from farshore.agents.log_bytes import bytes_on_disk
from farshore.agents.store_receipt import count_store
from farshore.agents.store_selection import StoreSelection
from farshore.local.broker import BrokerSettings, EmbeddedBroker
from farshore.local.eventhubs import EventHubsStandIn, FaultKind

from ..site import Site, until, values_of
from ..site_events import anomaly_record
from ..site_worker import Worker

ANOMALIES = int(os.environ.get("MONTH_ANOMALIES", "300000"))
SECONDS = float(os.environ.get("MONTH_SECONDS", "300"))

DAY = 86_400.0
DAYS = 30.0
RETENTION_DAYS = 2.0
OUTAGES = (60, 7_200, 2 * DAY, 600, DAY, 7 * DAY, 1_800, 4 * DAY, 3 * DAY, 14_400)
"""Simulated seconds, in their order; together 17.3 of the 30 days. None is made shorter than
OUTAGE_SECONDS_MIN."""
OUTAGE_SECONDS_MIN = 0.3
PARTITIONS = 4
SEGMENT_BYTES = 1024 * 1024  # the least that Kafka takes
CHUNK = 500
DELIVERY_BYTES = 250

pytestmark = [pytest.mark.broker, pytest.mark.timeout(0)]


def real(simulated_seconds: float) -> float:
    return simulated_seconds / (DAYS * DAY) * SECONDS


@dataclass
class Month:
    """What was seen."""

    written: int = 0
    written_bytes: int = 0
    seen: bytearray = field(default_factory=lambda: bytearray(ANOMALIES))
    arrived: int = 0
    distinct: int = 0
    peak_bytes: int = 0
    lines: list[str] = field(default_factory=list)
    done: bool = False


def say(month: Month, line: str) -> None:
    month.lines.append(line)
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A broker whose cleaner looks as often as a month of SECONDS asks for."""
    properties = {"log.cleaner.backoff.ms": "300", "log.retention.check.interval.ms": "1000"}
    with EmbeddedBroker(BrokerSettings(data=tmp_path / "broker", properties=properties)) as broker:
        yield broker


async def shorten(site: Site) -> None:
    """The compacted topics with every time in the month's measure, and small segments."""
    short = {
        "segment.bytes": str(SEGMENT_BYTES),
        "segment.ms": str(max(1_000, int(real(3_600) * 1_000))),
        "max.compaction.lag.ms": str(max(2_000, int(real(6 * 3_600) * 1_000))),
        # Longer than a look at the store takes, as a day is.
        "delete.retention.ms": str(max(20_000, int(real(DAY) * 1_000))),
        "file.delete.delay.ms": "1000",
    }
    store = {site.settings.topic_anomalies, site.settings.topic_deliveries}
    async with site.admin() as admin:
        await admin.alter_configs(
            [
                ConfigResource(ConfigResourceType.TOPIC, spec.name, spec.creation_config | short)
                for spec in site_topics(site.settings)
                if spec.name in store
            ]
        )


def body(number: int) -> bytes:
    """An anomaly as the scorer writes it; its id is its number."""
    return TEMPLATE % (number, number % PARTITIONS, number)


def template() -> bytes:
    record = anomaly_record(0) | {"id": "ID", "source": {"topic": "events", "partition": 1, "offset": 2}}
    text = orjson.dumps(record).replace(b"%", b"%%").replace(b'"ID"', b'"%032x"')
    return text.replace(b'"partition":1', b'"partition":%d').replace(b'"offset":2', b'"offset":%d')


TEMPLATE = template()


async def write(site: Site, month: Month, began: float) -> None:
    """Anomalies evenly over the month, as fast as it passes."""
    topic = site.settings.topic_anomalies
    async with site.producer(enable_idempotence=True, max_batch_size=1024 * 1024) as producer:
        while month.written < ANOMALIES:
            due = min(ANOMALIES, int((time.monotonic() - began) / SECONDS * ANOMALIES))
            if due - month.written < PARTITIONS:
                await asyncio.sleep(0.05)
                continue
            stop = min(due, month.written + CHUNK * PARTITIONS)
            waiting = []
            for partition in range(PARTITIONS):
                batch = producer.create_batch()
                for number in range(month.written, stop):
                    if number % PARTITIONS == partition:
                        value = body(number)
                        month.written_bytes += len(value) + 32
                        assert batch.append(key=b"%032x" % number, value=value, timestamp=None) is not None
                if batch.record_count():
                    waiting.append(await producer.send_batch(batch, topic, partition=partition))
            await asyncio.gather(*waiting)
            month.written = stop


async def tally(hub: EventHubsStandIn, month: Month) -> None:
    """Each number that arrives; what is older than the stand-in keeps has been looked at before it goes."""
    places = dict.fromkeys(hub.hub.partitions, 0)
    while True:
        moved = False
        for name, partition in hub.hub.partitions.items():
            assert partition.begin_sequence <= places[name], "the tally came too late"
            for event in partition.read(places[name], 2_000):
                places[name] = event.sequence + 1
                number = id_in(event.data)
                month.arrived += 1
                month.distinct += not month.seen[number]
                month.seen[number] = 1
                moved = True
            await asyncio.sleep(0)
        if not moved:
            if month.done:
                return
            await asyncio.sleep(0.2)


def id_in(message: bytes) -> int:
    """The number of the anomaly in an encoded message, which has it in its data section."""
    place = message.rindex(b'"id":"') + 6
    return int(message[place : place + 32], 16)


async def watch_disk(site: Site, month: Month) -> None:
    while True:
        month.peak_bytes = max(month.peak_bytes, await store_bytes(site))
        await asyncio.sleep(1)


async def store_bytes(site: Site) -> int:
    names = site.settings.topics
    partitions = range(site.settings.topic_partitions)
    async with connect_admin(site.bootstrap) as admin:
        sizes = await bytes_on_disk(admin, {names.anomalies: partitions, names.deliveries: partitions})
    return sum(sizes.values())


async def outages(site: Site, month: Month, began: float, bridge: Worker) -> Worker:
    """Cuts of the line, spread evenly; after each longer one what the receipt says while it is cut."""
    assert site.hub is not None
    online = (DAYS * DAY - sum(OUTAGES)) / (len(OUTAGES) + 1)
    starts_at = began
    for number, seconds in enumerate(OUTAGES):
        starts_at += real(online)
        await asyncio.sleep(max(0.0, starts_at - time.monotonic()))
        await site.hub.fault((FaultKind.REFUSE, FaultKind.BLACK_HOLE)[number % 2])
        starts_at += real(seconds)
        if seconds == max(OUTAGES):
            await asyncio.sleep(real(seconds) / 2)
            bridge.kill()
            bridge = await site.start("bridge")
        if seconds >= DAY:
            receipt = await count_store(site.settings, StoreSelection())
            assert receipt.adds_up, receipt
            disk = await store_bytes(site) / 1e6
            say(
                month,
                f"{seconds / DAY:>8.2f} d  {receipt.waiting:>10,}  {receipt.acknowledged:>12,}  {disk:>8.1f}",
            )
        await asyncio.sleep(max(0.0, starts_at - time.monotonic(), OUTAGE_SECONDS_MIN))
        await site.hub.clear()
    return bridge


async def test_a_month_adds_up_and_the_disk_stays_bounded(own_broker: EmbeddedBroker, tmp_path: Path) -> None:
    month = Month()
    more = {
        "store_retention_days": str(real(RETENTION_DAYS * DAY) / DAY),
        "store_interval_seconds": "1",
        "topic_partitions": str(PARTITIONS),
        # A month's waits in the month's measure: a breaker that waits for days would see no line.
        "uplink_connect_seconds_max": "2",
        "uplink_send_seconds_max": "2",
        "uplink_backoff_seconds_max": "0.5",
    }
    async with EventHubsStandIn(hub="anomalies", partitions=PARTITIONS) as hub:
        site = Site(own_broker.bootstrap, "month.", tmp_path, tmp_path, more, hub, hub.connection_string)
        try:
            await run(site, hub, month)
        finally:
            site.end_workers()


async def run(site: Site, hub: EventHubsStandIn, month: Month) -> None:
    await site.make_topics()
    await shorten(site)
    bridge = await site.start("bridge")
    say(
        month,
        f"\n{ANOMALIES:,} anomalies in 30 days of {SECONDS / DAYS:.1f} s; retention {RETENTION_DAYS:g} days",
    )
    say(month, f"{'outage':>10}  {'waiting':>10}  {'acknowledged':>12}  {'disk MB':>8}   (in the store)")
    began = time.monotonic()
    helpers = [asyncio.create_task(watch_disk(site, month))]
    counting = asyncio.create_task(tally(hub, month))
    writing = asyncio.create_task(write(site, month, began))
    try:
        bridge = await outages(site, month, began, bridge)
        await writing
        over = time.monotonic()
        await until(lambda: month.distinct == ANOMALIES, f"all arrived; log:\n{bridge.log[-2000:]}", 7_200)
        say(month, f"all {ANOMALIES:,} have arrived {time.monotonic() - over:.1f} s after the month")
        await site.delivered(600)
        receipt = await count_store(site.settings, StoreSelection())
        assert receipt.adds_up
        assert receipt.anomalies == receipt.acknowledged
        bound = max(24e6, 0.1 * month.written_bytes)

        async def is_small() -> bool:
            return await store_bytes(site) <= bound

        await until(is_small, f"the store cleaned to {bound / 1e6:.0f} MB", 600)
        last = await store_bytes(site)
        await bridge.stop()
    finally:
        month.done = True
        for task in (*helpers, writing):
            task.cancel()
        await asyncio.gather(*helpers, writing, return_exceptions=True)
    await counting
    say(month, f"repeats at the hub: {month.arrived - month.distinct:,}")
    # Without a cleaner everything would still be there: the anomalies, and a delivery record for each.
    everything = month.written_bytes + DELIVERY_BYTES * ANOMALIES
    say(
        month,
        f"written in all: {everything / 1e6:.0f} MB; most on disk {month.peak_bytes / 1e6:.0f} MB, "
        f"at the end {last / 1e6:.1f} MB",
    )
    assert month.peak_bytes < 0.8 * everything
    audit = values_of(await site.records(site.settings.topic_audit))
    assert sum(value["count"] for value in audit if value["kind"] == "departed") >= ANOMALIES
    assert month.arrived - month.distinct <= 20_000 * len(OUTAGES)
