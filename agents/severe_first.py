"""Severe anomalies of the whole backlog before the rest: passes over what lies above the commit.

    for as long as there is something to send:
        the severest level of which some partition has not been read to its end is chosen
        all partitions are read on at once for it; what is of that level, and not settled yet, is sent
        after RECHECK_SECONDS the ends are looked up again: what is severer and has come meanwhile goes first

The least level is left to the bridge's own reading, which waits (`before`) until nothing severer is left,
and passes over what the passes have settled. What is settled stands in `deliveries` and in
`settled_ids.py`, since one committed offset cannot say it; a restart in the middle begins all passes anew
and sends nothing twice.

With a live fraction (`live_ahead.py`) the passes end where what is live begins.

Guarantees: within a device and a severity the order of the store; memory is one chunk a partition. Not
guaranteed: that the least severe ever get their turn while severer ones come faster than the link takes them.
"""

import asyncio
import logging
from time import monotonic
from typing import Final

from aiokafka.errors import KafkaError

from ..schemas.severity import Severity
from ..streams.scoring.codec import NotJsonError, decode
from ..streams.transport.batch import PartitionBatch
from . import metrics
from .admin import connect_admin
from .backlog import Backlog, batch_of_records
from .errors import BrokerAbsentError
from .partition_reader import PartitionReader, open_partition_reader

__all__ = ["SevereFirst"]

log = logging.getLogger(__name__)

RECHECK_SECONDS: Final = 2.0
"""How long a pass goes on before it is asked whether something severer has come."""

RETRY_SECONDS_MAX: Final = 5.0

_LEVELS: Final = tuple(sorted(Severity, key=lambda level: level.rank, reverse=True))[:-1]
"""From the severest down; the least is not sent ahead."""


class SevereFirst:
    """One for a bridge, asked by all its lanes."""

    def __init__(self, bootstrap: str, topic: str, group: str, backlog: Backlog) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._group = group
        self._backlog = backlog
        self._generation: int | None = None
        self._positions: dict[tuple[int, Severity], int] = {}
        self._lock = asyncio.Lock()
        self._looked_at = -RECHECK_SECONDS

    async def before(self, batch: PartitionBatch) -> None:
        """Return once nothing severer than the least is left to send, in `batch` or behind it."""
        generation = self._backlog.generation()
        wait_seconds = 0.1
        async with self._lock:
            if generation != self._generation:
                self._generation = generation
                self._positions.clear()
            while self._is_current() and not self._is_done(batch):
                try:
                    await self._pass()
                    wait_seconds = 0.1
                except (BrokerAbsentError, KafkaError) as error:
                    log.debug("the backlog cannot be read yet: %s", error)
                    await asyncio.sleep(wait_seconds)
                    wait_seconds = min(2 * wait_seconds, RETRY_SECONDS_MAX)

    def _is_current(self) -> bool:
        return self._generation == self._backlog.generation()

    def _is_done(self, batch: PartitionBatch) -> bool:
        covered = all(
            self._positions.get((batch.partition, level), 0) >= batch.next_offset for level in _LEVELS
        )
        return covered and monotonic() - self._looked_at < RECHECK_SECONDS

    async def _pass(self) -> None:
        """Look up the ends, then read on for the severest level that is not at them."""
        async with open_partition_reader(self._bootstrap) as reader:
            if not self._positions:
                await self._find_starts(reader)
            while self._is_current():
                parts = {part for part, _ in self._positions}
                ends = {part: await self._end_of(reader, part) for part in parts}
                self._looked_at = monotonic()
                for level in _LEVELS:
                    behind = {part for part in parts if self._positions[part, level] < ends[part]}
                    if behind:
                        await self._read_on(level, {part: ends[part] for part in behind})
                        break
                else:
                    return

    async def _end_of(self, reader: PartitionReader, part: int) -> int:
        _, end = await reader.bounds(self._topic, part)
        # In this order: a mark that is set later lies at this end or above it.
        mark = await self._backlog.mark_of(part)
        return end if mark is None else min(end, mark)

    async def _find_starts(self, reader: PartitionReader) -> None:
        async with connect_admin(self._bootstrap) as admin:
            commits = await admin.list_consumer_group_offsets(self._group)
        committed = {tp.partition: found.offset for tp, found in commits.items() if tp.topic == self._topic}
        for part in self._backlog.assigned():
            log_start, _ = await reader.bounds(self._topic, part)
            start = max(log_start, committed.get(part, 0))
            self._positions |= {(part, level): start for level in _LEVELS}

    async def _read_on(self, level: Severity, ends: dict[int, int]) -> None:
        until = monotonic() + RECHECK_SECONDS
        reads = (self._read_partition(level, part, end, until) for part, end in ends.items())
        for result in await asyncio.gather(*reads, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _read_partition(self, level: Severity, part: int, end: int, until: float) -> None:
        async with open_partition_reader(self._bootstrap) as reader:
            async for records in reader.read(self._topic, part, self._positions[part, level], end):
                await self._backlog.know(part, records[0].offset, records[0].timestamp)
                chosen = [record for record in records if _is_of(level, record.value)]
                if chosen:
                    done = await self._backlog.deliver(batch_of_records(self._topic, part, chosen))
                    metrics.SENT_AHEAD.labels(level.value).inc(len(chosen) if done else 0)
                if not self._is_current():
                    return
                self._positions[part, level] = records[-1].offset + 1
                if monotonic() > until:
                    return
        self._positions[part, level] = end


def _is_of(level: Severity, value: bytes | None) -> bool:
    # Most records are of another level: a look at the bytes spares decoding them.
    if value is None or b'"' + level.value.encode() + b'"' not in value:
        return False
    try:
        anomaly = decode(value)
    except NotJsonError:
        return False
    return isinstance(anomaly, dict) and anomaly.get("severity") == level.value
