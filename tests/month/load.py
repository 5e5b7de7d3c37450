"""The month's anomalies into the store, and each of them looked for at the hub."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import orjson

from farshore.local.eventhubs import EventHubsStandIn

from ..site import Site
from ..site_events import anomaly_record
from .calendar import Calendar

__all__ = ["PARTITIONS", "Books", "roll", "tally", "write"]

PARTITIONS = 4
_CHUNK = 500


@dataclass
class Books:
    """What was written and what has arrived, by number: one byte an anomaly."""

    anomalies: int
    written: int = 0
    written_bytes: int = 0
    arrived: int = 0
    distinct: int = 0
    closed: bool = False
    seen: bytearray = field(init=False)

    def __post_init__(self) -> None:
        self.seen = bytearray(self.anomalies)

    @property
    def is_complete(self) -> bool:
        """Whether each anomaly has arrived."""
        return self.distinct == self.anomalies


def _template() -> bytes:
    record = anomaly_record(0) | {"id": "ID", "source": {"topic": "events", "partition": 1, "offset": 2}}
    text = orjson.dumps(record | {"detected_at": 3}).replace(b"%", b"%%").replace(b'"ID"', b'"%032x"')
    text = text.replace(b'"partition":1', b'"partition":%d').replace(b'"offset":2', b'"offset":%d')
    return text.replace(b'"detected_at":3', b'"detected_at":%d')


_TEMPLATE = _template()


async def write(site: Site, books: Books, calendar: Calendar, began: float) -> None:
    """Anomalies evenly over the month, as it passes, as a scorer writes them; the number is the id."""
    topic = site.settings.topic_anomalies
    async with site.producer(enable_idempotence=True, max_batch_size=1024 * 1024) as producer:
        while books.written < calendar.anomalies:
            due = calendar.due(time.monotonic() - began)
            if due - books.written < min(PARTITIONS, calendar.anomalies - books.written):
                await asyncio.sleep(0.05)
                continue
            stop = min(due, books.written + _CHUNK * PARTITIONS)
            waiting = []
            for partition in range(PARTITIONS):
                batch = producer.create_batch()
                for number in range(books.written, stop):
                    if number % PARTITIONS == partition:
                        value = _TEMPLATE % (number, partition, number, calendar.found_ms(number))
                        books.written_bytes += len(value) + 32
                        assert batch.append(key=b"%032x" % number, value=value, timestamp=None) is not None
                if batch.record_count():
                    waiting.append(await producer.send_batch(batch, topic, partition=partition))
            await asyncio.gather(*waiting)
            books.written = stop


async def roll(site: Site) -> None:
    """Tombstones of a key that never was: a log rolls its last segment when something comes."""
    names = site.settings.topics
    async with site.producer() as producer:
        for topic in (names.anomalies, names.deliveries):
            for partition in range(PARTITIONS):
                await producer.send_and_wait(topic, None, key=b"rolls the log", partition=partition)


async def tally(hub: EventHubsStandIn, books: Books) -> None:
    """Note each number that arrives, before the stand-in lets go of what is older than it keeps."""
    places = dict.fromkeys(hub.hub.partitions, 0)
    while True:
        moved = False
        for name, partition in hub.hub.partitions.items():
            assert partition.begin_sequence <= places[name], "the tally came too late"
            for event in partition.read(places[name], 2_000):
                places[name] = event.sequence + 1
                number = _number_in(event.data)
                books.arrived += 1
                books.distinct += not books.seen[number]
                books.seen[number] = 1
                moved = True
            await asyncio.sleep(0)
        if not moved:
            if books.closed:
                return
            await asyncio.sleep(0.2)


def _number_in(message: bytes) -> int:
    # An encoded message has its anomaly in the data section, behind everything else.
    place = message.rindex(b'"id":"') + 6
    return int(message[place : place + 32], 16)
