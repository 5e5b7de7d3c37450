"""What comes while a backlog drains goes beside it, by a set fraction of the link, not behind it.

A partition is behind when something stands in the store that is BEHIND_MS younger, by Kafka's clock, than
the record its lane works on, while the link is there. Then a mark is set at the log's end: what lies below it
is backlog and stays with the lane; what comes above it is live, and a reader of its own sends it. When the
lane arrives at the mark, the reader stops, and the lane goes on as ever, past what the reader has settled.
When the link goes away the reader stops too: what it has not sent then has waited, and is backlog at the next
mark.

Guarantees: a record is either the lane's or the reader's, never both's, since who asks for a mark that is
being looked up waits for it; within a device the backlog leaves in
order and the live ones do; nothing is committed here, what is settled stands in `deliveries` and in
`settled_ids.py`. Not guaranteed: order between a device's live ones and its backlog, which they overtake.
Memory: one fetch a partition. Where nothing waits this costs one question to the broker each LOOK_SECONDS.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from aiokafka.errors import KafkaError

from ..streams.transport.batch import PartitionBatch
from . import metrics
from .backlog import Backlog, batch_of_records
from .errors import BrokerAbsentError
from .partition_reader import PartitionReader, open_partition_reader

__all__ = ["BEHIND_MS", "LiveAhead"]

log = logging.getLogger(__name__)

BEHIND_MS: Final = 10_000
"""So much younger records behind the one at hand are a backlog, and no mere fluctuation."""

LOOK_SECONDS: Final = 1.0
TIP_SECONDS: Final = 0.3
RETRY_SECONDS_MAX: Final = 5.0

ROWS_MAX: Final = 200
"""Delivered together; a lane that arrives waits for no more than these."""


@dataclass(frozen=True, slots=True)
class _AtWork:
    """What a lane has in hand."""

    generation: int
    time_ms: int
    next_offset: int


@dataclass(slots=True)
class _Reading:
    """A partition's live reader: from `mark` on, for as long as `generation` lasts.

    `marked` is set once the mark is known; if there is none then, it has come to nothing.
    """

    generation: int
    mark: int | None = None
    marked: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    stopping: bool = False
    idle_looks: int = 0


class LiveAhead:
    """One for a bridge: its lanes pass through `lane`; `run` is a service beside them."""

    def __init__(
        self, bootstrap: str, topic: str, backlog: Backlog, link_is_there: Callable[[], bool]
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._backlog = backlog
        self._link_is_there = link_is_there
        self._at_work: dict[int, _AtWork] = {}
        self._readings: dict[int, _Reading] = {}

    @asynccontextmanager
    async def lane(self, batch: PartitionBatch) -> AsyncIterator[None]:
        """Around a lane's work on a batch, which begins when no live reader is in its way."""
        await self._make_way(batch)
        part = batch.partition
        self._at_work[part] = _AtWork(self._backlog.generation(), batch.timestamps_ms[0], batch.next_offset)
        try:
            yield
        finally:
            self._at_work.pop(part, None)

    async def mark_of(self, partition: int) -> int | None:
        """Where the live reader's part of a partition begins; None without one.

        Then the mark of one that begins later lies at the end that was asked for before this, or above.
        """
        reading = self._readings.get(partition)
        if reading is None:
            return None
        await reading.marked.wait()
        return reading.mark

    async def run(self) -> None:
        """Look after the readers until cancelled; what went wrong in one of them is raised."""
        wait_seconds = LOOK_SECONDS
        try:
            while True:
                try:
                    async with open_partition_reader(self._bootstrap) as reader:
                        while True:
                            await self._look(reader)
                            wait_seconds = LOOK_SECONDS
                            await asyncio.sleep(LOOK_SECONDS)
                except (BrokerAbsentError, KafkaError) as error:
                    log.debug("whether a partition is behind cannot be told yet: %s", error)
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(2 * wait_seconds, RETRY_SECONDS_MAX)
        finally:
            tasks = [reading.task for reading in self._readings.values() if reading.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self, reader: PartitionReader) -> None:
        for reading in self._readings.values():
            if reading.task is not None and reading.task.done():
                reading.task.result()
        self._drop_ended()
        for part, reading in self._readings.items():
            # A lane without work twice in a row has no backlog; without a link everything becomes backlog.
            reading.idle_looks = 0 if part in self._at_work else reading.idle_looks + 1
            reading.stopping |= reading.idle_looks > 1 or not self._link_is_there()
        if self._link_is_there():
            for part, work in list(self._at_work.items()):
                if part not in self._readings and work.generation == self._backlog.generation():
                    await self._begin_if_behind(reader, part, work)

    async def _begin_if_behind(self, reader: PartitionReader, part: int, work: _AtWork) -> None:
        if await reader.offset_at(self._topic, part, work.time_ms + BEHIND_MS) is None:
            return
        now = self._at_work.get(part)
        # While the broker was asked the lane may have come to its end.
        if now is None or now.generation != work.generation or part in self._readings:
            return
        # Known before its mark is: who goes on meanwhile waits, or it would go on past it.
        reading = self._readings[part] = _Reading(work.generation)
        try:
            _, end = await reader.bounds(self._topic, part)
            if work.generation == self._backlog.generation():
                reading.mark = end
                reading.task = asyncio.create_task(self._read(part, reading, end), name=f"live {part}")
                log.debug("partition %d is behind; what comes from offset %d on is live", part, end)
        finally:
            if reading.mark is None:
                del self._readings[part]
            reading.marked.set()

    async def _make_way(self, batch: PartitionBatch) -> None:
        reading = self._readings.get(batch.partition)
        if reading is None:
            return
        await reading.marked.wait()
        if reading.mark is None:
            return
        if batch.next_offset <= reading.mark and reading.generation == self._backlog.generation():
            return
        reading.stopping = True
        if reading.task is not None:
            await reading.task
        self._drop_ended()

    def _drop_ended(self) -> None:
        self._readings = {
            part: reading
            for part, reading in self._readings.items()
            if reading.task is None or not reading.task.done()
        }

    async def _read(self, part: int, reading: _Reading, mark: int) -> None:
        """Send what comes above the mark until told to stop."""
        position, wait_seconds = mark, TIP_SECONDS
        while self._goes_on(reading):
            try:
                async with open_partition_reader(self._bootstrap) as reader:
                    while self._goes_on(reading):
                        position = await self._read_on(reader, part, reading, position)
                        wait_seconds = TIP_SECONDS
                        await asyncio.sleep(TIP_SECONDS)
            except (BrokerAbsentError, KafkaError) as error:
                log.debug("what is live cannot be read yet: %s", error)
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(2 * wait_seconds, RETRY_SECONDS_MAX)

    async def _read_on(self, reader: PartitionReader, part: int, reading: _Reading, position: int) -> int:
        """Up to the present end; returns where to go on."""
        _, end = await reader.bounds(self._topic, part)
        async for records in reader.read(self._topic, part, position, end):
            for first in range(0, len(records), ROWS_MAX):
                some = records[first : first + ROWS_MAX]
                if not self._goes_on(reading):
                    return position
                if not await self._backlog.deliver(batch_of_records(self._topic, part, some)):
                    return position
                metrics.SENT_BESIDE.inc(len(some))
                position = some[-1].offset + 1
        return max(position, end)

    def _goes_on(self, reading: _Reading) -> bool:
        return not reading.stopping and reading.generation == self._backlog.generation()
