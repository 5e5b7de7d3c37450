"""A month of a site with a bad line, made short: the receipts add up and the disk stays bounded.

30 simulated days with outages of 1 minute to 7 days on a real broker, whose cleaner settings are shortened in
the same measure; a real bridge, killed once in the longest outage; the SDK over real sockets. Every anomaly
has a number. Each outage gets a receipt from the command, which has to name as many as were written in its
stretch, while the line is cut or the backlog leaves; at the end each number has arrived, and the store is as
good as empty.

    make test-month                                     some minutes
    make test-month MONTH_ANOMALIES=10000000 MONTH_SECONDS=3000 RECORD=docs/month

Not part of `make test`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from farshore.agents.admin import site_topics
from farshore.agents.store_receipt import StoreReceipt
from farshore.local.broker import BrokerSettings, EmbeddedBroker
from farshore.local.eventhubs import EventHubsStandIn, FaultKind

from ..site import Site, Worker, until
from .calendar import DAY, OUTAGES, Calendar
from .load import PARTITIONS, Books, roll, tally, write
from .report import HEAD, MonthReport, OutageRow
from .vitals import OWN, Vitals, store_bytes

CALENDAR = Calendar(
    int(os.environ.get("MONTH_ANOMALIES", "300000")), float(os.environ.get("MONTH_SECONDS", "300"))
)
RECORD = os.environ.get("MONTH_RECORD")

RETENTION_DAYS = 2.0
OUTAGE_SECONDS_MIN = 0.3
"""Real; none is made shorter."""

COUNTED_AT = 0.75
"""Of an outage; what is found after that is in the last receipt alone."""

SEGMENT_BYTES_MIN = 1024 * 1024  # the least that Kafka takes
HUB_BYTES = 64 * 1024 * 1024  # a partition; the tally is never that far behind
DELIVERY_BYTES = 250
DRAIN_SECONDS_MAX = 3_600.0
RECEIPT_SECONDS_MAX = 900.0
REPEATS_MAX = 20_000
"""A cut: what is under way on four lanes, a batch or two each."""

pytestmark = [pytest.mark.broker, pytest.mark.timeout(0)]


@dataclass
class Month:
    """All that belongs to one run."""

    site: Site
    hub: EventHubsStandIn
    books: Books
    report: MonthReport
    vitals: Vitals = field(default_factory=Vitals)
    receipts: list[asyncio.Task[None]] = field(default_factory=list)
    counting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def bytes_now(self) -> int:
        """Of the store, on disk."""
        return await store_bytes(self.site)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A broker whose cleaner looks as often as a month of this length asks for."""
    properties = {"log.cleaner.backoff.ms": "300", "log.retention.check.interval.ms": "1000"}
    with EmbeddedBroker(BrokerSettings(data=tmp_path / "broker", properties=properties)) as broker:
        yield broker


async def shorten(site: Site) -> None:
    """The compacted topics with every time in the month's measure, and small segments."""

    def real_ms(simulated_seconds: float, at_least: int) -> str:
        return str(max(at_least, int(CALENDAR.real(simulated_seconds) * 1_000)))

    short = {
        # Some hundreds of segments in all, as a month of 16 MB a day has them.
        "segment.bytes": str(max(SEGMENT_BYTES_MIN, CALENDAR.anomalies * 800 // 500)),
        "segment.ms": real_ms(3_600, 1_000),
        # A cleaner that is slower than the site's own; at 6 h of this month's it would do nothing else.
        "max.compaction.lag.ms": real_ms(DAY, 2_000),
        # Longer than a look at the store takes, as a day is.
        "delete.retention.ms": real_ms(DAY, 20_000),
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


async def receipt(site: Site, first: int | None = None, end: int | None = None) -> StoreReceipt:
    """What `farshore store receipt` prints of the anomalies from number `first` up to `end`; all without."""
    stretch: list[str] = []
    if first is not None and end is not None:
        stretch = ["--from", str(CALENDAR.found_ms(first)), "--to", str(CALENDAR.found_ms(end))]
    printed = await site.run("store", "receipt", *stretch, "--json", seconds_max=RECEIPT_SECONDS_MAX)
    assert printed.returncode == 0, printed.stderr
    return StoreReceipt(**json.loads(printed.stdout))


async def count_outage(month: Month, seconds: float, first: int, restored: asyncio.Event) -> None:
    """The receipt of an outage's stretch names exactly what was written in it."""
    async with month.counting:
        end = month.books.written
        began = time.monotonic()
        counted = await receipt(month.site, first, end)
        row = OutageRow(
            seconds,
            end - first,
            counted,
            time.monotonic() - began,
            not restored.is_set(),
            await month.bytes_now() / 1e6,
        )
    month.report.outages.append(row)
    say(" ".join(cell.rjust(14) for cell in row.cells))
    assert counted.adds_up
    assert counted.anomalies == end - first, "not what was written in this outage"
    assert not row.offline or counted.waiting == end - first, "acknowledged while the line was cut"


async def outages(month: Month, began: float, bridge: Worker) -> Worker:
    """Cuts of the line, spread evenly; a receipt of each."""
    starts_at = began
    for number, seconds in enumerate(OUTAGES):
        starts_at += CALENDAR.real(CALENDAR.online_seconds)
        await asyncio.sleep(max(0.0, starts_at - time.monotonic()))
        await month.hub.fault((FaultKind.REFUSE, FaultKind.BLACK_HOLE)[number % 2])
        first, restored = month.books.written, asyncio.Event()
        ends_at = max(starts_at + CALENDAR.real(seconds), time.monotonic() + OUTAGE_SECONDS_MIN)
        starts_at += CALENDAR.real(seconds)
        if seconds == max(OUTAGES):
            await asyncio.sleep(CALENDAR.real(seconds) / 2)
            bridge.kill()
            bridge = await month.site.start("bridge")
        await asyncio.sleep(max(0.0, ends_at - (1 - COUNTED_AT) * CALENDAR.real(seconds) - time.monotonic()))
        month.receipts.append(asyncio.create_task(count_outage(month, seconds, first, restored)))
        await asyncio.sleep(max(0.0, ends_at - time.monotonic()))
        restored.set()
        await month.hub.clear()
    return bridge


async def test_a_month_adds_up_and_the_disk_stays_bounded(own_broker: EmbeddedBroker, tmp_path: Path) -> None:
    more = {
        "store_retention_days": str(CALENDAR.real(RETENTION_DAYS * DAY) / DAY),
        "store_interval_seconds": "1",
        "log_level": os.environ.get("MONTH_LOG_LEVEL", "info"),
        "topic_partitions": str(PARTITIONS),
        # A month's waits in the month's measure: a breaker that waits for days would see no line.
        "uplink_connect_seconds_max": "2",
        "uplink_send_seconds_max": "2",
        "uplink_backoff_seconds_max": "0.5",
    }
    async with EventHubsStandIn(hub="anomalies", partitions=PARTITIONS, partition_bytes_max=HUB_BYTES) as hub:
        site = Site(own_broker.bootstrap, "month.", tmp_path, tmp_path, more, {}, hub, hub.connection_string)
        report = MonthReport(CALENDAR.anomalies, CALENDAR.seconds, RETENTION_DAYS)
        month = Month(site, hub, Books(CALENDAR.anomalies), report)
        try:
            await run(month, own_broker.pid)
        finally:
            site.end_workers()
    say("\n" + report.table())
    if RECORD:
        say(f"written to {report.write(Path(RECORD))}")


async def run(month: Month, broker_pid: int) -> None:
    site, books = month.site, month.books
    await site.make_topics()
    await shorten(site)
    bridge = await site.start("bridge")
    say(f"\n{CALENDAR.anomalies:,} anomalies in 30 days of {CALENDAR.seconds / 30:.1f} s")
    say(" ".join(cell.rjust(14) for cell in HEAD))
    began = time.monotonic()
    watching = asyncio.create_task(month.vitals.watch(site, broker_pid))
    counting = asyncio.create_task(tally(month.hub, books))
    writing = asyncio.create_task(write(site, books, CALENDAR, began))
    try:
        bridge = await outages(month, began, bridge)
        await writing
        over = time.monotonic()
        say(f"the month is over after {over - began:.0f} s; {books.distinct:,} have arrived")
        await until(
            lambda: books.is_complete or counting.done(),
            f"all arrived; log:\n{bridge.log[-2000:]}",
            DRAIN_SECONDS_MAX,
        )
        month.report.figures["last arrival after the month, s"] = time.monotonic() - over
        await asyncio.gather(*month.receipts)
        await site.delivered(600)
        say(f"all have arrived after {time.monotonic() - began:.0f} s")
        last = await receipt(site)
        assert last.anomalies == last.acknowledged
        bound = max(24e6, 0.1 * books.written_bytes)

        async def is_small() -> bool:
            await roll(site)
            await asyncio.sleep(2)  # about as long as a segment lasts
            return await month.bytes_now() <= bound

        await until(is_small, f"the store cleaned to {bound / 1e6:.0f} MB", 600)
        month.report.figures["whole run, s"] = time.monotonic() - began
        end_bytes = await month.bytes_now()
        await bridge.stop()
    finally:
        books.closed = True
        for task in (watching, writing, *month.receipts):
            task.cancel()
        await asyncio.gather(watching, writing, *month.receipts, return_exceptions=True)
    await counting
    await check(month, end_bytes)


async def check(month: Month, end_bytes: int) -> None:
    """What is asked at the end; the figures first, so that they are seen whatever comes of it."""
    books, vitals, figures = month.books, month.vitals, month.report.figures
    # Without a cleaner everything would still be there: the anomalies, and a delivery record for each.
    everything = books.written_bytes + DELIVERY_BYTES * books.anomalies
    departed = await departed_in_audit(month.site)
    figures |= {
        "anomalies written": books.written,
        "arrived, by distinct id": books.distinct,
        "left, as audit tells": departed,
        "repeats at the hub": books.arrived - books.distinct,
        "written in all, MB": everything / 1e6,
        "most on disk, MB": vitals.peak_store_bytes / 1e6,
        "on disk at the end, MB": end_bytes / 1e6,
    }
    for role in ("bridge", "broker", OWN):
        figures[f"{role}: most memory, MB"] = vitals.peak_mb[role]
        figures[f"{role}: processor, s"] = vitals.cpu(role)
        figures[f"{role}: processor, µs an anomaly"] = vitals.cpu(role) / books.anomalies * 1e6
    assert books.is_complete
    assert len(month.report.outages) == len(OUTAGES)
    assert vitals.peak_store_bytes < 0.8 * everything
    assert departed >= books.anomalies
    assert books.arrived - books.distinct <= REPEATS_MAX * len(OUTAGES)


async def departed_in_audit(site: Site) -> int:
    """How many anomalies left, by the local record of each batch, as the command lists it."""
    listed = await site.run("store", "audit", "--kind", "departed", seconds_max=RECEIPT_SECONDS_MAX)
    assert listed.returncode == 0, listed.stderr
    return sum(json.loads(line)["count"] for line in listed.stdout.splitlines())
