"""Remembers which anomalies of the assigned partitions are settled, over restarts by reading `deliveries`.

Partition p of `deliveries` belongs to partition p of `anomalies`, and each outcome names the place of its
anomaly. When a partition is new to this worker, the outcomes that can concern what lies above its commit are
read: all those younger than the first record above the commit (less CLOCK_SLACK_MS), and in any case the last
RECORDS_MIN. That is before anything of the partition is sent, and takes the broker for as long as it is away.

Guarantee: what `deliveries` holds for a record that is handed out is known before it would be sent. Not
known: outcomes that never reached the broker (a crash between the service's acknowledgement and the
broker's), and those whose clock was more than CLOCK_SLACK_MS behind and that are not among the last
RECORDS_MIN.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from aiokafka import ConsumerRecord

from ..streams.delivery.settled import RecentIds, SettledPlaces
from ..streams.scoring.codec import NotJsonError, decode
from .errors import BrokerAbsentError
from .partition_reader import open_partition_reader

__all__ = ["CLOCK_SLACK_MS", "RECORDS_MIN", "SettledIds"]

log = logging.getLogger(__name__)

CLOCK_SLACK_MS: Final = 3_600_000
"""How far the clocks of scorer and bridge may differ."""

RECORDS_MIN: Final = 20_000
RETRY_SECONDS_MAX: Final = 5.0


class SettledIds:
    """What is settled of every partition that this worker has; one for a bridge."""

    def __init__(self, bootstrap: str, deliveries: str, on_read: Callable[[], None] = lambda: None) -> None:
        """`on_read` hears of each group of outcomes that is read."""
        self._bootstrap = bootstrap
        self._deliveries = deliveries
        self._places: dict[int, SettledPlaces] = {}
        self._generations: dict[int, int] = {}
        self.recent = RecentIds()
        self._on_read = on_read
        self._unreadable: str | None = None

    async def know(self, partition: int, offset: int, time_ms: int, generation: int) -> None:
        """Make sure that what is settled of a partition is known; reads once a generation.

        `offset` and `time_ms` are those of the first record that this generation is given.
        """
        if self._generations.get(partition) == generation:
            return
        places = SettledPlaces()
        wait_seconds = 0.1
        while True:
            try:
                await self._read(partition, offset, time_ms, places)
                break
            except BrokerAbsentError as error:
                log.debug("what is settled cannot be read yet: %s", error)
                self._unreadable = f"what is settled cannot be read: {error}"
            await asyncio.sleep(wait_seconds)
            wait_seconds = min(2 * wait_seconds, RETRY_SECONDS_MAX)
        self._unreadable = None
        self._places[partition] = places
        self._generations[partition] = generation

    def pause(self) -> str | None:
        """Why waiting is meant: the broker does not give what is settled; None when it does."""
        return self._unreadable

    def holds(self, partition: int, offset: int, key: bytes) -> bool:
        """Whether the anomaly `key` at `offset` has its outcome."""
        return key in self.recent or self._places[partition].holds(offset, key)

    def holds_place(self, partition: int, offset: int, key: bytes) -> bool:
        """Whether this very record has its outcome, whatever became of others with its id."""
        return self._places[partition].holds(offset, key)

    def add(self, partition: int, offset: int, key: bytes) -> None:
        """Note an outcome that is on its way to `deliveries`."""
        self._places[partition].add(offset, key)
        self.recent.add(key)

    def note(self, partition: int, offset: int, key: bytes) -> None:
        """Note an outcome that another than the sender has given."""
        if partition in self._places:
            self.add(partition, offset, key)
        else:
            self.recent.add(key)

    def forget_below(self, partition: int, offset: int) -> None:
        """What is committed is read no more."""
        if partition in self._places:
            self._places[partition].forget_below(offset)

    async def _read(self, partition: int, first: int, time_ms: int, places: SettledPlaces) -> None:
        async with open_partition_reader(self._bootstrap) as reader:
            log_start, log_end = await reader.bounds(self._deliveries, partition)
            since = await reader.offset_at(self._deliveries, partition, time_ms - CLOCK_SLACK_MS)
            start = max(log_start, min(log_end if since is None else since, log_end - RECORDS_MIN))
            async for records in reader.read(self._deliveries, partition, start, log_end):
                self._note(records, first, places)
                self._on_read()

    def _note(self, records: Sequence[ConsumerRecord], first: int, places: SettledPlaces) -> None:
        for record in records:
            if record.key is None or record.value is None:
                continue  # a tombstone: its anomaly has one too
            self.recent.add(record.key)
            offset = _offset_in(record.value)
            if offset is not None and offset >= first:
                places.add(offset, record.key)


def _offset_in(value: bytes) -> int | None:
    """The anomaly's place; None in a record of an older version, or one that is damaged."""
    try:
        outcome = decode(value)
    except NotJsonError:
        return None
    offset = outcome.get("offset") if isinstance(outcome, dict) else None
    return offset if isinstance(offset, int) and offset >= 0 else None
