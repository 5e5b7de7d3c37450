"""The durable store as a stream: every live anomaly with its outcome, newest record of each key.

Guarantees: joins no group and changes nothing; needs the broker alone, never the uplink. Memory is bounded
by JOINED_RECORDS_MAX records and JOINED_BYTES_MAX bytes of one partition at a time: what a pass holds is
looked up in the rest of its partition and in `deliveries`, which are read once more for each such window.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Final

from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from ..schemas.records import Outcome
from ..streams.scoring.codec import NotJsonError, decode
from .admin import connect_admin
from .errors import BrokerAbsentError
from .lag_commits import committed_offsets, partitions_by_topic
from .settings import Settings
from .topic_reader import TopicReader, open_reader

__all__ = ["JOINED_BYTES_MAX", "JOINED_RECORDS_MAX", "WAITING", "Store", "Stored", "open_store"]

JOINED_RECORDS_MAX: Final = 200_000
JOINED_BYTES_MAX: Final = 64 * 1024 * 1024

COORDINATOR_SECONDS_MAX: Final = 20.0
_RETRY_SECONDS: Final = 0.2

WAITING: Final = "waiting"
"""The state of an anomaly without an outcome."""

_DROPPED: Final = f'"{Outcome.DROPPED_BY_QUOTA.value}"'.encode()

Chosen = Callable[[ConsumerRecord], bool]
Window = dict[bytes, ConsumerRecord]


@dataclass(frozen=True, slots=True)
class Stored:
    """One anomaly: its record in the store (None once a quota took it) and its delivery record, if any.

    `passed` is whether the bridge has committed beyond the record: then it must have an outcome.
    """

    key: bytes
    partition: int
    record: ConsumerRecord | None
    delivery: bytes | None
    passed: bool

    @property
    def state(self) -> str:
        """Waiting, or the outcome as `deliveries` has it."""
        if self.delivery is None:
            return WAITING
        try:
            told = decode(self.delivery)
        except NotJsonError:
            return "damaged"
        return str(told.get("outcome")) if isinstance(told, dict) else "damaged"


class Store:
    """The store's anomalies. `scan` and `look` are two readers: one goes on while the other looks up."""

    def __init__(
        self, settings: Settings, scan: TopicReader, look: TopicReader, committed: Mapping[int, int | None]
    ) -> None:
        self._names = settings.topics
        self._scan = scan
        self._look = look
        self._committed = committed

    async def anomalies(self, chosen: Chosen) -> AsyncIterator[Stored]:
        """Live anomalies whose record `chosen` takes, by partition and in its order."""
        # Bounds once: what is written meanwhile belongs to the next look.
        bounds = await self._scan.bounds(self._names.anomalies)
        for partition in sorted(bounds):
            async for window in self._live(self._names.anomalies, partition, bounds[partition], chosen):
                deliveries = await self._deliveries(partition, window)
                committed = self._committed.get(partition) or 0
                for key, record in window.items():
                    passed = record.offset < committed
                    yield Stored(key, partition, record, deliveries.get(key), passed)

    async def dropped(self, chosen: Chosen) -> AsyncIterator[Stored]:
        """Anomalies that a quota took: of these only the delivery record is left, which `chosen` sees."""

        def is_dropped(record: ConsumerRecord) -> bool:
            return _DROPPED in record.value and chosen(record)

        bounds = await self._scan.bounds(self._names.deliveries)
        for partition in sorted(bounds):
            async for window in self._live(self._names.deliveries, partition, bounds[partition], is_dropped):
                for key, record in window.items():
                    yield Stored(key, partition, None, record.value, True)

    async def find(self, identity: str) -> Stored | None:
        """The anomaly with this id, if the store has it or a quota took it."""
        key = identity.encode()
        async for stored in self.anomalies(lambda record: record.key == key):
            return stored
        async for stored in self.dropped(lambda record: record.key == key):
            return stored
        return None

    async def _live(
        self, topic: str, partition: int, bounds: tuple[int, int], chosen: Chosen
    ) -> AsyncIterator[Window]:
        """Records that no later one of their key replaces, a bounded number at a time."""
        window: Window = {}
        size, end = 0, bounds[1]
        async for records in self._scan.records_between(topic, {partition: bounds}):
            for record in records:
                if record.key in window:
                    size -= len(window.pop(record.key).value)
                if record.value is not None and chosen(record):
                    window[record.key] = record
                    size += len(record.value)
            if len(window) >= JOINED_RECORDS_MAX or size >= JOINED_BYTES_MAX:
                await self._forget_replaced(topic, partition, (records[-1].offset + 1, end), window)
                yield window
                window, size = {}, 0
        if window:
            yield window

    async def _forget_replaced(
        self, topic: str, partition: int, rest: tuple[int, int], window: Window
    ) -> None:
        async for records in self._look.records_between(topic, {partition: rest}):
            for record in records:
                window.pop(record.key, None)

    async def _deliveries(self, partition: int, window: Window) -> dict[bytes, bytes]:
        """Delivery records of `window`; an anomaly that was retired meanwhile is taken out of it."""
        found: dict[bytes, bytes] = {}
        bounds = await self._look.bounds(self._names.deliveries)
        if partition not in bounds:
            return found
        async for records in self._look.records_between(
            self._names.deliveries, {partition: bounds[partition]}
        ):
            for record in records:
                anomaly = window.get(record.key)
                if anomaly is None:
                    continue
                if record.value is not None:
                    found[record.key] = record.value
                elif record.timestamp >= anomaly.timestamp:
                    # Retired while this pass was reading: its tombstone lies beyond the bounds.
                    del window[record.key]
                    found.pop(record.key, None)
                else:
                    # Retired once and found again since: a new anomaly, which has no outcome yet.
                    found.pop(record.key, None)
        return found


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[Store]:
    """The site's store; raises BrokerAbsentError when no broker answers or a topic is not there."""
    # Commits first: what they cover already stands in `deliveries`.
    committed = await _committed(settings)
    async with open_reader(settings.kafka_bootstrap) as scan, open_reader(settings.kafka_bootstrap) as look:
        yield Store(settings, scan, look, committed)


async def _committed(settings: Settings) -> dict[int, int | None]:
    """The bridge's commits; waits for its coordinator, which the first group of a broker has to make."""
    topic, deadline = settings.topics.anomalies, monotonic() + COORDINATOR_SECONDS_MAX
    async with connect_admin(settings.kafka_bootstrap) as admin:
        parts = (await partitions_by_topic(admin, {topic})).get(topic, [])
        while True:
            try:
                committed = await committed_offsets(admin, settings.bridge_group, parts)
            except KafkaError as error:
                if not error.retriable or monotonic() > deadline:
                    raise BrokerAbsentError(
                        f"the commits of group {settings.bridge_group!r} cannot be read: {error}"
                    ) from None
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return {part.partition: offset for part, offset in committed.items()}
